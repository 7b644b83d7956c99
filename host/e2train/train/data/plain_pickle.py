# SPDX-License-Identifier: Apache-2.0
"""Pickles of plain data and NumPy arrays, read by a small interpreter that runs nothing a file names."""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_plain_pickle"]

_MOST_OPCODES = 1 << 20  # CIFAR-100's training file has a quarter of it
_MOST_DIMENSIONS = 8
_LONGEST_DIMENSION = 1 << 31
_PLAIN_ARRAY = object()  # stands for numpy.ndarray, whose constructor a file must not call


def read_plain_pickle(data: bytes) -> Any:
    """Numbers, texts, bytes, lists, tuples, dictionaries with texts as keys, and arrays of numbers.

    Time and memory are proportional to the length of ``data``. Keys given as bytes come back as texts.
    Raises: ValueError, or what damaged bytes lead to, when it holds anything else.
    """
    machine = _Machine(most_bytes=2 * len(data))  # bytes as latin1 text, and an array of them
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if count == _MOST_OPCODES:
            raise ValueError(f"it has more than {_MOST_OPCODES} parts")
        machine.run(opcode.name, argument)
    return machine.stack.pop()


@dataclass(slots=True)
class _DType:
    """An array's type under construction."""

    code: str
    order: str = "|"

    def built(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Machine:
    """The stack, the marks on it and the memo, which opcodes work on."""

    def __init__(self, *, most_bytes: int) -> None:
        self._bytes_left = most_bytes  # which calls may copy; the memo can name one text again and again
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Run one opcode."""
        stack = self.stack
        if name in _PUSHES_ARGUMENT:
            stack.append(argument)
        elif name in _PUSHES:
            stack.append(_PUSHES[name]())
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError(f"it refers to entry {argument} of its memo, which is empty")
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it uses {name}, which a CIFAR batch does not need")

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _collect(self, kind: Callable[[list[Any]], Any]) -> None:
        items = self._marked()
        self.stack.append(kind(items))

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise ValueError(f"it sets items of a {type(target).__name__}")
        target.update(_pairs(items))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _name_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(f"{_text(module)} {_text(name)}")

    def _name(self, name: str) -> None:
        if name not in _NAMES:
            raise ValueError(f"it names {name.replace(' ', '.')[:60]}, which a CIFAR batch does not need")
        self.stack.append(_NAMES[name])

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function) or type(arguments) is not tuple:
            raise ValueError(f"it calls a {type(function).__name__}")
        result = function(*arguments)
        self._copied(len(result) if isinstance(result, bytes) else getattr(result, "nbytes", 0))
        self.stack.append(result)

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _DType):
            target.order = _chosen(state[1], "|<>=")
        elif isinstance(target, np.ndarray) and target.base is None:
            _, shape, dtype, by_columns, raw = state
            content = _shaped(raw, dtype, shape)
            self._copied(len(content))
            target.__setstate__((1, shape, dtype.built(), bool(by_columns), bytes(content)))
        else:
            raise ValueError(f"it sets the state of a {type(target).__name__}")

    def _copied(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise ValueError("it copies the same bytes again and again")


def _pairs(items: list[Any]) -> dict[str, Any]:
    if len(items) % 2:
        raise ValueError("a key has no value")
    return {_text(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):  # hashing another kind, such as nested tuples, can take for ever
        raise ValueError(f"a key or name is of type {type(value).__name__}, not a text")
    return value


def _chosen(value: object, known: str) -> str:
    text = _text(value)
    if len(text) != 1 or text not in known:
        raise ValueError(f"it has {text[:20]!r} instead of one of {known}")
    return text


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode``, by which protocol 2 keeps bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it encodes text as {_text(encoding)[:20]!r}")
    return _text(text).encode("latin1")


def _new_dtype(code: str, *_: object) -> _DType:
    if not re.fullmatch("[biuf][1248]", _text(code)):
        raise ValueError(f"it has an array of type {_text(code)[:20]!r}")
    return _DType(_text(code))


def _new_array(kind: object, shape: object, code: object) -> NDArray[Any]:
    """``_reconstruct``, with which protocols below 5 begin an array: it is filled when it is built."""
    if kind is not _PLAIN_ARRAY or shape != (0,):
        raise ValueError("it makes something that is not a plain array")
    return np.ndarray((0,), "b")


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    """``_frombuffer``, by which protocol 5 keeps arrays."""
    content = _shaped(raw, dtype, shape)
    flat = np.frombuffer(content, dtype.built())  # type: ignore[attr-defined]
    return flat.reshape(shape, order=_chosen(order, "CF"))  # type: ignore[call-overload,no-any-return]


def _shaped(raw: Any, dtype: Any, shape: Any) -> bytes | bytearray:
    """The bytes of an array, if they are as many as its shape and type say."""
    if not isinstance(dtype, _DType):
        raise ValueError("an array has no type")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("an array has no shape")
    content = raw.encode("latin1") if isinstance(raw, str) else raw  # a str of Python 2
    if not isinstance(content, bytes | bytearray):
        raise ValueError(f"an array is made of a {type(content).__name__}")
    if not all(type(size) is int and 0 <= size < _LONGEST_DIMENSION for size in shape):
        raise ValueError("an array has an impossible shape")
    if prod(shape) * dtype.built().itemsize != len(content):
        raise ValueError(f"an array has {len(content)} bytes, which do not fit its shape")
    return content


_PUSHES_ARGUMENT = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_PUSHES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda machine, _: machine._collect(tuple),
    "LIST": lambda machine, _: machine._collect(list),
    "DICT": lambda machine, _: machine._collect(_pairs),
    "APPEND": lambda machine, _: machine._append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._marked()),
    "SETITEM": lambda machine, _: machine._set_item(),
    "SETITEMS": lambda machine, _: machine._set_items(machine._marked()),
    "GLOBAL": lambda machine, name: machine._name(name),
    "STACK_GLOBAL": lambda machine, _: machine._name_from_stack(),
    "REDUCE": lambda machine, _: machine._reduce(),
    "BUILD": lambda machine, _: machine._build(),
}
_NAMES: dict[str, Any] = {
    "_codecs encode": _encode,
    "numpy dtype": _new_dtype,
    "numpy ndarray": _PLAIN_ARRAY,
    **{f"numpy.{core}.multiarray _reconstruct": _new_array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _from_buffer for core in ("core", "_core")},
}

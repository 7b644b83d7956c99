# SPDX-License-Identifier: Apache-2.0
"""Loads and stores: from addresses to elements of arrays, each as wide as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.builder import Builder
from e2hls.frontend.pointers import Pointer, split_index
from e2hls.frontend.prepare import storage_bytes
from e2hls.frontend.variables import Memory, Variables
from e2hls.ir import Const, Operand

__all__ = ["MemoryAccess"]

_Element = tuple[str, tuple[Operand, ...]]


class MemoryAccess:
    """The accesses of one process; within a block, a repeated load costs no second port."""

    def __init__(
        self, variables: Variables, process: str, value: Callable[[str, Loc | None], Operand]
    ) -> None:
        self._variables = variables
        self._process = process
        self._value = value
        self._known: dict[_Element, Operand] = {}

    def start_block(self) -> None:
        """Forget what is known of the arrays' contents."""
        self._known = {}

    def load(self, pointer: Pointer, width: int, b: Builder, name: str) -> Operand:
        """``width`` bits at ``pointer``: an element, or several whole ones."""
        total: Operand | None = None
        for at, bits in self._parts(pointer, width, b):
            part = self._load(pointer.moved(at // 8), bits, b, name)
            if bits == width:
                return part
            part = b.binary("shl", b.resize(part, width), Const(width, at))
            total = part if total is None else b.binary("or", total, part)
        assert total is not None
        return total

    def _load(self, pointer: Pointer, width: int, b: Builder, name: str) -> Operand:
        memory, indices, byte = self._element(pointer, width, b)
        key = memory.name, indices
        if key not in self._known:
            self._known[key] = b.emit("load", memory.width, indices, target=memory.name, name=name)
        element = self._known[key]
        if byte:
            element = b.binary("lshr", element, Const(element.width, 8 * byte))
        return b.resize(element, width)

    def store(self, pointer: Pointer, value: Operand, b: Builder) -> None:
        """Write ``value`` at ``pointer``; it must be a whole element, or several."""
        for at, bits in self._parts(pointer, value.width, b):
            part = b.binary("lshr", value, Const(value.width, at))
            self._store(pointer.moved(at // 8), b.resize(part, bits), b)

    def _store(self, pointer: Pointer, value: Operand, b: Builder) -> None:
        memory, indices, byte = self._element(pointer, value.width, b)
        if byte or value.width < memory.width:
            raise HlsError(
                f"only a part of an element of {memory.name} is written; write it as a whole", b.loc
            )
        value = b.resize(value, memory.width)
        memory.writers.add(self._process)
        b.effect("store", (*indices, value), target=memory.name)
        self._known = {
            key: known
            for key, known in self._known.items()
            if key[0] != memory.name or _differ(key[1], indices)
        }
        self._known[memory.name, indices] = value

    def _parts(self, pointer: Pointer, width: int, b: Builder) -> Iterator[tuple[int, int]]:
        """First bit and bits of each element of an access: a struct may be passed as one number."""
        memories = self._variables.memory(pointer.base, self._process, b.loc)
        at = 0
        while at < width:
            here, bits = pointer.moved(at // 8), width - at
            if at or not any(_holds(memory, here, bits) for memory in memories):
                memory, _, byte = self._element(here, 8, b)
                bits = min(bits, 8 * (storage_bytes(memory.width) - byte))
            yield at, bits
            at += bits

    def _element(self, pointer: Pointer, width: int, b: Builder) -> tuple[Memory, tuple[Operand, ...], int]:
        memories = self._variables.memory(pointer.base, self._process, b.loc)
        outside: tuple[int, int] | None = None  # the first index that is not within its dimension, and that
        found: list[tuple[Memory, list[tuple[int, list[tuple[int, str]]]], int]] = []
        for memory in memories:
            split = split_index(pointer.moved(-memory.offset), memory.strides)
            if split is None or 8 * split[1] + width > 8 * storage_bytes(memory.width):
                continue
            pairs = zip(split[0], memory.dims, strict=True)
            wrong = [(at, dim) for (at, terms), dim in pairs if not terms and not 0 <= at < dim]
            if wrong:  # which leads to another field of the struct, or nowhere
                outside = outside or wrong[0]
                continue
            found.append((memory, *split))
        if len(found) > 1:  # fields that are arrays: where each starts tells them apart
            started = [each for each in found if not any(constant for constant, _ in each[1])]
            if len(started) != 1:
                raise HlsError(
                    f"whether {found[0][0].name} or {found[1][0].name} is accessed here is not known; "
                    "index it by one variable",
                    b.loc,
                )
            found = started
        if found:
            memory, indices, byte = found[0]
            memory.users[self._process] = None
            places = zip(indices, memory.dims, strict=True)
            return memory, tuple(self._index(at, terms, dim, b) for (at, terms), dim in places), byte
        if outside is not None:
            raise HlsError(f"index {outside[0]} is out of bounds 0..{outside[1] - 1}", b.loc)
        raise HlsError(f"{memories[0].name} is not accessed by whole elements; access them one by one", b.loc)

    def _index(self, constant: int, terms: list[tuple[int, str]], dim: int, b: Builder) -> Operand:
        """An index in as few bits as the dimension needs: arithmetic modulo a power of two stays exact."""
        width = max(1, (dim - 1).bit_length())
        total: Operand = Const(width, constant % (1 << width))
        for factor, operand in terms:
            index = b.resize(self._value(operand, b.loc), width, signed=True)
            index = b.binary("mul", index, Const(width, factor % (1 << width)))
            total = index if isinstance(total, Const) and total.value == 0 else b.binary("add", index, total)
        return total


def _holds(memory: Memory, pointer: Pointer, width: int) -> bool:
    """Whether ``width`` bits at ``pointer`` lie within one element."""
    split = split_index(pointer.moved(-memory.offset), memory.strides)
    if split is None or 8 * split[1] + width > 8 * storage_bytes(memory.width):
        return False
    return all(terms or 0 <= at < dim for (at, terms), dim in zip(split[0], memory.dims, strict=True))


def _differ(a: tuple[Operand, ...], c: tuple[Operand, ...]) -> bool:
    """Whether two elements are surely not the same."""
    pairs = zip(a, c, strict=True)
    return any(isinstance(x, Const) and isinstance(y, Const) and x.value != y.value for x, y in pairs)

# SPDX-License-Identifier: Apache-2.0
"""What a PC and an agent say to each other of resident tensors: steps in a row, and their outcomes.

As in ``agent_wire`` nothing is used before it is checked: a step's numbers by the record that it becomes,
an outcome by the step that it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.agent_wire import (
    DamagedError,
    WireError,
    check_word,
    count_of,
    decode_counters,
    decode_message,
    encode_message,
    list_of,
    text_of,
    whole,
)
from e2train.devices.protocol import Counters
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Operation, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import LARGEST, Written

__all__ = ["Batch", "Put", "Step", "decode_batch", "decode_outcomes", "encode_batch", "encode_outcomes"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Put:
    """Values (N, C, H, W) for a tensor."""

    tensor: DeviceTensor
    values: NDArray[Any]


Step = Put | Operation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Steps in order, for the memory that belongs to a key; ``number`` counts the batches of that key."""

    key: str
    number: int
    reserve: int  # bytes
    steps: tuple[Step, ...]


_CLASSES: dict[str, type[Any]] = {
    each.__name__: each for each in (Put, Convolution, WeightGradient, Affine, Reduction)
}
_TENSOR, _ARRAY = "tensor", "array"
_DTYPES = {"w": "int8", "a": "int64", "b": "int64", "d": "int64"}
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("tensor", "source", "destination", "x", "gy", "u", "v", "mask", "out"), _TENSOR),
    **dict.fromkeys(("values", "w", "a", "b", "d"), _ARRAY),
    **dict.fromkeys(("stride", "kernel"), 2),
    "padding": 4,
    **dict.fromkeys(("depthwise", "sums", "relu", "mask_out", "per_sample"), bool),
    **dict.fromkeys(("mode", "name"), str),
    **dict.fromkeys(("shift", "x_bits", "g_bits", "ceiling", "mask_limit", "dither"), int),
}
_MOST_SAMPLES = 1 << 20
_OFFSET_BYTES = 8
_HEAD_BYTES = 1 << 20
_OPTIONAL = ("v", "mask", "dither")
_MODES = ("forward", "grad_input")


def encode_batch(batch: Batch) -> bytes:
    """A batch as one message."""
    arrays: list[NDArray[Any]] = []
    steps = []
    for step in batch.steps:
        fields = {name: _encode(getattr(step, name), arrays) for name in _fields(type(step))}
        steps.append({"step": type(step).__name__, **fields})
    head = {"key": batch.key, "number": batch.number, "reserve": batch.reserve, "steps": steps}
    return encode_message(head, arrays)


def decode_batch(message: bytes, *, most_bytes: int) -> Batch:
    """The batch in a message; its samples, and the offsets of all of them, have at most ``most_bytes``.

    Raises: WireError; ShapeError for steps that make no sense.
    """
    head, arrays = decode_message(message, head_bytes=_HEAD_BYTES)
    listed = list_of(head.get("steps"))
    _check_offsets(listed, most_bytes)
    steps = tuple(_step(entry, arrays, most_bytes) for entry in listed)
    return Batch(
        key=text_of(head.get("key")),
        number=count_of(head.get("number")),
        reserve=count_of(head.get("reserve")),
        steps=steps,
    )


def encode_outcomes(outcomes: Sequence[tuple[Any, Counters]], *, request: bytes, memory_bytes: int) -> bytes:
    """What the operations of a batch gave, tied to the message with them."""
    arrays: list[NDArray[Any]] = []
    listed = []
    for outcome, counters in outcomes:
        entry: dict[str, Any] = {"counters": asdict(counters)}
        if isinstance(outcome, Written):
            entry |= {"largest": outcome.largest, "saturations": outcome.saturations}
            values = [each for each in (outcome.sums, outcome.squares) if each is not None]
        else:
            values = list(outcome) if isinstance(outcome, tuple) else [outcome]
        arrays += [_of_four(_narrowed(value)) for value in values]
        listed.append(entry)
    head = {"request": check_word(request), "memory_bytes": memory_bytes, "outcomes": listed}
    return encode_message(head, arrays)


def decode_outcomes(
    message: bytes, calls: Sequence[Operation], *, request: bytes
) -> tuple[list[tuple[Any, Counters]], int]:
    """The outcomes of these operations, and how much memory there is for tensors.

    Raises: WireError.
    """
    head, arrays = decode_message(message, head_bytes=_HEAD_BYTES)
    if head.get("request") != check_word(request):
        raise DamagedError("the outcomes are those of another request")
    listed, at = list_of(head.get("outcomes")), 0
    if len(listed) != len(calls):
        raise WireError(f"there are outcomes of {len(listed)} operations, must be {len(calls)}")
    found = []
    for call, entry in zip(calls, listed, strict=True):
        shapes = _outcome_shapes(call)
        values = arrays[at : at + len(shapes)]
        got = [(value.dtype.name, value.size) for value in values]
        sizes = [int(np.prod(shape)) for shape in shapes]
        if [size for _, size in got] != sizes or not {name for name, _ in got} <= {"int32", "int64"}:
            raise WireError(f"an outcome of {type(call).__name__} is {got}, must be integers {shapes}")
        at += len(shapes)
        if not isinstance(entry, dict):
            raise WireError("an outcome is no record")
        shaped = [value.reshape(shape).astype(np.int64) for value, shape in zip(values, shapes, strict=True)]
        counters = decode_counters(entry.get("counters"))
        if counters.macs or counters.host_macs:
            raise WireError(
                f"an outcome counts {counters.macs} multiply-accumulates and {counters.host_macs} of the "
                "host, must be 0: they follow from the operation"
            )
        found.append((_outcome(call, entry, shaped), counters))
    if at != len(arrays):
        raise WireError(f"there are {len(arrays)} arrays, must be {at}")
    return found, count_of(head.get("memory_bytes"))


def _outcome_shapes(call: Operation) -> list[tuple[int, ...]]:
    if isinstance(call, Convolution):
        return [(call.destination.C,)] * (2 if call.sums else 0)
    if isinstance(call, WeightGradient):
        return [call.weights]
    if isinstance(call, Affine):
        return [(call.out.N, call.out.C)] * bool(call.sums)
    return [(call.u.N, call.u.C) if call.per_sample else (call.u.C,)] * 2


def _outcome(call: Operation, entry: dict[str, Any], values: list[NDArray[Any]]) -> Any:
    if isinstance(call, WeightGradient):
        return values[0]
    if isinstance(call, Reduction):
        return values[0], values[1]
    sums, squares = (*values, None, None)[:2]
    written = call.destination if isinstance(call, Convolution) else call.out
    largest, saturations = count_of(entry.get("largest")), count_of(entry.get("saturations"))
    padded = written.N * block_count(written.C) * LANES * written.H * written.W
    if largest > LARGEST or saturations > padded:
        raise WireError(
            f"largest is {largest} and {saturations} saturated, must be {LARGEST} and {padded} at most"
        )
    return Written(largest=largest, saturations=saturations, sums=sums, squares=squares)


def _fields(kind: type[Any]) -> tuple[str, ...]:
    names: tuple[str, ...] = kind.__slots__
    return names


def _encode(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(value, DeviceTensor):
        told = {name: getattr(value, name) for name in ("kind", "C", "H", "W", "view")}
        return told | {"offsets": _encode_offsets(value.offsets, arrays)}
    if isinstance(value, np.ndarray):
        arrays.append(_of_four(value))
        return {"array": len(arrays) - 1, "sizes": value.ndim}
    return list(value) if isinstance(value, tuple) else value


def _encode_offsets(offsets: NDArray[np.int64], arrays: list[NDArray[Any]]) -> Any:
    """Offsets one step apart as first, step and count, which is shorter."""
    steps = np.diff(offsets)
    if steps.size and (steps == steps[0]).all():
        return [int(offsets[0]), int(steps[0]), offsets.size]
    return _encode(offsets, arrays)


def _narrowed(values: NDArray[np.int64]) -> NDArray[Any]:
    """The same in 32 bits, where these hold them."""
    narrow = values.astype(np.int32)
    return narrow if np.array_equal(narrow, values) else values


def _of_four(values: NDArray[Any]) -> NDArray[Any]:
    """The same with sizes of 1 behind."""
    return values.reshape(*values.shape, *[1] * (4 - values.ndim))


def _step(entry: Any, arrays: list[NDArray[Any]], most_bytes: int) -> Step:
    kind = _CLASSES.get(str(entry.get("step"))) if isinstance(entry, dict) else None
    if kind is None or set(entry) != {"step", *_fields(kind)}:
        raise WireError(f"a step must be one of {', '.join(_CLASSES)}, with its fields")
    values = {name: _value(name, entry[name], arrays, most_bytes) for name in _fields(kind)}
    if kind is Convolution and values["mode"] not in _MODES:
        raise WireError(f"a convolution's mode must be one of {', '.join(_MODES)}")
    step: Step = kind(**values)
    return step


def _value(name: str, entry: Any, arrays: list[NDArray[Any]], most_bytes: int) -> Any:
    kind = _KINDS[name]
    if entry is None and name in _OPTIONAL:
        return None
    if kind is _TENSOR:
        return _tensor(entry, arrays, most_bytes)
    if kind is _ARRAY:
        array = _array(entry, arrays)
        if name in _DTYPES and array.dtype.name != _DTYPES[name]:
            raise WireError(f"{name} is {array.dtype}, must be {_DTYPES[name]}")
        return array
    if isinstance(kind, int):
        if len(list_of(entry)) != kind:
            raise WireError(f"{name} must have {kind} numbers, not {len(entry)}")
        return tuple(whole(item) for item in entry)
    if kind is bool:
        if not isinstance(entry, bool):
            raise WireError(f"{name} must be true or false")
        return entry
    return text_of(entry) if kind is str else whole(entry)


def _array(entry: Any, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    if not isinstance(entry, dict):
        raise WireError("an array is wanted")
    index, sizes = count_of(entry.get("array")), count_of(entry.get("sizes"))
    if index >= len(arrays) or not 1 <= sizes <= 4 or arrays[index].shape[sizes:] != (1,) * (4 - sizes):
        raise WireError(f"there is no array {index} of {sizes} sizes")
    return arrays[index].reshape(arrays[index].shape[:sizes])


def _tensor(entry: Any, arrays: list[NDArray[Any]], most_bytes: int) -> DeviceTensor:
    if not isinstance(entry, dict) or set(entry) != {"kind", "C", "H", "W", "view", "offsets"}:
        raise WireError("a tensor is wanted")
    C, H, W = (whole(entry[name]) for name in "CHW")
    if not all(1 <= size <= most_bytes for size in (C, H, W, C * H * W)):
        raise WireError(f"a sample of {C} x {H} x {W} values is none, or has more than {most_bytes} bytes")
    return DeviceTensor(
        kind=text_of(entry["kind"]),  # type: ignore[arg-type]  # both checked there
        C=C,
        H=H,
        W=W,
        offsets=_offsets(entry["offsets"], arrays),
        view=text_of(entry["view"]),  # type: ignore[arg-type]
    )


def _check_offsets(steps: list[Any], most_bytes: int) -> None:
    """Refuse offsets that are written as a few numbers and would take too much memory.

    Raises: WireError.
    """
    fields = (value for step in steps if isinstance(step, dict) for value in step.values())
    runs = (value["offsets"] for value in fields if isinstance(value, dict) and "offsets" in value)
    counts = (max(0, whole(run[2])) for run in runs if isinstance(run, list) and len(run) == 3)
    if _OFFSET_BYTES * sum(counts) > most_bytes:
        raise WireError(f"the offsets of a batch's samples take more than {most_bytes} bytes")


def _offsets(entry: Any, arrays: list[NDArray[Any]]) -> NDArray[np.int64]:
    if isinstance(entry, dict):
        offsets = _array(entry, arrays)
    elif len(list_of(entry)) == 3 and 1 <= whole(entry[2]) <= _MOST_SAMPLES:
        first, step, count = (whole(item) for item in entry)
        last = first + step * (count - 1)
        if not 0 <= min(first, last) <= max(first, last) < 1 << 62:
            raise WireError("a tensor's offsets leave the memory")
        offsets = first + step * np.arange(count, dtype=np.int64)
    else:
        raise WireError("a tensor's offsets are wanted")
    return offsets

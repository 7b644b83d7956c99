# SPDX-License-Identifier: Apache-2.0
"""What a PC and the agent on a board say to each other: a JSON head, raw little-endian tensors, a check word.

Nothing here runs what it reads: the check word, then sizes, names and types are checked before they are used,
and a result against the call that it answers.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import (
    OUTER_MODES,
    ConvShape,
    Counters,
    LayerCall,
    LayerResult,
    on_host,
)

__all__ = [
    "AgentInfo",
    "DamagedError",
    "WireError",
    "check_word",
    "count_of",
    "decode_call",
    "decode_counters",
    "decode_info",
    "decode_message",
    "decode_result",
    "encode_call",
    "encode_info",
    "encode_message",
    "encode_result",
    "list_of",
    "most_result_bytes",
    "result_layout",
    "text_of",
    "whole",
]

_FORMAT = 4
_SIZE_BYTES = 4  # of the head, before it
_HEAD_BYTES = 1 << 16
_CHECK_BYTES = 4
_MOST_EMPTY_BYTES = 1 << 30  # of a tensor without elements, counted as one image
_DTYPES = ("uint8", "int8", "int16", "int32", "int64")
_PAIRS = {"stride": 2, "padding": 4}


class WireError(ValueError):
    """A message that is not what it should be."""


class DamagedError(WireError):
    """A message that changed on its way: to send it again may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """What an agent says of itself; ``most_bytes`` is the longest message that it takes."""

    config: str
    config_hash: int
    device: str
    most_bytes: int


def encode_info(info: AgentInfo) -> bytes:
    """What an agent says of itself, as one message."""
    return encode_message(asdict(info), [])


def decode_info(message: bytes) -> AgentInfo:
    """What an agent says of itself.

    Raises: WireError.
    """
    head, _ = decode_message(message, count=0)
    return AgentInfo(
        config=text_of(head.get("config")),
        config_hash=count_of(head.get("config_hash")),
        device=text_of(head.get("device")),
        most_bytes=count_of(head.get("most_bytes")),
    )


def encode_call(call: LayerCall) -> bytes:
    """A call as one message."""
    head = {key: getattr(call, key) for key in ("mode", "shift", "x_bits", "g_bits", "name")}
    return encode_message(head | {"shape": asdict(call.shape)}, [on_host(call.a), on_host(call.b)])


def decode_call(message: bytes) -> LayerCall:
    """The call in a message.

    Raises: WireError; ShapeError for a convolution that makes no sense.
    """
    head, tensors = decode_message(message, count=2)
    shape = head.get("shape")
    if not isinstance(shape, dict) or set(shape) != {field.name for field in fields(ConvShape)}:
        raise WireError("the call has no shape of a convolution")
    pairs = {key: _wholes(shape[key], key, count) for key, count in _PAIRS.items()}
    numbers = {key: whole(value) for key, value in shape.items() if key not in pairs}
    return LayerCall(
        mode=text_of(head.get("mode")),  # type: ignore[arg-type]  # LayerCall checks it
        shape=ConvShape(**numbers, **pairs),  # type: ignore[arg-type]
        a=tensors[0],
        b=tensors[1],
        **{key: whole(head.get(key)) for key in ("shift", "x_bits", "g_bits")},
        name=text_of(head.get("name")),
    )


def result_layout(call: LayerCall) -> tuple[np.dtype[Any], tuple[int, int, int, int]]:
    """Dtype and shape of what a call results in."""
    s = call.shape
    if call.mode in OUTER_MODES:
        return np.dtype(np.int64), (s.K, s.C, s.R, s.S)
    return np.dtype(np.int32), ((s.N, s.K, s.P, s.Q) if call.mode == "forward" else (s.N, s.C, s.H, s.W))


def most_result_bytes(call: LayerCall) -> int:
    """The most bytes of the message with a call's result."""
    dtype, shape = result_layout(call)
    return _SIZE_BYTES + _HEAD_BYTES + math.prod(shape) * dtype.itemsize + _CHECK_BYTES


def encode_result(result: LayerResult, *, request: bytes) -> bytes:
    """A result as one message, tied to the one with its call."""
    head = {"saturations": result.saturations, "counters": asdict(result.counters)}
    return encode_message(head | {"request": check_word(request)}, [np.asarray(result.value)])


def decode_result(message: bytes, call: LayerCall, *, request: bytes) -> LayerResult:
    """The result in a message, which must be that of the call in ``request``.

    Raises: WireError.
    """
    head, (value,) = decode_message(message, count=1)
    if head.get("request") != check_word(request):
        raise DamagedError("the result is that of another call")
    dtype, shape = result_layout(call)
    if (value.dtype, value.shape) != (dtype, shape):
        raise WireError(f"the result is {value.dtype} {value.shape}, must be {dtype} {shape}")
    saturations = count_of(head.get("saturations"))
    if saturations > value.size:
        raise WireError(f"the result says that {saturations} of {value.size} elements were saturated")
    return LayerResult(value=value, saturations=saturations, counters=_counters(head.get("counters"), call))


def decode_counters(entry: Any) -> Counters:
    """Counters from their JSON.

    Raises: WireError.
    """
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(Counters)}:
        raise WireError("the result has no counters")
    for key in ("device_s", "moving_s"):
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise WireError(f"the result's {key} must be a time, not {str(value)[:40]!r}")
    for key, value in entry.items():
        if not (key in ("device_s", "moving_s") or (key == "cycles" and value is None)):
            count_of(value)
    return Counters(**entry)


def _counters(entry: Any, call: LayerCall) -> Counters:
    counters = decode_counters(entry)
    if (counters.macs, counters.host_macs) != (call.shape.macs, 0):
        raise WireError(
            f"the result counts {counters.macs} multiply-accumulates and {counters.host_macs} of the host, "
            f"must be {call.shape.macs} and 0"
        )
    return counters


def encode_message(head: dict[str, Any], tensors: Sequence[NDArray[Any]]) -> bytes:
    """A head and tensors of four sizes as one message."""
    listed = [{"dtype": tensor.dtype.name, "shape": list(tensor.shape)} for tensor in tensors]
    text = json.dumps(head | {"format": _FORMAT, "tensors": listed}).encode()
    parts = [len(text).to_bytes(_SIZE_BYTES, "little"), text]
    for tensor in tensors:
        ordered = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        parts.append(np.ascontiguousarray(ordered).tobytes())
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return b"".join([*parts, check.to_bytes(_CHECK_BYTES, "little")])


def check_word(message: bytes) -> int:
    """The check word that a message ends with."""
    return int.from_bytes(message[-_CHECK_BYTES:], "little")


def decode_message(
    message: bytes, *, count: int | None = None, head_bytes: int = _HEAD_BYTES
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Head, of at most ``head_bytes``, and tensors of a message; ``count`` is how many there must be.

    Raises: DamagedError, WireError.
    """
    end = len(message) - _CHECK_BYTES
    if end < 0 or zlib.crc32(memoryview(message)[:end]) != check_word(message):
        raise DamagedError("the message's check word does not match")
    size = int.from_bytes(message[:_SIZE_BYTES], "little")
    if size > min(head_bytes, end - _SIZE_BYTES):
        raise WireError("the message ends within its head")
    head = _json(message[_SIZE_BYTES : _SIZE_BYTES + size])
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise WireError(
            f"the message is not of format {_FORMAT}: both sides need the same version of e2train"
        )
    listed = list_of(head.get("tensors"))
    if count not in (None, len(listed)):
        raise WireError(f"the message must hold {count} tensors, it holds {len(listed)}")
    tensors, at = [], _SIZE_BYTES + size
    for entry in listed:
        tensor, at = _tensor(entry, message, at, end)
        tensors.append(tensor)
    if at != end:
        raise WireError(f"the message goes on for {end - at} bytes after its tensors")
    return head, tensors


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise WireError(f"the message's head is not JSON: {error}") from error
    except RecursionError as error:
        raise WireError("the message's head is nested too deep") from error


def _tensor(entry: Any, message: bytes, at: int, end: int) -> tuple[NDArray[Any], int]:
    if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
        raise WireError(f"a tensor's dtype must be one of {', '.join(_DTYPES)}")
    shape = [whole(size) for size in list_of(entry.get("shape"))]
    if len(shape) != 4 or min(shape) < 0:
        raise WireError("a tensor must have four sizes, none below 0")
    dtype = np.dtype(entry["dtype"]).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize  # in Python's integers, which do not wrap
    if size > end - at:
        raise WireError(f"a tensor of {size} bytes is announced, {end - at} are left")
    if math.prod(max(1, length) for length in shape) * dtype.itemsize > max(size, _MOST_EMPTY_BYTES):
        raise WireError(f"a tensor without elements has the sizes {shape}, which are too large")
    flat = np.frombuffer(message, dtype, count=math.prod(shape), offset=at)
    return flat.reshape(shape).astype(dtype.newbyteorder("=")), at + size


def whole(value: Any) -> int:
    """A whole number of 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
        raise WireError(f"a whole number of 64 bits is wanted, not {str(value)[:40]!r}")
    return value


def count_of(value: Any) -> int:
    """A whole number from 0 on."""
    if whole(value) < 0:
        raise WireError(f"a count is wanted, not {value}")
    return int(value)


def _wholes(value: Any, name: str, count: int) -> tuple[int, ...]:
    if len(list_of(value)) != count:
        raise WireError(f"{name} must have {count} numbers, not {len(value)}")
    return tuple(whole(item) for item in value)


def text_of(value: Any) -> str:
    """A short text."""
    if not isinstance(value, str) or len(value) > 1000:
        raise WireError("a short text is wanted")
    return value


def list_of(value: Any) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise WireError("a list is wanted")
    return value

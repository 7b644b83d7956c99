# SPDX-License-Identifier: Apache-2.0
"""What a PC and the agent on a board say to each other: a JSON head, then raw little-endian tensors.

Nothing here runs what it reads: sizes, names and types are checked before they are used.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import ConvShape, Counters, LayerCall, LayerResult, on_host

__all__ = ["WireError", "decode_call", "decode_result", "default_token_file", "encode_call", "encode_result"]

_FORMAT = 1
_HEAD_BYTES = 1 << 16
_DTYPES = ("uint8", "int8", "int16", "int32", "int64")


class WireError(ValueError):
    """A message that is not what it should be."""


def encode_call(call: LayerCall) -> bytes:
    """A call as one message."""
    head = {key: getattr(call, key) for key in ("mode", "shift", "x_bits", "g_bits", "name")}
    return _encode(head | {"shape": asdict(call.shape)}, [on_host(call.a), on_host(call.b)])


def decode_call(message: bytes) -> LayerCall:
    """The call in a message.

    Raises: WireError; ShapeError for a convolution that makes no sense.
    """
    head, tensors = _decode(message, count=2)
    shape = head.get("shape")
    if not isinstance(shape, dict) or set(shape) != {field.name for field in fields(ConvShape)}:
        raise WireError("the call has no shape of a convolution")
    pairs = {key: tuple(_whole(item) for item in _list(shape[key])) for key in ("stride", "padding")}
    numbers = {key: _whole(value) for key, value in shape.items() if key not in pairs}
    return LayerCall(
        mode=_text(head.get("mode")),  # type: ignore[arg-type]  # LayerCall checks it
        shape=ConvShape(**numbers, **pairs),  # type: ignore[arg-type]
        a=tensors[0],
        b=tensors[1],
        **{key: _whole(head.get(key)) for key in ("shift", "x_bits", "g_bits")},
        name=_text(head.get("name")),
    )


def encode_result(result: LayerResult) -> bytes:
    """A result as one message."""
    head = {"saturations": result.saturations, "counters": asdict(result.counters)}
    return _encode(head, [np.asarray(result.value)])


def decode_result(message: bytes) -> LayerResult:
    """The result in a message.

    Raises: WireError.
    """
    head, tensors = _decode(message, count=1)
    told = head.get("counters")
    known = {field.name for field in fields(Counters)}
    if not isinstance(told, dict) or not set(told) <= known:
        raise WireError("the result has no counters")
    if not all(isinstance(value, int | float | None) for value in told.values()):
        raise WireError("the result's counters must be numbers")
    return LayerResult(
        value=tensors[0], saturations=_whole(head.get("saturations")), counters=Counters(**told)
    )


def _encode(head: dict[str, Any], tensors: list[NDArray[Any]]) -> bytes:
    listed = [{"dtype": tensor.dtype.name, "shape": list(tensor.shape)} for tensor in tensors]
    text = json.dumps(head | {"format": _FORMAT, "tensors": listed}).encode()
    return b"".join(
        [
            len(text).to_bytes(4, "little"),
            text,
            *(
                np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<")).tobytes()
                for tensor in tensors
            ),
        ]
    )


def _decode(message: bytes, *, count: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    size = int.from_bytes(message[:4], "little")
    if len(message) < 4 or size > min(_HEAD_BYTES, len(message) - 4):
        raise WireError("the message ends within its head")
    try:
        head: Any = json.loads(message[4 : 4 + size])
    except ValueError as error:
        raise WireError(f"the message's head is not JSON: {error}") from error
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise WireError(
            f"the message is not of format {_FORMAT}: both sides need the same version of e2train"
        )
    listed = _list(head.get("tensors"))
    if len(listed) != count:
        raise WireError(f"the message must hold {count} tensors, it holds {len(listed)}")
    tensors, at = [], 4 + size
    for entry in listed:
        tensor, at = _tensor(entry, message, at)
        tensors.append(tensor)
    if at != len(message):
        raise WireError(f"the message goes on for {len(message) - at} bytes after its tensors")
    return head, tensors


def _tensor(entry: Any, message: bytes, at: int) -> tuple[NDArray[Any], int]:
    if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
        raise WireError(f"a tensor's dtype must be one of {', '.join(_DTYPES)}")
    shape = [_whole(size) for size in _list(entry.get("shape"))]
    if len(shape) != 4 or min(shape) < 0:
        raise WireError("a tensor must have four sizes, none below 0")
    dtype = np.dtype(entry["dtype"]).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize  # in Python's integers, which do not wrap
    if size > len(message) - at:
        raise WireError(f"a tensor of {size} bytes is announced, {len(message) - at} are left")
    flat = np.frombuffer(message, dtype, count=math.prod(shape), offset=at)
    return flat.reshape(shape).astype(dtype.newbyteorder("=")), at + size


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WireError(f"a whole number is wanted, not {str(value)[:40]!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise WireError("a short text is wanted")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise WireError("a list is wanted")
    return value


def default_token_file() -> str:
    """Where a token is looked for, and where an agent leaves its own."""
    return "~/.config/e2train/agent-token"

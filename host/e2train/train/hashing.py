# SPDX-License-Identifier: Apache-2.0
"""Hashes that are equal exactly when all bits are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from e2train.nn import OffloadConv2d, ResidualNet, quantise_weight

__all__ = ["state_sha256", "weights_sha256"]


def state_sha256(state: object) -> str:
    """Hash of tensors, numbers and texts in nested dictionaries and lists, whatever the order of keys.

    >>> state_sha256({"a": 1, "b": [2.5]}) == state_sha256({"b": [2.5], "a": 1})
    True
    >>> state_sha256({"a": 1}) == state_sha256({"a": 1.0})
    False
    """
    digest = hashlib.sha256()
    for part in _canonical(state):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """Hash of the integer weights and scales of offloaded convolutions; without any, of all parameters."""
    if isinstance(model, ResidualNet) and model.resident is not None:
        on_device = {name: quantise_weight(weight) for name, weight in model.resident.weights.items()}
        return state_sha256(
            {name: [ints.int(), 2.0**exponent] for name, (ints, exponent) in on_device.items()}
        )
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, OffloadConv2d)}
    if not layers:
        return state_sha256(dict(model.named_parameters()))
    quantised = {name: layer.quant_weight() for name, layer in layers.items()}
    return state_sha256({name: [weight.int(), weight.scale.item()] for name, weight in quantised.items()})


def _canonical(value: object) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().numpy()
        yield f"tensor {array.dtype} {array.shape}".encode()
        yield array.tobytes()
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _canonical(value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield f"sequence {len(value)}".encode()
        for item in value:
            yield from _canonical(item)
    elif value is None or isinstance(value, str | bytes | int | float):
        yield f"{type(value).__name__} {value!r}".encode()
    else:
        raise TypeError(f"state holds a {type(value).__name__}, which has no canonical bytes")

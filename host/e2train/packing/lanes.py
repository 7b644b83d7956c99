# SPDX-License-Identifier: Apache-2.0
"""Tensors as vectors of lanes: channels last, padded with zeros to whole vectors."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from e2train.numerics import Ints

__all__ = ["channels_first", "channels_last", "gradient_from_lanes", "weight_rows"]

_T = TypeVar("_T", bound=np.generic)


def channels_last(tensor: NDArray[_T], lanes: int) -> NDArray[_T]:
    """Lay channels side by side, so that ``lanes`` of them make a vector.

    Shapes: (N, C, H, W) to (N, H, W, ceil(C / lanes) * lanes).
    """
    n, c, h, w = tensor.shape
    laid = np.zeros((n, h, w, -(-c // lanes) * lanes), tensor.dtype)
    laid[..., :c] = tensor.transpose(0, 2, 3, 1)
    return laid


def channels_first(vectors: NDArray[_T], channels: int) -> NDArray[_T]:
    """Undo channels_last, dropping the padding.

    Shapes: (N, H, W, lanes * vectors) to (N, C, H, W).
    """
    return np.ascontiguousarray(vectors[..., :channels].transpose(0, 3, 1, 2))


def weight_rows(w: NDArray[np.int8], *, ic_lanes: int, oc_lanes: int) -> NDArray[np.int8]:
    """Kernels as rows of the weight buffer: one vector of input lanes per output lane.

    Shapes: (K, C, R, S) to (kt, R, S, ct, oc_lanes, ic_lanes).
    """
    k, c, r, s = w.shape
    kt, ct = -(-k // oc_lanes), -(-c // ic_lanes)
    padded = np.zeros((kt * oc_lanes, ct * ic_lanes, r, s), np.int8)
    padded[:k, :c] = w
    lanes = padded.reshape(kt, oc_lanes, ct, ic_lanes, r, s)
    return np.ascontiguousarray(lanes.transpose(0, 4, 5, 2, 1, 3))


def gradient_from_lanes(sums: Ints, *, K: int, C: int) -> Ints:
    """Weight gradient from the engine's outer products, dropping the padding.

    Shapes: (kt, ct, R, S, ic_lanes, oc_lanes, k_vectors) to (K, C, R, S).
    """
    kt, ct, r, s, ic, oc, vectors = sums.shape
    whole = sums.transpose(0, 6, 5, 1, 4, 2, 3).reshape(kt * vectors * oc, ct * ic, r, s)
    return np.ascontiguousarray(whole[:K, :C])

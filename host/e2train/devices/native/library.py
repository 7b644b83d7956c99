# SPDX-License-Identifier: Apache-2.0
"""The C++ of this folder as a library: compiled for this machine's processor and kept in the cache."""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from pathlib import Path
from typing import Any

import e2hls
from e2hls.base.cache import cached, content_key
from e2hls.base.clang import SHARED_LIBRARY, WARNINGS, compiler_id, link_shared, run_clang, system_library
from numpy.typing import NDArray

from e2train.devices.protocol import DeviceError
from e2train.devices.resident import DeviceTensor

__all__ = [
    "AffineCall",
    "ConvolutionCall",
    "Geometry",
    "ReductionCall",
    "Tensor",
    "WeightGradientCall",
    "library",
]

_SOURCES = Path(__file__).parent
_OPTIONS = (
    "-std=c++20",
    "-O3",
    "-march=native",
    "-fPIC",
    "-c",
    "-fno-sanitize=undefined",
    "-fvisibility=hidden",
    "-Wno-psabi",  # wide vectors are passed within the library alone
)
_KINDS = {"uint8": 0, "int8": 1, "int16": 2}
_VIEWS = {"whole": 0, "strided": 1, "spread": 2, "broadcast": 3}

_int, _address = ctypes.c_int32, ctypes.c_void_p


class Tensor(ctypes.Structure):
    """``e2::Tensor``."""

    _fields_ = (
        *((name, _int) for name in ("kind", "view", "C", "H", "W", "present")),
        ("offsets", _address),
    )

    @classmethod
    def of(cls, tensor: DeviceTensor | None) -> Tensor:
        """What C++ reads of a tensor, whose offsets must outlive it; None for no operand."""
        if tensor is None:
            return cls()
        kind, view = _KINDS[tensor.kind], _VIEWS[tensor.view]
        return cls(kind, view, tensor.C, tensor.H, tensor.W, 1, tensor.offsets.ctypes.data)


class Geometry(ctypes.Structure):
    """``e2::Geometry``."""

    _fields_ = tuple(
        (name, _int) for name in ("K", "C", "R", "S", "row_stride", "col_stride", "top", "left", "depthwise")
    )


class ConvolutionCall(ctypes.Structure):
    """``e2::Convolution``."""

    _fields_ = (
        ("source", Tensor),
        ("destination", Tensor),
        ("geometry", Geometry),
        ("transposed", _int),
        ("shift", _int),
        *((name, _address) for name in ("w", "sums", "squares")),
        ("largest", ctypes.c_int64),
        ("saturations", ctypes.c_int64),
    )


class WeightGradientCall(ctypes.Structure):
    """``e2::WeightGradient``."""

    _fields_ = (
        ("x", Tensor),
        ("gy", Tensor),
        ("geometry", Geometry),
        ("x_bits", _int),
        ("g_bits", _int),
        ("gw", _address),
    )


class AffineCall(ctypes.Structure):
    """``e2::Affine``."""

    _fields_ = (
        *((name, Tensor) for name in ("u", "v", "mask", "out")),
        *((name, _address) for name in ("a", "b", "d")),
        *((name, _int) for name in ("shift", "relu", "ceiling", "mask_limit", "mask_out", "dither")),
        ("sums", _address),
        ("largest", ctypes.c_int64),
        ("saturations", ctypes.c_int64),
    )


class ReductionCall(ctypes.Structure):
    """``e2::Reduction``."""

    _fields_ = (
        *((name, Tensor) for name in ("u", "v", "mask")),
        ("mask_limit", _int),
        ("sums", _address),
        ("products", _address),
    )


def address(array: NDArray[Any] | None) -> int | None:
    """Where an array's data are; it must outlive the call."""
    return None if array is None else array.ctypes.data


@cache
def library(defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The compiled library; ``defines`` such as ``-DE2_PORTABLE`` choose a variant.

    Raises: DeviceError when there is no compiler, or the cache cannot be written.
    """
    sources = sorted(_SOURCES.glob("*.cpp"))
    headers = sorted(_SOURCES.glob("*.hpp"))
    try:
        options = (*_OPTIONS, *defines, *WARNINGS, "-Werror", *system_library())
        key = content_key(options, SHARED_LIBRARY, compiler_id(), _processor(), *sources, *headers)

        def build(folder: Path) -> None:
            objects = [folder / f"{source.stem}.o" for source in sources]
            for source, target in zip(sources, objects, strict=True):
                run_clang([*options, source, "-o", target])
            link_shared(objects, folder / "resident.so")
            for target in objects:
                target.unlink()

        loaded = ctypes.CDLL(str(cached("resident", key, build) / "resident.so"))
    except (e2hls.HlsError, OSError) as error:
        raise DeviceError(f"cannot build the native emulator: {error}") from error
    loaded.e2_pool_new.restype, loaded.e2_pool_new.argtypes = _address, [ctypes.c_int]
    loaded.e2_pool_delete.restype, loaded.e2_pool_delete.argtypes = None, [_address]
    calls = {
        "convolution": ConvolutionCall,
        "weight_gradient": WeightGradientCall,
        "affine": AffineCall,
        "reduce": ReductionCall,
    }
    for name, call in calls.items():
        function = getattr(loaded, f"e2_{name}")
        function.restype = ctypes.c_int
        function.argtypes = [_address, _address, ctypes.c_int, ctypes.POINTER(call)]
    return loaded


def _processor() -> str:
    """What tells this machine's instructions from another's, as ``-march=native`` builds for them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())

# SPDX-License-Identifier: Apache-2.0
"""HLS C++ to SystemVerilog with pip-installable open tools."""

from e2hls.base.cache import cache_dir
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.build import build_rtl
from e2hls.checking.kernel import CheckReport, check
from e2hls.native.library import NativeKernel, Words, build_native
from e2hls.simulation import SimulationError, simulate

__all__ = [
    "CheckReport",
    "HlsError",
    "Kernel",
    "NativeKernel",
    "RtlDesign",
    "RtlOptions",
    "SimulationError",
    "Words",
    "build_native",
    "build_rtl",
    "cache_dir",
    "check",
    "simulate",
]

# SPDX-License-Identifier: Apache-2.0
"""HLS C++ to SystemVerilog with pip-installable open tools."""

from e2hls.build import build_rtl
from e2hls.cache import cache_dir
from e2hls.errors import HlsError
from e2hls.kernel import Kernel
from e2hls.native import NativeKernel, Words, build_native
from e2hls.rtl_design import RtlDesign, RtlOptions

__all__ = [
    "HlsError",
    "Kernel",
    "NativeKernel",
    "RtlDesign",
    "RtlOptions",
    "Words",
    "build_native",
    "build_rtl",
    "cache_dir",
]

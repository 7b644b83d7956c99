# SPDX-License-Identifier: Apache-2.0
"""Kernels compiled for this machine."""

from e2hls.native.library import NativeKernel, NativeRun, Words, build_native

__all__ = ["NativeKernel", "NativeRun", "Words", "build_native"]

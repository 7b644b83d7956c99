# SPDX-License-Identifier: Apache-2.0
"""The front end of the flow, with LLVM IR verified after every pass."""

from __future__ import annotations

from e2hls import pipeline
from e2hls.base.kernel import Kernel
from e2hls.ir import Design

__all__ = ["lower"]


def lower(kernel: Kernel) -> Design:
    return pipeline.lower(kernel, pipeline.Watch(verify_llvm=True))

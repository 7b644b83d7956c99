# SPDX-License-Identifier: Apache-2.0
"""Rewrites of the Verilog that XLS writes: they match its text, as ``XLS_VERSION`` writes it.

``registers`` is part of the RTL of every kernel; ``lanes`` and ``wide_outputs`` are for simulation alone.
"""

__all__ = ["XLS_VERSION"]

XLS_VERSION = "0.1.9934"  # of xls-python; pyproject.toml pins the same

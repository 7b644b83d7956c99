# SPDX-License-Identifier: Apache-2.0
"""The ends of a path in the words of the kernel: processes, loops, variables, streams and memories."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["in_kernel_terms"]

_PROCESS = re.compile(r"u_(\w+)\.(?:p(\d+)_|skid\d+_|__)?(\w+)")
_MEMORY = re.compile(r"(?:ram|requests)_(\w+?)(?:_r?req)?(?:\.|\Z)")
_STREAM = re.compile(r"fifo_(\w+)")
_DONE = re.compile(r"(\w+)_already_done_reg")
_PARTS = re.compile(r"(?:_squeezed|_low|_high|_\d+)\Z")  # of a value that XLS has split


def in_kernel_terms(name: str, terms: Mapping[str, Mapping[str, str]]) -> str:
    """What a name of the netlist stands for; ``terms`` are those of each module's values.

    >>> terms = {"engine_store": {"n7": "store, loop results: beat (store.hpp:139)"}}
    >>> in_kernel_terms("u_engine_store.p2_n7_squeezed", terms)
    'store, loop results: beat (store.hpp:139), stage 2'
    >>> in_kernel_terms("u_engine_store.p1_inputs_valid", terms)
    'engine_store, stage 1: valid and stall'
    >>> in_kernel_terms("fifo_plans.gen_queue.count_q", terms)
    'stream plans'
    >>> in_kernel_terms("ram_w_buf_3.read_addr_i", terms), in_kernel_terms("output m_axis_tdata", terms)
    ('memory w_buf_3', 'output m_axis_tdata')
    """
    if match := _PROCESS.match(name):
        module, stage, value = match.groups()
        return _value(module, stage, value, terms.get(module, {}))
    if match := _MEMORY.match(name):
        return f"memory {match[1]}"
    if match := _STREAM.match(name):
        return f"stream {match[1]}"
    return name


def _value(module: str, stage: str | None, value: str, terms: Mapping[str, str]) -> str:
    at = f", stage {stage}" if stage else ""
    if match := _DONE.fullmatch(value):
        return f"{module}: handshake of {match[1].strip('_')}"
    known, whole = terms.get(value), value
    while known is None and (shorter := _PARTS.sub("", whole)) != whole:
        known, whole = terms.get(shorter), shorter
    if known:
        return f"{known}{at}"
    what = {"pc": "which loop runs", "inputs_valid": "valid and stall"}.get(value, value)
    return f"{module}{at}: {what}"

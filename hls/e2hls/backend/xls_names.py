# SPDX-License-Identifier: Apache-2.0
"""Names of channels that are keywords of XLS' text: they have a prefix there, and only there."""

from __future__ import annotations

__all__ = ["from_xls", "to_xls"]

_PREFIX = "hls__name_"  # which no kernel's names have, as C++ keeps such names to itself
# Of xls-python 0.1.9934, and its literals.
_WORDS = """
active_inputs_valid bits block chan chan_interface clock controlled_stage false file_number fn instantiation
next package proc proc_instantiation reg ret scheduled_block scheduled_fn scheduled_proc source stage token
top true
"""
_KEYWORDS = frozenset(_WORDS.split())


def to_xls(name: str) -> str:
    """The name that a channel has in XLS' text.

    >>> to_xls("source"), to_xls("x_in")
    ('hls__name_source', 'x_in')
    """
    return f"{_PREFIX}{name}" if name in _KEYWORDS else name


def from_xls(text: str) -> str:
    """Verilog or a message of XLS with the channels' own names.

    >>> from_xls("output wire [31:0] hls__name_source_tdata")
    'output wire [31:0] source_tdata'
    """
    return text.replace(_PREFIX, "")

# SPDX-License-Identifier: Apache-2.0
"""Words that XLS would send again while the next stage of a pipeline cannot go on.

A stage offers a word for as long as it holds its activation. XLS notes that the word has been taken only
where an activation may send several words; where it sends one at most, a stall of the next stage, which waits
for a word or for a state element, repeats it. A further channel, always ready, makes XLS note it in any case.
"""

from __future__ import annotations

import re

__all__ = ["sends_again", "without"]


def sends_again(verilog: str) -> bool:
    """Whether a module of several stages has outputs, and does not note which words have been taken."""
    several = re.search(r"\bp1_inputs_valid\b", verilog)
    sends = re.search(r"^  output wire \w+_tvalid\b", verilog, re.M)
    return bool(several and sends) and "_already_done_reg" not in verilog


def without(channel: str, verilog: str) -> str:
    """The module with an output channel that is always ready, and has no ports."""
    port = re.compile(rf"^  (?:in|out)put wire ((?:\[\d+:0\] )?{channel}_t\w+),?\n", re.M)
    found = port.findall(verilog)
    head, end, body = port.sub("", verilog).partition(");\n")
    wires = "".join(f"  wire {name};\n" for name in found)
    return f"{head.rstrip().rstrip(',')}\n{end}{wires}  assign {channel}_tready = 1'h1;\n{body}"

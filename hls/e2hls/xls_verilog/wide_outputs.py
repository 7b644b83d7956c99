# SPDX-License-Identifier: Apache-2.0
"""Wide words put together only in the cycles in which they are valid, for the speed of a simulation.

Nothing reads a word that is not valid. Verilator packs every word of XLS's text again in each cycle, which
took a fifth of the time of the training engine's simulation.
"""

from __future__ import annotations

import re

__all__ = ["pack_when_valid"]

_WIDE_BITS = 256  # what takes Verilator no more than a few instructions is left alone
_OUTPUT = re.compile(r"^  assign (\w+)_tdata = (\w+);\n", re.MULTILINE)


def pack_when_valid(verilog: str) -> str:
    """The same module; outputs that are not a concatenation of their own are left as they are."""
    for assign, port, wire in [(match[0], match[1], match[2]) for match in _OUTPUT.finditer(verilog)]:
        declared = re.search(rf"^  wire \[(\d+):0\] {wire};\n", verilog, re.MULTILINE)
        packed = re.search(rf"^  assign {wire} = (\{{[^?;]*\}});\n", verilog, re.MULTILINE)
        if declared is None or packed is None or (width := int(declared[1]) + 1) < _WIDE_BITS:
            continue
        if len(re.findall(rf"\b{wire}\b", verilog)) != 3:  # something else reads it
            continue
        block = (
            f"  always @ (*) begin\n    {port}_tdata = {width}'bx;\n"
            f"    if ({port}_tvalid) {port}_tdata = {packed[1]};\n  end\n"
        )
        verilog = verilog.replace(assign, block).replace(declared[0], "").replace(packed[0], "")
        verilog = re.sub(rf"\boutput wire (\[\d+:0\] {port}_tdata\b)", r"output reg \1", verilog)
    return verilog

# SPDX-License-Identifier: Apache-2.0
"""One clocked block per enable, in the place of XLS's one for all registers.

The hardware is the same. Verilator keeps a copy of every register that a block reads after writing it, and
spends a third of its time on these copies where one block holds a whole multiplier array.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["split_registers"]

_BLOCK = re.compile(r"^  (always\w* @ \(posedge clk\)) begin\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_RESET = re.compile(
    r"^    if \((\S+)\) begin\n(.*?)^    end else begin\n(.*?)^    end\n\Z", re.MULTILINE | re.DOTALL
)
_ASSIGNMENT = re.compile(r"^ +(\w+) <= (.*);\n\Z")
_KEPT = re.compile(r"(\w+) \? (.*) : (\w+)\Z")


def split_registers(verilog: str) -> str:
    """The same module; a block that is written in any other way than XLS's is left as it is."""
    return _BLOCK.sub(_split, verilog)


def _split(block: re.Match[str]) -> str:
    clocked, body = block.groups()
    with_reset = _RESET.match(body)
    reset, resets, updates = with_reset.groups() if with_reset else ("", "", body)
    start, following = _assignments(resets), _assignments(updates)
    if start is None or following is None:
        return block[0]
    enables: dict[str, list[tuple[str, str]]] = {}
    for name, value in following.items():
        kept = _KEPT.match(value)
        if kept and kept[3] == name:
            enables.setdefault(kept[1], []).append((name, kept[2]))
        else:
            enables.setdefault("", []).append((name, value))
    return "".join(
        line
        for enable, registers in enables.items()
        for line in _block(clocked, reset, enable, registers, start)
    )


def _assignments(text: str) -> dict[str, str] | None:
    """Register and value of each line; None where a line is something else."""
    matches = [_ASSIGNMENT.match(line) for line in text.splitlines(keepends=True)]
    return None if None in matches else {match[1]: match[2] for match in matches if match}


def _block(
    clocked: str, reset: str, enable: str, registers: list[tuple[str, str]], start: dict[str, str]
) -> Iterator[str]:
    yield f"  {clocked} begin\n"
    if reset:
        yield f"    if ({reset}) begin\n"
        yield from (f"      {name} <= {start[name]};\n" for name, _ in registers)
        yield "    end else begin\n"
    indent = "      " if reset else "    "
    if enable:
        yield f"{indent}if ({enable}) begin\n"
        yield from (f"{indent}  {name} <= {value};\n" for name, value in registers)
        yield f"{indent}end\n"
    else:
        yield from (f"{indent}{name} <= {value};\n" for name, value in registers)
    yield "    end\n  end\n" if reset else "  end\n"

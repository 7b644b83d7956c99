# SPDX-License-Identifier: Apache-2.0
"""Functions whose delay is an option of the schedule: what its model of an ASIC's gates knows nothing of.

A block RAM gives its word late in a cycle, and a DSP slice multiplies in a time of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Foreign", "define_products"]

_DSP_PORTS = (18, 25)  # bits of the factors of a DSP48E1, signed
_CALLED = re.compile(r"\b(([su])mul(\d+)b_(\d+)b_x_(\d+)b)\(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A function whose delay XLS does not know, and its Verilog."""

    name: str
    params: tuple[tuple[str, int], ...]
    width: int
    body: str
    verilog: str

    @classmethod
    def wire(cls, width: int) -> Foreign:
        """The value itself."""
        body = "identity(word)"
        return cls(name=f"wire{width}", params=(("word", width),), width=width, body=body, verilog="{word}")

    @classmethod
    def product(cls, op: str, width: int, left: int, right: int) -> Foreign | None:
        """``smul`` or ``umul`` in one DSP slice, named as XLS names the function; None if it is too wide."""
        unsigned = op == "umul"
        if any(bits + unsigned > port for bits, port in zip(sorted((left, right)), _DSP_PORTS, strict=True)):
            return None
        name = f"{op}{width}b_{left}b_x_{right}b"
        params = (("lhs", left), ("rhs", right))
        verilog = f"{name}({{lhs}}, {{rhs}})"
        return cls(name=name, params=params, width=width, body=f"{op}(lhs, rhs)", verilog=verilog)

    def text(self) -> list[str]:
        params = ", ".join(f"{name}: bits[{width}]" for name, width in self.params)
        return [
            f'#[ffi_proto("""code_template: "assign {{return}} = {self.verilog}"\n""")]',
            f"fn {self.name}({params}) -> bits[{self.width}] {{",
            f"  ret result: bits[{self.width}] = {self.body}",
            "}",
            "",
        ]


def define_products(verilog: str) -> str:
    """The same module with the functions that its products call, written as XLS writes them."""
    found = {match[1]: match for match in _CALLED.finditer(verilog)}
    missing = [match for name, match in found.items() if f" {name} (input" not in verilog]
    head, end, rest = verilog.partition("\n);\n")
    return head + end + "".join(map(_definition, missing)) + rest


def _definition(call: re.Match[str]) -> str:
    name, op, *bits = call.groups()
    width, left, right = (int(count) - 1 for count in bits)
    lines = [
        "  // lint_off SIGNED_TYPE",
        "  // lint_off MULTIPLY",
        f"  function automatic [{width}:0] {name} (input reg [{left}:0] lhs, input reg [{right}:0] rhs);",
        *(_signed(name, width, left, right) if op == "s" else [f"    {name} = lhs * rhs;"]),
        "  endfunction",
        "  // lint_on MULTIPLY",
        "  // lint_on SIGNED_TYPE",
    ]
    return "\n".join(lines) + "\n"


def _signed(name: str, width: int, left: int, right: int) -> list[str]:
    return [
        f"    reg signed [{left}:0] signed_lhs;",
        f"    reg signed [{right}:0] signed_rhs;",
        f"    reg signed [{width}:0] signed_result;",
        "    begin",
        "      signed_lhs = $signed(lhs);",
        "      signed_rhs = $signed(rhs);",
        "      signed_result = signed_lhs * signed_rhs;",
        f"      {name} = $unsigned(signed_result);",
        "    end",
    ]

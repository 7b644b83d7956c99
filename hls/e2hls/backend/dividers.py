# SPDX-License-Identifier: Apache-2.0
"""Division by a variable as a chain of subtractions, a bit of the quotient each, that XLS pipelines.

XLS itself has a division as one operation, which nothing cuts into cycles.
"""

from __future__ import annotations

from e2hls.backend.bit_slices import Value, concat, constant
from e2hls.backend.xls_text import ProcText

__all__ = ["divide"]


def divide(text: ProcText, op: str, dividend: Value, divisor: Value) -> Value:
    """``dividend`` by ``divisor`` as LLVM's ``op`` does it; by 0 it gives anything."""
    if op in ("udiv", "urem"):
        quotient, remainder = _unsigned(text, dividend, divisor)
        return quotient if op == "udiv" else remainder
    negative, other = (value.cut(value.width - 1, 1) for value in (dividend, divisor))
    quotient, remainder = _unsigned(text, _negated(text, dividend, negative), _negated(text, divisor, other))
    if op == "srem":  # of the dividend's sign
        return _negated(text, remainder, negative)
    return _negated(text, quotient, text.binary("xor", negative, other, 1))


def _negated(text: ProcText, value: Value, when: Value) -> Value:
    """``-value`` where ``when``, else ``value``."""
    return text.select(when, text.binary("sub", constant(value.width, 0), value, value.width), value)


def _unsigned(text: ProcText, dividend: Value, divisor: Value) -> tuple[Value, Value]:
    """Quotient and remainder, as wide as the operands; a step for each bit that is not known to be 0."""
    width = dividend.width
    narrow = divisor.cut(0, _significant(divisor))
    remainder = constant(narrow.width, 0)
    bits: list[Value] = []  # of the quotient, highest first
    for at in reversed(range(_significant(dividend))):
        taken = concat((dividend.cut(at, 1), remainder))
        less = text.binary("sub", taken, text.zero_extend(narrow, narrow.width + 1), narrow.width + 1)
        below = less.cut(narrow.width, 1)
        bits.append(text.bit_not(below))
        remainder = text.select(below, taken.cut(0, narrow.width), less.cut(0, narrow.width))
    quotient = text.zero_extend(concat(reversed(bits)), width)
    return quotient, text.zero_extend(remainder, width)


def _significant(value: Value) -> int:
    """Bits below those that are known to be 0; at least one."""
    top = value.parts[-1]
    return max(1, value.width - (top.width - top.low.bit_length() if not top.node else 0))

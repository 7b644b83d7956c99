# SPDX-License-Identifier: Apache-2.0
"""Runs of bits against integers."""

from __future__ import annotations

from e2hls.backend.bit_slices import Part, Value, concat, constant, mask_runs, overlay, shifted_left
from hypothesis import given
from hypothesis import strategies as st

NODE = 0xDEADBEEFCAFEF00D0123456789ABCDEF  # what the 128-bit node "n" holds


def number(value: Value) -> int:
    total, at = 0, 0
    for part in value.parts:
        bits = NODE >> part.low if part.node else part.low
        total |= (bits & ((1 << part.width) - 1)) << at
        at += part.width
    return total


@st.composite
def values(draw: st.DrawFn, width: int = 40) -> Value:
    parts, left = [], width
    while left:
        size = draw(st.integers(1, left))
        low = draw(st.integers(0, 128 - size))
        whole = st.integers(0, (1 << size) - 1)
        parts.append(Value((Part(size, "n", low),)) if draw(st.booleans()) else constant(size, draw(whole)))
        left -= size
    return concat(parts)


@given(values(), st.integers(0, 39), st.integers(1, 40))
def test_cut(value: Value, start: int, width: int) -> None:
    width = min(width, 40 - start)
    assert number(value.cut(start, width)) == number(value) >> start & ((1 << width) - 1)
    assert value.cut(start, width).width == width


@given(values(), st.integers(0, 50))
def test_shifted_left(value: Value, by: int) -> None:
    assert number(shifted_left(value, by)) == number(value) << by & ((1 << 40) - 1)


@given(values(), values())
def test_overlay_is_or_wherever_it_answers(a: Value, b: Value) -> None:
    joined = overlay(a, b)
    assert joined is None or number(joined) == number(a) | number(b)


@given(values(), st.integers(0, 2**40 - 1))
def test_mask_runs_is_and_wherever_it_answers(value: Value, mask: int) -> None:
    masked = mask_runs(value, mask)
    assert masked is None or number(masked) == number(value) & mask


def test_disjoint_fields_need_no_gate() -> None:
    a, b = (
        concat((Value((Part(8, "n", 0),)), constant(8, 0))),
        concat((constant(8, 0), Value((Part(8, "n", 8),)))),
    )
    assert overlay(a, b) == Value((Part(16, "n", 0),))

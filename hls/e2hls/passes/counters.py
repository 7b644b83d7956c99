# SPDX-License-Identifier: Apache-2.0
"""Finds loop counters and how far they count."""

from __future__ import annotations

from collections.abc import Iterator

from e2hls.ir import Block, Branch, Const, Instr, Operand, Phi, Ref

__all__ = ["count_bits"]


def count_bits(blocks: tuple[Block, ...]) -> dict[str, int]:
    """The bits that hold every value of a counter, for each phi that is one.

    A counter starts at constants, goes up by one each time, and its loop goes on only below a constant.
    """
    definitions = {instr.result: instr for block in blocks for instr in block.instrs if instr.result}
    by_label = {block.label: block for block in blocks}
    found = {}
    for block in blocks:
        for phi in block.phis:
            limit = _limit(phi, block.label, by_label, definitions)
            if limit is not None:
                found[phi.result] = max(1, limit.bit_length())
    return found


def _limit(phi: Phi, header: str, by_label: dict[str, Block], definitions: dict[str, Instr]) -> int | None:
    """The largest value that a counter takes, None where ``phi`` is no counter."""
    starts = [value.value for value in phi.incoming.values() if isinstance(value, Const)]
    steps = [(label, value) for label, value in phi.incoming.items() if isinstance(value, Ref)]
    if not starts or len(steps) != 1 or max(starts) >= 1 << (phi.width - 1):
        return None
    label, following = steps[0]
    step, me = definitions.get(following.name), Ref(phi.width, phi.result)
    if step is None or step.op != "add" or step.args != (me, Const(phi.width, 1)):
        return None
    end = by_label[label].end
    if not isinstance(end, Branch) or end.cond is None or (end.then == header) == (end.other == header):
        return None
    facts = _facts(end.cond, end.then == header, definitions)
    limits = [
        last for fact, holds in facts if (last := _last(fact, holds, me, following, starts)) is not None
    ]
    return max(min(limits), *starts) if limits else None


def _facts(cond: Operand, holds: bool, definitions: dict[str, Instr]) -> Iterator[tuple[Instr, bool]]:
    """The comparisons that are known where ``cond`` is ``holds``."""
    instr = definitions.get(cond.name) if isinstance(cond, Ref) else None
    if instr is None:
        return
    if instr.op == "icmp":
        yield instr, holds
    both = instr.op == "and" or (instr.op == "select" and instr.args[2] == Const(1, 0))
    if both and holds:
        for arg in instr.args[:2]:
            yield from _facts(arg, True, definitions)


def _last(fact: Instr, holds: bool, me: Ref, following: Ref, starts: list[int]) -> int | None:
    """The largest value that the counter goes on to, by one comparison with a constant."""
    value, bound = fact.args
    if not isinstance(bound, Const) or value not in (me, following):
        return None
    limit, below_half = bound.value, bound.value < 1 << (me.width - 1)
    below = fact.predicate in (("ult", "slt") if holds else ("uge", "sge"))
    differs = fact.predicate == ("ne" if holds else "eq") and all(start < limit for start in starts)
    if not below_half or not (below or differs):
        return None
    return limit if value == me else max(0, limit - 1)

# SPDX-License-Identifier: Apache-2.0
"""Operations shared out over the engines of a board by their samples, and run in rounds.

An engine does all operations for its own samples, so that none of them waits for another engine. Where one
would read or change what another engine works on, a round ends before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise, zip_longest
from typing import Any, cast

from e2train.config import EngineConfig
from e2train.devices.chains.batch import Step, join
from e2train.devices.chains.jobs import Job, collector, plan_job
from e2train.devices.chains.operands import Work, operands, results
from e2train.devices.chains.partial_sums import PartialSums, Parts, SumsLater
from e2train.devices.chains.plan import PlannedFrame, Range
from e2train.devices.chains.replies import FrameReplies
from e2train.devices.resident import DeviceTensor, WeightGradient

__all__ = ["Round", "Rounds", "collectors", "last_round", "plan_rounds", "shares_of"]

Round = dict[int, list[Step]]  # the chain of each engine that has one; steps by their operation's number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounds:
    """The rounds of operations, and for each operation its label and what collects its outcome."""

    labels: list[str]
    collect: list[Callable[..., Any]]
    rounds: Iterator[Round]
    shares: Sequence[Sequence[tuple[int, Work]]]  # of each operation by engine
    jobs: Sequence[Sequence[Job]]  # likewise
    placed: Mapping[int, Sequence[Parts]]  # partial sums that stay on the board


def plan_rounds(
    calls: Sequence[Work],
    cfg: EngineConfig,
    *,
    room: int,
    sums: PartialSums | None = None,
    finish: Callable[[], None] = lambda: None,
    interleave: bool = False,
) -> Rounds:
    """Plan operations in order, in chains that take at most ``room`` bytes of scratch memory each.

    With ``interleave`` operations overlap as ``join`` says, which takes fewer cycles and more reports.
    With ``sums`` the first round adds up what is due of these, and partial sums of weight gradients stay on
    the board, whose outcomes are ``SumsLater`` then: ``finish`` fetches them if no other round does.

    Raises: ShapeError when one does not fit the buffers of an engine.
    """
    one = replace(cfg, engines=1)
    shared = [shares_of(call, cfg.engines) for call in calls]
    jobs = [
        [plan_job(share, one, first=first, grouped=not interleave) for first, share in shares]
        for shares in shared
    ]
    due: list[list[PlannedFrame]] = [[] for _ in range(cfg.engines)]
    placed: dict[int, list[Parts]] = {}
    if sums is not None:
        due = sums.take_due()
        jobs, placed = sums.place(calls, jobs)

    def join_own(numbers: range, engine: int, before: Sequence[PlannedFrame]) -> Iterator[list[Step]]:
        """The chains of one engine for some of the operations."""
        own = [number for number in numbers if engine < len(shared[number])]
        work = [shared[number][engine][1] for number in own]
        found = [jobs[number][engine] for number in own]
        for chain in join(work, found, one, room=room, before=before, interleave=interleave):
            yield [(None if index is None else own[index], frame) for index, frame in chain]

    def rounds() -> Iterator[Round]:
        for low, high in _apart(shared):
            chains = [
                join_own(range(low, high), engine, () if low else due[engine])
                for engine in range(cfg.engines)
            ]
            for turn in zip_longest(*chains):
                yield {engine: chain for engine, chain in enumerate(turn) if chain}

    return Rounds(
        labels=[each[0].label for each in jobs],
        collect=collectors(calls, placed, finish),
        rounds=rounds(),
        shares=shared,
        jobs=jobs,
        placed=placed,
    )


def collectors(
    calls: Sequence[Work], placed: Mapping[int, Sequence[Parts]], finish: Callable[[], None]
) -> list[Callable[..., Any]]:
    """What collects the outcomes of operations, those of ``placed`` as ``SumsLater``."""
    collect: list[Callable[..., Any]] = [collector(call) for call in calls]
    for number, parts in placed.items():
        call = cast("WeightGradient", calls[number])
        collect[number] = partial(_later, call, collect[number], parts, finish)
    return collect


def last_round(sums: PartialSums) -> Round:
    """A round that adds up what is due and does nothing else."""
    return {
        engine: [(None, frame) for frame in frames] for engine, frames in enumerate(sums.take_due()) if frames
    }


def _later(
    call: WeightGradient,
    collect: Callable[..., Any],
    parts: Sequence[Parts],
    finish: Callable[[], None],
    replies: Sequence[FrameReplies],
) -> SumsLater:
    """The outcome of an operation whose partial sums are on the board."""
    return SumsLater(call=call, collect=collect, replies=replies, parts=parts, finish=finish)


def shares_of(call: Work, engines: int) -> list[tuple[int, Work]]:
    """An operation for each engine that gets samples, and the number of the first of these."""
    samples = _tensors(call)[0][1].N
    count = max(1, min(engines, samples))
    if count == 1:
        return [(0, call)]
    edges = [samples * part // count for part in range(count + 1)]
    return [(low, _slice(call, slice(low, high))) for low, high in pairwise(edges)]


def _tensors(call: Work) -> list[tuple[str, DeviceTensor]]:
    listed = [(field.name, getattr(call, field.name)) for field in fields(call)]
    return [(name, value) for name, value in listed if isinstance(value, DeviceTensor)]


def _slice(call: Work, samples: slice) -> Work:
    parts = {name: replace(tensor, offsets=tensor.offsets[samples]) for name, tensor in _tensors(call)}
    return replace(call, **parts)  # type: ignore[arg-type]  # tensors in the place of tensors


def _apart(shared: Sequence[Sequence[tuple[int, Work]]]) -> Iterator[Range]:
    """Operations in order, as runs within which no engine touches what another one works on."""
    first = 0
    read: list[tuple[int, Range]] = []  # by which engine, since the last round
    written: list[tuple[int, Range]] = []
    for number, shares in enumerate(shared):
        reads = [
            (engine, span) for engine, (_, share) in enumerate(shares) for span in _spans(operands(share))
        ]
        writes = [
            (engine, span) for engine, (_, share) in enumerate(shares) for span in _spans(results(share))
        ]
        if _meet(reads, written) or _meet(writes, written) or _meet(writes, read):
            yield first, number
            first, read, written = number, [], []
        read += reads
        written += writes
    yield first, len(shared)


def _spans(tensors: Sequence[DeviceTensor]) -> list[Range]:
    return [tensor.span[:2] for tensor in tensors if tensor.N]


def _meet(some: Sequence[tuple[int, Range]], others: Sequence[tuple[int, Range]]) -> bool:
    """Whether two engines would touch the same bytes."""
    return any(
        engine != other and first < end and start < stop
        for engine, (first, stop) in some
        for other, (start, end) in others
    )

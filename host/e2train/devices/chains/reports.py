# SPDX-License-Identifier: Apache-2.0
"""Frames that report together: all but the last of them hold back their sums, counts and check sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from e2train.devices.chains.plan import MOST_PIXELS, PlannedFrame

__all__ = ["held_reports", "together"]


def together(frames: Iterable[PlannedFrame]) -> list[PlannedFrame]:
    """Frames of an operation, which may come in any order: those that can report together are neighbours."""
    groups: dict[Any, list[PlannedFrame]] = {}
    for frame in frames:
        groups.setdefault(_subject(frame), []).append(frame)
    return [frame for group in groups.values() for frame in group]


def held_reports(frames: Sequence[PlannedFrame], owners: Sequence[int | None] = ()) -> list[bool]:
    """Which frames of a chain hold their reports back, so that the next one reports for them too.

    Neighbours of one owner do whose sums belong to the same channels, as long as these surely fit the engine.
    """
    held = [False] * len(frames)
    pixels = 0  # of a plane, in the report so far
    for index in range(len(frames) - 1):
        frame, following = frames[index : index + 2]
        pixels += frame.header.plane
        held[index] = (
            (not owners or owners[index] == owners[index + 1])
            and _leaves_nothing(frame)
            and _leaves_nothing(following)
            and _subject(frame) == _subject(following)
            and (not frame.header.planes or pixels + following.header.plane <= MOST_PIXELS)
        )
        if not held[index]:
            pixels = 0
    return held


def _leaves_nothing(frame: PlannedFrame) -> bool:
    """Whether no results come to the host, which would stand between the reports."""
    return bool(frame.results) or not frame.header.result_words


def _subject(frame: PlannedFrame) -> tuple[Any, ...]:
    """What reports must have in common."""
    header = frame.header
    return frame.apart, frame.tag if header.planes or header.outer else None, header.planes

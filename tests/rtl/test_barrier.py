# SPDX-License-Identifier: Apache-2.0
"""How many frames the engine takes while results stand still: fewer than keep one from reading too early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from e2sim import build_soc
from e2sim.soc import DmaRegister, Soc
from e2train.config import load_config
from e2train.devices.build import engine_rtl
from e2train.devices.chains.batch import barrier
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import Area, lay_out
from e2train.devices.resident import Affine, DeviceTensor
from e2train.numerics.frames.layout import HEADER_WORDS
from e2train.packing.descriptors import Pieces, write_descriptors

PYNQ = load_config("pynq_z2")
SOURCE, RESULT, OWN = 1 << 16, 1 << 17, 1 << 20  # addresses; of headers and descriptors
CYCLES = 30_000  # in which a chain like these ends by far


def copies(size: tuple[int, int], count: int) -> list[PlannedFrame]:
    """Frames of an operation that writes some pixels of some samples."""
    one, zero = np.ones(16, np.int64), np.zeros(16, np.int64)

    def tensor(at: int) -> DeviceTensor:
        return DeviceTensor(kind="int8", C=16, H=size[0], W=size[1], offsets=np.array([at]))

    listed = []
    for sample in range(count):
        offset = sample * 16 * size[0] * size[1]
        call = Affine(u=tensor(SOURCE + offset), out=tensor(RESULT + offset), a=one, b=zero, d=zero, shift=0)
        listed += plan_job(call, PYNQ).frames
    return listed


def words_in(frames: list[PlannedFrame], room: int, owners: Sequence[int] = ()) -> int:
    """How much of a chain the engine takes when nobody takes more than so many words of what it gives."""
    memory = np.zeros(2 << 20, np.uint8)
    area = Area(memory=memory, base=0, at=OWN)
    laid = lay_out(frames, area, area, owners=owners)
    mm2s = write_descriptors(memory, laid.mm2s, -(-area.at // 64) * 64)
    s2mm = write_descriptors(memory, Pieces.of([(RESULT, 8 * room, True)]), mm2s.last + 64)
    library = build_soc(engine_rtl(PYNQ))
    with Soc(library, memory=memory, memory_base=0, scatter_gather=True) as soc:
        for control, chain in ((DmaRegister.S2MM_DMACR, s2mm), (DmaRegister.MM2S_DMACR, mm2s)):
            soc._start_chain(control, chain.first, chain.last)
        soc.run(CYCLES)
        assert room <= soc.stats.words_out <= room + 1  # and no more ever
        return soc.stats.words_in


@pytest.mark.parametrize("lacking", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("size", "count"), [((8, 8), 1), ((1, 1), 6), ((1, 4), 3)], ids=str)
def test_the_last_frame_of_a_barrier_waits_for_all_results(
    size: tuple[int, int], count: int, lacking: int
) -> None:
    before = copies(size, count)
    frames = [*before, *barrier(PYNQ)]
    results = sum(frame.header.result_words for frame in before)
    until = sum(frame.header.frame_words for frame in frames[:-1])
    assert words_in(frames, results - lacking) < until + HEADER_WORDS


def test_it_is_taken_when_they_have_left() -> None:
    before = copies((8, 8), 1)
    frames = [*before, *barrier(PYNQ)]
    results = sum(frame.header.result_words for frame in before)
    assert (
        words_in(frames, results + 9) > sum(frame.header.frame_words for frame in frames[:-1]) + HEADER_WORDS
    )


@pytest.mark.parametrize("alike", [1, 2, 3, 5])
def test_a_report_that_is_held_back_lets_one_more_frame_in(alike: int) -> None:
    """As the planner counts: results of the first frame have left when the sixth behind it is taken."""
    frames = [*copies((1, 1), alike), *copies((4, 8), 9 - alike)]
    owners = [0] * alike + list(range(1, 10 - alike))
    starts = np.cumsum([0, *(frame.header.frame_words for frame in frames)])
    taken = words_in(frames, frames[0].header.result_words - 1, owners)
    first = 5 if alike == 1 else 6
    assert taken < starts[first] + HEADER_WORDS
    assert alike < 5 or taken > starts[5] + HEADER_WORDS

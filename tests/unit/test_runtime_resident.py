# SPDX-License-Identifier: Apache-2.0
"""Delayed scales, the plan of a device's memory, and what a resident step moves and counts."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from e2train.nn import (
    OffloadContext,
    ResidentBody,
    ResidualNet,
    SkipPolicy,
    build_model,
    describe,
    freeze,
    resnet,
)
from e2train.runtime import Ledger, merged
from e2train.runtime.resident import BodyError, Kinds, Scales, full_rows, memory_map
from e2train.runtime.resident.arena import ALIGNMENT, Buffer, place
from resident_recorder import Recorder
from torch.nn import functional as F  # noqa: N812


def scales(**maxima: float) -> Scales:
    kinds = dict.fromkeys(maxima, "int8")
    return Scales(kinds, np.array(list(maxima.values())), decay=0.5)


def alone(values: np.ndarray) -> np.ndarray:
    return values


def test_scales_follow_what_earlier_steps_have_seen():
    found = scales(x=8.0)
    found.see("x", 3.0)
    found.see("x", 5.0)
    found.see("x", 1.0)
    assert found.exponent("x") == 3 - 7  # this step goes on with the old maximum
    found.advance(alone)
    assert found.maxima.tolist() == [5.0]  # above the half that is left of 8
    found.see("x", 1.0)
    found.advance(alone)
    assert found.maxima.tolist() == [2.5]


def test_a_scale_not_seen_in_a_step_forgets_nothing():
    found = scales(x=8.0, y=8.0)
    found.see("y", 0.0)
    found.advance(alone)
    assert found.maxima.tolist() == [8.0, 4.0]


def test_a_scale_grows_at_once_and_is_forgotten_little_by_little():
    found = scales(x=1.0)
    for magnitude, want in ((100.0, 100.0), (0.0, 50.0), (0.0, 25.0), (30.0, 30.0)):
        found.see("x", magnitude)
        found.advance(alone)
        assert found.maxima.tolist() == [want]


def test_an_unknown_scale_starts_with_room_for_twice_what_a_first_run_shows():
    found = scales(x=0.0)
    assert not found.known("x")
    found.start("x", 3.0)
    assert found.known("x")
    assert (found.maxima.tolist(), found.exponent("x")) == ([6.0], 3 - 7)


def test_output_gradients_of_8_bits_reach_a_share_of_their_maximum():
    kinds = {
        "b.gy1": "int8",
        "b.gy2": "int16",
        "b.ga1": "int8",
        "gym.a1": "int8",
        "g0": "int8",
        "g1": "int16",
    }
    found = Scales(kinds, np.full(6, 8.0), decay=1.0, gradient_range=0.5)
    assert [found.exponent(name) for name in kinds] == [2 - 7, 3 - 15, 3 - 7, 3 - 7, 2 - 7, 3 - 15]
    found.advance(alone)
    assert found.maxima.tolist() == [8.0] * 6  # they are what was seen, whatever of it fits


def test_output_gradients_of_8_bits_alone_are_dithered():
    kinds = {"b.gy1": "int8", "b.gy2": "int16", "b.ga1": "int8", "g0": "int16", "g1": "int8", "x1": "int8"}
    for dithered in (True, False):
        found = Scales(kinds, np.ones(6), decay=1.0, dithered=dithered)
        assert [found.dithers(name) for name in kinds] == [dithered, False, False, False, dithered, False]


def test_a_first_run_of_zeros_leaves_a_scale_unknown():
    found = scales(x=0.0)
    found.start("x", 0.0)
    found.see("x", 0.0)
    found.advance(alone)
    assert not found.known("x")


def test_ranks_agree_on_maxima():
    found = scales(x=1.0, y=1.0, z=1.0)
    found.see("x", 2.0)
    found.advance(lambda values: np.maximum(values, [7.0, 3.0, -1.0]))
    assert found.maxima.tolist() == [7.0, 3.0, 1.0]


def test_an_evaluation_moves_no_scale():
    found = scales(x=4.0, y=0.0)
    found.see("x", 100.0)
    found.start("y", 100.0)
    found.forget()
    assert not found.known("y")
    found.see("x", 1.0)
    found.advance(alone)
    assert found.maxima.tolist() == [2.0, 0.0]


def random_buffers(rng: np.random.Generator) -> list[Buffer]:
    buffers = []
    for index in range(int(rng.integers(1, 40))):
        first = int(rng.integers(0, 12))
        last = first + int(rng.integers(0, 6))
        nbytes = int(rng.choice([0, 1, 63, 64, 65, 128, 1000]))
        buffers.append(Buffer(name=str(index), nbytes=nbytes, first=first, last=last))
    return buffers


def test_buffers_that_live_at_once_never_overlap(rng):
    for _ in range(100):
        buffers = random_buffers(rng)
        starts, total = place(buffers)
        assert starts.keys() == {buffer.name for buffer in buffers}
        assert all(start % ALIGNMENT == 0 for start in starts.values())
        assert all(starts[buffer.name] + buffer.nbytes <= total for buffer in buffers)
        for one, other in itertools.combinations(buffers, 2):
            if one.first <= other.last and other.first <= one.last:
                start, with_ = starts[one.name], starts[other.name]
                assert start + one.nbytes <= with_ or with_ + other.nbytes <= start, (one, other)


def test_buffers_that_never_meet_share_their_bytes():
    buffers = [Buffer(name=str(at), nbytes=640, first=at, last=at) for at in range(10)]
    assert place(buffers) == ({str(at): 0 for at in range(10)}, 640)
    assert place([]) == ({}, 0)


def _apart(buffers) -> tuple[dict[str, int], int]:
    """A place for each buffer that it shares with none."""
    starts, end = {}, 0
    for buffer in buffers:
        starts[buffer.name] = end
        end += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
    return starts, end


def _scattered(rng: np.random.Generator):
    """A plan that a life too short by a moment hardly survives: any place that is free, near the start."""

    def anywhere(buffers) -> tuple[dict[str, int], int]:
        placed: list[tuple[int, int, Buffer]] = []
        _, room = place(buffers)
        for buffer in rng.permutation(np.array(buffers, object)):
            alive = [each for each in placed if each[2].first <= buffer.last and buffer.first <= each[2].last]
            starts = (ALIGNMENT * int(at) for at in rng.integers(0, 2 + room // ALIGNMENT, 1000))
            free = (
                at
                for at in starts
                if all(at + buffer.nbytes <= start or end <= at for start, end, _ in alive)
            )
            start = next(free, max((end for _, end, _ in placed), default=0))
            placed.append((start, start + -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT, buffer))
        return {buffer.name: start for start, _, buffer in placed}, max(end for _, end, _ in placed)

    return anywhere


class Drawn(SkipPolicy):
    """Each sample skips as it is drawn, in training and in evaluation."""

    def __init__(self, skip: float) -> None:
        super().__init__()
        self.skip, self.draws = skip, torch.Generator().manual_seed(2)

    def gate(self, index: int, x: torch.Tensor) -> torch.Tensor:
        return (torch.rand(len(x), generator=self.draws) >= self.skip).float()


def _train(net: ResidualNet, image, batches, *, gradient_bits: int) -> list[torch.Tensor]:
    recorder = Recorder()
    net.resident = ResidentBody(
        net, OffloadContext(device=recorder, gradient_bits=gradient_bits), image=image
    )
    seen = []
    for number, count in enumerate(batches):
        x = torch.rand(count, *image, generator=torch.Generator().manual_seed(number))
        F.cross_entropy(net(x), torch.arange(count) % 10).backward()
        with torch.no_grad():
            seen.append(net.eval()(x))
        net.train()
    recorder.close()
    return [*seen, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize(
    ("widths", "blocks"), [((16,), 4), ((16, 32), 2), ((5, 20), 1), ((8, 16, 24), 2)], ids=str
)
@pytest.mark.parametrize("skip", [0.0, 0.6])
def test_planned_memory_holds_what_separate_memory_would(monkeypatch, rng, widths, blocks, skip):
    """The same bits, whether or not tensors share bytes: none is overwritten before its last reader."""
    size, depth = int(rng.integers(3, 9)), 2 + 2 * len(widths) * blocks
    image, batches = (
        (int(rng.integers(1, 4)), size, size + 1),
        [int(count) for count in rng.integers(2, 6, 3)],
    )
    found = []
    for other_place in (None, _apart, _scattered(rng)):
        torch.manual_seed(1)
        net = resnet(depth, in_channels=image[0], widths=widths)
        if skip:
            net.policy = Drawn(skip)
        with monkeypatch.context() as patch:
            if other_place:
                patch.setattr(memory_map, "place", other_place)
            found.append(_train(net, image, batches, gradient_bits=8))
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("frozen", ["", "blocks.1", "blocks.2", "blocks.1-2"])
def test_dithering_begins_elsewhere_in_every_step(frozen):
    net, phases = resnet(8), []
    freeze(net, frozen)

    class Watching(Recorder):
        def affine(self, call):
            phases[-1].append((call.out.kind, call.dither))
            return super().affine(call)

    context = OffloadContext(device=Watching(), gradient_bits=8)
    net.resident = ResidentBody(net, context, image=(3, 8, 8), block_gradient_bits=8, dithered=True)
    for _ in range(4):
        phases.append([])
        net(torch.rand(4, 3, 8, 8)).square().sum().backward()
    narrow = [[phase for kind, phase in step if kind == "int8"] for step in phases[1:]]  # trials are over
    assert len(narrow[0]) == 7 + 4  # of convolutions, and of what four blocks gave
    for found in zip(*narrow, strict=True):
        assert None not in found
        assert len(set(found)) > 1


def resident(net: ResidualNet, image, memory_bytes: int | None) -> ResidualNet:
    recorder = Recorder(memory_bytes=memory_bytes)
    net.resident = ResidentBody(net, OffloadContext(device=recorder, gradient_bits=8), image=image)
    return net


def test_a_batch_that_does_not_fit_names_one_that_does():
    net = resident(resnet(8), (3, 16, 16), 1_000_000)
    with pytest.raises(BodyError) as refused:
        net(torch.rand(40, 3, 16, 16))
    sizes = re.fullmatch(
        r"a step of 40 images takes (\d+) bytes of the device's memory, and 1000000 are there; "
        r"use --batch (\d+) or less, or give the board more \(Memory in docs/board\.md\)",
        str(refused.value),
    )
    needed, fits = map(int, sizes.groups())
    assert fits * needed <= 40 * 1_000_000 < (fits + 1) * needed
    net(torch.rand(fits, 3, 16, 16)).sum().backward()
    with pytest.raises(
        BodyError, match=rf"^a step of {fits + 1} images takes .* use --batch {fits} or less, or give"
    ):
        net(torch.rand(fits + 1, 3, 16, 16))


def test_a_network_that_does_not_fit_at_all_says_so():
    net = resident(resnet(8), (3, 16, 16), 10_000)
    with pytest.raises(BodyError, match=r"and 10000 are there; the network does not fit at all, or give the"):
        net(torch.rand(4, 3, 16, 16))


def test_a_step_of_resnet20_moves_at_most_5_mb_between_host_and_device():
    model, image = build_model("resnet20")
    for kinds in (Kinds(), Kinds(result="int8", input_gradient="int8")):
        rows = full_rows(describe(model, image), kinds, calls=1, samples=128)
        assert sum(row.counters.host_bytes for row in rows) <= 5_000_000
        assert sum(row.counters.macs for row in rows) == 128 * (3 * 40_550_400 - 442_368)  # no gx of images


@pytest.mark.parametrize(
    ("result_bits", "input_bits", "gradient_bits", "block_bits"), [(16, 8, 8, 16), (8, 16, 16, 8)]
)
def test_what_is_expected_of_a_step_is_what_its_ledger_says(
    result_bits, input_bits, gradient_bits, block_bits
):
    """Two independent counts: a program that computes nothing, and operations as they ran."""
    net, image = resnet(14, widths=(16, 20, 40)), (3, 10, 9)
    ledger = Ledger()
    context = OffloadContext(device=Recorder(), ledger=ledger, gradient_bits=gradient_bits)
    net.resident = ResidentBody(
        net,
        context,
        image=image,
        result_bits=result_bits,
        input_gradient_bits=input_bits,
        block_gradient_bits=block_bits,
    )
    for count in (3, 2):  # scales are unknown in the first
        before = merged(ledger.snapshot())
        net(torch.rand(count, *image)).square().sum().backward()
    ran = {(row.name, row.mode): row for row in ledger.snapshot()}
    first = {(row.name, row.mode): row for row in before}
    kinds = Kinds(
        result=f"int{result_bits}",
        input_gradient=f"int{input_bits}",
        gradient=f"int{gradient_bits}",
        block_gradient=f"int{block_bits}",
    )
    expected = full_rows(describe(net, image), kinds, calls=1, samples=2)
    assert {(row.name, row.mode) for row in expected} == {key for key in ran if key[0] != "trial"}
    for row in expected:
        now, then = ran[row.name, row.mode], first[row.name, row.mode]
        assert replace(_less(now, then), saturations=0) == replace(row, saturations=0)


def _less(whole, part):
    counters = {
        name: getattr(whole.counters, name) - getattr(part.counters, name)
        for name in ("macs", "elementwise", "dram_bytes", "host_bytes")
    }
    return replace(
        whole,
        calls=whole.calls - part.calls,
        a_values=whole.a_values - part.a_values,
        b_values=whole.b_values - part.b_values,
        results=whole.results - part.results,
        counters=replace(whole.counters, **counters),
    )

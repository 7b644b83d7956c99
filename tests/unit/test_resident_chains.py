# SPDX-License-Identifier: Apache-2.0
"""Resident operations as chains of frames: how they are cut, what moves, and what is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cases
import numpy as np
import pytest
import resident_cases
from e2train.config import load_config
from e2train.devices import DeviceError, Transfer, open_resident
from e2train.devices.chains import StreamResident
from e2train.devices.chains.jobs import plan_job
from e2train.devices.memory import SpecResident
from e2train.devices.protocol import ConvShape, Counters
from e2train.devices.resident import Affine, DeviceTensor, WeightGradient
from e2train.devices.spec import SpecDevice
from e2train.numerics.frames import decode_header
from e2train.numerics.frames.layout import TRAILER_WORDS

PYNQ = load_config("pynq_z2")
# Geometries that fill buffers or loops, so that samples, rows or blocks go into several frames.
CUT = {
    "rows": ConvShape(N=2, C=20, H=60, W=50, K=5, R=3, S=3, padding=(1, 1, 1, 1)),
    "rows of strided": ConvShape(N=2, C=3, H=120, W=90, K=17, R=7, S=7, stride=(2, 2), padding=(3, 3, 3, 3)),
    "blocks": ConvShape(N=2, C=100, H=7, W=7, K=120, R=3, S=3, padding=(1, 1, 1, 1)),
    "loops": ConvShape(N=5, C=40, H=6, W=6, K=40, R=3, S=3, padding=(1, 1, 1, 1)),
    "loops of strided": ConvShape(N=5, C=40, H=8, W=9, K=40, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1)),
    "samples": ConvShape(N=40, C=16, H=8, W=8, K=32, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1)),
    "sums of samples": ConvShape(N=130, C=3, H=2, W=2, K=3, R=1, S=1),
}


def both(case: resident_cases.Case, device: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Reports and whole memories of a device and of the spec."""
    found = []
    whole = DeviceTensor(kind="uint8", C=16, H=case.nbytes // 16, W=1, offsets=np.zeros(1, np.int64))
    for each in (device, SpecResident()):
        each.reserve(case.nbytes)
        each.write(whole, np.zeros(whole.shape, np.uint8))
        for tensor, values in case.inputs:
            each.write(tensor.seen("whole"), values)
        found.append((getattr(each, case.operation)(case.call), each.read(whole)))
    return found[0][0], found[1][0], found[0][1], found[1][1]


@pytest.mark.parametrize("shape", CUT.values(), ids=CUT.keys())
def test_operations_in_many_frames_equal_the_spec(shape: ConvShape, rng: np.random.Generator) -> None:
    device = open_resident("spec")
    shape_case = cases.ConvCase(name="cut", shape=shape, pattern="random", signed=False, shift=9)
    calls = 0
    for case in resident_cases.convolutions(shape_case, rng):
        if resident_cases.is_refused(device, case.call, case.nbytes):
            continue
        calls += 1
        got, want, memory, wanted = both(case, device)
        np.testing.assert_array_equal(memory, wanted)
        if case.operation == "weight_gradient":
            np.testing.assert_array_equal(got, want)
            continue
        assert (got.largest, got.saturations) == (want.largest, want.saturations)
        if want.sums is not None:
            np.testing.assert_array_equal(got.sums, want.sums)
            np.testing.assert_array_equal(got.squares, want.squares)
    assert device.take_counters().frames > calls


@pytest.mark.parametrize("size", [(3, 40, 60, 50), (70, 33, 4, 4), (2, 300, 5, 5)], ids=str)
@pytest.mark.parametrize(
    "views", [("whole", "strided"), ("whole", "spread"), ("broadcast", "whole")], ids=str
)
def test_element_wise_operations_in_many_frames_equal_the_spec(
    size: tuple[int, int, int, int], views: tuple[str, str], rng: np.random.Generator
) -> None:
    device = open_resident("spec")
    kinds = ("int16", "int16", "uint8", "int16")
    case = resident_cases.AffineCase(
        name="cut", size=size, kinds=kinds, views=(*views, "whole"), mask="u", channels=(0, size[1] // 2, 20)
    )
    drawn = resident_cases.affine(case, rng)
    got, want, memory, wanted = both(drawn, device)
    np.testing.assert_array_equal(memory, wanted)
    assert (got.largest, got.saturations) == (want.largest, want.saturations)
    np.testing.assert_array_equal(got.sums, want.sums)
    assert device.take_counters().frames > 2
    for per_sample in (True, False):
        reduction = resident_cases.ReductionCase(name="cut", size=size, mask=True, per_sample=per_sample)
        got, want, *_ = both(resident_cases.reduction(reduction, rng), device)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mask", [False, True])
def test_sums_of_all_samples_of_a_frame_come_as_one(mask: bool, rng: np.random.Generator) -> None:
    shape = ConvShape(N=9, C=33, H=6, W=5, K=33, R=3, S=3, padding=(1, 1, 1, 1))
    for case in (
        convolution(rng, shape),
        resident_cases.reduction(
            resident_cases.ReductionCase(name="sums", size=(9, 33, 6, 5), mask=mask), rng
        ),
    ):
        job = plan_job(case.call, PYNQ)
        headers = [frame.header for frame in job.frames]
        assert max(header.plane for header in headers) > 30
        for header in headers:  # quads of values are 4 lanes
            values = header.iterations * 4 if header.elements else header.results * header.k_lanes
            assert header.plane * header.planes * 16 == values
            assert header.planes <= 3
    got, want, *_ = both(case, open_resident("spec"))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def engine(parallel: int = 1) -> SpecDevice:
    """The spec, as a device that takes so many transfers at once."""
    device = SpecDevice(PYNQ)
    device.parallel = parallel
    return device


def convolution(rng: np.random.Generator, shape: ConvShape = CUT["samples"]) -> resident_cases.Case:
    case = cases.ConvCase(name="one", shape=shape, pattern="random", signed=False, shift=9)
    return list(resident_cases.convolutions(case, rng))[5]  # forward to int16, with sums


@pytest.mark.parametrize("parallel", [1, 3])
def test_chains_that_do_not_fit_the_scratch_memory_are_cut(
    parallel: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    ran = []

    class Watched(StreamResident):
        def run_chain(self, slot: int, *chain: Any, **options: Any) -> int | None:
            ran.append(slot)
            return super().run_chain(slot, *chain, **options)

    monkeypatch.setattr("e2train.devices.chains.device.SCRATCH_BYTES", 16 << 10)
    device = Watched(engine(parallel))
    got, want, memory, wanted = both(convolution(rng, CUT["rows"]), device)
    np.testing.assert_array_equal(memory, wanted)
    np.testing.assert_array_equal(got.squares, want.squares)
    assert len(ran) > 2
    assert set(ran) == set(range(parallel))


def test_only_the_samples_of_a_call_are_moved(rng: np.random.Generator) -> None:
    """Those that are left out add no words, and stay as they are."""
    device = open_resident("spec")
    tensors = [
        DeviceTensor(kind="int16", C=16, H=4, W=4, offsets=np.arange(8) * 512 + at) for at in (0, 4096)
    ]
    u, out = tensors
    one = np.ones(16, np.int64)
    device.reserve(8192)
    device.write(u, rng.integers(-9, 9, u.shape).astype("int16"))
    device.write(out, np.full(out.shape, 7, "int16"))
    kept = np.array([6, 1, 2])
    call = Affine(u=u.take(kept), out=out.take(kept), a=2 * one, b=0 * one, d=one, shift=0)
    device.affine(call)
    want = np.full(out.shape, 7, "int16")
    want[kept] = 2 * device.read(u)[kept] + 1
    np.testing.assert_array_equal(device.read(out), want)
    header, coefficients, trailer = 14, 16, 9
    words = 3 * 512 // 8
    assert device.take_counters() == Counters(
        frames=1, words_in=header + coefficients + words, words_out=words + trailer
    )
    assert device.take_counters() == Counters()


def test_neighbouring_samples_are_one_piece(rng: np.random.Generator) -> None:
    """As long as they are in the order of their places."""
    pieces = []

    class Watched(StreamResident):
        def run_chain(self, slot: int, mm2s: Any, s2mm: Any, **options: Any) -> int | None:
            pieces.append([(chain.last - chain.first) // 64 + 1 for chain in (mm2s, s2mm)])
            return super().run_chain(slot, mm2s, s2mm, **options)

    device = Watched(engine())
    u, v, out = (
        DeviceTensor(kind="uint8", C=16, H=4, W=4, offsets=np.arange(4) * 256 + at) for at in (0, 1024, 2048)
    )
    one = np.ones(16, np.int64)
    device.reserve(3072)
    device.affine(Affine(u=u, v=v, out=out, a=one, b=one, d=one, shift=0))
    device.affine(Affine(u=u, v=v, out=out.take(np.arange(4)[::-1]), a=one, b=one, d=one, shift=0))
    assert pieces == [[2, 2], [2, 5]]  # header and coefficients, u and v; results, and the report


class Tampered(SpecDevice):
    """Changes what comes back."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray], *, of_words: bool = False) -> None:
        super().__init__(PYNQ)
        self.change, self.of_words = change, of_words

    def transfer(self, words: np.ndarray, *, reply_words: int) -> Transfer:
        if self.of_words:
            return super().transfer(self.change(words.copy()), reply_words=reply_words)
        reply = super().transfer(words, reply_words=reply_words).reply.copy()
        return Transfer(reply=self.change(reply))


def flipped(at: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(words: np.ndarray) -> np.ndarray:
        words[at] ^= np.uint64(1 << 40)
        return words

    return change


def stale(words: np.ndarray, *, of_all: bool = True) -> np.ndarray:
    """All headers, or the first one alone, ask for another nonce, with check words that fit."""
    at = 0
    while at < words.size and (of_all or not at):
        words[[at + 3, at + 13]] += np.uint64(1)
        at += decode_header(words[at:]).frame_words
    return words


FORWARD_FAULTS = {
    "a header's bit": (
        flipped(2),
        True,
        r"the engine reports: the header's check word does not match \(status 6\)",
    ),
    "a trailer's bit": (flipped(-4), False, r"frames 1 to (\d+) of \1: the reply's check words do not match"),
    "a sum's bit": (
        flipped(-TRAILER_WORDS - 1),
        False,
        r"frames 1 to (\d+) of \1: the reply's check words do not match",
    ),
    "another nonce": (stale, True, r"frames 1 to (\d+) of \1: this is the reply to another request"),
    "a held frame's nonce": (
        partial(stale, of_all=False),
        True,
        r"frames 1 to (\d+) of \1: this is the reply to another request",
    ),
    "a word too few": (lambda words: words[1:], False, "piece"),
    "a word too many": (lambda words: np.append(words, words[:1]), False, "a packet of"),
}


@pytest.mark.parametrize(
    ("change", "of_words", "message"), FORWARD_FAULTS.values(), ids=FORWARD_FAULTS.keys()
)
def test_replies_that_are_wrong_are_noticed(
    change: Callable[[np.ndarray], np.ndarray], of_words: bool, message: str, rng: np.random.Generator
) -> None:
    case = convolution(rng)
    device = StreamResident(Tampered(change, of_words=of_words))
    with pytest.raises(DeviceError, match=rf"^layer \(forward\) on spec: {message}[^\n]*$"):
        both(case, device)


def test_damaged_sums_of_a_weight_gradient_are_noticed(rng: np.random.Generator) -> None:
    case = resident_cases.weight_gradient(CUT["samples"], "uint8", "int8", "random", (0, 0), rng)
    assert isinstance(case.call, WeightGradient)
    device = StreamResident(Tampered(flipped(3)))
    message = r"^layer \(grad_weight\) on spec: frame 1 of \d+: the results' check words do not match$"
    with pytest.raises(DeviceError, match=message):
        both(case, device)


class Clocked(SpecDevice):
    """A transfer takes as many cycles as it has words."""

    def __init__(self, *, engines: int, parallel: int) -> None:
        super().__init__(replace(PYNQ, name="many", engines=engines))
        self.parallel = parallel
        self.sizes: list[int] = []

    def transfer(self, words: np.ndarray, *, reply_words: int) -> Transfer:
        done = super().transfer(words, reply_words=reply_words)
        self.sizes.append(words.size)
        return Transfer(reply=done.reply, cycles=words.size)


@pytest.mark.parametrize("parallel", [1, 3])
def test_cycles_add_up_where_there_is_a_clock(parallel: int, rng: np.random.Generator) -> None:
    device = Clocked(engines=1, parallel=parallel)
    resident = StreamResident(device)
    both(convolution(rng, CUT["rows"]), resident)
    both(convolution(rng, CUT["rows"]), resident)
    assert resident.take_counters().cycles == sum(device.sizes)
    assert len(device.sizes) == 2 * parallel


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 9, 40])
def test_engines_share_the_frames_of_an_operation(frames: int, rng: np.random.Generator) -> None:
    """As evenly as they go; the time is that of the engine that takes longest."""
    device = Clocked(engines=4, parallel=4)
    resident = StreamResident(device)
    job = plan_job(convolution(rng).call, PYNQ)
    many = replace(job, frames=job.frames[:1] * frames)
    resident.reserve(1 << 20)
    engines = -(-frames // -(-frames // 4))
    assert sum(len(reply.frames) for reply in resident._run(many)) == engines  # the last one of each reports
    found = resident.take_counters()
    assert (found.frames, found.cycles) == (frames, max(device.sizes))
    assert len(device.sizes) == engines

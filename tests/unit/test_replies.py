# SPDX-License-Identifier: Apache-2.0
"""Replies to a chain, read together: the same as one by one, and no flipped bit goes unnoticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.replies import ExpectedReplies, read_replies
from e2train.devices.chains.transfer import Area, ChainPieces, lay_out, reply_words
from e2train.devices.protocol import DeviceError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.frames import decode_trailer, run_transfer
from e2train.numerics.frames.layout import TRAILER_WORDS
from e2train.numerics.frames.sums import decode_sums
from e2train.packing.descriptors import interpret, write_descriptors

CONFIG = load_config("pynq_z2")
ONE = np.ones(20, np.int64)


def tensor(number: int, kind: str, *, size: int = 6) -> DeviceTensor:
    return DeviceTensor(kind=kind, C=20, H=size, W=size, offsets=(number << 18) + (1 << 16) * np.arange(3))


LARGE = {"size": 28}  # of which a frame takes one sample
CALLS = (
    Affine(u=tensor(0, "int8"), out=tensor(1, "int8"), a=3 * ONE, b=0 * ONE, d=ONE, shift=1, sums=True),
    Reduction(u=tensor(0, "int8"), v=tensor(2, "int8"), per_sample=True),
    Reduction(u=tensor(0, "int8"), v=tensor(2, "int8")),
    WeightGradient(
        x=tensor(0, "int8"), gy=tensor(2, "int8"), kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)
    ),
    Convolution(
        mode="forward",
        source=tensor(0, "int8"),
        destination=tensor(3, "int16"),
        w=np.ones((20, 20, 1, 1), np.int8),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        shift=2,
        sums=True,
    ),
    Affine(
        u=tensor(0, "int8", **LARGE), out=tensor(1, "int8", **LARGE), a=9 * ONE, b=0 * ONE, d=ONE, shift=1
    ),
    Reduction(u=tensor(0, "int8", **LARGE), v=tensor(2, "int8", **LARGE)),
    Reduction(u=tensor(0, "int8", **LARGE), v=tensor(2, "int8", **LARGE), per_sample=True),
)


def is_whole(laid: ChainPieces, memory: np.ndarray) -> bool:
    """Whether no part of the replies to a chain is missing."""
    return not ExpectedReplies({0: laid}).late({0: laid.nonce}, memory)


@pytest.fixture
def answered(rng: np.random.Generator) -> tuple[ChainPieces, np.ndarray, int]:
    """A chain, the memory with its replies, and where they end."""
    memory = np.zeros(1 << 21, np.uint8)
    memory[: 1 << 20] = rng.integers(0, 256, 1 << 20, np.uint8)
    frames = [frame for call in CALLS for frame in plan_job(call, CONFIG).frames]
    receive = Area(memory=memory, base=0, at=1 << 20)
    laid = lay_out(frames, Area(memory=memory, base=0, at=5 << 18), receive)
    mm2s = write_descriptors(memory, laid.mm2s, 6 << 18)
    s2mm = write_descriptors(memory, laid.s2mm, mm2s.last + 64)
    interpret(memory, mm2s, s2mm, lambda words: run_transfer(words, CONFIG))
    return laid, memory, receive.at


def test_replies_say_together_what_each_says_alone(answered) -> None:
    """Those of frames that are alike come as one."""
    laid, memory, _ = answered
    assert is_whole(laid, memory)
    assert max(report.last - report.first for report in laid.reports) > 1
    found = read_replies(laid, memory)
    assert len(found) < len(laid.reports) < len(laid.frames)
    assert any(reply.results.size for reply in found)
    assert any(reply.saturations for reply in found)
    starts = {id(laid.frames[report.last]): report.at for report in laid.reports}
    for reply in found:
        largest = saturations = 0
        for index, frame in enumerate(reply.frames):
            at = starts.pop(id(frame))
            words = memory[at : at + 8 * reply_words(frame)].view(np.uint64)
            trailer = decode_trailer(words[-TRAILER_WORDS:])
            to_host, of_sums = np.split(
                words[:-TRAILER_WORDS], [0 if frame.results else frame.header.result_words]
            )
            np.testing.assert_array_equal(reply.results[index], to_host)
            np.testing.assert_array_equal(reply.sums[index], decode_sums(of_sums, frame.header.mode))
            assert int(reply.written[index]) == trailer.written_s1
            largest, saturations = max(largest, trailer.largest), saturations + trailer.saturations
        assert (reply.largest, reply.saturations) == (largest, saturations)
    assert not starts


def test_only_frames_of_one_operation_and_tag_are_read_as_one(answered) -> None:
    laid, memory, _ = answered
    owners = [index % 2 for index in range(len(laid.frames))]
    for reply in read_replies(replace(laid, owners=owners), memory):
        numbers = [list(laid.frames).index(frame) for frame in reply.frames]
        assert {owners[number] for number in numbers} == {reply.owner}
        if reply.sums.size or reply.results.size:
            assert len({frame.tag for frame in reply.frames}) == 1


def test_replies_of_engines_are_read_together(answered) -> None:
    """Each with the nonce of its own chain."""
    laid, memory, _ = answered
    half = len(laid.reports) // 2
    cut = laid.reports[half].first
    later = [
        replace(report, first=report.first - cut, last=report.last - cut) for report in laid.reports[half:]
    ]
    chains = {
        3: replace(laid, frames=laid.frames[:cut], reports=laid.reports[:half]),
        1: replace(laid, frames=laid.frames[cut:], reports=later),
    }
    expected, nonces = ExpectedReplies(chains), {1: laid.nonce, 3: laid.nonce}
    assert sum(len(each.frames) for each in expected.read(nonces, memory)) == len(laid.reports)
    with pytest.raises(
        DeviceError, match=rf"^frames? .* of {len(laid.frames) - cut}: this is the reply to another"
    ):
        expected.read({1: laid.nonce ^ 1, 3: laid.nonce}, memory)
    assert expected.late({1: laid.nonce ^ 1, 3: laid.nonce}, memory) == {1}
    assert expected.late(nonces, memory) == set()


def test_every_flipped_bit_is_noticed(answered, rng: np.random.Generator) -> None:
    laid, memory, end = answered
    first = laid.reports[0].at
    for at in rng.integers(first, end, 200):
        damaged = memory.copy()
        damaged[at] ^= 1 << rng.integers(8)
        assert not is_whole(laid, damaged)
        report = max((each for each in laid.reports if each.at <= at), key=lambda each: each.at)
        alone = report.first == report.last
        which = f"frame {report.last + 1}" if alone else f"frames {report.first + 1} to {report.last + 1}"
        with pytest.raises(DeviceError, match=rf"^{which} of {len(laid.frames)}: "):
            read_replies(laid, damaged)

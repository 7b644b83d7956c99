# SPDX-License-Identifier: Apache-2.0
"""The engine's C++ against the NumPy spec, word for word."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from e2hls.base.errors import HlsError
from e2hls.native import NativeKernel, Words, build_native
from e2train.config import config_names, load_config
from e2train.devices.build import engine_kernel
from e2train.devices.csim import CsimDevice
from e2train.numerics.frames import Header, Kind, Level, Mode, run_transfer
from e2train.numerics.frames.sums import decode_sums
from e2train.packing.frames import Frame, join_transfer
from engine_cases import Cases
from engine_transfers import transfers


def _native(name: str) -> NativeKernel:
    return build_native(engine_kernel(load_config(name)))


def _run(engine: NativeKernel, words: np.ndarray) -> Words:
    last = np.zeros(words.size, np.bool_)
    last[-1] = True
    return engine.run({"s_axis": Words(data=words.reshape(-1, 1), last=last)})["m_axis"]


@pytest.mark.parametrize("name", config_names())
def test_engine_equals_spec(name, rng, assert_same_bits):
    engine, config = _native(name), load_config(name)
    for case, words in transfers(rng, config, random=30 if name == "pynq_z2" else 5):
        reply = _run(engine, words)
        want = run_transfer(words, config)
        assert_same_bits(reply.data[:, 0], want, case=f"{name} {case}", words=words)
        assert np.flatnonzero(reply.last).tolist() == [want.size - 1], case


def test_state_does_not_outlive_a_transfer(rng, assert_same_bits):
    engine, config = _native("pynq_z2"), load_config("pynq_z2")
    cases = Cases(rng, config)
    for fault, words in cases.faults():
        _run(engine, words)
        good = cases.many_frames()
        assert_same_bits(_run(engine, good).data[:, 0], run_transfer(good, config), case=f"after {fault}")


def test_sums_of_many_frames_are_as_wide_as_the_engine_has_them(assert_same_bits):
    engine, config = _native("pynq_z2"), load_config("pynq_z2")
    levels = (Level(limit=4), Level(limit=4095), Level(limit=16, dxa=1), *[Level()] * 4)
    header = Header(
        mode=Mode.REDUCE,
        ic_lanes=config.ic_lanes,
        oc_lanes=config.oc_lanes,
        x_kind=Kind.INT16,
        w_kind=Kind.INT16,
        result=Kind.INT16,
        depth=3,
        plane=4095 * 16,
        planes=1,
        x_count=16,
        w_count=32,
        levels=levels,
    )
    lowest = np.full((16, 16), -(1 << 15), "<i2")
    frames = [Frame(header=replace(header, holds=int(k < 2)), x=lowest, w=lowest) for k in range(3)]
    words = join_transfer(frames)
    want = run_transfer(words, config)
    assert 3 * header.plane << 15 > 1 << 31
    assert decode_sums(want[:24], header.mode)[0, 0].tolist() == [(1 << 32) - (3 * header.plane << 15)] * 16
    assert_same_bits(_run(engine, words).data[:, 0], want, case="sums that wrap")


def test_two_transfers_in_one_run(rng, assert_same_bits):
    engine, config = _native("pynq_z2"), load_config("pynq_z2")
    cases = Cases(rng, config)
    one, other = cases.many_frames(), cases.many_frames()
    last = np.zeros(one.size + other.size, np.bool_)
    last[[one.size - 1, -1]] = True
    words = np.concatenate([one, other])
    reply = engine.run({"s_axis": Words(data=words.reshape(-1, 1), last=last)})["m_axis"]
    want = np.concatenate([run_transfer(one, config), run_transfer(other, config)])
    assert_same_bits(reply.data[:, 0], want, case="two transfers")


def test_transfers_overlap_in_threads(rng, assert_same_bits):
    config = load_config("pynq_z2")
    cases = Cases(rng, config)
    work = [cases.held_reports() for _ in range(16)]
    with CsimDevice(config) as device, ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda words: device.transfer(words, reply_words=0).reply, work))
    for words, reply in zip(work, replies, strict=True):
        assert_same_bits(reply, run_transfer(words, config), case="in a thread")


def test_a_transfer_without_end_is_an_error(rng):
    engine = _native("pynq_z2")
    words = Cases(rng, load_config("pynq_z2")).identify()[:5]
    with pytest.raises(HlsError, match=r"^engine: read from an empty stream$"):
        engine.run({"s_axis": Words(data=words.reshape(-1, 1), last=np.zeros(5, np.bool_))})

# SPDX-License-Identifier: Apache-2.0
"""The engine's C++ against the NumPy spec, word for word."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from e2hls.base.errors import HlsError
from e2hls.native import NativeKernel, Words, build_native
from e2train.config import config_names, load_config
from e2train.devices.build import engine_kernel
from e2train.numerics.frames import run_transfer
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


def test_runs_overlap_in_threads(rng, assert_same_bits):
    engine, config = _native("pynq_z2"), load_config("pynq_z2")
    cases = Cases(rng, config)
    work = [cases.many_frames() for _ in range(16)]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda words: _run(engine, words), work))
    for words, reply in zip(work, replies, strict=True):
        assert_same_bits(reply.data[:, 0], run_transfer(words, config), case="in a thread")


def test_a_transfer_without_end_is_an_error(rng):
    engine = _native("pynq_z2")
    words = Cases(rng, load_config("pynq_z2")).identify()[:5]
    with pytest.raises(HlsError, match=r"^engine: read from an empty stream$"):
        engine.run({"s_axis": Words(data=words.reshape(-1, 1), last=np.zeros(5, np.bool_))})

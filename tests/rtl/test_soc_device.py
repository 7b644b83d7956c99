# SPDX-License-Identifier: Apache-2.0
"""Device rtl with the stand-in in the engine's place: pool, errors, recovery."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import e2train.devices.rtl as rtl
import numpy as np
import pytest
from e2hls import HlsError
from e2train.config import load_config
from e2train.devices import DeviceError, StreamDevice
from test_soc import ASSERT, STUCK, StandIn, words


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[rtl.RtlDevice]:
    monkeypatch.setattr(rtl, "engine_rtl", lambda config: StandIn())
    with rtl.RtlDevice(load_config("pynq_z2"), instances=3, stall_cycles=2_000) as device:
        yield device


def test_it_is_a_stream_device(device: rtl.RtlDevice) -> None:
    assert isinstance(device, StreamDevice)
    assert device.parallel == 3


def test_transfer_counts_first_in_to_last_out(device: rtl.RtlDevice) -> None:
    done = device.transfer(words(100), reply_words=100)
    np.testing.assert_array_equal(done.reply, words(100, first=1))
    assert done.cycles == 101


def test_more_threads_than_instances(device: rtl.RtlDevice) -> None:
    def ask(first: int) -> None:
        done = device.transfer(words(500, first=first), reply_words=500)
        np.testing.assert_array_equal(done.reply, words(500, first=first + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(1 << 32, (1 << 32) + 24)))


@pytest.mark.parametrize(
    ("sent", "reply_words", "message"),
    [
        pytest.param(STUCK, 2, "device rtl: the kernel hangs: no word moved in 2000 cycles", id="hang"),
        pytest.param(ASSERT, 2, r"device rtl: the kernel stopped: .*: assertion failed", id="assertion"),
        pytest.param(5, 1, "device rtl: S2MM_DMASR reports DMAIntErr", id="reply-too-long"),
    ],
)
def test_every_instance_recovers(device: rtl.RtlDevice, sent: int, reply_words: int, message: str) -> None:
    for _ in range(device.parallel + 1):
        with pytest.raises(DeviceError, match=message):
            device.transfer(np.array([sent, 1], np.uint64), reply_words=reply_words)
    for _ in range(device.parallel + 1):
        assert len(device.transfer(words(9), reply_words=9).reply) == 9


def test_closed_device_says_so(device: rtl.RtlDevice) -> None:
    device.close()
    device.close()
    with pytest.raises(DeviceError, match=r"^device rtl is closed$"):
        device.transfer(words(1), reply_words=1)


def test_kernel_that_does_not_build_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: object) -> None:
        raise HlsError("loop 'taps' needs II=2")

    monkeypatch.setattr(rtl, "engine_rtl", fail)
    with pytest.raises(DeviceError, match=r"^cannot open device rtl for pynq_z2: loop 'taps' needs II=2$"):
        rtl.RtlDevice(load_config("pynq_z2"))

# SPDX-License-Identifier: Apache-2.0
"""The registers of a kernel in the SoC: what a driver reads and writes, call by call, and what words come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import e2hls
import numpy as np
import pytest
from e2hls.checking.controlled import control
from e2hls.checking.kernel import find_function
from e2hls.checking.native_side import reference
from e2sim import DmaRegister, Soc, build_soc
from e2train.config import load_config
from e2train.devices.build import rtl_options
from e2train.devices.own_kernel import OwnKernel, own_kernel
from pages import blocks

CTRL, IP_IER, IP_ISR, RESULT, GAIN, OFFSET = 0x00, 0x08, 0x0C, 0x10, 0x18, 0x20
START, DONE, IDLE, READY, RESTART = 1, 2, 4, 8, 128
CONFIG = load_config("zcu104")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("control") / "scaled.cpp"
    text = next(block.text for block in blocks("kernel_on_board.md", "cpp") if block.file == source.name)
    source.write_text(text)
    return source


@pytest.fixture(scope="module")
def kernel(source: Path) -> OwnKernel:
    return own_kernel(source, CONFIG)


@pytest.fixture
def soc(kernel: OwnKernel) -> Iterator[Soc]:
    with Soc(build_soc(kernel, control=True), memory_bytes=1 << 20) as soc:
        yield soc


def packet(*values: int) -> np.ndarray:
    return np.array(values, np.int64).view(np.uint64)


def settle(soc: Soc) -> None:
    soc.run(200)


def test_registers_keep_their_bits(soc: Soc) -> None:
    for register in (RESULT, GAIN, OFFSET, OFFSET + 4, GAIN + 4, 0x28, 0x40):
        soc.control_write(register, 0xFFFF_FFFF)
    read = {at: soc.control_read(at) for at in range(0, 0x44, 4) if soc.control_read(at)}
    assert read == {CTRL: IDLE, GAIN: 0xFFFF, OFFSET: 0xFFFF_FFFF, OFFSET + 4: 0xFF}


def test_a_call_by_its_control_bits(soc: Soc) -> None:
    soc.control_write(GAIN, 2)
    assert soc.control_read(CTRL) == IDLE
    soc.control_write(CTRL, START)
    settle(soc)
    assert [soc.control_read(CTRL) for _ in range(2)] == [START, START]
    soc.control_write(GAIN, 9)  # of the next call: this one has taken its own
    reply, _ = soc.dma_transfer(packet(1, 2, 3), reply_words=4)
    settle(soc)
    assert reply.tolist() == [2, 4, 6]
    assert [soc.control_read(CTRL) for _ in range(2)] == [DONE | IDLE | READY, IDLE]
    assert soc.control_read(RESULT) == 3
    soc.control_write(CTRL, START)
    assert soc.dma_transfer(packet(1), reply_words=4)[0].tolist() == [9]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_done_waits_for_the_last_word_to_be_taken(soc: Soc, count: int) -> None:
    """Words wait in the kernel until the DMA has a buffer for them."""
    size = 8 * count
    soc.control_write(GAIN, 1)
    soc.control_write(CTRL, START)
    soc.memory[:size] = packet(*range(count)).view(np.uint8)
    soc.write(DmaRegister.MM2S_DMACR, 1)  # runs, while S2MM does not
    soc.write(DmaRegister.MM2S_SA, soc.memory_base)
    soc.write(DmaRegister.MM2S_LENGTH, size)
    settle(soc)
    assert soc.control_read(CTRL) == START
    soc.write(DmaRegister.S2MM_DMACR, 1)
    soc.write(DmaRegister.S2MM_DA, soc.memory_base + (1 << 16))
    soc.write(DmaRegister.S2MM_LENGTH, size)
    settle(soc)
    assert soc.control_read(CTRL) == DONE | IDLE | READY


def test_it_starts_again_until_it_is_told_not_to(soc: Soc) -> None:
    soc.control_write(GAIN, 1)
    soc.control_write(IP_IER, 3)
    soc.control_write(CTRL, START | RESTART)
    for count in (1, 2, 3):
        soc.dma_transfer(packet(*range(count)), reply_words=4)
        settle(soc)
        assert (soc.control_read(CTRL), soc.control_read(RESULT)) == (START | RESTART, count)
    assert soc.control_read(IP_ISR) == 3
    soc.control_write(IP_ISR, 1)  # toggles
    assert soc.control_read(IP_ISR) == 2
    soc.control_write(CTRL, 0)
    assert soc.control_read(CTRL) == START  # the call that has begun
    soc.dma_transfer(packet(1), reply_words=4)
    settle(soc)
    assert [soc.control_read(CTRL) for _ in range(2)] == [DONE | IDLE | READY, IDLE]


def test_a_reset_ends_the_call_and_keeps_the_scalars(soc: Soc) -> None:
    soc.control_write(GAIN, 4)
    soc.control_write(CTRL, START)
    settle(soc)
    soc.reset()
    assert (soc.control_read(CTRL), soc.control_read(GAIN)) == (IDLE, 4)
    soc.control_write(CTRL, START)
    assert soc.dma_transfer(packet(5), reply_words=4)[0].tolist() == [20]


def test_words_are_those_of_the_native_build(soc: Soc, source: Path) -> None:
    rng = np.random.default_rng(5)
    found = control(*find_function(source))
    assert found is not None
    ports = e2hls.build_rtl(found.kernel, rtl_options(CONFIG)).report.ports
    values, gain, offset = rng.integers(0, 1 << 48, 40), -12_345, -(1 << 38) + 77
    given = {
        "x_in": [int(value) | (at % 10 == 9) << 48 | 0xFFF << 49 for at, value in enumerate(values)],
        "gain_in": 4 * [gain % (1 << 16)],
        "offset_in": 4 * [offset % (1 << 40)],
    }
    want = reference(found.kernel, ports, given, scalars=frozenset({"gain_in", "offset_in"}), seed=1).outputs
    soc.control_write(GAIN, gain % (1 << 16))
    soc.control_write(OFFSET, offset % (1 << 32))
    soc.control_write(OFFSET + 4, offset >> 32 & 0xFF)
    got, counts = [], []
    for at in range(0, 40, 10):
        soc.control_write(CTRL, START)
        got += soc.dma_transfer(values[at : at + 10].astype(np.uint64), reply_words=10)[0].tolist()
        settle(soc)
        counts.append(soc.control_read(RESULT))
    assert got == [word & (1 << 48) - 1 for word in want["y_out"][:40]]
    assert counts == want["return_out"][:4] == [10, 10, 10, 10]

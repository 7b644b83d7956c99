# SPDX-License-Identifier: Apache-2.0
"""Chains of descriptors: the bits of PG021, and what the interpreter does and refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from e2train.packing.descriptors import (
    Chain,
    ChainError,
    Pieces,
    check_received,
    interpret,
    kept_descriptors,
    write_chains,
    write_descriptors,
)

BASE = 0x1000_0000
SOURCES, PLACES, DATA, RESULTS = 0x000, 0x400, 0x1000, 0x2000


@pytest.fixture
def memory() -> np.ndarray:
    memory = np.zeros(0x3000, np.uint8)
    memory[DATA:RESULTS].view(np.uint64)[:] = np.arange(512)
    return memory


def plus_one(words: np.ndarray) -> np.ndarray:
    return words + np.uint64(1)


def pieces(*listed: tuple[int, int, bool]) -> Pieces:
    return Pieces.of((BASE + address, nbytes, end) for address, nbytes, end in listed)


def chains(memory: np.ndarray, sources: Pieces, places: Pieces) -> tuple[Chain, Chain]:
    return (
        write_descriptors(memory, sources, BASE + SOURCES, base=BASE),
        write_descriptors(memory, places, BASE + PLACES, base=BASE),
    )


def test_a_descriptor_has_the_bits_of_pg021(memory):
    given = pieces((DATA, 0x40, False), (DATA + 0x100, 0x3FFFFF8, True))
    chain = write_descriptors(memory, given, BASE + SOURCES, base=BASE)
    assert chain == Chain(first=BASE, last=BASE + 0x40)
    words = memory[:0x80].view(np.uint32).reshape(2, 16)
    assert [hex(word) for word in words[0, :8]] == [
        "0x10000040", "0x0", "0x10001000", "0x0", "0x0", "0x0", "0x8000040", "0x0",
    ]  # fmt: skip
    assert [hex(word) for word in words[1, :8]] == [
        "0x10000000", "0x0", "0x10001100", "0x0", "0x0", "0x0", "0x7fffff8", "0x0",
    ]  # fmt: skip
    assert not words[:, 8:].any()


def test_packets_are_gathered_and_scattered(memory):
    """Two packets; the first comes in two pieces and goes to three, the second fills half of its own."""
    sources = pieces((DATA + 0x80, 16, False), (DATA, 24, True), (DATA + 0x40, 16, True))
    places = pieces((RESULTS, 8, False), (RESULTS + 0x100, 24, False), (RESULTS + 0x80, 8, True),
                    (RESULTS + 0x200, 32, True))  # fmt: skip
    mm2s, s2mm = chains(memory, sources, places)
    interpret(memory, mm2s, s2mm, plus_one, base=BASE)
    results = memory[RESULTS:].view(np.uint64)
    assert results[:1].tolist() == [17]
    assert results[32:35].tolist() == [18, 1, 2]
    assert results[16:17].tolist() == [3]
    assert results[64:68].tolist() == [9, 10, 0, 0]
    statuses = memory[PLACES : PLACES + 256].view(np.uint32).reshape(4, 16)[:, 7]
    assert [hex(status) for status in statuses] == ["0x88000008", "0x80000018", "0x84000008", "0x8c000010"]
    assert memory[0x1C:0x20].view(np.uint32)[0] == 0x80000010
    with pytest.raises(
        ChainError,
        match=r"^piece 4 of 4 received 16 bytes and a packet's end, must have received 32 bytes and a",
    ):
        check_received(memory, places, s2mm, base=BASE)


def test_what_has_come_is_checked(memory):
    sources, places = pieces((DATA, 16, True)), pieces((RESULTS, 16, True))
    mm2s, s2mm = chains(memory, sources, places)
    with pytest.raises(
        ChainError,
        match=r"^piece 1 of 1 received 0 bytes, unfinished, must have received 16 bytes and a packet",
    ):
        check_received(memory, places, s2mm, base=BASE)
    interpret(memory, mm2s, s2mm, plus_one, base=BASE)
    check_received(memory, places, s2mm, base=BASE)
    memory[PLACES + 0x1C : PLACES + 0x20].view(np.uint32)[0] = 0x40000008
    with pytest.raises(ChainError, match=r"^piece 1 of 1 received 8 bytes, unfinished, DMADecErr, must have"):
        check_received(memory, places, s2mm, base=BASE)


def test_links_are_followed(memory):
    """The second descriptor stands before the first."""
    sources, places = pieces((DATA, 8, False), (DATA + 8, 8, True)), pieces((RESULTS, 16, True))
    _, s2mm = chains(memory, sources, places)
    table = memory[:0x80].view(np.uint64).reshape(2, 8)
    table[:] = table[::-1].copy()
    table[1, 0] = BASE
    interpret(memory, Chain(first=BASE + 0x40, last=BASE), s2mm, plus_one, base=BASE)
    assert memory[RESULTS : RESULTS + 16].view(np.uint64).tolist() == [1, 2]


def test_the_first_descriptor_may_stand_apart(memory):
    """The last one points to it, so that a chain written over this one begins at the same place."""
    sources = pieces((DATA, 8, False), (DATA + 8, 8, False), (DATA + 16, 8, True))
    places = pieces((RESULTS, 24, True))
    chains = [(sources, BASE, None), (places, BASE + 0x40, None)]
    mm2s, s2mm = write_chains(memory, chains, BASE + 0x100, base=BASE)
    assert (mm2s, s2mm) == (Chain(first=BASE, last=BASE + 0x140), Chain(first=BASE + 0x40, last=BASE + 0x40))
    table = memory[:0x180].view(np.uint64).reshape(6, 8)[:, 0]
    assert [int(table[row]) - BASE for row in (0, 1, 4, 5)] == [0x100, 0x40, 0x140, 0x0]
    interpret(memory, mm2s, s2mm, plus_one, base=BASE)
    assert memory[RESULTS : RESULTS + 24].view(np.uint64).tolist() == [1, 2, 3]
    wrong = r"^3 descriptors at 0xfffffc0 to 0x10000180 are not at multiples of 64 within the memory"
    with pytest.raises(ChainError, match=wrong):
        write_chains(memory, [(sources, BASE - 64, None)], BASE + 0x100, base=BASE)


def test_chains_written_together_stand_one_behind_the_other(memory):
    sources = pieces((DATA, 8, False), (DATA + 8, 8, True))
    alone = memory.copy()
    found = write_chains(memory, [(sources, None, None), (sources, BASE, None)], BASE + 0x100, base=BASE)
    assert found == [Chain(first=BASE + 0x100, last=BASE + 0x140), Chain(first=BASE, last=BASE + 0x180)]
    assert write_descriptors(alone, sources, BASE + 0x100, base=BASE) == found[0]
    np.testing.assert_array_equal(memory[0x100:0x180], alone[0x100:0x180])
    table = memory.view(np.uint64).reshape(-1, 8)[:, 0]
    assert [int(table[at // 64]) - BASE for at in (0x100, 0x140, 0x180, 0)] == [0x140, 0x100, 0, 0x180]


def test_the_last_descriptors_may_be_kept_elsewhere(memory):
    """All but the first one of some pieces; others may come before these."""
    own = pieces((DATA, 8, False), (DATA + 8, 8, False), (DATA + 16, 8, True))
    sources = pieces((DATA + 64, 8, True)).then(own)
    assert sources.ends.tolist() == [False, False, False, True]
    places = pieces((RESULTS, 32, True))
    memory[0x800:0x880] = kept_descriptors(own, BASE + 0x800, first=BASE)
    kept = Chain(first=BASE + 0x800, last=BASE + 0x840)
    assert kept.count == 2
    (mm2s,) = write_chains(memory, [(sources, BASE, kept)], BASE + 0x100, base=BASE)
    assert mm2s == Chain(first=BASE, last=kept.last)
    s2mm = write_descriptors(memory, places, BASE + PLACES, base=BASE)
    table = memory.view(np.uint64).reshape(-1, 8)[:, 0]
    assert [int(table[at // 64]) - BASE for at in (0, 0x100, 0x800, 0x840)] == [0x100, 0x800, 0x840, 0]
    assert not memory[0x140:0x180].any()
    interpret(memory, mm2s, s2mm, plus_one, base=BASE)
    assert memory[RESULTS : RESULTS + 32].view(np.uint64).tolist() == [9, 1, 2, 3]


@pytest.mark.parametrize(
    ("word", "value", "message"),
    [
        (0, 0x5000_0000, "SGDecErr: there is no descriptor at 0x50000000"),
        (0, BASE + 0x41, "SGDecErr: there is no descriptor at 0x10000041"),
        (0, BASE, "the chain from 0x10000000 never reaches 0x10000040"),
        (3, 0x80000000 << 32 | 0x8000008, "SGIntErr: the descriptor at 0x10000000 means 8 bytes at 0x10001000"
         ", and is complete already"),
        (3, 0x8000000, "DMAIntErr: the descriptor at 0x10000000 means 0 bytes at 0x10001000"),
        (3, 0x8000004, "DMAIntErr: the descriptor at 0x10000000 means 4 bytes at 0x10001000"),
        (1, BASE + DATA + 4, "DMAIntErr: the descriptor at 0x10000000 means 8 bytes at 0x10001004"),
        (1, BASE + 0x2FFC - 4 + 8, "DMADecErr: the descriptor at 0x10000000 means 8 bytes at 0x10003000"),
        (1, BASE - 8, "DMADecErr: the descriptor at 0x10000000 means 8 bytes at 0xffffff8"),
    ],
)  # fmt: skip
def test_errors_of_the_dma_are_one_line(memory, word, value, message):
    mm2s, s2mm = chains(memory, pieces((DATA, 8, False), (DATA + 8, 8, True)), pieces((RESULTS, 16, True)))
    memory[:0x40].view(np.uint64)[word] = value
    with pytest.raises(ChainError, match=f"^{re.escape(message)}$"):
        interpret(memory, mm2s, s2mm, plus_one, base=BASE)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(RESULTS, 8, True)], "a packet of 2 words does not fit the pieces left for it"),
        (
            [(RESULTS, 16, True), (RESULTS + 64, 8, False), (RESULTS + 72, 8, True)],
            "2 pieces of memory were left without words to receive",
        ),
    ],
)
def test_replies_that_do_not_fit_are_refused(memory, places, message):
    mm2s, s2mm = chains(memory, pieces((DATA, 16, True)), pieces(*places))
    with pytest.raises(ChainError, match=f"^{re.escape(message)}$"):
        interpret(memory, mm2s, s2mm, plus_one, base=BASE)


def test_a_chain_that_ends_within_a_packet_is_refused(memory):
    mm2s, s2mm = chains(memory, pieces((DATA, 16, False), (DATA, 8, True)), pieces((RESULTS, 16, True)))
    with pytest.raises(ChainError, match=r"^the chain ends within a packet, after 2 words of it$"):
        interpret(memory, Chain(first=mm2s.first, last=mm2s.first), s2mm, plus_one, base=BASE)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "a chain needs pieces, and a packet that ends with the last one"),
        ([(0, 8, False)], "a chain needs pieces, and a packet that ends with the last one"),
        ([(0, 8, False), (4, 8, True)], "piece 2 of 2 is 8 bytes at 4; it must be 8..67108856 bytes, and "
         "both multiples of 8"),
        ([(0, 1 << 26, True)], "piece 1 of 1 is 67108864 bytes at 0; it must be 8..67108856 bytes, and "
         "both multiples of 8"),
    ],
)  # fmt: skip
def test_pieces_that_no_descriptor_can_mean_are_refused(listed, message):
    with pytest.raises(ChainError, match=f"^{re.escape(message)}$"):
        Pieces.of(listed)


@pytest.mark.parametrize("at", [BASE + 0x2FC0, BASE + 0x20, BASE - 0x40])
def test_descriptors_need_room_in_the_memory(memory, at):
    room = f"{at:#x} to {at + 128:#x} are not at multiples of 64 within the memory at 0x10000000 to 0x"
    message = f"^2 descriptors at {room}"
    with pytest.raises(ChainError, match=message):
        write_descriptors(memory, pieces((DATA, 8, False), (DATA, 8, True)), at, base=BASE)

# SPDX-License-Identifier: Apache-2.0
"""Tensors to lanes and back; frames and replies, intact and damaged."""

from dataclasses import replace

import numpy as np
import pytest
from e2train.config import load_config
from e2train.numerics.frames import (
    FrameError,
    Header,
    Level,
    check_sums,
    decode_trailer,
    encode_trailer,
    run_transfer,
)
from e2train.numerics.frames.layout import HEADER_WORDS, TRAILER_WORDS
from e2train.packing import (
    Frame,
    ReplyError,
    channels_first,
    channels_last,
    gradient_from_lanes,
    join_transfer,
    split_replies,
    weight_rows,
    with_nonces,
)

PYNQ = load_config("pynq_z2")
FRAME = HEADER_WORDS + 2  # words of an identification, and of the reply to it
REPLY = 2 + TRAILER_WORDS


def identify(nonce: int = 0) -> Frame:
    return Frame(header=Header(mode=0, ic_lanes=16, oc_lanes=8, nonce=nonce))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 40])
def test_channels_go_last_and_come_back(channels, rng):
    x = rng.integers(0, 256, (2, channels, 3, 5)).astype(np.uint8)
    laid = channels_last(x, 16)
    assert laid.shape == (2, 3, 5, -(-channels // 16) * 16)
    assert not laid[..., channels:].any()
    assert (channels_first(laid, channels) == x).all()


def test_weight_rows_are_vectors_of_input_lanes_per_output_lane(rng):
    w = rng.integers(-127, 128, (9, 17, 3, 2)).astype(np.int8)
    rows = weight_rows(w, ic_lanes=16, oc_lanes=8)
    assert rows.shape == (2, 3, 2, 2, 8, 16)
    for k, c, r, s in ((0, 0, 0, 0), (8, 16, 2, 1), (3, 16, 1, 0), (8, 5, 0, 1)):
        assert rows[k // 8, r, s, c // 16, k % 8, c % 16] == w[k, c, r, s]
    assert np.count_nonzero(rows) == np.count_nonzero(w)


def test_gradients_come_out_of_their_lanes(rng):
    sums = rng.integers(-99, 99, (2, 2, 3, 2, 16, 8, 1))
    gw = gradient_from_lanes(sums, K=9, C=17)
    assert gw.shape == (9, 17, 3, 2)
    assert gw[8, 16, 2, 1] == sums[1, 1, 2, 1, 0, 0, 0]
    assert gw[3, 5, 0, 1] == sums[0, 0, 0, 1, 5, 3, 0]


def test_gradients_of_high_bits_alternate_between_two_vectors(rng):
    sums = rng.integers(-99, 99, (2, 1, 1, 1, 16, 8, 2))
    gw = gradient_from_lanes(sums, K=26, C=3)
    assert gw.shape == (26, 3, 1, 1)
    assert gw[7, 2, 0, 0] == sums[0, 0, 0, 0, 2, 7, 0]
    assert gw[8, 2, 0, 0] == sums[0, 0, 0, 0, 2, 0, 1]
    assert gw[25, 1, 0, 0] == sums[1, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("limit", 0, "a loop's limit must be in 1..4096, not 0"),
        ("limit", 4097, "a loop's limit must be in 1..4096, not 4097"),
        ("dy", 512, "dy must fit 10 bits signed, 512 does not"),
        ("dx", -513, "dx must fit 10 bits signed, -513 does not"),
        ("dxa", 32768, "dxa must fit 16 bits signed, 32768 does not"),
        ("dwa", -32769, "dwa must fit 16 bits signed, -32769 does not"),
    ],
)
def test_fields_that_do_not_fit_are_refused(field, value, message):
    with pytest.raises(FrameError) as error:
        Level(**{field: value})
    assert str(error.value) == message


def test_check_sums_wrap_as_running_sums_do(rng):
    words = rng.integers(0, 1 << 64, 100, dtype=np.uint64)
    s1 = s2 = 0
    for word in words:
        s1 = (s1 + int(word)) % (1 << 64)
        s2 = (s2 + s1) % (1 << 64)
    assert check_sums(words) == (s1, s2)


def test_a_payload_that_its_header_does_not_announce_is_refused():
    with pytest.raises(ValueError, match="x payload has 16 bytes, its header says 0"):
        Frame(header=identify().header, x=np.zeros(16, np.uint8))


def test_replies_come_back_in_order():
    frames = [identify(nonce) for nonce in range(3)]
    words = join_transfer(frames)
    assert words.size == 3 * FRAME
    replies = split_replies(run_transfer(words, PYNQ), [frame.header for frame in frames])
    for reply in replies:
        assert [int(word) for word in reply.results] == [
            16 | 8 << 16 | PYNQ.x_depth << 32,
            PYNQ.w_depth | PYNQ.hash32 << 32,
        ]


def damaged(kind: str) -> tuple[np.ndarray, list[Header]]:
    frames = [identify(7), identify(8)]
    words = join_transfer(frames)
    headers = [frame.header for frame in frames]
    if kind == "status":
        words[FRAME] ^= np.uint64(1)
        return run_transfer(words, PYNQ), headers
    reply = run_transfer(words, PYNQ)
    if kind == "other frame":
        return reply, headers[::-1]
    if kind == "bit of the results":
        reply[REPLY + 1] ^= np.uint64(1 << 40)
    if kind == "bit of the trailer":
        reply[REPLY + 3] ^= np.uint64(1 << 40)
    if kind == "counts":
        decoded = decode_trailer(reply[REPLY + 2 :])
        reply[REPLY + 2 :] = encode_trailer(replace(decoded, iterations=5), reply[:0])
    end = {"short": REPLY + 3, "empty": 0}.get(kind, reply.size)
    return np.append(reply, reply) if kind == "long" else reply[:end], headers


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "status",
            "frame 2 of 2: the engine reports: the header's check word does not match (status 6)",
        ),
        ("bit of the results", "frame 2 of 2: the reply's check words do not match"),
        ("bit of the trailer", "frame 2 of 2: the reply's check words do not match"),
        (
            "counts",
            "frame 2 of 2: the engine counted 5 iterations, 16 words in and 2 out, must be 0, 16 and 2",
        ),
        ("short", "frame 2 of 2: the reply ends after 3 words"),
        ("empty", "frame 1 of 2: the reply ends after 0 words"),
        ("long", "22 words too many after the replies to 2 frames"),
        (
            "other frame",
            "frame 1 of 2: this is the reply to another request: its nonce is 0x00000007, must be "
            "0x00000008; does another program use the device?",
        ),
    ],
)
def test_damaged_replies_say_what_is_wrong(kind, message):
    with pytest.raises(ReplyError) as error:
        split_replies(*damaged(kind))
    assert str(error.value) == message


def test_nonces_of_a_transfer_follow_each_other_and_those_of_the_next_are_others(monkeypatch):
    headers = [identify().header] * 3
    one, other = with_nonces(headers), with_nonces(headers)
    assert {header.nonce for header in one}.isdisjoint(header.nonce for header in other)
    monkeypatch.setattr("secrets.randbits", lambda bits: (1 << bits) - 2)
    assert [header.nonce for header in with_nonces(headers)] == [0xFFFFFFFE, 0xFFFFFFFF, 0]


def test_a_reply_to_an_equal_request_is_refused():
    """All but the nonce is the same: what another program on the same board would get."""
    mine, other = (with_nonces([identify().header] * 2) for _ in range(2))
    frames = [Frame(header=header) for header in other]
    reply = run_transfer(join_transfer(frames), PYNQ)
    assert len(split_replies(reply, other)) == 2
    with pytest.raises(ReplyError) as error:
        split_replies(reply, mine)
    assert str(error.value) == (
        f"frame 1 of 2: this is the reply to another request: its nonce is {other[0].nonce:#010x}, "
        f"must be {mine[0].nonce:#010x}; does another program use the device?"
    )

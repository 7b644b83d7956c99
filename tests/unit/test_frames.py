# SPDX-License-Identifier: Apache-2.0
"""Frames and their spec: header bits, whole operations, every verdict."""

import frame_cases as fc
import numpy as np
import pytest
from e2train import numerics
from e2train.config import load_config
from e2train.numerics import keep_high
from e2train.numerics.blocks import from_blocks
from e2train.numerics.elementwise import seen
from e2train.numerics.frames import (
    KIND_DTYPES,
    FrameError,
    Header,
    Kind,
    Level,
    Mode,
    Status,
    check_sums,
    decode_header,
    decode_trailer,
    encode_header,
    run_transfer,
)
from e2train.numerics.frames.layout import HEADER_FIELDS, HEADER_WORDS, TRAILER_FIELDS, TRAILER_WORDS
from e2train.numerics.frames.sums import decode_sums

PYNQ = load_config("pynq_z2")
LANES = {"ic_lanes": 16, "oc_lanes": 8}


def answer(header: Header, parts: tuple[np.ndarray, ...]):
    """Results, sums (planes, 2, 16; of affine 1, 16) and trailer of a frame that is right."""
    sent = fc.frame(header, *parts)
    assert sent.size == header.frame_words
    reply = run_transfer(sent, PYNQ)
    assert reply.size == header.reply_words
    results, words, tail = np.split(reply, np.cumsum([header.result_words, header.side_words]))
    trailer = decode_trailer(tail)
    assert trailer.status == Status.OK
    assert (trailer.iterations, trailer.words_in) == (header.iterations, sent.size)
    assert trailer.words_out == results.size + words.size
    assert (trailer.written_s1, trailer.written_s2) == check_sums(results)
    payload = sent if header.unchecked else sent[:-2]
    assert trailer.read == check_sums(payload)[1]
    assert check_sums(reply[header.result_words : -2]) == (int(reply[-2]), int(reply[-1]))
    return results, decode_sums(words, header.mode), trailer


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...], low: int | None = None) -> np.ndarray:
    info = np.iinfo(kind)
    return rng.integers(info.min if low is None else low, info.max + 1, shape).astype(kind)


def tensor(results: np.ndarray, kind: str, size: tuple[int, int, int]) -> np.ndarray:
    C, H, W = size
    return from_blocks(results.view(kind).reshape(1, -1, H, W, 16), C)[0]


@pytest.mark.parametrize("fields", [HEADER_FIELDS, TRAILER_FIELDS], ids=["header", "trailer"])
def test_no_bit_belongs_to_two_fields(fields):
    used: dict[int, int] = {}
    for field in fields:
        bits = ((1 << field.bits) - 1) << field.low
        assert bits < 1 << 64
        assert not used.get(field.word, 0) & bits, field.name
        used[field.word] = used.get(field.word, 0) | bits


def test_a_header_is_laid_out_bit_by_bit():
    header = Header(
        mode=Mode.AFFINE,
        **LANES,
        more=1,
        holds=1,
        relu=1,
        mask_out=1,
        w_spread=1,
        x_kind=Kind.INT16,
        w_kind=Kind.UINT8,
        result=Kind.INT8,
        shift=9,
        dithers=1,
        phase=0xAB,
        depth=3,
        plane=0x1234,
        planes=5,
        rows=6,
        x_count=0x11223344,
        w_count=0x55667788,
        mask_count=7,
        H=0x1234,
        W=0x5678,
        y0=-1,
        x0=-2,
        xa0=-3,
        ceiling=0x80000001,
        mask_limit=192,
        nonce=0xDEADBEEF,
        levels=(Level(limit=4096, dy=-1, dx=511, dxa=-2, dwa=0x7FFF), *[Level()] * 6),
    )
    words = [int(word) for word in encode_header(header)]
    assert words[:7] == [
        0xAB_09_08_10_05_05_E27A,
        0x0605_1234_0036_4295,
        0x55667788_11223344,
        0x00000007_DEADBEEF,
        0xFFFE_FFFF_5678_1234,
        0xFFFD_00C0_8000_0001,
        0x7FFF_FFFE_7FFFFFFF,
    ]
    assert words[7:13] == [0] * 6
    assert words[13] == sum(words[:13]) % (1 << 64)
    assert decode_header(encode_header(header)) == header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": 256}, "shift must fit 8 bits unsigned, 256 does not"),
        ({"y0": 32768}, "y0 must fit 16 bits signed, 32768 does not"),
        ({"planes": -1}, "planes must fit 8 bits unsigned, -1 does not"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, message):
    with pytest.raises(FrameError) as error:
        encode_header(Header(mode=1, **LANES, **change))
    assert str(error.value) == message


@pytest.mark.parametrize("result", ["int16", "int8"])
@pytest.mark.parametrize("source", ["uint8", "int8"])
def test_a_forward_frame_is_a_convolution(source, result, rng):
    x, w = draw(rng, source, (20, 7, 6)), draw(rng, "int8", (24, 20, 3, 3), low=-127)
    header, parts = fc.convolution(
        Mode.FORWARD,
        x,
        w,
        size=(4, 3),
        step=(2, 2),
        start=(-1, -1),
        shift=9,
        result=fc.KINDS[result],
        plane=12,
        planes=2,
        unchecked=1,
    )
    want, report = numerics.rounded_forward(
        x[None], w, stride=(2, 2), padding=(1, 1, 1, 1), shift=9, kind=result
    )
    results, sides, trailer = answer(header, parts)
    assert (tensor(results, result, (24, 4, 3)) == want[0]).all()
    assert (trailer.largest, trailer.saturations) == (report.largest, report.saturations)
    assert (sides[:, 0].reshape(-1)[:24] == report.sums).all()
    assert (sides[:, 1].reshape(-1)[:24] == report.squares).all()


@pytest.mark.parametrize("source", ["int8", "int16"])
def test_a_grad_input_frame_is_a_transposed_convolution(source, rng):
    gy, w = draw(rng, source, (24, 5, 6)), draw(rng, "int8", (24, 20, 3, 3), low=-127)
    flipped = w[:, :, ::-1, ::-1].swapaxes(0, 1)
    header, parts = fc.convolution(
        Mode.GRAD_INPUT, gy, flipped, size=(5, 6), step=(1, 1), start=(-1, -1), shift=10, result=Kind.INT16
    )
    want, report = numerics.rounded_grad_input(
        gy[None], w, size=(5, 6), stride=(1, 1), padding=(1, 1, 1, 1), shift=10, kind="int16"
    )
    results, _, trailer = answer(header, parts)
    assert (tensor(results, "int16", (20, 5, 6)) == want[0]).all()
    assert (trailer.largest, trailer.saturations) == (report.largest, report.saturations)


@pytest.mark.parametrize("kept", [(0, 0), (4, 7), (2, 5)], ids=str)
@pytest.mark.parametrize("source", ["int8", "int16"])
def test_a_weight_gradient_frame_sums_over_positions(source, kept, rng):
    x, gy = draw(rng, "uint8", (20, 9, 8)), draw(rng, source, (24, 4, 4))
    mode = Mode.GRAD_MSB if kept[0] else Mode.GRAD_WEIGHT
    fields = {"x_bits": kept[0], "g_bits": kept[1]} if kept[0] else {}
    header, parts = fc.weight_gradient(mode, x, gy, kernel=(3, 2), step=(2, 2), start=(-1, 0), **fields)
    results, _, _ = answer(header, parts)
    got = fc.gradient(results, header, K=24, C=20, kernel=(3, 2))
    bits = 8 * gy.dtype.itemsize
    if kept[0]:
        most = (4, 10) if bits == 16 else (8, 8)
        x, gy = (
            keep_high(part.astype(np.int64), bits=size, kept=k, signed=s) << top - k
            for part, size, k, s, top in ((x, 8, kept[0], False, most[0]), (gy, bits, kept[1], True, most[1]))
        )
    padding = (1, 0, 0, 0)
    want = numerics.conv_grad_weight(x[None], gy[None], kernel=(3, 2), stride=(2, 2), padding=padding)
    assert (got == want).all()


AFFINES = {
    "norm": {"v": None, "relu": 1, "kind": "uint8"},
    "int8 result": {"v": None, "kind": "int8", "u": "int8"},
    "ceiling": {"v": None, "relu": 1, "ceiling": 192, "kind": "uint8"},
    "shortcut": {"v": "uint8", "relu": 1, "kind": "uint8"},
    "strided shortcut": {"v": "uint8", "views": ("whole", "strided"), "kind": "uint8", "relu": 1},
    "strided alone": {"u": "uint8", "views": ("strided", "whole"), "v": None, "kind": "uint8"},
    "gradient": {"v": "int16", "mask": "uint8", "kind": "int8"},
    "dithered gradient": {"v": "int16", "mask": "uint8", "kind": "int8", "dither": 200},
    "gradient behind a ceiling": {"v": "int16", "mask": "uint8", "mask_limit": 100, "kind": "int16"},
    "spread gradient": {"v": "int16", "views": ("whole", "spread"), "mask": "uint8", "out": 1},
    "spread alone": {"v": None, "views": ("spread", "whole"), "mask": "int8", "out": 1},
    "broadcast": {"v": None, "views": ("broadcast", "whole"), "mask": "uint8", "out": 1},
}


@pytest.mark.parametrize("size", [(20, 7, 5), (16, 4, 6)], ids=str)
@pytest.mark.parametrize("name", AFFINES)
def test_an_affine_frame_is_the_operation(name, size, rng):
    how = {"u": "int16", "views": ("whole", "whole"), "kind": "int16", "mask_limit": 256} | AFFINES[name]
    C, H, W = size
    sizes = {
        "whole": size,
        "strided": (C, 2 * H - H % 2, 2 * W - W % 2),
        "spread": (C, -(-H // 2), -(-W // 2)),
        "broadcast": (C, 1, 1),
    }
    u = draw(rng, how["u"], sizes[how["views"][0]])
    v = None if how["v"] is None else draw(rng, how["v"], sizes[how["views"][1]])
    mask = draw(rng, how["mask"], size) if "mask" in how else None
    a, b = (rng.integers(-(1 << 14) + 1, 1 << 14, C) for _ in range(2))
    d = rng.integers(-(1 << 29), (1 << 29) + 1, C)
    b = 0 * b if v is None else b
    kind, ceiling = how["kind"], how.get("ceiling", 0)
    header, parts = fc.elements(
        Mode.AFFINE,
        u,
        v,
        size=size,
        rows=fc.coefficients(a, b, d),
        mask=mask,
        views=how["views"],
        shift=17,
        relu=how.get("relu", 0),
        ceiling=ceiling,
        result=fc.KINDS[kind],
        planes=-(-C // 16),
        mask_x=int(mask is not None and "out" not in how),
        mask_out=how.get("out", 0),
        mask_limit=how["mask_limit"],
        dithers=int("dither" in how),
        phase=how.get("dither", 0),
        unchecked=1,
    )
    results, sides, trailer = answer(header, parts)
    want, report = numerics.affine(
        seen(u[None], how["views"][0], size),
        None if v is None else seen(v[None], how["views"][1], size),
        a=a,
        b=b,
        d=d,
        shift=17,
        kind=kind,
        relu=bool(how.get("relu")),
        **({"ceiling": ceiling} if ceiling else {}),
        mask=None if mask is None else mask[None],
        mask_limit=how["mask_limit"],
        mask_out="out" in how,
        dither=how.get("dither"),
    )
    assert (tensor(results, kind, size) == want[0]).all()
    assert (trailer.largest, trailer.saturations) == (report.largest, report.saturations)
    assert (sides[:, 0].reshape(-1)[:C] == report.sums[0]).all()


@pytest.mark.parametrize("mask", [None, "uint8"])
@pytest.mark.parametrize("u", ["int8", "int16"])
def test_a_reduce_frame_is_the_operation(u, mask, rng):
    size = (20, 7, 5)
    u, v = draw(rng, u, size), draw(rng, "int16", size)
    m = None if mask is None else draw(rng, mask, size)
    header, parts = fc.elements(
        Mode.REDUCE,
        u,
        v,
        size=size,
        mask=m,
        mask_x=int(m is not None),
        mask_limit=200,
        planes=2,
        result=Kind.INT16,
    )
    results, sides, _ = answer(header, parts)
    sums, products = numerics.reduce(u[None], v[None], None if m is None else m[None], 200)
    assert not results.size
    assert (sides[:, 0].reshape(-1)[:20] == sums[0]).all()
    assert (sides[:, 1].reshape(-1)[:20] == products[0]).all()


def small(**fields: int) -> tuple[Header, tuple[np.ndarray, ...]]:
    header = Header(**(LANES | {"mode": Mode.FORWARD, "x_count": 1, "w_count": 16, "H": 1, "W": 1} | fields))
    return header, (np.full(16, 9, np.uint8), np.full((16, 16), -127, np.int8))


def verdict(words: np.ndarray) -> tuple[Status, int]:
    """Status and words in of the last reply; an error's is a lone trailer."""
    reply = run_transfer(words, PYNQ)
    trailer = decode_trailer(reply[-TRAILER_WORDS:])
    if trailer.status:
        assert (trailer.iterations, trailer.words_out, trailer.read, trailer.nonce) == (0, 0, 0, 0x1234)
    return Status(trailer.status), trailer.words_in


WRONG = {
    "magic": (Status.MAGIC, {"magic": 1}),
    "version": (Status.VERSION, {"version": 2}),
    "mode": (Status.MODE, {"mode": 7}),
    "lanes": (Status.LANES, {"oc_lanes": 16}),
    "x": (Status.LENGTH, {"x_count": 2049}),
    "w": (Status.LENGTH, {"w_count": 4097}),
    "mask": (Status.LENGTH, {"mask_count": 2049}),
    "rows": (Status.LENGTH, {"rows": 17}),
    "planes": (Status.LENGTH, {"planes": 65, "result": Kind.INT16}),
    "planes of int32": (Status.LENGTH, {"planes": 1}),
    "depth": (Status.LENGTH, {"depth": 8}),
    "affine without coefficients": (Status.LENGTH, {"mode": Mode.AFFINE, "result": Kind.INT8}),
    "identify with payload": (Status.LENGTH, {"mode": Mode.IDENTIFY}),
    "x kind": (Status.KIND, {"x_kind": Kind.INT32}),
    "w kind": (Status.KIND, {"w_kind": Kind.INT16}),
    "result": (Status.KIND, {"result": 5}),
    "affine to int32": (Status.KIND, {"mode": Mode.AFFINE, "rows": 1}),
    "unsigned gy": (Status.KIND, {"mode": Mode.GRAD_WEIGHT, "w_kind": Kind.UINT8}),
    "int16 x with int8 gy": (Status.KIND, {"mode": Mode.GRAD_WEIGHT, "x_kind": Kind.INT16}),
    "high bits of int16 x": (Status.KIND, {"mode": Mode.GRAD_MSB, "x_kind": Kind.INT16, "x_bits": 1}),
    "no high bits": (Status.BITS, {"mode": Mode.GRAD_MSB, "x_bits": 1}),
    "5 high bits": (Status.BITS, {"mode": Mode.GRAD_MSB, "x_bits": 5, "g_bits": 1, "w_kind": Kind.INT16}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_header_is_answered_with_its_status(name):
    status, fields = WRONG[name]
    header, parts = small(**fields, nonce=0x1234)
    assert verdict(fc.frame(header, *parts)) == (status, HEADER_WORDS)


def test_a_damaged_frame_is_answered_with_its_status():
    words = fc.frame(*[*small(nonce=0x1234)][:1], *small()[1])
    header = words.copy()
    header[5] ^= np.uint64(1)
    assert verdict(header) == (Status.HEADER_CHECK, HEADER_WORDS)
    payload = words.copy()
    payload[20] ^= np.uint64(1)
    assert verdict(payload) == (Status.FRAME_CHECK, words.size)
    assert verdict(words[:-1]) == (Status.EARLY_END, words.size - 1)
    assert verdict(words[:10]) == (Status.EARLY_END, 10)
    assert verdict(np.append(words, words[:1])) == (Status.LATE_END, words.size)
    assert verdict(words) == (Status.OK, words.size)


def test_frames_that_the_host_has_not_seen_have_no_check_words():
    header, parts = small(nonce=0x1234, unchecked=1)
    words = fc.frame(header, *parts)
    words[20] ^= np.uint64(1)
    assert verdict(words) == (Status.OK, HEADER_WORDS + 2 + 32)
    assert verdict(words[:-1]) == (Status.EARLY_END, words.size - 1)
    assert verdict(np.append(words, words[:1])) == (Status.LATE_END, words.size)
    two = np.concatenate([fc.frame(header, *parts, more=True), fc.frame(header, *parts)])
    assert run_transfer(two, PYNQ).size == 2 * header.reply_words


def test_weights_of_minus_128_lose_the_sign_of_their_neighbour():
    """A multiplier's second weight gives one to the first where that is negative; -128 has none to give."""
    header, (x, w) = small(result=Kind.INT16)
    w[0], w[1] = -1, -128
    results, _, _ = answer(header, (x, w))
    assert results.view(np.int16)[:2].tolist() == [-144, (127 + 1) * 144]


def test_every_status_has_words():
    assert len({status.words for status in Status}) == len(Status)


def test_kinds_have_their_widths():
    assert [kind.bits for kind in Kind] == [8, 8, 16, 32, 64]
    assert len(KIND_DTYPES) == len(Kind)

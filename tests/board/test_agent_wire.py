# SPDX-License-Identifier: Apache-2.0
"""Messages between PC and agent: whatever is not exactly the answer to the call is refused, in one line."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from agents import CONFIG, INFO, altered, flipped, message, right_reply
from e2train.devices.agent_wire import (
    DamagedError,
    WireError,
    decode_call,
    decode_info,
    decode_result,
    encode_call,
    encode_info,
)
from e2train.devices.protocol import MODES, ConvShape, LayerCall
from e2train.devices.spec import SpecDevice
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call

SHAPE = ConvShape(N=1, C=1, H=2, W=2, K=1, R=1, S=1)
CALL = LayerCall(
    mode="forward", shape=SHAPE, a=np.ones((1, 1, 2, 2), np.uint8), b=np.ones((1, 1, 1, 1), np.int8), name="c"
)
REQUEST = encode_call(CALL)
REPLY = right_reply(REQUEST)
COUNTERS = asdict(decode_result(REPLY, CALL, request=REQUEST).counters)


@pytest.mark.parametrize("mode", MODES)
def test_calls_and_results_arrive_as_they_are(mode):
    call = mode_call(mode, np.random.default_rng(1))
    request = encode_call(call)
    arrived = decode_call(request)
    assert (arrived.mode, arrived.shape, arrived.shift) == (call.mode, call.shape, call.shift)
    assert np.array_equal(arrived.a, call.a)
    assert np.array_equal(arrived.b, call.b)
    result, want = (
        decode_result(right_reply(request), call, request=request),
        execute(call, SpecDevice(CONFIG)),
    )
    assert np.array_equal(result.value, want.value)
    assert (result.saturations, result.counters) == (want.saturations, want.counters)
    assert decode_info(encode_info(INFO)) == INFO


def test_no_samples_make_no_elements():
    call = LayerCall(
        mode="forward",
        shape=ConvShape(N=0, C=1, H=2, W=2, K=3, R=1, S=1),
        a=np.zeros((0, 1, 2, 2), np.uint8),
        b=np.zeros((3, 1, 1, 1), np.int8),
    )
    request = encode_call(call)
    assert decode_result(right_reply(request), call, request=request).value.shape == (0, 3, 2, 2)


def test_every_flipped_bit_and_every_cut_shows():
    for bit in range(8 * len(REPLY)):
        with pytest.raises(DamagedError, match=r"^the message's check word does not match$"):
            decode_result(flipped(REPLY, bit), CALL, request=REQUEST)
    for bit in range(8 * len(REQUEST)):
        with pytest.raises(DamagedError, match=r"^the message's check word does not match$"):
            decode_call(flipped(REQUEST, bit))
    for size in range(len(REPLY)):
        with pytest.raises(DamagedError, match=r"^the message's check word does not match$"):
            decode_result(REPLY[:size], CALL, request=REQUEST)


def test_the_result_of_another_call_is_refused():
    other = encode_call(
        LayerCall(mode="forward", shape=SHAPE, a=np.zeros((1, 1, 2, 2), np.uint8), b=CALL.b, name="c")
    )
    with pytest.raises(DamagedError, match=r"^the result is that of another call$"):
        decode_result(right_reply(other), CALL, request=REQUEST)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"tensors": [{"dtype": "int32", "shape": [1, 1, 4, 1]}]},
            r"the result is int32 \(1, 1, 4, 1\), must be int32 \(1, 1, 2, 2\)",
        ),
        (
            {"tensors": [{"dtype": "int16", "shape": [1, 2, 2, 2]}]},
            r"the result is int16 \(1, 2, 2, 2\), must be int32 \(1, 1, 2, 2\)",
        ),
        ({"saturations": -1}, "a count is wanted, not -1"),
        ({"saturations": 5}, "the result says that 5 of 4 elements were saturated"),
        ({"saturations": 1.0}, "a whole number of 64 bits is wanted, not '1.0'"),
        ({"counters": None}, "the result has no counters"),
        ({"counters": {"macs": 4}}, "the result has no counters"),
        ({"counters": COUNTERS | {"watts": 1}}, "the result has no counters"),
        (
            {"counters": COUNTERS | {"macs": 5}},
            "the result counts 5 multiply-accumulates and 0 of the host, must be 4 and 0",
        ),
        ({"counters": COUNTERS | {"cycles": -1}}, "a count is wanted, not -1"),
        ({"counters": COUNTERS | {"words_in": None}}, "a whole number of 64 bits is wanted, not 'None'"),
        ({"counters": COUNTERS | {"frames": True}}, "a whole number of 64 bits is wanted, not 'True'"),
        (
            {"counters": COUNTERS | {"retries": 1 << 63}},
            "a whole number of 64 bits is wanted, not '9223372036854775808'",
        ),
        ({"counters": COUNTERS | {"device_s": -0.5}}, "the result's device_s must be a time, not '-0.5'"),
        (
            {"counters": COUNTERS | {"device_s": float("nan")}},
            "the result's device_s must be a time, not 'nan'",
        ),
        (
            {"counters": COUNTERS | {"moving_s": float("inf")}},
            "the result's moving_s must be a time, not 'inf'",
        ),
    ],
)
def test_a_result_that_cannot_be_is_refused(change, reason):
    with pytest.raises(WireError, match=rf"^{reason}$"):
        decode_result(altered(REPLY, change), CALL, request=REQUEST)


@pytest.mark.parametrize(
    "nested", [b"[" * 60_000, b'{"a":' * 12_000, b'{"format": 2, "tensors": ' + b"[" * 60_000]
)
def test_deep_json_is_one_line(nested):
    with pytest.raises(WireError, match=r"^the message's head is nested too deep$"):
        decode_result(message(nested), CALL, request=REQUEST)


@pytest.mark.parametrize(
    "change", [{"config": 1}, {"config_hash": "x"}, {"most_bytes": -1}, {"device": None}]
)
def test_an_introduction_that_cannot_be_is_refused(change):
    with pytest.raises(WireError, match="is wanted"):
        decode_info(altered(encode_info(INFO), change))

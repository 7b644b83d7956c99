# SPDX-License-Identifier: Apache-2.0
"""One request does not hold an agent: memory is bounded, and work ends when its client goes."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from dataclasses import asdict, fields

import numpy as np
import pytest
from agents import CONFIG, TOKEN, altered, serving
from e2train.devices import DeviceError, open_device
from e2train.devices.agent_wire import decode_result, encode_call
from e2train.devices.protocol import MODES, OPERANDS, Closing, ConvShape, LayerCall
from e2train.devices.spec import SpecDevice
from e2train.runtime import execute, plan
from e2train.runtime.board_check import mode_call

CALL = mode_call("forward", np.random.default_rng(1))
MOST_BYTES = 1 << 20
DTYPES = {"x": np.uint8, "w": np.int8, "gy": np.int16}


class SlowDevice(SpecDevice):
    """Takes its time for a transfer, and counts them."""

    begun = 0

    def transfer(self, words, *, reply_words):
        self.begun += 1
        time.sleep(0.1)
        return super().transfer(words, reply_words=reply_words)


class HeldDevice(Closing):
    """Takes whole tensors, and computes once it is let go."""

    name = "held"
    config = CONFIG

    def __init__(self):
        self.let_go = threading.Event()
        self.begun = 0

    def compute(self, call):
        self.begun += 1
        assert self.let_go.wait(10)
        return execute(call, SpecDevice(CONFIG))


class BrokenDevice(SpecDevice):
    """Fails as nobody has foreseen."""

    def transfer(self, words, *, reply_words):
        raise ZeroDivisionError("no such thing")


@pytest.fixture
def agent():
    with serving(SpecDevice(CONFIG)) as server:
        yield server


def post(agent, message):
    """A connection that has asked, and has not waited."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.server_port, timeout=10)
    connection.request("POST", "/compute", message, {"Authorization": f"Bearer {TOKEN}"})
    return connection


def answer(connection):
    response = connection.getresponse()
    return response.status, response.read()


def blank(mode, **sizes):
    """A call on zeros."""
    s = ConvShape(**({"N": 1, "C": 1, "H": 1, "W": 1, "K": 1, "R": 1, "S": 1} | sizes))
    shapes = {"x": (s.N, s.C, s.H, s.W), "w": (s.K, s.C, s.R, s.S), "gy": (s.N, s.K, s.P, s.Q)}
    a, b = (np.zeros(shapes[role], DTYPES[role]) for role in OPERANDS[mode])
    kept = {"x_bits": 4, "g_bits": 10} if mode == "grad_msb" else {}
    return LayerCall(mode=mode, shape=s, a=a, b=b, name="big", **kept)


@pytest.mark.parametrize(
    ("call", "name", "size"),
    [
        (blank("grad_weight", C=16_000, K=16_000), "the result", 8 * 16_000 * 16_000),
        (blank("grad_msb", C=16_000, K=16_000), "the result", 8 * 16_000 * 16_000),
        (blank("grad_input", C=1600, H=39, W=39, R=1, stride=(2, 2)), "the result", 4 * 1600 * 39 * 39),
        (blank("forward", K=1600, H=20, W=20), "the result", 4 * 1600 * 20 * 20),
        (blank("forward", H=300, W=300, stride=(2, 2)), "x", 16 * 300 * 300),  # one channel fills no vector
        (blank("grad_weight", H=300, W=300, R=7, S=7, stride=(2, 2)), "x", 16 * 300 * 300),
        (blank("grad_input", H=200, W=200), "gy", 2 * 16 * 200 * 200),
        (blank("forward", K=1000, C=16, N=0, H=30, W=30), "the result", 4 * 1008 * 30 * 30),
    ],
    ids=lambda value: value.mode if isinstance(value, LayerCall) else str(value),
)
def test_memory_is_bounded_in_every_mode(agent, call, name, size):
    begin = time.monotonic()
    status, text = answer(post(agent, encode_call(call)))
    assert text.decode() == (
        f"big ({call.mode}): {name} would take {size} bytes in the engine's vectors, the agent's limit is "
        f"{MOST_BYTES}; send smaller batches, or start the agent with a larger --max-mb"
    )
    assert (status, time.monotonic() - begin < 5) == (400, True)


def test_a_request_that_the_agent_would_not_take_is_not_sent(agent, token_file):
    with open_device(f"agent:127.0.0.1:{agent.server_port}", token_file=token_file) as device:
        with pytest.raises(
            DeviceError,
            match=r"^big \(forward\) on agent \S+: the request has 12\d{5} bytes, the agent takes 1048576; "
            r"send smaller batches, or start the agent with a larger --max-mb$",
        ):
            device.compute(blank("forward", C=1200, H=32, W=32))
        call = mode_call("grad_msb", np.random.default_rng(1))
        assert np.array_equal(device.compute(call).value, execute(call, SpecDevice(CONFIG)).value)


def test_work_ends_when_its_client_goes(monkeypatch, capfd):
    """One client goes in the midst of its work, one while it waits for the first; a third is served."""
    monkeypatch.setattr(sys.modules[execute.__module__], "_TRANSFER_WORDS", 1)  # a frame is a transfer
    long = mode_call("forward", np.random.default_rng(1), 256)
    device = SlowDevice(CONFIG)
    with serving(device, most_bytes=8 << 20) as agent:
        first = post(agent, encode_call(long))
        _wait(lambda: device.begun == 2)
        second = post(agent, encode_call(long))
        time.sleep(0.2)
        second.close()
        first.close()
        request = encode_call(CALL)
        status, reply = answer(post(agent, request))
        assert status == 200
        result = decode_result(reply, CALL, request=request)
    assert device.begun <= 2 + 2 + result.counters.frames
    assert len(plan(long, CONFIG).blocks) > 8
    assert np.array_equal(result.value, execute(CALL, SpecDevice(CONFIG)).value)
    assert capfd.readouterr().err == ""


def test_a_client_that_goes_while_it_waits_is_not_computed_for(capfd):
    device, request = HeldDevice(), encode_call(CALL)
    with serving(device) as agent:
        first = post(agent, request)
        _wait(lambda: device.begun == 1)
        threads = threading.active_count()
        second = post(agent, request)
        _wait(lambda: threading.active_count() == threads + 1)
        second.close()
        _wait(lambda: threading.active_count() == threads)  # before its turn comes
        device.let_go.set()
        assert [answer(first)[0], answer(post(agent, request))[0]] == [200, 200]
    assert device.begun == 2
    assert capfd.readouterr().err == ""


def test_what_nobody_has_foreseen_is_answered(capfd):
    with serving(BrokenDevice(CONFIG)) as agent:
        assert answer(post(agent, encode_call(CALL))) == (
            500,
            b"the agent failed: ZeroDivisionError: no such thing",
        )
    assert "ZeroDivisionError" in capfd.readouterr().err  # for whoever corrects the agent


def test_no_head_makes_a_traceback(agent, capfd):
    good, nasty = (
        encode_call(CALL),
        [None, -1, 0, 1, 7, 10**9, 1 << 62, 1 << 80, 0.5, 1e308, "", "\ud800", [], {}],
    )
    nasty += [[0] * 2, [-1] * 4, [1 << 40] * 4, [[]], True]
    changes = [
        {key: value} for key in ("mode", "shift", "x_bits", "name", "shape", "format") for value in nasty
    ]
    shape = asdict(CALL.shape)
    changes += [{"shape": shape | {field.name: value}} for field in fields(ConvShape) for value in nasty]
    tensor = {"dtype": "uint8", "shape": list(CALL.a.shape)}
    changes += [{"tensors": [tensor, tensor | {key: value}]} for key in tensor for value in nasty]
    changes += [
        {"tensors": [{"dtype": "uint8", "shape": [0, *sizes]}] * 2} for sizes in ((1 << 40,) * 3, (9,) * 3)
    ]
    changes += [{"mode": mode} for mode in MODES]
    statuses = [answer(post(agent, altered(good, change)))[0] for change in changes]
    assert set(statuses) == {200, 400}  # some are good by chance, such as no name
    assert capfd.readouterr().err == ""


def _wait(met):
    end = time.monotonic() + 10
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)

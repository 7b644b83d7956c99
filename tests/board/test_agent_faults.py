# SPDX-License-Identifier: Apache-2.0
"""Faults between a PC and an agent: survived with the same integers, or one line within the deadline."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import chain

import numpy as np
import pytest
from agents import CONFIG, altered, flipped, http_reply, message, right_reply, scripted
from e2train.devices import DeviceError, DeviceLostError, open_device
from e2train.devices.agent_link import AgentLink
from e2train.devices.spec import SpecDevice
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from serving import served

CALL = mode_call("forward", np.random.default_rng(1))
WHERE = r"^self-test \(forward\) on agent 127\.0\.0\.1:\d+"
AGENT = ("board", "agent", "--device", "spec")


@pytest.fixture(scope="module")
def want():
    return execute(CALL, SpecDevice(CONFIG)).value


def opened(address, token_file, deadline_s=10.0):
    return open_device(address, config="pynq_z2", token_file=token_file, deadline_s=deadline_s)


def dripped(content):
    """Bytes that come in time, one by one, and yet never all."""
    for index in range(len(content)):
        time.sleep(0.1)
        yield content[index : index + 1]


@pytest.mark.parametrize("bit", [0, 40, 5000, -1])
def test_a_flipped_bit_on_the_way_back_is_survived(token_file, want, bit):
    replies = []

    def answer(request):
        reply = right_reply(request)
        replies.append(reply)
        return [http_reply(flipped(reply, bit % (8 * len(reply))) if len(replies) == 1 else reply)]

    with scripted(answer) as address, opened(address, token_file) as device:
        result = device.compute(CALL)
    assert np.array_equal(result.value, want)
    assert (result.counters.retries, result.counters.remote_calls) == (1, 1)


def test_a_flipped_bit_on_the_way_there_is_survived(token_file, want, monkeypatch):
    asked, ask = [], AgentLink.ask

    def flip_one(self, verb, path, body=b"", **options):
        asked.append(verb)
        return ask(
            self, verb, path, flipped(body, 9000) if asked.count("POST") == 1 and body else body, **options
        )

    monkeypatch.setattr(AgentLink, "ask", flip_one)
    options = ("--port", "0", "--token-file", str(token_file))
    with served(*AGENT, *options) as agent, opened(f"agent:{agent.address}", token_file) as device:
        result = device.compute(CALL)
    assert np.array_equal(result.value, want)
    assert (result.counters.retries, asked.count("POST")) == (1, 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda request: [http_reply(flipped(right_reply(request), 5000))],
            r"the message's check word does not match \(tried 3 times\)",
        ),
        (
            lambda request: [http_reply(b"", length=1 << 60)],
            r"the reply's length is 1152921504606846976, must be given and at most 76488 \(tried 3 times\)",
        ),
        (
            lambda request: [http_reply(b"", length="x")],
            r"the reply's length is None, must be given and at most 76488 \(tried 3 times\)",
        ),
        (lambda request: [http_reply(message(b"[" * 60_000))], "the message's head is nested too deep"),
        (
            lambda request: [http_reply(altered(right_reply(request), {"saturations": -1}))],
            "a count is wanted, not -1",
        ),
        (
            lambda request: [
                b"HTTP/1.1 503 No\r\nContent-Length: 9999999\r\n\r\nthe\x1b[1m DMA\n" + b"!" * 5000
            ],
            r"the \[1m DMA !{1012}",
        ),
    ],
    ids=["damaged", "endless", "no length", "deep", "impossible", "refused"],
)
def test_a_reply_that_cannot_be_is_one_line(token_file, answer, reason):
    with (
        scripted(answer) as address,
        opened(address, token_file) as device,
        pytest.raises(DeviceError, match=rf"{WHERE}: {reason}$"),
    ):
        device.compute(CALL)


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: dripped(http_reply(right_reply(request))),
        lambda request: chain([http_reply(b"", length=500)], dripped(bytes(500))),
        lambda request: (b"HTTP/1.1 100 Continue\r\n\r\n" for _ in iter(lambda: time.sleep(0.1), 1)),
        lambda request: time.sleep(8) or [],
    ],
    ids=["slow head", "slow body", "endless continue", "silent"],
)
def test_a_slow_reply_does_not_outlast_the_deadline(token_file, answer):
    with scripted(answer) as address, opened(address, token_file, deadline_s=1.0) as device:
        begin = time.monotonic()
        with pytest.raises(
            DeviceLostError, match=rf"{WHERE} does not answer: timed out; no result within 1 s$"
        ):
            device.compute(CALL)
        assert 0.7 < time.monotonic() - begin < 5


def test_an_interrupt_ends_the_wait_and_leaves_the_device_ready(token_file, want):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    def answer(request):
        if not asked.is_set():
            asked.set()
            go_on.wait(30)
        yield http_reply(right_reply(request))

    asked, go_on = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with scripted(answer) as address, opened(address, token_file) as device:
            kill = threading.Thread(target=lambda: (asked.wait(10), os.kill(os.getpid(), signal.SIGUSR1)))
            kill.start()
            with pytest.raises(KeyboardInterrupt):
                device.compute(CALL)
            kill.join()
            go_on.set()
            result = device.compute(CALL)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert np.array_equal(result.value, want)
    assert result.counters.retries == 0


def test_a_restarted_agent_is_awaited(token_file, want):
    options = ("--token-file", str(token_file), "--port")
    restarted = threading.Event()

    def start_again(port):
        time.sleep(1.0)
        with served(*AGENT, *options, str(port)):
            restarted.wait(30)

    with served(*AGENT, *options, "0") as agent, opened(f"agent:{agent.address}", token_file, 30.0) as device:
        before = device.compute(CALL)
        agent.process.kill()
        agent.process.wait()
        starter = threading.Thread(target=start_again, args=(agent.port,))
        starter.start()
        result = device.compute(CALL)
        restarted.set()
        starter.join()
    assert np.array_equal(before.value, want)
    assert np.array_equal(result.value, want)
    assert (before.counters.retries, result.counters.retries) == (0, 1)


def test_an_agent_that_comes_back_as_another_is_refused(token_file):
    options = ("--token-file", str(token_file), "--port")
    with served(*AGENT, *options, "0") as agent, opened(f"agent:{agent.address}", token_file) as device:
        agent.process.kill()
        agent.process.wait()
        with (
            served(*AGENT, *options, str(agent.port), "--board", "zcu104"),
            pytest.raises(
                DeviceError,
                match=rf"{WHERE}: the agent serves the configuration 'zcu104', the host expects pynq_z2; "
                r"choose it with --board$",
            ),
        ):
            device.compute(CALL)


def test_an_agent_that_is_gone_is_one_line_within_the_deadline(token_file):
    options = ("--token-file", str(token_file), "--port", "0")
    with served(*AGENT, *options) as agent:
        device = opened(f"agent:{agent.address}", token_file, deadline_s=1.0)
    begin = time.monotonic()
    with (
        device,
        pytest.raises(DeviceLostError, match=rf"{WHERE} does not answer: .*refused; no result within 1 s$"),
    ):
        device.compute(CALL)
    assert 0.5 < time.monotonic() - begin < 5


@pytest.mark.parametrize("address", [":7968", "h:99999", "h:0", "h:" + "9" * 5000, "h:1:2"])
def test_an_impossible_address_is_one_line(token_file, address):
    with pytest.raises(
        DeviceError,
        match=rf"^device agent:{address}: give HOST or HOST:PORT with a port in 1\.\.65535, an IPv6 address "
        "in brackets$",
    ):
        opened(f"agent:{address}", token_file)


@pytest.mark.parametrize("host", ["a..b", "a b", "x" * 300])
def test_an_impossible_host_is_one_line(token_file, host):
    with pytest.raises(DeviceLostError, match=rf"^agent {host}:7968 does not answer: [^\n]+$"):
        opened(f"agent:{host}", token_file)

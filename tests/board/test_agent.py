# SPDX-License-Identifier: Apache-2.0
"""The agent of a board without torch: training through it, and what it refuses."""

from __future__ import annotations

import http.client
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import numpy as np
import pytest
from agents import CONFIG, TOKEN, altered, checked, message, serving
from e2train.devices import DeviceError, DeviceLostError, open_device
from e2train.devices.agent_wire import encode_call
from e2train.devices.spec import SpecDevice
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from e2train.train import PRESETS, run_training
from serving import E2TRAIN, served

TRAIN = ("train", "digits", "--steps", "4", "--batch", "8", "--seed", "7", "--json")
CALL = mode_call("forward", np.random.default_rng(1))
FEW = ("--set", "test_images=8", "--set", "execution=offload")


@pytest.fixture
def agent():
    with serving(SpecDevice(CONFIG)) as server:
        yield server


def ask(agent, verb, path, body=b"", token=TOKEN, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", agent.server_port, timeout=10)
    connection.request(verb, path, body, {"Authorization": f"Bearer {token}"} | headers)
    response = connection.getresponse()
    return response.status, response.read().decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_through_a_board_gives_the_emulators_bits(serve, overlay, tmp_path):
    """PC -> agent -> pynq -> simulated board."""
    board, token = serve("pynq_z2"), tmp_path / "token"
    options = ("--board", "pynq_z2", "--port", "0", "--token-file", str(token))
    device = ("--device", f"pynq:{board.address}", "--overlay", str(overlay("pynq_z2")))
    with served("board", "agent", *options, *device) as agent:
        where = ("--device", f"agent:{agent.address}", "--set", f"token_file={token}")
        command = [*E2TRAIN, *TRAIN, *FEW, "--out", tmp_path / "agent", *where]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    config = PRESETS["digits"].changed(execution="offload", steps=4, batch=8, seed=7, test_images=8)
    want, got = run_training(config, out=tmp_path / "emulator"), json.loads(done.stdout)
    assert want.steps_run > 1
    assert (got["weights_sha256"], got["state_sha256"]) == (want.weights_sha256, want.state_sha256)
    assert token.stat().st_mode & 0o077 == 0


def test_the_agent_needs_neither_torch_nor_typer(tmp_path):
    """As on a 32-bit board: the imports of the command are NumPy's and the standard library's."""
    program = (
        "import sys; sys.argv[1:] = ['board', 'agent', '--help']\n"
        "for name in ('torch', 'typer', 'rich', 'brevitas', 'sklearn', 'matplotlib', 'jinja2', 'llvmlite'):\n"
        "    sys.modules[name] = None\n"
        "from e2train.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "from e2train.devices import pynq, spec\n"
        "assert 'e2train.cli.app' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--token-file" in done.stdout


def test_integers_come_back(agent, token_file):
    call = mode_call("grad_weight", np.random.default_rng(1))
    with open_device(f"agent:127.0.0.1:{agent.server_port}", token_file=token_file) as device:
        result = device.compute(call)
    assert np.array_equal(result.value, execute(call, SpecDevice(CONFIG)).value)
    assert result.value.dtype == np.int64
    assert result.counters.macs == call.shape.macs
    assert result.counters.remote_calls == 1


def test_a_wrong_token_is_refused(agent, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("guess" * 10)
    with pytest.raises(DeviceError, match=r"^agent 127.0.0.1:\d+: the token is not this agent's"):
        open_device(f"agent:127.0.0.1:{agent.server_port}", token_file=wrong)
    assert ask(agent, "POST", "/compute", b"x", token="")[0] == 401


def test_another_configuration_is_refused(agent, token_file):
    with pytest.raises(
        DeviceError,
        match=r"^agent \S+: the agent serves the configuration 'pynq_z2', the host expects zcu104; "
        r"choose it with --board$",
    ):
        open_device(f"agent:127.0.0.1:{agent.server_port}", config="zcu104", token_file=token_file)


def test_another_server_is_told_apart(token_file):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"agent:127.0.0.1:{other.server_port}"
        with pytest.raises(
            DeviceError,
            match=r"^what answers at 127.0.0.1:\d+ is no e2train agent of this version "
            r"\(the message's check word does not match\)$",
        ):
            open_device(address, config="pynq_z2", token_file=token_file)
        other.shutdown()


def test_a_missing_token_says_what_to_do(tmp_path):
    with pytest.raises(
        DeviceError,
        match=r"^cannot read the token file \S+none: No such file or directory; copy it from the board, "
        r"where the agent wrote it, or give its place with --set token_file=FILE$",
    ):
        open_device("agent:127.0.0.1:1", token_file=tmp_path / "none")


def test_nobody_there_is_one_line(token_file):
    with pytest.raises(DeviceLostError, match=r"^agent 127.0.0.1:1 does not answer: .*refused"):
        open_device("agent:127.0.0.1:1", token_file=token_file)


@pytest.mark.parametrize(
    "damaged", [b"", b"\xff\xff\xff\xff{}", encode_call(CALL)[:-1], encode_call(CALL) + b"x"]
)
def test_a_damaged_message_is_told_apart(agent, damaged):
    assert ask(agent, "POST", "/compute", damaged) == (422, "the message's check word does not match")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (checked(b""), "the message ends within its head"),
        (checked(b"\xff\xff\xff\xff{}"), "the message ends within its head"),
        (message(b"{}"), "the message is not of format 4: both sides need the same version of e2train"),
        (message(b"{,}"), "the message's head is not JSON"),
        (message(b"[" * 60_000), "the message's head is nested too deep"),
        (message(b"9" * 5000), "the message's head is not JSON"),
        (message(b"[]"), "the message is not of format 4"),
    ],
)
def test_a_broken_message_is_refused(agent, broken, reason):
    status, text = ask(agent, "POST", "/compute", broken)
    assert (status, text.startswith(reason)) == (400, True), text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tensors": []}, "the message must hold 2 tensors, it holds 0"),
        ({"mode": "erase"}, "self-test (erase): mode must be one of"),
        ({"shift": "1"}, "a whole number of 64 bits is wanted, not '1'"),
        ({"shift": 1 << 63}, "a whole number of 64 bits is wanted, not '9223372036854775808'"),
        ({"shape": {"N": 1}}, "the call has no shape of a convolution"),
        ({"name": "x" * 2000}, "a short text is wanted"),
        ({"shape": asdict(CALL.shape) | {"stride": [1]}}, "stride must have 2 numbers, not 1"),
        ({"shape": asdict(CALL.shape) | {"stride": [1, 1, 1]}}, "stride must have 2 numbers, not 3"),
        ({"shape": asdict(CALL.shape) | {"padding": []}}, "padding must have 4 numbers, not 0"),
        ({"shape": asdict(CALL.shape) | {"padding": 1}}, "a list is wanted"),
        (
            {"shape": asdict(CALL.shape) | {"padding": [5000] * 4}},
            "self-test (forward): the result would take 25633290752 bytes in the engine's vectors, the "
            "agent's limit is 1048576; send smaller batches, or start the agent with a larger --max-mb",
        ),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(agent, change, reason):
    status, text = ask(agent, "POST", "/compute", altered(encode_call(CALL), change))
    assert (status, text.startswith(reason)) == (400, True), text


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "object", "shape": [1, 1, 1, 1]},
        {"dtype": "uint8", "shape": [1 << 40, 1 << 40, 1, 1]},
        {"dtype": "uint8", "shape": [0, 1 << 40, 1 << 40, 1]},
        {"dtype": "int64", "shape": [0, 1 << 62, 0, 1]},
        {"dtype": "uint8", "shape": [1 << 63, 0, 1, 1]},
        {"dtype": "uint8", "shape": [-1, 1, 1, 1]},
        {"dtype": "uint8", "shape": [2]},
        {"dtype": "uint8", "shape": [True, 1, 1, 1]},
        7,
    ],
)
def test_a_tensor_that_makes_no_sense_is_refused(agent, tensor):
    status, _ = ask(agent, "POST", "/compute", altered(encode_call(CALL), {"tensors": [tensor, tensor]}))
    assert status == 400


@pytest.mark.parametrize("length", [str(1 << 40), "9" * 5000, "-1", "x", ""])
def test_a_request_that_is_too_large_is_not_read(agent, length):
    status, text = ask(agent, "POST", "/compute", b"", **{"Content-Length": length})
    assert (status, text) == (413, "a request has a length of at most 1 MiB")


def test_other_paths_are_not_there(agent):
    assert ask(agent, "GET", "/etc/passwd")[0] == 404
    assert ask(agent, "POST", "/../info", b"x")[0] == 404


def connect(agent, sent=b""):
    peer = socket.create_connection(("127.0.0.1", agent.server_port), timeout=10)
    peer.sendall(sent)
    return peer


def test_who_sends_slowly_and_shows_no_token_is_hung_up_on(agent, monkeypatch):
    monkeypatch.setattr("e2train.runtime.agent._HEAD_S", 0.2)
    with connect(agent, b"GET /info HTTP/1.1\r\n") as slow, connect(agent) as silent:
        assert slow.recv(1) == silent.recv(1) == b""  # long before the timeout of a single read
    connection = http.client.HTTPConnection("127.0.0.1", agent.server_port, timeout=10)
    for pause_s in (0.0, 0.5):  # who has shown it may take its time
        time.sleep(pause_s)
        connection.request("GET", "/info", headers={"Authorization": f"Bearer {TOKEN}"})
        assert connection.getresponse().read()


def test_so_many_connections_and_no_more(monkeypatch):
    monkeypatch.setattr("e2train.runtime.agent._MOST_CONNECTIONS", 2)
    with (
        serving(SpecDevice(CONFIG)) as agent,
        connect(agent) as first,
        connect(agent),
        connect(agent) as third,
    ):
        assert third.recv(1) == b""
        first.shutdown(socket.SHUT_RDWR)
        end_s = time.monotonic() + 10
        while True:
            try:
                assert ask(agent, "GET", "/info")[0] == 200
                return
            except ConnectionError:
                assert time.monotonic() < end_s


def test_memory_is_given_back_once_nothing_is_computed_any_more(agent, monkeypatch):
    events = []
    monkeypatch.setattr(agent._resident, "close", lambda: events.append("given back"))
    computing, go_on = threading.Event(), threading.Event()

    def compute(*arguments):
        computing.set()
        go_on.wait(10)
        events.append("computed")

    monkeypatch.setattr(agent._resident, "run", compute)
    monkeypatch.setattr("e2train.runtime.agent.decode_batch", lambda message, most_bytes: message)
    with connect(agent) as client:
        worker = threading.Thread(target=agent.run_resident, args=(b"", client))
        worker.start()
        computing.wait(10)
        closing = threading.Thread(target=agent.server_close)
        closing.start()
        closing.join(0.3)
        assert (closing.is_alive(), events) == (True, [])
        go_on.set()
        closing.join(10)
        worker.join(10)
    assert events == ["computed", "given back"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_an_agent_ends_it_as_ctrl_c_does(tmp_path, number):
    options = ("--device", "spec", "--port", "0", "--token-file", str(tmp_path / "token"))
    before = signal.signal(number, signal.SIG_DFL)  # under nohup a hang-up is ignored, and stays so
    try:
        with served("board", "agent", *options) as agent:
            agent.process.send_signal(number)
            assert agent.process.wait(30) == 0
    finally:
        signal.signal(number, before)


def test_an_agent_under_nohup_stays(tmp_path):
    options = ("--device", "spec", "--port", "0", "--token-file", str(tmp_path / "token"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with served("board", "agent", *options) as agent:
            agent.process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                agent.process.wait(0.5)
    finally:
        signal.signal(signal.SIGHUP, before)

# SPDX-License-Identifier: Apache-2.0
"""Resident steps through an agent: the emulator's bits, one request a chain, lost replies, other programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from agents import CONFIG, altered, flipped, serving
from e2sim.board import BoardServer
from e2train.devices import DeviceError, StepLostError, open_device, open_resident
from e2train.devices.agent_wire import WireError
from e2train.devices.chains.board import BoardResident
from e2train.devices.protocol import Closing, Counters, ShapeError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.devices.resident_wire import (
    Batch,
    Put,
    decode_batch,
    decode_outcomes,
    encode_batch,
    encode_outcomes,
)
from e2train.devices.simulated_board import board_model, build_logic
from e2train.devices.spec import SpecDevice
from e2train.numerics.elementwise import Written
from e2train.overlay import load_board
from e2train.runtime.agent_memory import AgentMemory
from e2train.train import PRESETS, run_training

DIGITS = PRESETS["digits"].changed(
    method="e2train",
    board="pynq_z2",
    execution="resident",
    gradient_rounding="dithered",
    meter="none",
    steps=3,
    batch=2,
    seed=7,
    test_images=2,
    skip=0.4,
    gate_weight=100.0,
)
ROOM = 1 << 20
ONES, ZEROS = np.ones(16, np.int64), np.zeros(16, np.int64)


def tensor(start: int, kind="int16", samples: int = 2) -> DeviceTensor:
    offsets = start + 1024 * np.arange(samples, dtype=np.int64)
    return DeviceTensor(kind=kind, C=16, H=4, W=8, offsets=offsets)


def affine(u: DeviceTensor, out: DeviceTensor) -> Affine:
    return Affine(u=u, out=out, a=2 * ONES, b=ZEROS, d=ZEROS, shift=0, name="double")


def put(where: DeviceTensor, value: int) -> Put:
    return Put(tensor=where, values=np.full(where.shape, value, where.kind))


def batch(number: int, *steps, key: str = "mine", reserve: int = 1 << 16) -> Batch:
    return Batch(key=key, number=number, reserve=reserve, steps=steps)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    return run_training(DIGITS, out=tmp_path_factory.mktemp("emulated"))


def test_an_agent_on_an_emulator_has_its_bits_by_one_request_a_chain(
    emulated, token_file, tmp_path, monkeypatch
):
    requests, after = [], {}
    run = AgentMemory.run

    def counted(self, given, message):
        requests.append(len(message))
        return run(self, given, message)

    monkeypatch.setattr(AgentMemory, "run", counted)
    with serving(SpecDevice(CONFIG), most_bytes=8 << 20, open_resident=open_resident) as server:
        where = {"device": f"agent:127.0.0.1:{server.server_port}", "token_file": str(token_file)}
        summary = run_training(
            DIGITS.changed(**where), out=tmp_path, watch=lambda row: after.update({row.step: len(requests)})
        )
    for key in ("weights_sha256", "state_sha256", "test_accuracy", "macs", "host_bytes_per_step"):
        assert getattr(summary, key) == getattr(emulated, key), key
    # In the first step results have no scale yet; then two of each of 9 convolutions and one of each of 4
    # gates are what the host waits for, and that is all.
    (_, first), (_, second) = after.items()
    assert second - first <= 2 * 9 + 4 + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["pynq_z2", "zcu104"])
def test_an_agent_on_a_board_has_the_emulators_bits(emulated, overlay, token_file, tmp_path, name):
    with BoardServer(board_model(load_board(name)), build_logic, port=0) as board:
        address = f"pynq:127.0.0.1:{board.port}"
        device = open_device(address, config=name, overlay=overlay(name))
        with (
            device,
            serving(device, most_bytes=8 << 20, open_resident=lambda: BoardResident(device)) as server,
        ):
            where = {"device": f"agent:127.0.0.1:{server.server_port}", "token_file": str(token_file)}
            summary = run_training(DIGITS.changed(board=name, **where), out=tmp_path)
        assert board.board.memory.used_bytes == 0
    assert summary.state_sha256 == emulated.state_sha256


def test_a_batch_that_comes_twice_runs_once():
    memory = AgentMemory(open_resident, most_bytes=ROOM)
    a = tensor(0)
    first = batch(0, put(a, 3), affine(a, a), Reduction(u=a, v=a))
    message = encode_batch(first)
    replies = [memory.run(decode_batch(message, most_bytes=ROOM), message) for _ in range(2)]
    assert replies[0] == replies[1]
    found, room = decode_outcomes(replies[0], first.steps[1:], request=message)
    assert found[1][0][0].tolist() == [2 * 32 * 6] * 16
    assert room == ROOM
    memory.close()


@pytest.mark.parametrize("other", ["another program", "a fresh agent", "a batch left out"])
def test_tensors_that_are_gone_are_refused(other):
    memory = AgentMemory(open_resident, most_bytes=ROOM)
    a = tensor(0)

    def run(given: Batch) -> bytes:
        return memory.run(given, encode_batch(given))

    run(batch(0, put(a, 1)))
    run(batch(1, affine(a, a)))
    if other == "another program":
        run(batch(0, put(a, 1), key="other"))
    elif other == "a fresh agent":
        memory = AgentMemory(open_resident, most_bytes=ROOM)
    with pytest.raises(
        DeviceError, match=r"^this program's tensors are gone: the agent was started again, or"
    ):
        run(batch(3 if other == "a batch left out" else 2, affine(a, a)))


def test_more_memory_than_there_is_is_refused():
    memory = AgentMemory(open_resident, most_bytes=ROOM)
    given = batch(0, reserve=ROOM + 1)
    with pytest.raises(WireError, match=r"^1048577 bytes for tensors are asked for, the agent has 1048576$"):
        memory.run(given, encode_batch(given))


class Failing(Closing):
    """A device that fails at every third operation, as a board may."""

    memory_bytes = None

    def __init__(self):
        self.device, self.count = open_resident(), 0

    def __getattr__(self, name):
        return getattr(self.device, name)

    def affine(self, call):
        self.count += 1
        if self.count % 60 == 30:
            raise DeviceError("the DMA reports something")
        return self.device.affine(call)


@pytest.mark.slow
def test_failures_of_the_agents_device_change_nothing(emulated, token_file, tmp_path):
    failing = Failing()
    with serving(SpecDevice(CONFIG), most_bytes=8 << 20, open_resident=lambda: failing) as server:
        where = {"device": f"agent:127.0.0.1:{server.server_port}", "token_file": str(token_file)}
        summary = run_training(DIGITS.changed(**where), out=tmp_path)
    assert failing.count > 60
    assert summary.state_sha256 == emulated.state_sha256


def test_an_agent_without_tensors_says_so(token_file):
    with serving(SpecDevice(CONFIG)) as server:
        device = open_resident(f"agent:127.0.0.1:{server.server_port}", token_file=token_file)
        device.reserve(1 << 16)
        with pytest.raises(
            StepLostError,
            match=r"^double \(affine\) on agent 127.0.0.1:\d+: this agent keeps no tensors; use --set ",
        ):
            device.affine(affine(tensor(0), tensor(4096)))
        device.close()


W = np.arange(9 * 256, dtype=np.int64).reshape(16, 16, 3, 3).astype(np.int8).clip(-127)
OPERATIONS = {
    "put": put(tensor(0), -5),
    "forward": Convolution(
        mode="forward", source=tensor(0, "uint8"), destination=tensor(4096), w=W, stride=(1, 1),
        padding=(1, 1, 1, 1), shift=7, sums=True, name="c",
    ),
    "weights": WeightGradient(
        x=tensor(0, "uint8"), gy=tensor(4096, "int8"), kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1),
        x_bits=4, g_bits=6, name="c",
    ),
    "affine": replace(
        affine(tensor(0).take(np.array([1, 0])), tensor(4096)), v=tensor(8192), b=ONES, sums=True
    ),
    "reduce": Reduction(u=tensor(0), v=tensor(4096), mask=tensor(8192, "uint8"), per_sample=True),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_steps_and_outcomes_arrive_as_they_are(name):
    step = OPERATIONS[name]
    message = encode_batch(batch(4, step))
    arrived = decode_batch(message, most_bytes=ROOM)
    assert (arrived.key, arrived.number, arrived.reserve) == ("mine", 4, 1 << 16)
    assert encode_batch(arrived) == message
    for field in type(step).__slots__:
        sent, got = getattr(step, field), getattr(arrived.steps[0], field)
        if isinstance(sent, DeviceTensor):
            assert (got.kind, got.shape, got.view) == (sent.kind, sent.shape, sent.view)
            assert np.array_equal(got.offsets, sent.offsets)
        elif isinstance(sent, np.ndarray):
            assert (got.dtype, got.tolist()) == (sent.dtype, sent.tolist())
        else:
            assert got == sent


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_no_batch_is_refused(name, rng):
    """Any bit, and any field of a step that is something else, or missing."""
    good = encode_batch(batch(0, OPERATIONS[name]))
    for bit in rng.integers(8 * len(good), size=200).tolist():
        with pytest.raises(WireError):
            decode_batch(flipped(good, bit), most_bytes=ROOM)
    size = int.from_bytes(good[:4], "little")
    import json

    (step,) = json.loads(good[4 : 4 + size])["steps"]
    for key in step:
        for wrong in ({}, [], "x", -(1 << 70), 1.5, [[1], 2], {"array": 9, "sizes": 1}):
            changed = [step | {key: wrong}]
            if (key, wrong) == ("name", "x"):
                continue
            with pytest.raises((WireError, ShapeError, ValueError)):
                decode_batch(altered(good, {"steps": changed}), most_bytes=ROOM)
        with pytest.raises(WireError, match=r"^a step must be one of Put, Convolution"):
            decode_batch(
                altered(good, {"steps": [{k: v for k, v in step.items() if k != key}]}), most_bytes=ROOM
            )


def test_many_samples_in_few_words_are_refused():
    """Sixty tensors of a million samples are a message of some kilobytes, and half a gigabyte of offsets."""
    import json

    good = encode_batch(batch(0, OPERATIONS["reduce"]))
    size = int.from_bytes(good[:4], "little")
    (step,) = json.loads(good[4 : 4 + size])["steps"]
    run = {"offsets": [0, 1024, 1 << 20]}
    wide = step | {name: step[name] | run for name in ("u", "v", "mask")}
    (decoded,) = decode_batch(altered(good, {"steps": [wide]}), most_bytes=24 << 20).steps
    assert len(decoded.u.offsets) == 1 << 20
    less = {"u": {"offsets": [0, 0, -1 << 62]}}
    for steps in ([wide] * 20, [*[wide] * 20, less]):
        with pytest.raises(WireError, match=r"^the offsets of a batch's samples take more than 25165824 "):
            decode_batch(altered(good, {"steps": steps}), most_bytes=24 << 20)


@pytest.mark.parametrize("value", [0, (1 << 31) - 1, -(1 << 31), 1 << 31, -(1 << 31) - 1, 1 << 62])
def test_sums_arrive_whatever_their_size(value):
    call = replace(OPERATIONS["reduce"], per_sample=False)
    sums = np.full(16, value, np.int64), np.arange(16, dtype=np.int64)
    reply = encode_outcomes([(sums, Counters())], request=b"1234", memory_bytes=5)
    (((got, products), _),), room = decode_outcomes(reply, [call], request=b"1234")
    assert (got.dtype, got.tolist(), products.tolist(), room) == (np.int64, [value] * 16, list(range(16)), 5)


@pytest.mark.parametrize(
    ("written", "counters", "message"),
    [
        (
            Written(largest=1 << 31, saturations=0),
            Counters(),
            r"^largest is 2147483648 and 0 saturated, must be",
        ),
        (
            Written(largest=1, saturations=1025),
            Counters(),
            r"^largest is 1 and 1025 saturated, must be 2147483647 and 1024",
        ),
        (
            Written(largest=1, saturations=0),
            Counters(macs=1),
            "^an outcome counts 1 multiply-accumulates and 0",
        ),
        (
            Written(largest=1, saturations=0),
            Counters(host_macs=2),
            "^an outcome counts 0 .* and 2 of the host",
        ),
    ],
)
def test_outcomes_that_no_operation_has_are_refused(written, counters, message):
    call = affine(tensor(0), tensor(1 << 12))
    assert np.prod(call.out.shape) == 1024
    reply = encode_outcomes([(written, counters)], request=b"1234", memory_bytes=5)
    with pytest.raises(WireError, match=message):
        decode_outcomes(reply, [call], request=b"1234")


def test_outcomes_of_other_operations_are_refused():
    memory = AgentMemory(open_resident, most_bytes=ROOM)
    a = tensor(0)
    given = batch(0, put(a, 3), Reduction(u=a, v=a))
    message = encode_batch(given)
    reply = memory.run(given, message)
    with pytest.raises(WireError, match=r"^an outcome of Affine is \[\('int32', 16\)\], must be integers "):
        decode_outcomes(reply, [OPERATIONS["affine"]], request=message)
    with pytest.raises(WireError, match=r"^there are outcomes of 1 operations, must be 2$"):
        decode_outcomes(reply, [given.steps[1]] * 2, request=message)
    with pytest.raises(WireError, match=r"^the outcomes are those of another request$"):
        decode_outcomes(reply, given.steps[1:], request=encode_batch(batch(1)))
    assert encode_outcomes([], request=message, memory_bytes=5)

# SPDX-License-Identifier: Apache-2.0
"""Batches that come again on a board: sent from what was kept, with new values, and exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains import board as board_module
from e2train.devices.chains import convolution as convolution_module
from e2train.devices.chains import known
from e2train.devices.chains.board import BoardResident
from e2train.devices.chains.known import KnownBatches, structure
from e2train.devices.memory import SpecResident
from e2train.devices.protocol import DeviceError, StepLostError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Operation, run_operation
from random_steps import TENSORS, Step, added, run, same
from spec_board import SpecHolder

CONFIG = replace(load_config("zcu104"), engines=3)


def planned(device: BoardResident, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes down how many operations are planned, batch by batch."""
    counts: list[int] = []
    plan = board_module.plan_rounds

    def count(calls: Any, *others: Any, **named: Any) -> Any:
        counts.append(len(calls))
        return plan(calls, *others, **named)

    monkeypatch.setattr(board_module, "plan_rounds", count)
    return counts


def opened(
    monkeypatch: pytest.MonkeyPatch, *, remote: bool, engines: int = 3
) -> tuple[BoardResident, SpecResident]:
    """A device on a board, with packed images and partial sums however small, and the spec."""
    for name in ("packed", "partial_sums"):
        monkeypatch.setattr(f"e2train.devices.chains.{name}._WORTH_BYTES", 0)
    config = replace(CONFIG, engines=engines)
    if engines == 1:  # has fewer parts to add up
        monkeypatch.setattr("e2train.devices.chains.partial_sums._FEWEST", 1)
        config = replace(config, x_depth=64)
    device = BoardResident(SpecHolder(config, remote=remote))  # type: ignore[arg-type]
    spec = SpecResident()
    for each in (device, spec):
        each.reserve(TENSORS)
    return device, spec


@pytest.mark.parametrize(
    ("remote", "engines"),
    [(True, 3), (True, 1), (False, 3)],
    ids=["pynq's client", "pynq's client, one engine", "on the board"],
)
@pytest.mark.parametrize("later", [0, 1, 2])
@pytest.mark.parametrize("number", range(3))
def test_steps_that_come_again_are_exact_and_not_planned(monkeypatch, rng, remote, engines, number, later):
    device, spec = opened(monkeypatch, remote=remote, engines=engines)
    step, counts = Step(rng), planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec, later=later)
    assert len(counts) >= 4
    counts.clear()
    run_batch, adding = device.run_batch, []

    def watched(calls: Sequence[Operation]) -> Any:
        outcomes = run_batch(calls)
        adding.append(added(device))
        return outcomes

    monkeypatch.setattr(device, "run_batch", watched)
    for _ in range(3):
        run(step, device, spec, later=later)
    assert counts == []
    assert any(adding) == (remote and later > 0)  # by the batch that follows, else by a round of their own


@pytest.mark.parametrize(("remote", "engines", "want"), [(False, 3, True), (True, 3, False), (True, 1, True)])
def test_operations_overlap_where_that_is_worth_its_reports(monkeypatch, rng, remote, engines, want):
    device, spec = opened(monkeypatch, remote=remote, engines=engines)
    plan, asked = board_module.plan_rounds, set()

    def watched(*calls: Any, interleave: bool, **named: Any) -> Any:
        asked.add(interleave)
        return plan(*calls, interleave=interleave, **named)

    monkeypatch.setattr(board_module, "plan_rounds", watched)
    run(Step(rng), device, spec)
    assert asked == {want}


def test_the_same_operations_with_and_without_sums_to_add_up(monkeypatch, rng):
    """Operations do not say what is due, nor which half of the memory is next."""
    device, spec = opened(monkeypatch, remote=True)
    step = Step(rng)
    for later in (0, 1, 1, 0, 1, 2, 0, 0, 1, 1, 1, 2, 2, 0, 0, 1):
        run(step, device, spec, later=later)


def test_images_at_another_place(monkeypatch, rng):
    """A larger tensor from the same byte on takes a buffer of its own."""
    device, spec = opened(monkeypatch, remote=True)
    step, counts = Step(rng), planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec)
    counts.clear()
    first = step.x.span.first
    large = DeviceTensor(kind="uint8", C=16, H=32, W=32, offsets=np.array([first], np.int64))
    values = step.values(large)
    for each in (device, spec):
        each.write(large, values)
    for _ in range(5):
        run(step, device, spec)
    assert len(counts) >= 2


def test_what_differs_is_planned(monkeypatch, rng):
    """Other places, and two steps that take turns."""
    device, spec = opened(monkeypatch, remote=True)
    one, counts = Step(rng), planned(device, monkeypatch)
    other = Step(rng)
    for _ in range(4):
        run(one, device, spec)
    counts.clear()
    run(other, device, spec)
    assert len(counts) >= 2
    for _ in range(5):
        run(other, device, spec)
        run(one, device, spec)
    counts.clear()
    for step in (one, other, one, other):
        run(step, device, spec)
    assert counts == []


def test_after_a_failure_all_is_planned_again(monkeypatch, rng):
    device, spec = opened(monkeypatch, remote=True)
    step, counts = Step(rng), planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec)
    counts.clear()
    engine = device._device.board._dmas.engines[1]

    def damaged(words: np.ndarray) -> np.ndarray:
        words = words.copy()
        words[-3] ^= np.uint64(1)
        return words

    monkeypatch.setattr(engine, "damage", damaged)
    with pytest.raises((DeviceError, StepLostError), match="check words"):
        run(step, device, spec)
    assert counts == []
    monkeypatch.undo()
    for name in ("packed", "partial_sums"):
        monkeypatch.setattr(f"e2train.devices.chains.{name}._WORTH_BYTES", 0)
    counts = planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec)
    assert len(counts) >= 4
    counts.clear()
    run(step, device, spec)
    assert counts == []


def test_buffers_that_moved_end_a_step_and_not_in_silence(monkeypatch, rng):
    device, spec = opened(monkeypatch, remote=True)
    step = Step(rng)
    for _ in range(5):
        run(step, device, spec)
    board = device._device.board
    board._sending = board.allocate(board._sending.memory.size)
    with pytest.raises((DeviceError, StepLostError), match="the buffers of the board have moved"):
        run(step, device, spec)
    run(step, device, spec)


def test_parts_of_weights_that_are_equal_by_chance_are_not_taken_for_one(monkeypatch, rng):
    """Engines with other shares cut weights otherwise; of zeros the pieces are alike, and stand once."""
    choose = convolution_module._choose

    def by_samples(part: Any, cfg: Any) -> Any:
        return replace(choose(part, cfg), blocks=1 + part.samples % 2, samples=1)

    monkeypatch.setattr(convolution_module, "_choose", by_samples)
    device, spec = opened(monkeypatch, remote=False)
    step = Step(rng)
    step.samples, step.place, step.channels = 7, 128, 48  # shares of 2, 2 and 3
    x, y = step.tensor("uint8", 48, 4), step.tensor("int8", 48, 4)
    for zero in (True, True, True, False, False, False, False):
        values = step.values(x)
        for each in (device, spec):
            each.write(x, values)
        call = Convolution(
            mode="forward",
            source=x,
            destination=y,
            w=(not zero) * step.weights(48),
            stride=(1, 1),
            padding=(1, 1, 1, 1),
            shift=6,
        )
        ((found, _),) = device.run_batch([call])
        same(found, run_operation(spec, call))
        np.testing.assert_array_equal(device.read(y), spec.read(y))
    counts = planned(device, monkeypatch)
    device.run_batch([call])
    assert counts == []  # known since weights were not zeros any more


def test_coefficients_that_are_equal_by_chance_are_not_taken_for_one(monkeypatch, rng):
    """Chains of two engines begin within an operation, each with other blocks of coefficients."""
    monkeypatch.setattr(board_module, "chain_bytes", lambda config: 2700)
    device, spec = opened(monkeypatch, remote=False)
    offsets = 2048 * np.arange(5)
    u, out = (DeviceTensor(kind="int8", C=1280, H=1, W=1, offsets=start + offsets) for start in (0, 1 << 16))
    ones = np.ones(1280, np.int64)
    device.config = device._sums._config = replace(CONFIG, engines=2)
    for same_everywhere in (True, True, True, False, False, False):
        values = rng.integers(-128, 128, u.shape).astype(np.int8)
        a, b, d = (ones if same_everywhere else rng.integers(-9, 9, 1280) for _ in range(3))
        for each in (device, spec):
            each.write(u, values)
        call = Affine(u=u, out=out, a=a, b=b, d=d, shift=1)
        ((found, _),) = device.run_batch([call])
        same(found, run_operation(spec, call))
        np.testing.assert_array_equal(device.read(out), spec.read(out))


VARIED = {"shift": 3, "a": np.full(16, 9), "b": np.full(16, 9), "d": np.full(16, 9), "dither": 5}
OTHER = {
    "relu": True,
    "ceiling": 100,
    "mask_limit": 100,
    "mask_out": True,
    "sums": True,
    "name": "other",
    "dither": None,
    "v": None,
}


def test_a_structure_is_all_but_values():
    tensor = DeviceTensor(kind="int8", C=16, H=4, W=4, offsets=256 * np.arange(3))
    ones = np.ones(16, np.int64)
    call = Affine(u=tensor, v=tensor, mask=tensor, out=tensor, a=ones, b=ones, d=ones, shift=1, dither=4)
    key = structure([call], 1)
    for name, value in VARIED.items():
        assert structure([replace(call, **{name: value})], 1) == key, name
    others = [structure([replace(call, **{name: value})], 1) for name, value in OTHER.items()]
    moved = replace(tensor, offsets=tensor.offsets[::-1].copy())
    others += [structure([replace(call, **{name: moved})], 1) for name in ("u", "v", "mask", "out")]
    others += [structure([call], 2), structure([call, call], 1), structure([], 1)]
    weights = np.ones((16, 16, 3, 3), np.int8)
    conv = Convolution(
        mode="forward",
        source=tensor,
        destination=tensor,
        w=weights,
        stride=(1, 1),
        padding=(1, 1, 1, 1),
        shift=1,
    )
    assert structure([conv]) == structure([replace(conv, w=2 * weights, shift=5)])
    others += [
        structure([conv], 1),
        structure([replace(conv, w=weights[..., 1:2, 1:2], padding=(0,) * 4)], 1),
    ]
    assert len({key, *others}) == 1 + len(others)


class Sized:
    """A batch that takes so many bytes."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_batches_that_do_not_come_again_make_room(monkeypatch):
    monkeypatch.setattr(known, "_UNUSED_BATCHES", 8)
    batches: Any = KnownBatches(100)
    kept = {}
    for key in (b"a", b"b", b"c"):
        assert not batches.is_worth_keeping(key)
        assert batches.is_worth_keeping(key)
        kept[key] = Sized(45)
        batches.keep(key, kept[key])
    assert [batches.find(key) for key in (b"a", b"b", b"c")] == [kept[b"a"], kept[b"b"], None]
    assert batches.nbytes == 90
    for turn in range(8):
        assert batches.is_worth_keeping(b"c") == (turn > 4)  # it was refused, before any batch was looked for
        assert batches.find(b"b") is kept[b"b"]
    assert batches.is_worth_keeping(b"c")
    batches.keep(b"c", kept[b"c"])
    assert [batches.find(key) for key in (b"a", b"b", b"c")] == [None, kept[b"b"], kept[b"c"]]
    batches.forget()
    assert batches.find(b"b") is None
    assert batches.nbytes == 0
    assert not batches.is_worth_keeping(b"b")


def test_a_batch_that_is_larger_than_all_room_is_not_kept():
    batches: Any = KnownBatches(100)
    batches.keep(b"a", Sized(101))
    assert batches.find(b"a") is None
    batches.keep(b"b", Sized(100))
    assert batches.find(b"b") is not None


def test_without_room_all_is_planned_and_exact(monkeypatch, rng):
    monkeypatch.setattr(board_module, "_KNOWN_BYTES", {True: 0})
    device, spec = opened(monkeypatch, remote=True)
    step, counts = Step(rng), planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec)
    assert len(counts) >= 10

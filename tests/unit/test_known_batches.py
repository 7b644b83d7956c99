# SPDX-License-Identifier: Apache-2.0
"""Batches that come again on a board: sent from what was kept, with new values, and exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from e2train.config import EngineConfig, load_config
from e2train.devices.chains import board as board_module
from e2train.devices.chains import convolution as convolution_module
from e2train.devices.chains import known
from e2train.devices.chains.board import BoardResident
from e2train.devices.chains.known import KnownBatches, structure
from e2train.devices.chains.partial_sums import SumsLater
from e2train.devices.deadline import Deadline
from e2train.devices.memory import SpecResident
from e2train.devices.protocol import DeviceError, StepLostError
from e2train.devices.pynq_board import Board
from e2train.devices.pynq_buffer import Buffer
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Operation,
    Reduction,
    WeightGradient,
    run_operation,
)
from e2train.numerics.elementwise import COEFFICIENT_LIMIT, OFFSET_LIMIT
from e2train.numerics.frames import decode_header, run_transfer
from e2train.numerics.frames.layout import HEADER_WORDS
from e2train.numerics.rounding import DITHER_PHASES
from e2train.packing.descriptors import Chain

CONFIG = replace(load_config("zcu104"), engines=3)
MEMORY, TENSORS = 48 << 20, 1 << 20


class Array(np.ndarray):  # type: ignore[type-arg]
    """Bytes of a board that are here."""

    def flush(self) -> None: ...
    def invalidate(self) -> None: ...
    def freebuffer(self) -> None: ...


class Channel:
    """The words that descriptors mean, in order, each when it is its turn."""

    def __init__(self, memory: np.ndarray, chain: Chain) -> None:
        self.memory = memory
        self.runs: list[tuple[int, int]] = []
        at = chain.first
        while True:
            words = memory[at : at + 64].view(np.uint32)
            assert not words[7], f"the descriptor at {at:#x} is complete already"
            self.runs.append((int(words[2:4].view(np.uint64)[0]), int(words[6]) & (1 << 26) - 1))
            words[7] = 1 << 31
            if at == chain.last:
                break
            at = int(words[:2].view(np.uint64)[0])

    def parts(self, count: int) -> Iterator[np.ndarray]:
        """Places of so many words."""
        left = 8 * count
        while left:
            address, size = self.runs.pop(0)
            if size > left:
                self.runs.insert(0, (address + left, size - left))
            size = min(size, left)
            yield self.memory[address : address + size].view(np.uint64)
            left -= size


class Engine:
    """A DMA with an engine by the spec, frame by frame."""

    def __init__(self, memory: np.ndarray, config: EngineConfig) -> None:
        self.memory, self.config = memory, config
        self.damage: Callable[[np.ndarray], np.ndarray] = lambda words: words

    def starts(self, mm2s: Chain, s2mm: Chain) -> list[Callable[[], None]]:
        return [lambda: self.run(Channel(self.memory, mm2s), Channel(self.memory, s2mm))]

    def run(self, sources: Channel, places: Channel) -> None:
        while True:
            words = np.concatenate(list(sources.parts(HEADER_WORDS)))
            header = decode_header(words)
            rest = list(sources.parts(header.frame_words - HEADER_WORDS))
            words[1] -= np.uint64(header.more)
            words[HEADER_WORDS - 1] -= np.uint64(header.more)
            reply = self.damage(run_transfer(np.concatenate([words, *rest]), self.config))
            done = 0
            for place in places.parts(reply.size):
                place[:] = reply[done : done + place.size]
                done += place.size
            if not header.more:
                break
        assert not sources.runs
        assert not places.runs

    def wait(self) -> None: ...
    def reset(self) -> None: ...


class SpecBoard(Board):
    """A board in this machine's memory."""

    def __init__(self, config: EngineConfig, *, remote: bool) -> None:
        self.calls = 0
        self._remote = remote
        self._deadline = Deadline(60.0)
        self.memory = np.zeros(MEMORY, np.uint8)
        self._dmas = [Engine(self.memory, config) for _ in range(config.engines)]
        self._buffers: list[Buffer] = []
        self._to_look = 0
        self._sending, self._receiving = None, {}
        self._next = 4096

    def free_bytes(self) -> int:
        return MEMORY - self._next

    def allocate(self, nbytes: int) -> Buffer:
        at = self._next
        self._next += -(-nbytes // 4096) * 4096
        if self._next > MEMORY:
            raise DeviceError("the memory is full")
        return Buffer(self.memory[at : at + nbytes].view(Array), at)

    def _answered(self, call: Callable[[], Any], *, calls: int = 0) -> Any:
        return call()

    def _start(self, starts: Sequence[Callable[[], None]]) -> None:
        for start in starts:
            start()


class SpecHolder:
    """What a resident device needs of the one that holds its board."""

    def __init__(self, config: EngineConfig, *, remote: bool) -> None:
        self.config = config
        self.board = SpecBoard(config, remote=remote)

    @contextmanager
    def attended(self) -> Iterator[SpecBoard]:
        yield self.board

    def close(self) -> None: ...


def planned(device: BoardResident, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes down how many operations are planned, batch by batch."""
    counts: list[int] = []
    plan = board_module.plan_rounds

    def count(calls: Any, *others: Any, **named: Any) -> Any:
        counts.append(len(calls))
        return plan(calls, *others, **named)

    monkeypatch.setattr(board_module, "plan_rounds", count)
    return counts


def opened(monkeypatch: pytest.MonkeyPatch, *, remote: bool) -> tuple[BoardResident, SpecResident]:
    """A device on a board, with packed images and partial sums however small, and the spec."""
    for name in ("packed", "partial_sums"):
        monkeypatch.setattr(f"e2train.devices.chains.{name}._WORTH_BYTES", 0)
    device = BoardResident(SpecHolder(CONFIG, remote=remote))  # type: ignore[arg-type]
    spec = SpecResident()
    for each in (device, spec):
        each.reserve(TENSORS)
    return device, spec


class Step:
    """Operations on tensors of random places and sizes, with other values each time."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.waiting: list[tuple[SumsLater, Any]] = []
        self.samples = int(rng.integers(3, 8))  # one for each engine at least
        self.size = 2 * int(rng.integers(2, 4))
        self.channels = int(rng.choice([16, 24, 40]))
        self.stride = int(rng.integers(1, 3))
        self.dithers, self.masks, self.sums, self.per_sample = (bool(each) for each in rng.integers(0, 2, 4))
        self.place = 128 * int(rng.integers(1, 9))
        self.images = self.tensor("int8", 3, self.size)
        self.x = self.tensor("uint8", self.channels, self.size)
        self.first = self.tensor("int8", self.channels, self.size)
        half = -(-self.size // self.stride)
        self.y = self.tensor("int8", self.channels, half)
        self.wide = self.tensor("int16", self.channels, half)
        self.gx = self.tensor("int8", self.channels, self.size)

    def tensor(self, kind: str, channels: int, size: int) -> DeviceTensor:
        each = -(-16 * -(-channels // 16) * size * size * np.dtype(kind).itemsize // 64) * 64 + 64
        offsets = self.place + each * self.rng.permutation(self.samples).astype(np.int64)
        self.place += each * self.samples
        assert self.place < TENSORS
        return DeviceTensor(kind=kind, C=channels, H=size, W=size, offsets=offsets)  # type: ignore[arg-type]

    def values(self, tensor: DeviceTensor) -> np.ndarray:
        info = np.iinfo(tensor.kind)
        return self.rng.integers(info.min, info.max, tensor.shape, endpoint=True).astype(tensor.kind)

    def weights(self, C: int) -> np.ndarray:
        return self.rng.integers(-127, 128, (self.channels, C, 3, 3)).astype(np.int8)

    def coefficients(self, limit: int) -> np.ndarray:
        return self.rng.integers(-limit, limit + 1, self.channels)

    def affine(self, u: DeviceTensor, out: DeviceTensor, **more: Any) -> Affine:
        return Affine(
            u=u,
            out=out,
            a=self.coefficients(COEFFICIENT_LIMIT),
            b=self.coefficients(COEFFICIENT_LIMIT),
            d=self.coefficients(OFFSET_LIMIT),
            shift=int(self.rng.integers(0, 24)),
            dither=int(self.rng.integers(DITHER_PHASES)) if self.dithers else None,
            name="norm",
            **more,
        )

    def operations(self) -> list[Operation]:
        stride, padding = (self.stride, self.stride), (1, 1, 1, 1)
        moved: dict[str, Any] = {"stride": stride, "padding": padding}
        mask = self.x if self.masks else None
        return [
            Convolution(
                mode="forward",
                source=self.images,
                destination=self.first,
                w=self.weights(3),
                stride=(1, 1),
                padding=padding,
                shift=int(self.rng.integers(0, 12)),
                name="stem",
            ),
            Convolution(
                mode="forward",
                source=self.x,
                destination=self.wide,
                w=self.weights(self.channels),
                shift=int(self.rng.integers(0, 9)),
                sums=self.sums,
                name="conv",
                **moved,
            ),
            self.affine(self.wide, self.y, relu=self.masks, sums=self.per_sample),
            Reduction(u=self.y, v=self.wide, per_sample=self.per_sample, name="norm"),
            Convolution(
                mode="grad_input",
                source=self.y,
                destination=self.gx,
                w=self.weights(self.channels),
                shift=int(self.rng.integers(0, 12)),
                name="conv",
                **moved,
            ),
            WeightGradient(x=self.x, gy=self.y, kernel=(3, 3), name="conv", **moved),
            self.affine(self.gx, self.gx, v=self.first, mask=mask, mask_out=self.masks),
        ]


def same(found: Any, want: Any) -> None:
    if isinstance(found, SumsLater):
        found = found.get()
    if isinstance(want, tuple):
        for one, other in zip(found, want, strict=True):
            np.testing.assert_array_equal(one, other)
    elif isinstance(want, np.ndarray):
        np.testing.assert_array_equal(found, want)
    else:
        assert (found.largest, found.saturations) == (want.largest, want.saturations)
        for name in ("sums", "squares"):
            one, other = getattr(found, name, None), getattr(want, name, None)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)


def run(step: Step, device: BoardResident, spec: SpecResident, *, later: int = 0) -> None:
    """One step on both, with new values: the same outcomes and memories.

    Gradients whose sums are still on the board are asked for ``later`` steps later.
    """
    for tensor in (step.images, step.x):
        values = step.values(tensor)
        for each in (device, spec):
            each.write(tensor, values)
    calls = step.operations()
    outcomes = []
    for part in (calls[:3], calls[3:]):
        outcomes += [outcome for outcome, _ in device.run_batch(part)]
    wanted = [run_operation(spec, call) for call in calls]
    for found, want in zip(outcomes, wanted, strict=True):
        if isinstance(found, SumsLater):
            step.waiting.append((found, want))
        else:
            same(found, want)
    while len(step.waiting) > later:
        same(*step.waiting.pop(0))
    for tensor in (step.first, step.wide, step.y, step.gx):
        np.testing.assert_array_equal(device.read(tensor), spec.read(tensor))


def added(device: BoardResident) -> int:
    """Frames by which the last batch added up partial sums."""
    return len(device._sums.added)


@pytest.mark.parametrize("remote", [True, False], ids=["pynq's client", "on the board"])
@pytest.mark.parametrize("later", [0, 1, 2])
@pytest.mark.parametrize("number", range(3))
def test_steps_that_come_again_are_exact_and_not_planned(monkeypatch, rng, remote, number, later):
    device, spec = opened(monkeypatch, remote=remote)
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


def test_the_same_operations_with_and_without_sums_to_add_up(monkeypatch, rng):
    """What is due, and which half of the memory is next, is not told by operations."""
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


def test_after_a_failure_all_is_planned_anew(monkeypatch, rng):
    device, spec = opened(monkeypatch, remote=True)
    step, counts = Step(rng), planned(device, monkeypatch)
    for _ in range(5):
        run(step, device, spec)
    counts.clear()
    engine = device._device.board._dmas[1]

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

    def by_samples(part: Any, cfg: EngineConfig) -> Any:
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

# SPDX-License-Identifier: Apache-2.0
"""Resident operations on the engine's RTL, moved by the simulated DMA; what happens when it fails."""

from __future__ import annotations

import re
from collections.abc import Iterator

import e2train.devices.chains.soc as soc
import numpy as np
import pytest
import resident_cases
from e2hls import HlsError
from e2sim import MemoryTiming
from e2train.config import load_config
from e2train.devices import MODES, DeviceError, open_resident
from e2train.devices.chains.soc import SocResident
from e2train.devices.protocol import ConvShape
from e2train.devices.resident import DeviceTensor, Reduction, run_one_by_one
from e2train.nn.bench import BenchStep
from e2train.runtime.ledger import ELEMENT_MODES
from test_soc import ASSERT, StandIn

PYNQ = load_config("pynq_z2")
FOUR = load_config("zcu104")  # engines


@pytest.fixture(scope="module")
def device() -> Iterator[SocResident]:
    with open_resident("rtl") as opened:
        assert isinstance(opened, SocResident)
        yield opened


@pytest.mark.parametrize("case", resident_cases.CONVOLUTIONS, ids=str)
def test_convolutions_equal_spec(device, case, rng, equals_spec):
    for each in resident_cases.convolutions(case, rng):
        equals_spec(device, each)


def test_element_wise_operations_equal_spec(device, rng, equals_spec):
    for case in resident_cases.AFFINES:
        equals_spec(device, resident_cases.affine(case, rng))
    for case in resident_cases.REDUCTIONS[:-1]:  # the last one is long
        equals_spec(device, resident_cases.reduction(case, rng))


def test_random_operations_equal_spec(device, rng, equals_spec):
    for _ in range(3):
        for each in resident_cases.convolutions(resident_cases.random_convolution(rng), rng):
            equals_spec(device, each)
        equals_spec(device, resident_cases.affine(resident_cases.random_affine(rng), rng))
        equals_spec(device, resident_cases.reduction(resident_cases.random_reduction(rng), rng))


def test_several_engines_equal_spec_and_share_the_work(rng, equals_spec):
    """A fourth of what each of the engines takes for itself, and of the whole for one."""
    case = gradient(rng)
    with SocResident(FOUR) as device, SocResident(FOUR, instances=1) as single:
        for each in resident_cases.convolutions(resident_cases.random_convolution(rng), rng):
            equals_spec(device, each)
        equals_spec(device, resident_cases.affine(resident_cases.random_affine(rng), rng))
        equals_spec(device, resident_cases.reduction(resident_cases.random_reduction(rng), rng))
        equals_spec(device, case)
        together, alone = taken(device, case), taken(single, case)
    assert together is not None
    assert alone is not None
    assert case.call.macs / 1024 < together < 0.35 * alone


def test_operations_that_overlap_equal_spec(equals_spec_together):
    """No frame reads what is not yet written, in a slow memory neither; engines work side by side."""
    slow = MemoryTiming(bytes_per_cycle=3)
    for config, timing, samples in ((PYNQ, None, 14), (PYNQ, slow, 14), (FOUR, None, 32)):
        with SocResident(config, timing=timing) as device:
            calls = equals_spec_together(device, samples)
            together = device.take_counters().cycles
            apart = [counters.cycles for _, counters in run_one_by_one(device, calls)]
            assert None not in apart
            assert timing is slow or 0 < together < 0.9 * sum(apart)  # which waits for memory all the time


def gradient(rng: np.random.Generator) -> resident_cases.Case:
    """A weight gradient of several frames."""
    shape = ConvShape(N=12, C=16, H=16, W=16, K=16, R=3, S=3, padding=(1, 1, 1, 1))
    return resident_cases.weight_gradient(shape, "uint8", "int8", "random", (0, 0), rng)


def taken(device: SocResident, case: resident_cases.Case) -> int | None:
    device.reserve(case.nbytes)
    for tensor, values in case.inputs:
        device.write(tensor, values)
    device.take_counters()
    getattr(device, case.operation)(case.call)
    counters = device.take_counters()
    assert counters.frames > 2
    assert device.take_counters().cycles is None
    return counters.cycles


def test_cycles_are_those_of_the_simulated_hardware(device: SocResident, rng: np.random.Generator) -> None:
    """The same each time, more with less bandwidth, and not fewer than the multipliers need."""
    case = gradient(rng)
    cycles, _, again = (taken(device, case) for _ in range(3))  # of three frames each: the halves of an
    assert cycles == again  # engine's buffers take turns, and every second chain begins with the same one
    assert cycles is not None
    assert cycles > case.call.macs / 256
    assert cycles < 4 * case.call.macs / 256
    with SocResident(PYNQ, timing=MemoryTiming(bytes_per_cycle=2)) as slow:
        slower = taken(slow, case)
    assert slower is not None
    assert slower > cycles


def test_memory_that_grows_is_seen_by_the_simulation(device, rng):
    device.reserve(64)
    place = np.array([9 << 20])
    device.reserve(10 << 20)
    u = DeviceTensor(kind="int16", C=16, H=4, W=4, offsets=place)
    values = rng.integers(-9, 9, u.shape).astype("int16")
    device.write(u, values)
    sums, products = device.reduce(Reduction(u=u, v=u))
    assert sums.tolist() == values.sum(axis=(0, 2, 3)).tolist()
    assert products.tolist() == (values**2).sum(axis=(0, 2, 3)).tolist()


def test_cycles_of_a_step_by_shape_direction_and_kind_of_operation() -> None:
    step = BenchStep("resnet8", PYNQ, batch=1)
    counts: list[int] = []
    with SocResident(PYNQ) as soc:
        ledger, cycles = step.run(soc, counts.append)
    calls = {
        mode: sum(row.calls for row in ledger if row.mode == mode) for mode in (*MODES[:3], *ELEMENT_MODES)
    }
    assert calls == {"forward": 7, "grad_input": 6, "grad_weight": 7, "affine": 18, "reduce": 7, "load": 2}
    assert sum(counts) >= 2 * sum(calls.values())
    rows = step.by_shape(ledger)
    assert cycles is not None
    assert {mode: sum(row.count for row in rows if row.mode == mode) for mode in MODES[:3]} == {
        "forward": 7,
        "grad_input": 6,
        "grad_weight": 7,
    }
    assert sum(row.cycles or 0 for row in rows) == cycles.convolutions
    assert sum(row.macs for row in rows) == 2 * (cycles.convolutions - cycles.idle) * PYNQ.macs_per_cycle
    elements = sum(row.counters.cycles or 0 for row in ledger if row.mode in ("affine", "reduce"))
    assert cycles.apart == cycles.convolutions + elements
    assert cycles.total > cycles.convolutions
    assert cycles.elements_add == pytest.approx(cycles.total / cycles.convolutions - 1)
    for mode in MODES[:3]:
        rest = [row for row in rows if row.mode == mode and not row.first]
        taken = sum(row.cycles or 0 for row in rest)
        assert step.utilisation(ledger, mode) == sum(row.macs for row in rest) / (256 * taken)
        assert 0.5 < sum(row.macs for row in rest) / (256 * taken) < 1


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[SocResident]:
    """A device whose kernel gives back each word, plus one."""
    monkeypatch.setattr(soc, "engine_rtl", lambda kernel: StandIn())
    with SocResident(PYNQ, stall_cycles=2_000) as opened:
        opened.reserve(1 << 16)
        yield opened


def reduction(H: int) -> Reduction:
    u = DeviceTensor(kind="int16", C=16, H=H, W=1, offsets=np.zeros(1, np.int64))
    return Reduction(u=u, v=u, name="conv")


def test_a_kernel_that_answers_otherwise_is_noticed_every_time(stand_in: SocResident) -> None:
    """It gives more words than there is room for, and holds the rest."""
    for _ in range(3):
        message = (
            r"^conv \(reduce\) on rtl: the kernel hangs: no word moved in 2000 cycles, after \d+ in and 33 "
        )
        with pytest.raises(DeviceError, match=message):
            stand_in.reduce(reduction(64))


def test_a_failed_assertion_ends_no_device(stand_in: SocResident) -> None:
    call = reduction(64)
    stand_in.write(call.u, np.zeros(call.u.shape, "int16"))
    words = stand_in._memory[:8].view(np.uint64)
    for word, message in ((ASSERT, "the kernel stopped: .*: assertion failed"), (0, "the kernel hangs")):
        words[0] = word
        with pytest.raises(DeviceError, match=rf"^conv \(reduce\) on rtl: {message}"):
            stand_in.reduce(call)


def test_a_closed_device_says_so(stand_in: SocResident) -> None:
    stand_in.close()
    stand_in.close()
    with pytest.raises(DeviceError, match=r"^device rtl is closed$"):
        stand_in.reserve(64)
    with pytest.raises(DeviceError, match=r"^device rtl is closed$"):
        stand_in.reduce(reduction(1))


def test_a_kernel_that_does_not_build_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kernel: object) -> None:
        raise HlsError("loop 'taps' needs II=2")

    monkeypatch.setattr(soc, "engine_rtl", fail)
    message = "cannot open device rtl for pynq_z2: loop 'taps' needs II=2"
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        open_resident("rtl")

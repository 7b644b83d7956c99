# SPDX-License-Identifier: Apache-2.0
"""A look at a board, and its self-test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from e2train.devices.protocol import MODES, ConvShape, LayerCall, StreamDevice
from e2train.devices.pynq import PynqDevice
from e2train.devices.pynq_board import LOOK_CALLS, ROUND_CALLS
from e2train.devices.spec import SpecDevice
from e2train.energy.meters import find_hwmon
from e2train.numerics.frames import Header, Mode
from e2train.numerics.frames.layout import G_BITS, X_BITS
from e2train.packing import Frame, join_transfer
from e2train.runtime.board_plan import Link
from e2train.runtime.execute import execute

__all__ = ["BoardInfo", "CheckRow", "board_info", "link_of", "run_checks", "step_row"]

_LATENCY_TRANSFERS = 20
_BANDWIDTH_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardInfo:
    """What is connected."""

    board: str
    overlay: str
    simulated: bool
    configuration: str
    engines: int
    lanes: tuple[int, int]
    clock_mhz: float
    sensors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One check and what it found."""

    name: str
    passed: bool
    found: str


def board_info(device: PynqDevice) -> BoardInfo:
    """Ask a board what it is."""
    manifest = device.overlay.manifest
    return BoardInfo(
        board=device.board_name,
        overlay=device.overlay.name,
        simulated=manifest.simulated,
        configuration=manifest.config,
        engines=device.config.engines,
        lanes=(device.config.ic_lanes, device.config.oc_lanes),
        clock_mhz=device.clock_mhz,
        sensors=tuple(sensor.name for sensor in find_hwmon(device.read_file)),
    )


def run_checks(device: PynqDevice, *, seed: int) -> Iterator[CheckRow]:
    """Identification and clock (which opening the device has checked), modes, latency, bandwidth."""
    info = board_info(device)
    engines = f"{info.engines} engine{'s' if info.engines > 1 else ''}"
    found = f"{info.configuration} on {info.board}, {engines}"
    yield CheckRow(name="identification", passed=True, found=found)
    yield CheckRow(name="clock", passed=True, found=f"{info.clock_mhz:g} MHz")
    rng = np.random.default_rng(seed)
    for mode in MODES:
        yield _mode_check(device, mode_call(mode, rng))
    latency_s = _latency_s(device)
    yield CheckRow(name="latency", passed=True, found=f"{1e3 * latency_s:.2f} ms for the smallest transfer")
    yield _bandwidth(device, rng)


def link_of(device: PynqDevice) -> Link:
    """What a call and a byte take to and from a board; on the board itself a call costs next to nothing."""
    rng = np.random.default_rng(1)
    counters = execute(mode_call("forward", rng, _BANDWIDTH_SAMPLES), device).counters
    moved = 8 * (counters.words_in + counters.words_out)
    return Link(
        call_s=_latency_s(device) / (ROUND_CALLS + 1 + LOOK_CALLS),
        bytes_per_s=moved / max(counters.moving_s, 1e-9),
    )


def step_row(name: str, figures: dict[str, float]) -> CheckRow:
    """What a planned step takes, as a row."""
    moved = (figures["sent_bytes"] + figures["received_bytes"]) / 1e6
    found = (
        f"{figures['step_s']:.3g} s planned: {figures['cycles']:,} cycles, {figures['calls']} calls, "
        f"{moved:.2f} MB"
    )
    return CheckRow(name=name, passed=True, found=found)


def mode_call(mode: str, rng: np.random.Generator, samples: int = 2) -> LayerCall:
    """A layer with channels that are no multiple of the lanes, on random operands."""
    shape = ConvShape(N=samples, C=17, H=9, W=8, K=19, R=3, S=3, padding=(1, 1, 1, 1))
    x = rng.integers(0, 256, (samples, 17, 9, 8), np.uint8)
    w = rng.integers(-127, 128, (19, 17, 3, 3), np.int8)
    gy = rng.integers(-(1 << 15), 1 << 15, (samples, 19, 9, 8), np.int16)
    a, b = {"forward": (x, w), "grad_input": (gy, w)}.get(mode, (x, gy))
    kept = {"x_bits": X_BITS, "g_bits": G_BITS} if mode == "grad_msb" else {}
    shift = 9 if mode == "grad_input" else 0
    return LayerCall(mode=mode, shape=shape, a=a, b=b, shift=shift, name="self-test", **kept)  # type: ignore[arg-type]


def _mode_check(device: StreamDevice, call: LayerCall) -> CheckRow:
    got, want = execute(call, device).value, execute(call, SpecDevice(device.config)).value
    wrong = int(np.count_nonzero(got != want))
    found = f"{want.size} elements equal the spec" if not wrong else f"{wrong} of {want.size} elements differ"
    return CheckRow(name=call.mode, passed=not wrong, found=found)


def _latency_s(device: StreamDevice) -> float:
    """Median time of the smallest transfer."""
    cfg = device.config
    header = Header(mode=Mode.IDENTIFY, ic_lanes=cfg.ic_lanes, oc_lanes=cfg.oc_lanes)
    words = join_transfer([Frame(header=header)])
    times = []
    for _ in range(_LATENCY_TRANSFERS):
        begin = time.monotonic()
        device.transfer(words, reply_words=header.reply_words)
        times.append(time.monotonic() - begin)
    return float(np.median(times))


def _bandwidth(device: StreamDevice, rng: np.random.Generator) -> CheckRow:
    """Bytes both ways per second of one large call."""
    counters = execute(mode_call("forward", rng, _BANDWIDTH_SAMPLES), device).counters
    moved = 8 * (counters.words_in + counters.words_out)
    per_s = moved / counters.device_s
    return CheckRow(
        name="bandwidth", passed=True, found=f"{per_s / 1e6:.2f} MB/s over {moved / 1e6:.2f} MB, both ways"
    )

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What predicting signs costs and how often it is right, layer by layer, on operands of a training under way.

A network is trained for some steps on CIFAR-10 on the emulator; the operands of its weight gradients in the
last step then go to a device, once in full precision and once as high bits. Cycles count loads and stores;
compute cycles are the MAC array's iterations. Exit code 1 where high bits take more than 0.52 of the compute
cycles or 0.65 of all cycles of full precision, over all layers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from e2train.config import EngineConfig
from e2train.devices import LayerCall, LayerResult, StreamDevice, open_device
from e2train.devices.emulator import Emulator
from e2train.nn import Group, OffloadContext
from e2train.numerics.psg import Psg, decided, sign
from e2train.runtime import execute, plan
from e2train.train import PRESETS, Session, deterministic, train
from numpy.typing import NDArray

COMPUTE_LIMIT, TOTAL_LIMIT = 0.52, 0.65


@dataclass(slots=True)
class Recorder(Emulator):
    """An emulator that keeps the weight gradients it is asked for."""

    calls: dict[str, LayerCall] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Emulator.__init__(self)

    def compute(self, call: LayerCall) -> LayerResult:
        if call.mode == "grad_weight":
            self.calls[call.name] = call
        return Emulator.compute(self, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer."""

    layer: str
    full_cycles: int
    msb_cycles: int
    resolve_cycles: int  # both passes
    full_compute: int
    msb_compute: int
    decided: float  # shares of the elements
    agree_decided: float
    agree_all: float
    tiles_decided: float  # share of the array's tiles


def recorded(*, data: str, model: str, steps: int, batch: int, seed: int) -> dict[str, LayerCall]:
    """The grad_weight calls of the last of ``steps`` training steps."""
    recorder = Recorder()
    config = PRESETS[f"cifar10-{model}"].changed(
        execution="offload",
        method="smb-int8",
        data=data,
        steps=steps,
        batch=batch,
        seed=seed,
        schedule="cosine",
        lr=0.05,
    )
    with deterministic(config.threads):
        context = OffloadContext(device=recorder)
        for _ in train(Session.start(config, context, context.ledger, Group())):
            pass
    return recorder.calls


def measured(calls: dict[str, LayerCall], device: StreamDevice, psg: Psg, samples: int) -> Iterator[Row]:
    """Every call on the device, cut to its first samples."""
    for call in calls.values():
        x, gy = (np.ascontiguousarray(operand.numpy()[:samples]) for operand in (call.a, call.b))
        full_call = replace(call, a=x, b=gy, shape=replace(call.shape, N=len(x)))
        msb_call = replace(full_call, mode="grad_msb", x_bits=psg.x_bits, g_bits=psg.g_bits)
        full, msb = execute(full_call, device), execute(msb_call, device)
        sure, right = decided(msb.value, psg.beta_q16), sign(msb.value) == sign(full.value)
        full_cycles, msb_cycles = full.counters.cycles or 0, msb.counters.cycles or 0
        yield Row(
            layer=call.name,
            full_cycles=full_cycles,
            msb_cycles=msb_cycles,
            resolve_cycles=msb_cycles + (0 if sure.all() else full_cycles),
            full_compute=iterations(full_call, device.config),
            msb_compute=iterations(msb_call, device.config),
            decided=float(sure.mean()),
            agree_decided=float(right[sure].mean()) if sure.any() else 1.0,
            agree_all=float(right.mean()),
            tiles_decided=tiles_decided(sure, device.config),
        )


def iterations(call: LayerCall, config: EngineConfig) -> int:
    """Cycles in which the MAC array works on the call."""
    return sum(block.header.iterations for block in plan(call, config).blocks)


def tiles_decided(sure: NDArray[np.bool_], config: EngineConfig) -> float:
    """Share of tiles (output lanes x input lanes, one kernel position) all of whose signs are decided."""
    K, C, R, S = sure.shape
    oc, ic = config.oc_lanes, config.ic_lanes
    padded = np.ones((-(-K // oc) * oc, -(-C // ic) * ic, R, S), np.bool_)
    padded[:K, :C] = sure
    tiles = padded.reshape(-1, oc, padded.shape[1] // ic, ic, R, S)
    return float(tiles.all(axis=(1, 3)).mean())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--steps", type=int, default=100, help="training steps before the measurement")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="of the batch, that go to the device")
    parser.add_argument("--device", default="rtl")
    parser.add_argument("--board", default="pynq_z2")
    parser.add_argument("--beta", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON line per layer and one for all")
    options = parser.parse_args()
    if not Path(options.data).is_dir():
        parser.error(f"no folder {options.data}")
    calls = recorded(
        data=options.data, model=options.model, steps=options.steps, batch=options.batch, seed=options.seed
    )
    rows = []
    with open_device(options.device, config=options.board) as device:
        if not isinstance(device, StreamDevice):
            parser.error(f"device {options.device} has no cycles; take rtl")
        if not options.json:
            print(
                "layer                   compute  all   resolve  decided  agree(decided)  agree(all)  tiles"
            )
        for row in measured(calls, device, Psg(mode="resolve", beta=options.beta), options.samples):
            rows.append(row)
            print(json.dumps(asdict(row)) if options.json else line(row.layer, [row]), flush=True)
    print(json.dumps(summary(rows)) if options.json else line("all, by cycles", rows))
    figures = summary(rows)
    return 0 if figures["compute_ratio"] <= COMPUTE_LIMIT and figures["total_ratio"] <= TOTAL_LIMIT else 1


def summary(rows: list[Row]) -> dict[str, float]:
    """Ratios over layers, and shares weighted by the layers' cycles."""
    full, compute = sum(row.full_cycles for row in rows), sum(row.full_compute for row in rows)
    shares = ("decided", "agree_decided", "agree_all", "tiles_decided")
    return {
        "compute_ratio": sum(row.msb_compute for row in rows) / compute,
        "total_ratio": sum(row.msb_cycles for row in rows) / full,
        "resolve_ratio": sum(row.resolve_cycles for row in rows) / full,
        **{key: sum(getattr(row, key) * row.full_cycles for row in rows) / full for key in shares},
    }


def line(name: str, rows: list[Row]) -> str:
    s = summary(rows)
    return (
        f"{name:22} {s['compute_ratio']:8.3f} {s['total_ratio']:6.3f} {s['resolve_ratio']:7.3f} "
        f"{s['decided']:8.1%} {s['agree_decided']:13.1%} {s['agree_all']:12.1%} {s['tiles_decided']:8.1%}"
    )


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training time with and without a power meter that is sampled beside it.

Steps of the same training take turns, with the meter and without, so that other load on the machine falls on
both. The meter reads a file as a board's hwmon sensor does, in the period of such sensors, or faster with
``--period``. Exit code 1 where sampling costs more than ``--limit`` of the training time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from e2train.devices.emulator import Emulator
from e2train.energy import Recorder
from e2train.energy.meters import find_hwmon, read_local_file
from e2train.nn import Group, OffloadContext
from e2train.train import PRESETS, Row, Session, deterministic, train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60, help="of turns (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="in a turn (default: %(default)s)")
    parser.add_argument("--period", type=float, default=0.15, help="seconds (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=0.01, help="share (default: %(default)s)")
    options = parser.parse_args()
    steps = 2 * options.pairs * options.steps + 10
    config = PRESETS["digits"].changed(execution="offload", method="smb-int8", steps=steps)
    context = OffloadContext(device=Emulator())
    seconds: dict[bool, list[float]] = {True: [], False: []}
    samples = 0
    with tempfile.TemporaryDirectory() as folder, deterministic(1):
        meter = replace(find_hwmon(read_local_file, root=sensor(Path(folder)))[0], period_s=options.period)
        rows = train(Session.start(config, context, context.ledger, Group()))
        turn(rows, 10)  # warm up
        for pair in range(options.pairs):
            for sampled in (pair % 2 == 0, pair % 2 == 1):
                recorder = Recorder(meter)
                with recorder if sampled else nullcontext():
                    seconds[sampled].append(turn(rows, options.steps))
                samples += len(recorder.recording().times_s) if sampled else 0
    cost = statistics.median(seconds[True]) / statistics.median(seconds[False]) - 1
    figures = {
        "seconds_with": sum(seconds[True]),
        "seconds_without": sum(seconds[False]),
        "samples": samples,
        "cost": cost,
        "limit": options.limit,
    }
    print(json.dumps(figures))
    return int(cost > options.limit)


def turn(rows: Iterator[Row], steps: int) -> float:
    """Seconds that some steps take."""
    begin = time.perf_counter()
    for _ in range(steps):
        next(rows)
    return time.perf_counter() - begin


def sensor(folder: Path) -> str:
    """A folder like /sys/class/hwmon."""
    chip = folder / "hwmon0"
    chip.mkdir()
    (chip / "name").write_text("ina260_u14\n")
    (chip / "power1_input").write_text("8500000\n")
    return str(folder)


if __name__ == "__main__":
    sys.exit(main())

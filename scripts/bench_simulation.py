#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cycles per second of the simulated SoC and of the verify bench, on the same RTL, and their ratio.

The SoC runs transfers back to back, alone and as the ``rtl`` device runs two of them; the bench runs its
whole list of tests, and its cycles per second are those of the tests alone, start and build not counted.
Exit code 1 where one SoC alone is less than 100 times as fast as the bench.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from e2sim import MemoryTiming, Soc, build_soc
from e2sim.verify import VerifyTarget, run
from e2train.cli.verify import verify_target
from e2train.config import EngineConfig, load_config
from e2train.numerics.frames import Header, Level, Mode
from e2train.packing.frames import Frame, join_transfer
from numpy.typing import NDArray

TARGET_RATIO = 100


def busy_transfer(cfg: EngineConfig) -> tuple[NDArray[np.uint64], int]:
    """A transfer that keeps the MAC array busy: a 3x3 layer on both buffers, reduced over 8 taps."""
    levels = (Level(limit=8, dxa=1, dwa=1), Level(limit=2048, dxa=-6, dwa=-7), *[Level()] * 5)
    header = Header(
        mode=Mode.FORWARD,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        H=16,
        W=16,
        x_count=cfg.x_depth,
        w_count=2 * cfg.oc_lanes * 8,
        levels=levels,
    )
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, header.x_words * 8, dtype=np.uint8)
    w = rng.integers(-127, 128, header.w_words * 8, dtype=np.int8)
    frame = Frame(header=header, x=x, w=w)
    return join_transfer([frame] * 4), 4 * header.reply_words


def soc_speed(target: VerifyTarget, cfg: EngineConfig, seconds: float, *, count: int = 1) -> float:
    """Cycles per second of ``count`` SoCs at once, each over at least ``seconds``."""
    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(lambda _: _one_soc_speed(target, cfg, seconds), range(count)))


def _one_soc_speed(target: VerifyTarget, cfg: EngineConfig, seconds: float) -> float:
    words, reply_words = busy_transfer(cfg)
    with Soc(build_soc(target.design), timing=MemoryTiming()) as soc:
        soc.dma_transfer(words, reply_words=reply_words)
        first, start = soc.cycles, time.perf_counter()
        while time.perf_counter() - start < seconds:
            soc.dma_transfer(words, reply_words=reply_words)
        return (soc.cycles - first) / (time.perf_counter() - start)


def bench_speed(target: VerifyTarget, out: Path) -> float:
    """Cycles per second of the bench over all its tests."""
    report = run([target], out=out)
    return sum(row.cycles for row in report.rows) / sum(row.seconds for row in report.rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", default="pynq_z2", help="configuration in boards.toml")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the SoC runs")
    parser.add_argument("--out", type=Path, default=Path("build/bench_simulation"))
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args()
    cfg = load_config(options.board)
    target = verify_target("engine", cfg)
    soc = soc_speed(target, cfg, options.seconds)
    two = soc_speed(target, cfg, options.seconds, count=2)
    bench = bench_speed(target, options.out)
    ratio = soc / bench
    if options.json:
        figures = {"soc_cycles_per_s": soc, "two_socs_cycles_per_s": two, "bench_cycles_per_s": bench}
        print(json.dumps({"board": cfg.name} | figures | {"ratio": ratio, "two_socs_ratio": two / bench}))
    else:
        print(f"verify bench      {bench:12,.0f} cycles/s")
        print(f"one SoC           {soc:12,.0f} cycles/s, {ratio:.1f} times the bench's")
        print(f"two SoCs at once  {two:12,.0f} cycles/s, {two / bench:.1f} times the bench's")
    return 0 if ratio >= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())

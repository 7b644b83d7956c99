#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train for a limited time, stop by itself, and go on from there at the next call.

For a machine that is there for minutes only: by default E2-Train on ResNet-74 with CUDA, for 13 minutes,
loading and saving included. All that the next call needs is in the folder OUT: copy
it back, and put it there again. The last line on stdout is JSON: the steps of this call, those in all, and
how many more such calls the schedule takes.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from e2train.train import TrainError, find_config
from e2train.train.folder import RunFolder

SAVING_S = 40.0  # kept back for the step under way, the checkpoint, and what starts Python
SETTING = "host=cuda"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", default="cifar10-resnet74", help="(default: %(default)s)")
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, begun or not")
    parser.add_argument("--minutes", type=float, default=13.0, help="of wall time (default: %(default)s)")
    parser.add_argument(
        "--most-mb", type=float, default=16.0, help="largest checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"settings of the run, beside {SETTING}; of a run that was begun, the same again",
    )
    options = parser.parse_args()
    if options.minutes * 60 <= SAVING_S:
        sys.exit(
            f"--minutes must be above {SAVING_S / 60:.2f}, which stopping takes, not {options.minutes:g}"
        )
    try:
        config = find_config(options.preset).set([SETTING]).set(options.set).changed(data=options.data)
    except TrainError as error:
        sys.exit(str(error))
    folder = RunFolder(options.out)
    file = options.out.with_name(f"{options.out.name}.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_toml(), encoding="utf-8")
    before, begun_s = last_step(folder), time.monotonic()
    code = train(file, folder, seconds=options.minutes * 60 - SAVING_S)
    if code:
        sys.exit(f"{folder.path}: the run ended with exit code {code}")
    result = figures(folder, before, time.monotonic() - begun_s)
    print(json.dumps(result))
    if result["checkpoint_mb"] > options.most_mb:
        sys.exit(
            f"{folder.checkpoint} has {result['checkpoint_mb']} MB, more than --most-mb {options.most_mb:g}; "
            "it can be used where it lies"
        )
    return 0


def train(file: Path, folder: RunFolder, *, seconds: float) -> int:
    """Train until the schedule ends or the time is over; the exit code, 0 for a run that was stopped."""
    options = ["--resume"] if folder.checkpoint.exists() else []
    command = [sys.executable, "-m", "e2train", "train", str(file), "--out", str(folder.path), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # it saves, and says how to go on
        return 0 if process.wait() == 130 else process.returncode


def last_step(folder: RunFolder) -> int:
    """The scheduled step that a run has come to."""
    return folder.rows()[-1]["step"] if folder.checkpoint.exists() and folder.rows() else 0


def figures(folder: RunFolder, before: int, seconds: float) -> dict[str, Any]:
    """What a call has come to, and how many like it are left."""
    rows = folder.rows()
    step, steps = (rows[-1]["step"], rows[-1]["steps"]) if rows else (0, 0)
    finished = folder.summary.exists()
    trained = step - before
    return {
        "steps": trained,
        "step": step,
        "of": steps,
        "finished": finished,
        "seconds": round(seconds, 1),
        "calls_left": 0 if finished else -(-(steps - step) // trained) if trained else None,
        "checkpoint_mb": round(folder.checkpoint.stat().st_size / 1e6, 2)
        if folder.checkpoint.exists()
        else 0,
    }


if __name__ == "__main__":
    sys.exit(main())

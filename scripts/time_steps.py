#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Wall time of a scheduled training step of each row of a table, loading and dropped steps included.

A row is measured from where its run with seed 0 under OUT/TABLE ended, 200 steps before the end of its
schedule, since gates learn in the course of a training what to skip; without such a run from the beginning.
Rows are measured one after the other, so nothing else should run on the machine: the load average before
each row is printed. The figures go into OUT/TABLE/step_seconds.json, from which ``reproduce.py`` takes them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from e2train.nn import Group
from e2train.runtime import Ledger
from e2train.train import RunConfig, Session, TrainError, deterministic, open_context, train
from e2train.train.checkpoint import load_checkpoint
from e2train.train.resources import torch_threads
from paper_tables import TABLES, slug
from table_files import STEP_SECONDS

MARGIN = 100  # steps left over, since the steps at the end of a part may all be dropped


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="some of the rows; all by default")
    parser.add_argument("--steps", type=int, default=200, help="scheduled steps (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=20, help="steps before (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    options = parser.parse_args()
    table, out = TABLES[options.table], options.out / options.table
    if unknown := set(options.rows or ()) - set(table.rows):
        sys.exit(f"no rows {', '.join(sorted(unknown))}; there are: {', '.join(table.rows)}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / STEP_SECONDS
    for name in options.rows or table.rows:
        config = table.config(name, {"seed": 0}, data=options.data)
        figures = measure(
            config, out / f"{slug(name)}-seed0/checkpoint.pt", steps=options.steps, warm_up=options.warm_up
        )
        print(f"{name}: {json.dumps(figures)}", flush=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(known | {name: figures}, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(config: RunConfig, checkpoint: Path, *, steps: int, warm_up: int) -> dict[str, Any]:
    """Seconds per scheduled step, and how many steps were executed."""
    load, group = os.getloadavg()[0], Group()
    with deterministic(torch_threads(config)), open_context(config, group) as engine:
        session = Session.start(config, engine, engine.ledger if engine else Ledger(), group)
        needed = steps + warm_up + MARGIN
        if session.steps < needed:
            raise SystemExit(
                f"the schedule has {session.steps} steps, {needed} are needed; use a smaller --steps"
            )
        trained = restored(session, checkpoint, before_end=needed)
        rows = train(session)
        start = session.step
        while session.step - start < warm_up:
            next(rows)
        begin, first, dropped = time.perf_counter(), session.step, session.steps_dropped
        while session.step - first < steps:
            next(rows)
        seconds, scheduled = time.perf_counter() - begin, session.step - first
    executed = scheduled - (session.steps_dropped - dropped)
    share = session.steps / session.scheduled_steps  # fewer steps may stand for dropped ones
    return {
        "s_per_scheduled_step": round(seconds / scheduled * share, 5),
        "s_per_executed_step": round(seconds / executed, 5),
        "scheduled_steps": scheduled,
        "executed_steps": executed,
        "threads": config.threads,
        "trained": trained,
        "load_before": round(load, 2),
    }


def restored(session: Session, checkpoint: Path, *, before_end: int) -> bool:
    """Put a session where a run with the same settings stood, or so many steps before its end."""
    try:
        saved = load_checkpoint(checkpoint, config=session.config)
    except TrainError:
        return False
    session.restore(saved.state)
    session.step = max(0, min(session.step, session.steps - before_end))
    return True


if __name__ == "__main__":
    sys.exit(main())

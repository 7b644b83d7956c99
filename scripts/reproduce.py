#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the rows of one of the paper's tables, and write it as Markdown, JSON and a plot.

Every run is a process of its own under OUT/TABLE/ROW-seedN, one at a time unless --jobs says more; finished
runs are kept, a stopped one goes on where it was. Accuracy is the mean and standard deviation over the
seeds. Computation is MACs x bits x bits / 1024 of all that was executed, the final test apart; energy is
modelled, and its factors by technique are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2train.energy import load_costs
from e2train.train import PRESETS, Record, RunConfig, TrainError, read_config, read_record
from e2train.train.savings import TECHNIQUES, savings
from matplotlib.figure import Figure

BASES = ("smb-fp32", "smb-int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of settings on one preset."""

    preset: str
    common: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]]


PSG_ROWS = {
    f"psg, {mode}": {"method": "psg", "psg_mode": mode} for mode in ("resolve", "sparsify", "predict")
}
TABLES = {
    "small": Table(
        preset="cifar10-resnet14",
        common={"steps": 1000, "batch": 64, "schedule": "cosine", "warmup": 0.05, "threads": 1},
        rows={
            "smb-fp32": {"method": "smb-fp32"},
            "smb-int8": {"method": "smb-int8"},
            **{f"{name}, sign_lr 0.003": row | {"sign_lr": 0.003} for name, row in PSG_ROWS.items()},
            "e2train, sign_lr 0.006": {"method": "e2train", "sign_lr": 0.006},
            "e2train, sign_lr 0.006, 35 % dropped": {
                "method": "e2train",
                "sign_lr": 0.006,
                "smd": 0.35,
                "skip": 0.05,
            },
            "e2train, 8-bit gradients, 12 % dropped, skip 0": {
                "method": "e2train",
                "gradient_bits": 8,
                "psg_g_bits": 8,
                "smd": 0.12,
                "skip": 0.0,
                "gate_weight": 30.0,
            },
        },
    ),
    "cifar10-resnet74": Table(
        preset="cifar10-resnet74",
        rows={
            "smb-fp32": {"method": "smb-fp32"},
            "smb-int8": {"method": "smb-int8"},
            "smb-int8, half the steps": {"method": "smd", "smd_mode": "fewer"},
            "smd": {"method": "smd"},
            "sd": {"method": "sd"},
            "slu": {"method": "slu"},
            "signsgd": {"method": "signsgd"},
            **PSG_ROWS,
            **{f"e2train, skip {skip}": {"method": "e2train", "skip": skip} for skip in (0.2, 0.4, 0.6)},
        },
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="some of the rows; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; 1 by default")
    parser.add_argument("--host", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    options = parser.parse_args()
    table, out = TABLES[options.table], options.out / options.table
    names = options.rows or list(table.rows)
    if unknown := set(names) - set(table.rows):
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are: {', '.join(table.rows)}")
    planned = {
        name: [
            (config(table, name, seed=seed, data=options.data, host=options.host), folder(out, name, seed))
            for seed in range(options.seeds)
        ]
        for name in table.rows
    }
    runs = [planned[name][seed] for seed in range(options.seeds) for name in names]
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        running = [pool.submit(run, *each) for each in runs]
        try:
            for ended in as_completed(running):
                if failure := ended.result():
                    sys.exit(failure)
                write(out, table, planned)
        except KeyboardInterrupt:
            sys.exit("stopped; start again to go on")
        finally:
            pool.shutdown(cancel_futures=True)
    print((out / "table.md").read_text())
    return 0


def config(table: Table, name: str, *, seed: int, data: str, host: str) -> RunConfig:
    """The settings of one run."""
    return PRESETS[table.preset].changed(
        **table.common, **table.rows[name], seed=seed, data=str(Path(data).resolve()), host=host
    )


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{'-'.join(re.findall(r'[a-z0-9.]+', name))}-seed{seed}"


def run(settings: RunConfig, where: Path) -> str | None:
    """Train, unless the very same run is there already; what went wrong, if anything did."""
    if finished(settings, where):
        return None
    begun, file = where / "config.toml", where.parent / f"{where.name}.toml"
    where.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(settings.to_toml(), encoding="utf-8")
    same = begun.exists() and read_config(begun).hash == settings.hash
    options = ["--resume"] if same and (where / "checkpoint.pt").exists() else ["--overwrite"]
    print(f"{where}", flush=True)
    command = [sys.executable, "-m", "e2train", "train", str(file), "--out", str(where), *options]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        return f"{where}: the run ended with exit code {done.returncode}; start again to go on"
    return None


def finished(settings: RunConfig, where: Path) -> Record | None:
    """The run in a folder, if it has ended and was set so."""
    try:
        record = read_record(where)
    except TrainError:
        return None
    return record if record.summary.config_sha256 == settings.hash else None


def write(out: Path, table: Table, planned: dict[str, list[tuple[RunConfig, Path]]]) -> None:
    """The table of all runs that are there."""
    found = {
        name: [record for each in runs if (record := finished(*each)) is not None]
        for name, runs in planned.items()
    }
    rows = [row(name, runs) for name, runs in found.items() if runs]
    (out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    (out / "table.md").write_text(markdown(table, rows), encoding="utf-8")
    plot(rows, out / "table.svg")


def row(name: str, runs: list[Record]) -> dict[str, Any]:
    """One row: means over its seeds."""
    summaries = [run.summary for run in runs]
    saved = [savings(run.config, run.account, load_costs()) for run in runs]
    accuracies = [run.test_accuracy for run in summaries]
    blocks = sum(run.blocks_run + run.blocks_skipped for run in summaries)
    predicted = [run.psg_predicted_fraction for run in summaries if run.psg_predicted_fraction is not None]
    mean = statistics.fmean
    return {
        "row": name,
        "seeds": len(runs),
        "accuracy": mean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "computation_to_smb-fp32": mean(each.computation_of_fp32 for each in saved),
        "computation_to_smb-int8": mean(each.computation_of_int8 for each in saved),
        "energy_of_smb_fp32": mean(each.run.total_j / each.smb_fp32.total_j for each in saved),
        "energy_of_smb_int8": mean(each.run.total_j / each.smb_int8.total_j for each in saved),
        "energy_factors": {
            technique: mean(each.factors[technique] for each in saved) for technique in TECHNIQUES
        },
        "steps_run": mean(run.steps_run for run in summaries),
        "blocks_skipped": sum(run.blocks_skipped for run in summaries) / blocks,
        "predicted": mean(predicted) if predicted else None,
        "wall_s": mean(run.wall_s for run in summaries),
    }


def markdown(table: Table, rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    common = ", ".join(f"{key} {value}" for key, value in table.common.items()) or "its own settings"
    lines = [
        f"{table.preset}, {common}.",
        "",
        "| | accuracy | seeds | computation to fp32 | to int8 | modelled energy of fp32 | of int8 | steps "
        "| blocks skipped | predicted | time |",
        f"| --- {'| ---: ' * 10}|",
    ]
    for r in rows:
        deviation = "" if r["deviation"] is None else f" ± {100 * r['deviation']:.2f}"
        shares = [percent(r[f"computation_to_{base}"]) for base in BASES]
        shares += [percent(r[f"energy_of_{base.replace('-', '_')}"]) for base in BASES]
        lines.append(
            f"| {r['row']} | {100 * r['accuracy']:.2f}{deviation} % | {r['seeds']} | {' | '.join(shares)} | "
            f"{r['steps_run']:.0f} | {percent(r['blocks_skipped'])} | {percent(r['predicted'])} | "
            f"{r['wall_s']:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against computation."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for r in rows:
        computed, deviation = r["computation_to_smb-int8"], r["deviation"] or 0
        axes.errorbar(computed, 100 * r["accuracy"], 100 * deviation, marker="o", label=r["row"])
    axes.set_xscale("log")
    axes.set_xlabel("computation of the training, relative to smb-int8")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""What ``reproduce.py`` writes of runs: tables as JSON and Markdown, and a plot.

The JSON keeps a record of each run, from which the row is written again where the run's folder is gone.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2train.energy import load_costs
from e2train.train import PRESETS, FinishedRun, RunConfig, TrainError, read_run
from e2train.train.presets import METHODS
from e2train.train.savings import TECHNIQUES, savings
from matplotlib import rc_context
from matplotlib.figure import Figure
from paper_tables import Table, slug

__all__ = [
    "STEP_SECONDS",
    "Record",
    "is_priced_alike",
    "read_records",
    "record",
    "write_choices",
    "write_table",
]

Record = dict[str, Any]

BASES = ("smb-fp32", "smb-int8")
STEP_SECONDS = "step_seconds.json"  # as time_steps.py leaves it beside the table
_OTHERS = "other_runs.json"  # records of runs that no row of the table asks for any more
CLAIMS = {  # of the paper, about ResNet-74 on CIFAR-10: energy saved and points of accuracy lost
    "the paper's claim: 90 % saved, 2 points lost": (0.9, 2.0),
    "the paper's claim: 60 % saved, 1.2 points lost": (0.6, 1.2),
}
_ELSEWHERE = ("data", "data_sha256", "seed", "steps", "validation", "host")  # shown elsewhere, or not chosen
_BEST = {None: "", True: ", the best", False: ", another was best"}
TICKS = (5, 10, 20, 40, 60, 100)
MARKERS = "osD^v<>p"


def record(run: FinishedRun) -> Record:
    """What a table keeps of a run."""
    summary = run.summary
    saved = savings(run.config, run.ledger, load_costs())
    kept = (
        "seed",
        "accuracy",
        "weights_sha256",
        "state_sha256",
        "config_sha256",
        "saturated_share",
        "wall_s",
    )
    counted = ("steps_run", "psg_predicted_fraction")
    return {
        **{key: getattr(summary, key) for key in (*kept, *counted)},
        "host": run.config.host,
        "threads": run.config.threads,
        "data_sha256": run.config.data_sha256,
        "costs_sha256": _costs_sha256(),
        "blocks_skipped": summary.blocks_skipped / (summary.blocks_run + summary.blocks_skipped or 1),
        "computation_to_smb-fp32": saved.computation_of_fp32,
        "computation_to_smb-int8": saved.computation_of_int8,
        "energy_of_smb_fp32": saved.run.total_j / saved.smb_fp32.total_j,
        "energy_of_smb_int8": saved.run.total_j / saved.smb_int8.total_j,
        "energy_factors": {technique: saved.factors[technique] for technique in TECHNIQUES},
    }


def read_records(out: Path) -> list[Record]:
    """The records of a table that was written before."""
    path = out / "table.json"
    records: list[Record] = [one for row in _read_list(path) for one in row.get("runs", [])]
    records += _read_list(out / _OTHERS)
    if left_out := sum(not is_priced_alike(one) for one in records):
        print(f"{path}: {left_out} runs are priced by other costs and count only by folder", file=sys.stderr)
    return records


def is_priced_alike(one: Record) -> bool:
    """Whether the energy of a record is by the costs of today."""
    return bool(one.get("costs_sha256") == _costs_sha256())


def _read_list(path: Path) -> list[Any]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _costs_sha256() -> str:
    return hashlib.sha256(repr(load_costs()).encode()).hexdigest()


def write_table(
    out: Path,
    table: Table,
    found: Mapping[str, Sequence[Record]],
    *,
    choices: Path,
    others: Sequence[Record] = (),
) -> None:
    """Write the rows that have records, and keep the ``others``.

    ``choices`` is the folder of runs that settings were chosen by.
    """
    rows = [_row(name, records) for name, records in found.items() if records]
    tried = _read_choices(choices, table)
    timed = out / STEP_SECONDS
    seconds = json.loads(timed.read_text(encoding="utf-8")) if timed.exists() else {}
    for row in rows:
        config = table.config(row["row"], {}, data="")
        own = [choice for choice in tried if choice["row"] == slug(row["row"])]
        row["settings"] = dict(table.rows[row["row"]].settings)
        row["tried"], row["best_tried"] = len(own), _is_best(config, own)
        row["s_per_step"] = _seconds(config, seconds.get(row["row"]), steps_run=row["steps_run"])
    (out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if others or (out / _OTHERS).exists():
        (out / _OTHERS).write_text(json.dumps(list(others), indent=2) + "\n", encoding="utf-8")
    shared = {key: value for key, value in table.shared.items() if key != "threads"}  # a run's own are noted
    text = (
        f"{table.preset}, and where a row's own settings do not say otherwise: {_told(shared)}.\n\n"
        f"{_how_chosen(tried)}\n\n"
    )
    (out / "table.md").write_text(text + _markdown(rows), encoding="utf-8")
    _plot(rows, out / "table.svg")


def write_choices(choices: Path, table: Table) -> str:
    """Write what was tried on held-out images, the best of each row first, and return the Markdown."""
    tried = _read_choices(choices, table)
    lines = [
        f"{table.preset}: accuracy on training images that were held out, after so many steps.",
        "",
        "| row | settings | steps | validation accuracy | modelled energy of fp32 |",
        f"| --- | --- {'| ---: ' * 3}|",
    ]
    for one in tried:
        lines.append(
            f"| {one['row']} | {_told(one['settings'])} | {one['steps']} | "
            f"{100 * one['validation_accuracy']:.2f} % | {_percent(one['energy_of_smb_fp32'])} |"
        )
    text = "\n".join(lines) + "\n"
    choices.parent.mkdir(parents=True, exist_ok=True)
    (choices.parent / "choices.json").write_text(json.dumps(tried, indent=2) + "\n", encoding="utf-8")
    (choices.parent / "choices.md").write_text(text, encoding="utf-8")
    return text


def _row(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """One row: means over its seeds."""

    def mean(key: str) -> float:
        return statistics.fmean(each[key] for each in records)

    accuracies = [each["accuracy"] for each in records]
    predicted = [share for each in records if (share := each["psg_predicted_fraction"]) is not None]
    shares = [f"computation_to_{base}" for base in BASES]
    shares += [f"energy_of_{base.replace('-', '_')}" for base in BASES]
    return {
        "row": name,
        "seeds": len(records),
        "accuracy": mean("accuracy"),
        "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        **{key: mean(key) for key in shares},
        "energy_factors": {
            technique: statistics.fmean(each["energy_factors"][technique] for each in records)
            for technique in TECHNIQUES
        },
        "steps_run": mean("steps_run"),
        "blocks_skipped": mean("blocks_skipped"),
        "predicted": statistics.fmean(predicted) if predicted else None,
        "wall_s": mean("wall_s"),
        "runs": list(records),
    }


def _read_choices(choices: Path, table: Table) -> list[dict[str, Any]]:
    """The finished runs with a validation share in ROW/RUN folders, the best of each row first.

    Those that were listed before are kept, also where their folders are gone.
    """
    common = asdict(PRESETS[table.preset].changed(**table.common))
    tried, settings = [], []
    for folder in sorted(choices.glob("*/*/")):
        try:
            record = read_run(folder)
        except TrainError:  # not finished, or not yet
            continue
        summary = record.summary
        if summary.validation_accuracy is None:
            continue
        settings.append(asdict(record.config))
        tried.append(
            {
                "row": folder.parent.name,
                "config_sha256": record.config.hash,
                "steps": record.config.steps,
                "validation": record.config.validation,
                "validation_accuracy": summary.validation_accuracy,
                "energy_of_smb_fp32": summary.energy_of_smb_fp32,
            }
        )
    shown = [key for key in common if key not in _ELSEWHERE and any(s[key] != common[key] for s in settings)]
    for one, values in zip(tried, settings, strict=True):
        one["settings"] = {key: values[key] for key in shown}
    listed = choices.parent / "choices.json"
    before = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    tried += [one for one in before if not any(_same_choice(one, other) for other in tried)]
    return sorted(tried, key=lambda one: (one["row"], -one["validation_accuracy"]))


def _same_choice(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two choices are of one run; those from before they had hashes, of equal settings."""
    if "config_sha256" in one and "config_sha256" in other:
        return bool(one["row"] == other["row"] and one["config_sha256"] == other["config_sha256"])
    if any(one[key] != other[key] for key in ("row", "steps", "validation_accuracy")):
        return False
    mine, others = one["settings"], other["settings"]
    return all(mine[key] == others[key] for key in mine.keys() & others.keys())


def _is_best(config: RunConfig, tried: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether a row has the best of the settings tried with most steps; None where there are not two."""
    longest = [one for one in tried if one["steps"] == max(each["steps"] for each in tried)]
    if len(longest) < 2:
        return None
    best, own = max(longest, key=lambda one: float(one["validation_accuracy"])), asdict(config)
    return all(own[key] == value for key, value in best["settings"].items() if key not in _ELSEWHERE)


def _seconds(config: RunConfig, timed: Mapping[str, Any] | None, *, steps_run: float) -> float | None:
    """Seconds of a scheduled step: those of an executed one by the share of the schedule that was executed.

    None where nothing was measured, or gates that have not learnt yet what to skip.
    """
    gated = METHODS[config.method].skips == "by gate" and config.skip > 0
    if timed is None or (gated and not timed["trained"]):
        return None
    return float(timed["s_per_executed_step"] * steps_run / config.steps)


def _how_chosen(tried: Sequence[Mapping[str, Any]]) -> str:
    if not tried:
        return "No settings were tried on held-out images."
    shares, steps = (sorted({one[key] for one in tried}) for key in ("validation", "steps"))
    return (
        f"Settings were compared by the accuracy on a share ({_listed(shares)}) of the training images, held "
        f"out for this, not by test accuracy: {len(tried)} runs of {_listed(steps)} steps, listed in "
        "`choices.md`. `settings tried` counts those of a row, and says whether its settings are the best of "
        "those with most steps."
    )


def _markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table as text."""
    lines = [
        "| | accuracy | seeds | settings tried | computation to fp32 | to int8 | modelled energy of fp32 "
        "| of int8 | steps | blocks skipped | predicted | s per scheduled step, alone | computed with "
        "| settings |",
        f"| --- {'| ---: ' * 11}| --- | --- |",
    ]
    for r in rows:
        deviation = "" if r["deviation"] is None else f" ± {100 * r['deviation']:.2f}"
        shares = [_percent(r[f"computation_to_{base}"]) for base in BASES]
        shares += [_percent(r[f"energy_of_{base.replace('-', '_')}"]) for base in BASES]
        timed = "-" if r["s_per_step"] is None else f"{r['s_per_step']:.3f}"
        tried = f"{r['tried']}{_BEST[r['best_tried']]}"
        lines.append(
            f"| {r['row']} | {100 * r['accuracy']:.2f}{deviation} % | {r['seeds']} | {tried} | "
            f"{' | '.join(shares)} | {r['steps_run']:.0f} | {_percent(r['blocks_skipped'])} | "
            f"{_percent(r['predicted'])} | {timed} | {_computed(r['runs'])} | {_told(r['settings'])} |"
        )
    return "\n".join(lines) + "\n"


def _computed(runs: Iterable[Record]) -> str:
    """What runs were computed with."""

    def named(one: Record) -> str:
        if one["host"] != "cpu":
            return str(one["host"])
        return f"{one['threads']} thread{'s' * (one['threads'] > 1)}"

    return _listed(sorted(set(map(named, runs))))


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Accuracy against modelled energy; what lies above and left of a line meets that claim."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for index, r in enumerate(rows):
        axes.errorbar(
            100 * r["energy_of_smb_fp32"],
            100 * r["accuracy"],
            100 * (r["deviation"] or 0),
            color=f"C{index % 10}",
            marker=MARKERS[index // 10 % len(MARKERS)],
            capsize=3,
            linestyle="none",
            label=r["row"] if r["seeds"] > 1 else f"{r['row']} (one seed)",
        )
    axes.set_xscale("log")
    left, top = axes.get_xlim()[0], axes.get_ylim()[1]
    base = next((100 * r["accuracy"] for r in rows if r["row"] == "smb-fp32"), None)
    for (label, (saved, lost)), style in zip(CLAIMS.items(), ("--", ":"), strict=True):
        if base is not None:
            share = 100 * (1 - saved)
            lowest = min(left, share / 2)
            axes.plot([lowest, share, share], [base - lost, base - lost, top], style, color="k", label=label)
    axes.set_xticks(TICKS, [f"{tick} %" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("modelled energy of the training, of smb-fp32")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="x-small", frameon=False)
    with rc_context({"svg.hashsalt": path.parent.name}):  # the same file from the same rows
        figure.savefig(path, metadata={"Date": None})


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"

# SPDX-License-Identifier: Apache-2.0
"""A report of one or several runs, as HTML, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from e2train.energy import CostTable
from e2train.train.files import write_atomically
from e2train.train.finished_run import FinishedRun, differences
from e2train.train.report import charts
from e2train.train.report.figures import RunFigures, run_figures
from e2train.train.savings import TECHNIQUES

__all__ = ["render_report", "write_reports"]

_NOTHING = "\N{EN DASH}"
_TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_report(finished: Sequence[FinishedRun], table: CostTable) -> str:
    """The HTML text."""
    runs = _labelled(finished, table)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "figures": _three_figures, "percent": _percent}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    presets = sorted({run.finished.summary.preset for run in runs})
    with charts.styled():
        return _rendered(template, runs, table, presets)


def _rendered(
    template: jinja2.Template, runs: Sequence[RunFigures], table: CostTable, presets: Sequence[str]
) -> str:
    """The page with its charts."""
    return template.render(
        title=", ".join(presets),
        runs=runs,
        table=table,
        techniques=TECHNIQUES,
        kinds=charts.KINDS,
        tested=charts.tested(runs),
        energy_j=charts.energy_j,
        curves=charts.curves(runs),
        differences=differences([run.finished for run in runs]),
        accuracy_energy=charts.accuracy_energy(runs),
        by_technique=charts.techniques(runs),
        block_skips=charts.block_skips(runs) if _any_skips(runs) else "",
        layer_charts=[_layer_charts(run) for run in runs],
        confusions=[_confusion_chart(run) for run in runs],
        power_charts=[_power_chart(run) for run in runs],
        settings=[asdict(run.finished.config) for run in runs],
    )


def write_reports(finished: Sequence[FinishedRun], table: CostTable, folder: Path) -> Path:
    """Write report.html, report.json and report.csv, and return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = _labelled(finished, table)
    write_atomically(folder / "report.json", json.dumps([_for_json(run) for run in runs], indent=1) + "\n")
    write_atomically(folder / "report.csv", _csv(runs))
    path = folder / "report.html"
    write_atomically(path, render_report(finished, table))
    return path


def _labelled(finished: Sequence[FinishedRun], table: CostTable) -> list[RunFigures]:
    """Labels that tell the runs apart: with the preset, seed or folder where the method does not."""
    labels = [each.label for each in finished]
    for more in (lambda s: s.preset, lambda s: f"seed {s.seed}", lambda s: s.out):
        times = Counter(labels)
        labels = [
            f"{label}, {more(each.summary)}" if times[label] > 1 else label
            for label, each in zip(labels, finished, strict=True)
        ]
    times = Counter(labels)
    labels = [f"{label} ({number})" if times[label] > 1 else label for number, label in enumerate(labels, 1)]
    return [run_figures(each, label, table) for each, label in zip(finished, labels, strict=True)]


def _any_skips(runs: Sequence[RunFigures]) -> bool:
    return any(run.finished.summary.blocks_skipped for run in runs)


def _layer_charts(run: RunFigures) -> dict[str, str]:
    """Captions and charts of one run's layers."""
    on_device = [row for row in run.layers if not row.on_host]
    found = {
        "Modelled energy by layer": charts.layer_bars(
            run.layers, lambda row: 1e3 * row.modelled.total_j, "modelled energy, mJ"
        )
    }
    if any(row.cycles for row in on_device):
        found["Cycles by layer"] = charts.layer_bars(
            on_device, lambda row: (row.cycles or 0) / 1e6, "million cycles"
        )
        found["How busy the multipliers were"] = charts.layer_bars(
            on_device, lambda row: 100 * (row.utilisation or 0.0), "utilisation, %", stacked=False
        )
    if any(row.predicted for row in on_device):
        signed = {row.layer for row in on_device if row.predicted is not None}
        found["Signs that high bits decided"] = charts.layer_bars(
            [row for row in on_device if row.layer in signed],
            lambda row: 100 * (row.predicted or 0.0),
            "predicted signs, %",
        )
    return found


def _confusion_chart(run: RunFigures) -> str:
    evaluation = run.finished.evaluation
    return "" if evaluation is None else charts.confusion(evaluation)


def _power_chart(run: RunFigures) -> str:
    samples, origin = run.finished.power, run.finished.summary.energy_origin
    return "" if samples is None or origin is None else charts.power(samples, origin)


def _for_json(run: RunFigures) -> dict[str, Any]:
    """A run's figures for JSON."""
    saved = run.savings
    steps = zip(TECHNIQUES, saved.after, strict=True)
    return {
        "label": run.label,
        "summary": asdict(run.finished.summary),
        "modelled": {
            "smb_fp32_j": saved.smb_fp32.total_j,
            "smb_int8_j": saved.smb_int8.total_j,
            "run_j": saved.run.total_j,
            "run": asdict(saved.run),
            "after_j": {technique: step.total_j for technique, step in steps},
            "factors": saved.factors,
            "computation_of_fp32": saved.computation_of_fp32,
            "computation_of_int8": saved.computation_of_int8,
        },
        "layers": [asdict(row) | {"modelled_j": row.modelled.total_j} for row in run.layers],
    }


def _csv(runs: Sequence[RunFigures]) -> str:
    """One line per run, layer and direction."""
    columns = (
        "layer", "direction", "on_host", "calls", "macs", "cycles", "utilisation", "saturations", "predicted",
    )  # fmt: skip
    parts = ("arithmetic_j", "sram_j", "dram_j")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", *columns, *(f"modelled_{part}" for part in parts)])
    for run in runs:
        for row in run.layers:
            values = [getattr(row, column) for column in columns]
            writer.writerow([run.label, *values, *(getattr(row.modelled, part) for part in parts)])
    return buffer.getvalue()


def _count(value: int | None) -> str:
    return _NOTHING if value is None else f"{value:,}"


def _three_figures(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.1f} %"

# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from e2train.devices.protocol import MODES
from e2train.runtime import LedgerRow
from e2train.train.config import RunConfig
from e2train.train.folder import Summary

__all__ = ["render_report"]

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_COLOURS = {"forward": "#4477aa", "grad_input": "#66ccee", "grad_weight": "#ee6677", "grad_msb": "#ccbb44"}


def render_report(
    config: RunConfig, summary: Summary, steps: list[dict[str, Any]], ledger: Sequence[LedgerRow]
) -> str:
    """The HTML text: learning curves, where the cycles went, settings and hashes."""
    mpl.rcParams.update({"svg.hashsalt": "e2train", "svg.fonttype": "none", "font.family": "sans-serif"})
    measured = summary.cycles is not None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        config=asdict(config),
        summary=asdict(summary),
        curves=_curves(steps, summary.test_accuracy),
        costs=_costs(ledger, cycles=measured) if summary.macs else "",
        unit="cycles" if measured else "MACs",
        ledger=ledger,
    )


def _curves(steps: list[dict[str, Any]], test_accuracy: float) -> str:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    number = [row["step"] for row in steps]
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        values = [row[key] for row in steps]
        axes.plot(number, values, color="#cccccc", linewidth=0.8, label="each batch")
        axes.plot(number, _smooth(values), color="#4477aa", label="running mean")
        axes.set_xlabel("step")
        axes.set_ylabel(f"training {key}")
    loss.set_ylim(bottom=0)
    accuracy.axhline(
        test_accuracy, color="#ee6677", linestyle="--", label=f"test, at the end: {test_accuracy:.1%}"
    )
    accuracy.legend(loc="lower right")
    return _svg(figure)


def _costs(ledger: Sequence[LedgerRow], *, cycles: bool) -> str:
    layers = list(dict.fromkeys(row.name for row in ledger))
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(layers)), layout="constrained")
    axes = figure.subplots()
    left = dict.fromkeys(layers, 0.0)
    for mode in MODES:
        cost = {row.name: _cost(row, cycles) / 1e6 for row in ledger if row.mode == mode}
        widths = [cost.get(layer, 0.0) for layer in layers]
        axes.barh(layers, widths, left=list(left.values()), color=_COLOURS[mode], label=mode)
        left = {layer: left[layer] + width for layer, width in zip(layers, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("million cycles" if cycles else "million multiply-accumulates (the device has no clock)")
    figure.legend(loc="outside upper right", ncols=len(MODES))
    return _svg(figure)


def _cost(row: LedgerRow, cycles: bool) -> int:
    return (row.counters.cycles or 0) if cycles else row.counters.macs


def _smooth(values: list[float], weight: float = 0.2) -> list[float]:
    smoothed, mean = [], values[0] if values else 0.0
    for value in values:
        mean += weight * (value - mean)
        smoothed.append(mean)
    return smoothed


def _svg(figure: Figure) -> str:
    """The figure as an SVG element, the same for the same run."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

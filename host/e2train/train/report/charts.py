# SPDX-License-Identifier: Apache-2.0
"""The charts of a report, as SVG elements."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from e2train.devices import MODES
from e2train.runtime import ELEMENT_MODES
from e2train.train.evaluation import Evaluation
from e2train.train.finished_run import PowerSamples
from e2train.train.report.figures import LayerRow, RunFigures

__all__ = [
    "KINDS",
    "accuracy_energy",
    "block_skips",
    "confusion",
    "curves",
    "layer_bars",
    "net_savings",
    "power",
    "styled",
    "techniques",
    "tested",
]

# Kinds of energy, which never share a column, an axis or a colour.
KINDS = {"modelled": "#4477aa", "simulated": "#b8860b", "measured": "#228833"}
_RUNS = ("#332288", "#cc6677", "#117733", "#ddaa33", "#882255", "#44aa99", "#999933", "#aa4499", "#888888")
_DIRECTIONS = dict(
    zip(
        (*MODES, *ELEMENT_MODES),
        ("#4477aa", "#66ccee", "#ee6677", "#ccbb44", "#228833", "#aa3377", "#bbbbbb"),
        strict=True,
    )
)
_TECHNIQUES = {
    "widths": ("#bbccee", "narrow operands"),
    "smd": ("#cceeff", "dropped batches"),
    "slu": ("#ccddaa", "skipped layers"),
    "psg": ("#eeeebb", "predicted signs"),
}
_PARTS = {"arithmetic_j": "#4477aa", "sram_j": "#7799cc", "dram_j": "#aabbdd"}
_FONT, _POINTS = "sans-serif", 10.0
_STYLE = {
    "svg.hashsalt": "e2train",
    "svg.fonttype": "none",
    "font.family": _FONT,
    "font.size": _POINTS,
    "text.parse_math": False,  # names of classes and folders may have dollars
}
_WIDTH = 7.2
_MOST_STEPS = 1000  # points of a curve
_MOST_NAMES = 40  # of classes that have room beside a chart
_MOST_COUNTS = 20  # classes whose counts have room in it
_LINE = 0.21  # inches of a line of text
_MOST_LETTERS = (28, 40)  # of a name beside an axis; where they would be alike
_AXIS = 0.55  # inches that numbers and a label take below or beside an axis
_PATCH = 0.7  # inches of a legend beside its words


def curves(runs: Sequence[RunFigures]) -> str:
    """Training loss and accuracy of all runs, smoothed; the accuracy tested in the end as a dot."""
    labels = _short([run.label for run in runs])
    figure = _figure(2.9, left=0.75, legend=labels)
    loss, accuracy = figure.subplots(1, 2, gridspec_kw={"wspace": 0.28})
    for run, colour, label in zip(runs, _colours(runs), labels, strict=True):
        steps = run.finished.steps
        every = -(-len(steps) // _MOST_STEPS) or 1
        number = [row["step"] for row in steps]
        for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
            smooth = _smooth([row[key] for row in steps])
            axes.plot(number[::every], smooth[::every], color=colour, label=label, linewidth=1.2)
        if number:
            accuracy.plot([number[-1]], [run.finished.summary.accuracy], "o", color=colour, markersize=5)
    for axes, key in ((loss, "loss"), (accuracy, f"accuracy; dots: {tested(runs)}")):
        axes.set_xlabel("scheduled step")
        axes.set_ylabel(f"training {key}")
    loss.set_ylim(bottom=0)
    _legend(figure, loss)
    return _svg(figure)


def accuracy_energy(runs: Sequence[RunFigures]) -> str:
    """Accuracy against energy, one panel for each kind of energy that some run has."""
    kinds = [kind for kind in KINDS if any(energy_j(run, kind) is not None for run in runs)]
    figure = _figure(3.2, left=0.75)
    panels = figure.subplots(1, len(kinds), squeeze=False, gridspec_kw={"wspace": 0.28})[0]
    labels = _short([run.label for run in runs])
    for axes, kind in zip(panels, kinds, strict=True):
        energies = [energy_j(run, kind) for run in runs]
        most = max(energy or 0.0 for energy in energies)
        for run, energy, label in zip(runs, energies, labels, strict=True):
            if energy is not None:
                at = (energy, 100 * run.finished.summary.accuracy)
                axes.plot(*at, "o", color=KINDS[kind], markersize=7)
                side = "left" if 2 * energy < most else "right"  # of the point, where there is room
                axes.annotate(label, at, xytext=(0, 6), textcoords="offset points", fontsize=8, ha=side)
        axes.margins(x=0.05, y=0.25)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{kind} energy of the training, J")
        axes.set_ylabel(f"{tested(runs)} accuracy, %")
        axes.grid(alpha=0.3)
    return _svg(figure)


def techniques(runs: Sequence[RunFigures]) -> str:
    """Modelled energy as a share of float32 SMB: what is left, by where it goes, and what saved the rest."""
    labels = _short([run.label for run in runs])
    spent = {part: f"spent: {part[:-2].upper() if 'ram' in part else part[:-2]}" for part in _PARTS}
    saved_by = [f"saved: {name}" for _, name in _TECHNIQUES.values()]
    figure = _figure(1.2 + 0.42 * len(runs), left=_beside(labels), legend=[*spent.values(), *saved_by])
    axes = figure.subplots()
    left = np.zeros(len(runs))

    def bar(values: list[float], colour: str, label: str, **style: Any) -> None:
        nonlocal left
        shares = 100 * np.array(values) / np.array([run.savings.smb_fp32.total_j for run in runs])
        axes.barh(range(len(runs)), shares, left=left, color=colour, label=label, **style)
        left = left + shares

    for part, colour in _PARTS.items():
        bar([getattr(run.savings.run, part) for run in runs], colour, spent[part])
    chains = [[step.total_j for step in (run.savings.smb_fp32, *run.savings.after)] for run in runs]
    saved = [net_savings(chain) for chain in chains]
    for index, (colour, _) in reversed(list(enumerate(_TECHNIQUES.values()))):
        values = [of_run[index] for of_run in saved]
        bar(values, colour, saved_by[index], hatch="//", edgecolor="white", linewidth=0)
    axes.axvline(100, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(runs)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("modelled energy, % of float32")
    _legend(figure, axes)
    return _svg(figure)


def net_savings(energies: Sequence[float]) -> list[float]:
    """What each step of a chain of energies saves, so that all of it and the last one are the first.

    What a later step costs again was not saved by the ones before it.

    >>> net_savings([100.0, 40.0, 30.0, 35.0])
    [60.0, 5.0, 0.0]
    >>> net_savings([100.0, 120.0, 90.0])
    [0.0, 10.0]
    """
    most = [min(energies[0], max(energies[index:])) for index in range(len(energies))]
    return [before - after for before, after in pairwise(most)]


def layer_bars(
    layers: Sequence[LayerRow], value: Callable[[LayerRow], float], label: str, *, stacked: bool = True
) -> str:
    """One bar per layer, made of the directions; or not stacked, one thin bar for each direction."""
    names = list(dict.fromkeys(row.layer for row in layers))
    modes = [mode for mode in _DIRECTIONS if any(row.direction == mode and value(row) for row in layers)]
    thin = 1 if stacked or not modes else len(modes)
    height = 1.0 + (0.2 + 0.06 * thin) * len(names)
    labels = _short(names)
    figure = _figure(height, left=_beside(labels), legend=modes)
    axes = figure.subplots()
    left = np.zeros(len(names))
    for index, mode in enumerate(modes):
        found = {row.layer: value(row) for row in layers if row.direction == mode}
        widths = np.array([found.get(name, 0.0) for name in names])
        at = np.arange(len(names)) + (0.0 if stacked else 0.8 * (index / thin - 0.5) + 0.4 / thin)
        axes.barh(at, widths, left=left, height=0.8 / thin, color=_DIRECTIONS[mode], label=mode)
        left = left + widths if stacked else left
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    _legend(figure, axes)
    return _svg(figure)


def block_skips(runs: Sequence[RunFigures]) -> str:
    """Share of the training images that skipped each block."""
    coloured = zip(runs, _colours(runs), strict=True)
    skipping = [(run, colour) for run, colour in coloured if any(run.finished.summary.block_skip_rates)]
    labels = _short([run.label for run, _ in skipping])
    figure = _figure(2.6, left=0.75, legend=labels)
    axes = figure.subplots()
    for (run, colour), label in zip(skipping, labels, strict=True):
        rates = [100 * rate for rate in run.finished.summary.block_skip_rates]
        axes.plot(range(len(rates)), rates, "o-", color=colour, label=label, markersize=4)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.set_xlabel("block")
    axes.set_ylabel("skipped, %")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return _svg(figure)


def confusion(evaluation: Evaluation) -> str:
    """Which classes were taken for which, as shares of the images of each."""
    counts = np.array(evaluation.confusion)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = len(counts)
    names = _short(evaluation.names) if size <= _MOST_NAMES else []
    side = 0.15 + _beside(names)
    figure = _figure(min(_WIDTH, 0.3 + side + 0.32 * size), left=side, bottom=side, right=0.4)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    if names:
        axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
    if size <= _MOST_COUNTS:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 50 else "#333333"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    figure.colorbar(image, ax=axes, label="of the class, %", pad=0.02)
    return _svg(figure)


def power(samples: PowerSamples, kind: str) -> str:
    """Power over time, with a mark where each step begins."""
    figure = _figure(2.6, left=0.75)
    axes: Axes = figure.subplots()
    every = -(-len(samples.times_s) // (4 * _MOST_STEPS)) or 1
    axes.plot(samples.times_s[::every], samples.powers_w[::every], color=KINDS[kind], linewidth=1.0)
    begins = np.flatnonzero(np.diff(samples.steps) > 0) + 1
    begins = begins[:: -(-len(begins) // 200) or 1]
    low, high = axes.get_ylim()
    axes.vlines(samples.times_s[begins], low, low + 0.04 * (high - low), color="#888888", linewidth=0.8)
    axes.set_ylim(low, high)
    axes.axvspan(min(0.0, samples.times_s[0]), 0.0, color="#eeeeee")
    axes.set_xlabel("s since the training began; grey: idle; marks: steps")
    axes.set_ylabel(f"{kind} power, W")
    return _svg(figure)


def energy_j(run: RunFigures, kind: str) -> float | None:
    """One kind of energy of a run's training."""
    summary = run.finished.summary
    energies = {
        "modelled": run.savings.run.total_j,
        "simulated": summary.energy_simulated_j,
        "measured": summary.energy_measured_j,
    }
    return energies[kind]


def tested(runs: Sequence[RunFigures]) -> str:
    """What the runs were tested on."""
    return " or ".join(sorted({run.finished.summary.tested for run in runs}))


def _figure(
    height: float, *, left: float, bottom: float = _AXIS, right: float = 0.15, legend: Sequence[str] = ()
) -> Figure:
    """A figure with room beside its axes, in inches, and above for a legend of these entries.

    Matplotlib would find the room by drawing everything twice.
    """
    above = 0.1 + _LINE * -(-len(legend) // _columns(legend))
    height += above
    figure = Figure(figsize=(_WIDTH, height))
    figure.subplots_adjust(
        left=left / _WIDTH, right=1 - right / _WIDTH, bottom=bottom / height, top=1 - above / height
    )
    return figure


def _columns(legend: Sequence[str]) -> int:
    """Columns of a legend with these entries."""
    most = int((_WIDTH - 0.3) / (_PATCH + _widest(legend)))
    return max(1, min(most, len(legend)))


def _short(names: Sequence[str]) -> list[str]:
    """Names without their middles where they are long; other ones stay different from each other."""
    found = []
    for most in _MOST_LETTERS:
        half = most // 2
        cut = (f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}" for name in names)
        found = [name if len(name) <= most else short for name, short in zip(names, cut, strict=True)]
        if len({*found}) == len({*names}):
            return found
    return [f"{short} ({number})" for number, short in enumerate(found, 1)]


def _beside(names: Sequence[str]) -> float:
    """Inches that an axis with names takes."""
    return _AXIS + _widest(names)


def _widest(texts: Sequence[str]) -> float:
    """Inches of the widest text."""
    font = FontProperties(family=_FONT, size=_POINTS)
    widths = [text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts]
    return max(widths, default=0.0) / 72


def _legend(figure: Figure, axes: Axes) -> None:
    """Entries of these axes above all of them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="upper center", ncols=_columns(labels), frameon=False, borderaxespad=0.1
        )


def _colours(runs: Sequence[RunFigures]) -> list[str]:
    return [_RUNS[index % len(_RUNS)] for index in range(len(runs))]


def _smooth(values: list[float], weight: float = 0.2) -> list[float]:
    smoothed, mean = [], values[0] if values else 0.0
    for value in values:
        mean += weight * (value - mean)
        smoothed.append(mean)
    return smoothed


@contextmanager
def styled() -> Iterator[None]:
    """Draw charts alike, whatever style a user has; the browser has letters that the font lacks."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def _svg(figure: Figure) -> str:
    """The figure as an SVG element, the same for the same run."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

# SPDX-License-Identifier: Apache-2.0
"""Draw the images of the documentation into docs/images, from the runs that ``make train`` leaves.

With ``--report`` headless Chromium also takes an image of their report. Diagrams are drawn from the lists
below, figures from the files of the runs and from one weight gradient of a short training on the emulator.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("svg")
import numpy as np
import torch
from e2train.devices import LayerCall, LayerResult, open_device
from e2train.nn import digits_net, offload
from e2train.train import FinishedRun, read_run
from e2train.train.data import digits_split
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch.nn import functional as F  # noqa: N812

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_POINTS = 700  # of each colour in the scatter plot
TEAL, GREY, ORANGE, INK = "#00796b", "#bdbdbd", "#ef6c00", "#333333"


class Box(NamedTuple):
    """A box of a diagram."""

    name: str
    text: str
    left: float
    bottom: float
    width: float
    height: float
    colour: str

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.bottom + self.height / 2


Arrow = tuple[str, str, str]  # from, to, text

ARCHITECTURE: tuple[Box, ...] = (
    Box("loop", "training loop (PyTorch)\ngates, loss, optimiser", 0.0, 3.2, 2.6, 0.8, GREY),
    Box("runtime", "runtime\ntiles, memory, frames", 0.0, 1.7, 2.6, 0.8, GREY),
    Box("emulator", "emulator\nexact integers\nin torch or C++", 3.6, 3.2, 1.9, 0.9, GREY),
    Box("cpp", "hls/kernels\nthe engine in HLS C++", 7.4, 3.2, 2.6, 0.9, TEAL),
    Box("csim", "csim\nnative C++", 3.6, 1.9, 1.9, 0.7, TEAL),
    Box("sv", "SystemVerilog", 7.4, 1.75, 2.6, 0.6, TEAL),
    Box("rtl", "rtl\nsimulated SoC:\nAXI DMA, DDR", 3.6, 0.5, 1.9, 0.9, TEAL),
    Box("simulated", "simulated board\nPYNQ.remote", 7.4, 0.45, 2.6, 0.8, TEAL),
    Box("board", "PYNQ board\n(not run yet)", 11.3, 1.65, 1.9, 0.8, ORANGE),
)
ARCHITECTURE_ARROWS: tuple[Arrow, ...] = (
    ("loop", "runtime", ""),
    ("runtime", "emulator", ""),
    ("runtime", "csim", ""),
    ("runtime", "rtl", ""),
    ("cpp", "csim", "clang"),
    ("cpp", "sv", "clang, e2hls, XLS"),
    ("sv", "rtl", "Verilator"),
    ("sv", "board", "Vivado"),
    ("rtl", "simulated", "served"),
)
BLOCK: tuple[Box, ...] = (
    Box("x", "x\nN samples", 0.0, 1.0, 1.3, 0.8, GREY),
    Box("gate", "gate (LSTM)\nper sample: 0 or 1", 2.0, 2.3, 2.2, 0.8, ORANGE),
    Box("branch", "conv, norm, ReLU, conv, norm\nonly samples with gate 1", 5.6, 1.0, 3.6, 0.8, TEAL),
    Box("sum", "+", 10.2, 1.1, 0.6, 0.6, GREY),
    Box("short", "shortcut: all samples", 5.6, 0.0, 3.6, 0.5, GREY),
)
BLOCK_ARROWS: tuple[Arrow, ...] = (
    ("x", "gate", ""),
    ("gate", "branch", "chooses"),
    ("x", "branch", ""),
    ("branch", "sum", ""),
    ("x", "short", ""),
    ("short", "sum", ""),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder with digits-METHOD")
    parser.add_argument("--report", action="store_true", help="the report's image too, with Chromium")
    options = parser.parse_args()
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "e2train", "font.size": 9}
    runs = {name: read_run(options.runs / f"digits-{name}") for name in ("smb-fp32", "smb-int8", "e2train")}
    IMAGES.mkdir(exist_ok=True)
    draw_boxes("architecture", ARCHITECTURE, ARCHITECTURE_ARROWS)
    draw_boxes("slu_block", BLOCK, BLOCK_ARROWS)
    draw_steps(runs["e2train"])
    draw_skips(runs["e2train"])
    draw_signs()
    draw_factors(runs["e2train"])
    if options.report:
        photograph(options.runs / "digits-report", [options.runs / f"digits-{name}" for name in runs])


def save(name: str) -> None:
    pyplot.savefig(IMAGES / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight", transparent=False)
    pyplot.close()


def draw_boxes(name: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
    """Boxes at their places, and arrows from edge to edge."""
    right, top = max(box.left + box.width for box in boxes), max(box.bottom + box.height for box in boxes)
    _, axes = pyplot.subplots(figsize=(0.8 * right, 0.8 * top))
    axes.set(xlim=(-0.1, right + 0.1), ylim=(-0.1, top + 0.1))
    axes.axis("off")
    patches = {box.name: _draw_box(axes, box) for box in boxes}
    centres = {box.name: box.centre for box in boxes}
    for start, end, text in arrows:
        arrow = {"arrowstyle": "-|>", "color": INK, "patchA": patches[start], "patchB": patches[end]}
        axes.annotate("", centres[end], centres[start], arrowprops=arrow)
        x, y = ((a + b) / 2 for a, b in zip(centres[start], centres[end], strict=True))
        axes.text(x, y, text, ha="center", va="center", fontsize=8, backgroundcolor="white", color=INK)
    save(name)


def _draw_box(axes: Axes, box: Box) -> FancyBboxPatch:
    patch = FancyBboxPatch((box.left, box.bottom), box.width, box.height, boxstyle="round,pad=0.02")
    patch.set(facecolor="white", edgecolor=box.colour, linewidth=2)
    axes.add_patch(patch)
    axes.text(*box.centre, box.text, ha="center", va="center", color=INK)
    return patch


def draw_steps(record: FinishedRun) -> None:
    """Which scheduled steps were run, and which dropped."""
    run = {row["step"] for row in record.steps}
    scheduled = record.ledger.scheduled_steps
    _, axes = pyplot.subplots(figsize=(7, 0.9))
    for step in range(1, scheduled + 1):
        axes.axvspan(step - 0.9, step - 0.1, color=TEAL if step in run else GREY, linewidth=0)
    axes.set(
        xlim=(0, scheduled),
        yticks=[],
        xlabel=f"scheduled step: {len(run)} run, {scheduled - len(run)} dropped",
    )
    axes.spines[["left", "right", "top"]].set_visible(False)
    save("smd_steps")


def draw_skips(record: FinishedRun) -> None:
    """How often each block was skipped."""
    rates = [100 * rate for rate in record.summary.block_skip_rates]
    _, axes = pyplot.subplots(figsize=(5, 1.8))
    bars = axes.bar([f"block {index}" for index in range(len(rates))], rates, color=TEAL)
    axes.bar_label(bars, fmt="%.0f %%", padding=2)
    axes.set(ylabel="skipped, %", ylim=(0, 1.25 * max(rates)))
    axes.spines[["right", "top"]].set_visible(False)
    save("slu_skips")


class _Recorder:
    """The emulator, keeping the latest weight gradient of one layer."""

    name = "recorder"

    def __init__(self, layer: str) -> None:
        self._emulator, self._layer = open_device("emulator"), layer
        self.latest: LayerCall | None = None

    def compute(self, call: LayerCall) -> LayerResult:
        if (call.name, call.mode) == (self._layer, "grad_weight"):
            self.latest = call
        return self._emulator.compute(call)  # type: ignore[union-attr]

    def close(self) -> None: ...
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def draw_signs() -> None:
    """A layer's gradient from high bits against the full one, after ten steps of training."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    recorder, data = _Recorder("blocks.1.branch.0"), digits_split().train
    model = offload(digits_net(), recorder)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(10):
        images, labels = data.take(np.arange(32 * step, 32 * (step + 1)))
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert recorder.latest is not None
    full = np.asarray(recorder.compute(recorder.latest).value).ravel()
    high_call = replace(recorder.latest, mode="grad_msb", x_bits=4, g_bits=10)
    high = np.asarray(recorder.compute(high_call).value).ravel()
    right = np.sign(full) == np.sign(high)
    _, axes = pyplot.subplots(figsize=(5, 3))
    for chosen, colour, label in ((right, TEAL, "sign as in full"), (~right, ORANGE, "another sign")):
        share = f"{chosen.mean():.1%}"
        axes.scatter(
            full[chosen][:_POINTS] / np.abs(full).max(), high[chosen][:_POINTS] / np.abs(high).max(),
            s=4, color=colour, label=f"{label}: {share}",
        )  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.axvline(0, color=GREY, linewidth=0.5)
    axes.set(xlabel="full weight gradient, of the largest", ylabel="from 4 and 10 high bits")
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["right", "top"]].set_visible(False)
    save("psg_signs")


def draw_factors(record: FinishedRun) -> None:
    """What each technique leaves of the modelled energy, one after the other."""
    factors = record.summary.energy_factors
    names = {
        "widths": "narrow operands", "smd": "dropped batches", "slu": "skipped layers",
        "psg": "predicted signs", "averaging": "weight averaging",
    }  # fmt: skip
    labels = [
        "float32, nothing saved",
        *(f"{names[key]}: times {factor:.2f}" for key, factor in factors.items()),
    ]
    left = 100 * np.cumprod([1.0, *factors.values()])
    _, axes = pyplot.subplots(figsize=(6, 2.2))
    bars = axes.barh(labels[::-1], left[::-1], color=[TEAL] * (len(left) - 1) + [GREY])
    axes.bar_label(bars, fmt="%.0f %%", padding=3)
    axes.set(xlim=(0, 115), xlabel="modelled energy, % of the float32 training")
    axes.spines[["right", "top"]].set_visible(False)
    save("savings")


def photograph(out: Path, runs: list[Path]) -> None:
    """The upper part of the runs' report, as Chromium shows it."""
    command = [sys.executable, "-m", "e2train", "energy", "report", *map(str, runs), "--out", str(out)]
    subprocess.run(command, check=True)
    target = IMAGES / "report.png"
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=940,1700"),
            *(f"--screenshot={target.resolve()}", (out / "report.html").resolve().as_uri()),
        ],
        check=True,
        capture_output=True,
    )
    print(json.dumps({"image": str(target), "bytes": target.stat().st_size}))


if __name__ == "__main__":
    main()

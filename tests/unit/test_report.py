# SPDX-License-Identifier: Apache-2.0
"""Reports: one file that needs nothing else, and the same figures as JSON and CSV."""

import csv
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from e2train.devices import Counters
from e2train.energy import load_costs
from e2train.runtime import LedgerRow
from e2train.train import PRESETS, TrainError, differences, read_run, run_training, write_reports
from e2train.train.finished_run import PowerSamples
from e2train.train.report import charts as drawing
from e2train.train.report import render_report
from e2train.train.report.figures import run_figures
from e2train.train.report.render import _three_figures as three_figures
from report_pages import charts

DOCS = Path(__file__).parents[2] / "docs"
CONFIG = PRESETS["digits"].changed(
    execution="offload", steps=24, batch=16, seed=3, skip=0.6, gate_weight=100.0, test_images=20
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folders = []
    for method in ("smb-fp32", "smb-int8", "e2train"):
        folders.append(tmp_path_factory.mktemp(method))
        run_training(CONFIG.changed(method=method), out=folders[-1])
    return [read_run(folder) for folder in folders]


@pytest.fixture(scope="module")
def reported(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = write_reports(records, load_costs(), folder)
    return path.read_text(), json.loads((folder / "report.json").read_text()), folder / "report.csv"


def test_the_page_needs_nothing_else(reported):
    page, _, _ = reported
    fetched = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page)
    assert all(target.startswith(("#", "data:")) for target in fetched), fetched
    assert "<script" not in page
    assert "viewport" in page
    assert "@media print" in page


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"lr": 0.2}, ""),
        ({"validation": 0.1}, "tested images 20 of test, 20 of test (0.1 of those of training, seed 3)"),
        ({"execution": "resident"}, "execution offload, resident"),
        ({"freeze": "stem"}, "frozen layers none, stem"),
        ({"label_smoothing": 0.3}, "label smoothing 0.1, 0.3"),
        ({"init_sha256": "0123456789abcdef"}, "weights at the start drawn, 0123456789ab"),
    ],
)
def test_runs_that_differ_in_more_than_their_methods_are_told_apart(records, settings, found):
    first = records[0]
    assert differences([first, replace(first, config=first.config.changed(**settings))]) == found


def test_runs_on_own_images_of_other_sizes_are_told_apart(records):
    config = records[0].config.changed(preset="folder-digits", image_size=8, channels=1)
    others = config.changed(image_size=16, channels=3, augment="mirror-shift")
    assert differences([replace(records[0], config=each) for each in (config, others)]) == (
        "image sizes 8, 16; channels 1, 3; augmentation none, mirror-shift"
    )


def test_every_chart_has_its_place(reported, records):
    labels = [record.label for record in records]
    assert charts(reported[0]) == [
        "Accuracy against energy",
        "What saved how much",
        "Learning",
        "Skipped blocks",
        *(f"Classes: {label}" for label in labels),
        *["Modelled energy by layer"] * 3,
        "Signs that high bits decided",  # of the last run alone
    ]


def test_every_key_of_the_files_is_in_the_docs(reported):
    _, runs, table = reported
    section = (DOCS / "report.md").read_text(encoding="utf-8").split("## The same in files\n")[1]
    said = set(re.findall(r"`(\w+)`", section))
    keys = {
        *runs[0],
        *runs[0]["modelled"],
        *runs[0]["modelled"]["after_j"],
        *runs[0]["modelled"]["run"],
        *runs[0]["layers"][0],
        *csv.DictReader(table.open(encoding="utf-8")).fieldnames,
    }
    assert keys <= said, keys - said


@pytest.fixture
def drawn(monkeypatch):
    """Figures that are drawn, with the boxes around all that is in them."""
    found = []
    draw = drawing._svg

    def watched(figure):
        text = draw(figure)
        found.append((figure.get_tightbbox().extents, figure.get_size_inches()))
        return text

    monkeypatch.setattr(drawing, "_svg", watched)
    return found


def named(record, letters, **change):
    """A run whose method and classes have names of so many letters."""
    summary = replace(record.summary, method="m" * letters, **change)
    names = tuple(digit * letters for digit in "0123456789")
    return replace(record, summary=summary, evaluation=replace(record.evaluation, names=names))


def within(drawn):
    for index, ((left, bottom, right, top), (width, height)) in enumerate(drawn):
        assert left >= 0, index
        assert bottom >= 0, index
        assert right <= width, index
        assert top <= height, index


@pytest.mark.parametrize("letters", [0, 1, 30, 300])
def test_no_chart_is_wider_than_its_figure(records, drawn, letters):
    with mpl.rc_context({"font.size": 16}):  # a user's own style
        render_report([named(each, letters) for each in (records[0], records[2])], load_costs())
    assert len(drawn) == 9
    within(drawn)


def test_many_runs_have_room(records, drawn):
    table = load_costs()
    runs = [run_figures(records[2], f"e2train, of seed {seed:024}", table) for seed in range(60)]
    with drawing.styled():
        for chart in (drawing.curves, drawing.accuracy_energy, drawing.techniques, drawing.block_skips):
            chart(runs)
    assert len(drawn) == 4
    within(drawn)


def test_letters_that_the_font_lacks_are_no_warnings(records):
    other = replace(records[1], evaluation=replace(records[1].evaluation, names=tuple("猫犬3456789*")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "猫" in render_report([other], load_costs())


def test_shortened_names_stay_different():
    alike = [f"e2train on emulator, cifar{count}-resnet8, seed 0" for count in (10, 100)]
    assert len({*drawing._short(alike)}) == 2
    long_names = ["a" * 30 + letter + "a" * 30 for letter in "bc"]
    assert len({*drawing._short(long_names)}) == 2
    assert drawing._short(["stem", "x" * 100]) == ["stem", "x" * 14 + "\N{HORIZONTAL ELLIPSIS}" + "x" * 14]


def test_every_run_is_there_with_its_hashes_and_settings(reported, records):
    page, rows_of_json, _ = reported
    for record, one in zip(records, rows_of_json, strict=True):
        assert record.summary.weights_sha256 in page
        assert one["summary"]["state_sha256"] == record.summary.state_sha256
        assert one["label"] in page
    assert "the device has no power sensor" in page  # why nothing was measured
    assert load_costs().note in page


def test_json_and_csv_hold_the_figures_of_the_summaries(reported, records):
    _, rows_of_json, path = reported
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for record, one in zip(records, rows_of_json, strict=True):
        energy_j = record.summary.energy_modelled_j
        assert one["modelled"]["run_j"] == pytest.approx(energy_j, rel=1e-12)
        assert sum(layer["modelled_j"] for layer in one["layers"]) == pytest.approx(energy_j, rel=1e-9)
        parts = ("modelled_arithmetic_j", "modelled_sram_j", "modelled_dram_j")
        mine = [row for row in rows if row["run"] == one["label"]]
        assert sum(float(row[part]) for row in mine for part in parts) == pytest.approx(energy_j, rel=1e-9)


def test_kinds_of_energy_have_columns_and_colours_of_their_own(records):
    record = records[2]
    power = PowerSamples(times_s=np.arange(5.0), powers_w=np.full(5, 7.0), steps=np.arange(5) - 1.0)
    energies = {"energy_duration_s": 4.0, "energy_reason": None, "energy_source": "by the chip"}
    measured = replace(
        record,
        summary=replace(record.summary, energy_measured_j=123.0, energy_origin="measured", **energies),
        power=power,
    )
    simulated = replace(
        record,
        summary=replace(record.summary, energy_simulated_j=456.0, energy_origin="simulated", **energies),
        power=power,
    )
    beside = {"energy_per_image_j": 0.25, "energy_host_j": 789.0, "energy_host_source": "measured by rapl"}
    phases = dict(zip(("forward", "backward", "idle"), (10.0, 20.0, 3.0), strict=True))
    steps = measured.summary.steps_run
    whole = replace(measured, summary=replace(measured.summary, energy_phases_j=phases, **beside))
    slow = replace(simulated.summary, energy_phases_reason="too slow", energy_host_reason="no counter")
    page = render_report([whole, replace(simulated, summary=slow)], load_costs())
    per_step = [f"{name} {three_figures(spent_j / steps)} J" for name, spent_j in phases.items()]
    assert f"; 0.25 J per image; per step {', '.join(per_step)}; the PC beside the board 789 J, " in page
    assert "; by phase not measured: too slow; the PC beside the board not measured: no counter</li>" in page
    page = render_report([measured, simulated], load_costs())
    assert '<td class="measured">123</td>' in page
    assert '<td class="simulated">456</td>' in page
    assert page.count('<td class="measured">–</td>') == 1  # noqa: RUF001
    assert "measured power, W" in page
    assert "simulated power, W" in page
    for kind in ("modelled", "simulated", "measured"):
        assert f"{kind} energy of the training, J" in page  # an axis of its own


def test_execution_is_shown_and_the_price_note_fits_it(records):
    resident = replace(
        records[1],
        config=records[1].config.changed(execution="resident"),
        summary=replace(records[1].summary, host_bytes_per_step=254489.4, saturated_share=1.956e-4),
    )
    shown = {
        "smb-fp32": "<td>float32 on the host</td><td>32</td><td>32</td><td>–</td><td>–</td>",  # noqa: RUF001
        "offload": "<td>offload</td><td>16</td><td>32</td><td>0</td><td>–</td>",  # noqa: RUF001
        "resident": "<td>resident</td><td>8</td><td>16</td><td>196</td><td>254,489</td>",
    }
    notes = {
        "offload": "Batch norm, ReLU and residual sums are on the host and not counted",
        "resident": "batch norm, ReLU and residual sums are counted too, at 16 bits",
    }
    for chosen, rows, wanted in (
        (records[:2], ("smb-fp32", "offload"), ("offload",)),
        ([resident], ("resident",), ("resident",)),
        ([*records[:2], resident], tuple(shown), tuple(notes)),
    ):
        page = render_report(chosen, load_costs())
        assert [name for name, cells in shown.items() if cells in page] == list(rows)
        assert [name for name, note in notes.items() if note in page] == list(wanted)


@pytest.mark.parametrize(
    ("gradient_bits", "dram_bytes", "share"),
    [(8, 4096, 1.0), (16, 4096, 2.0), (8, 0, 2.0)],  # two products of resident 8-bit gradients share one
)
def test_the_share_of_busy_multipliers_knows_how_gradients_are_stored(
    records, gradient_bits, dram_bytes, share
):
    config = records[1].config.changed(execution="resident", gradient_bits=gradient_bits, psg_g_bits=0)
    counters = Counters(macs=256_000, cycles=1000, dram_bytes=dram_bytes)
    row = LedgerRow(name="conv", mode="grad_weight", calls=1, counters=counters)
    ledger = replace(records[1].ledger, training=(row,), averaging=())
    figures = run_figures(replace(records[1], config=config, ledger=ledger), "run", load_costs())
    assert [row.utilisation for row in figures.layers] == [share]


def test_power_without_an_energy_keeps_its_kind(records):
    power = PowerSamples(times_s=np.arange(5.0), powers_w=np.full(5, 7.0), steps=np.arange(5) - 1.0)
    for origin, shown in (("simulated", True), (None, False)):
        summary = replace(records[2].summary, energy_origin=origin)
        page = render_report([replace(records[2], summary=summary, power=power)], load_costs())
        assert ("simulated power, W" in page) == shown
        assert "measured power, W" not in page


def test_copies_of_a_run_are_told_apart(records):
    page = render_report([records[1], records[1]], load_costs())
    assert "(1)</td>" in page
    assert "(2)</td>" in page


def test_runs_with_the_same_method_are_told_apart(records):
    other = replace(records[1], summary=replace(records[1].summary, seed=4))
    page = render_report([records[1], other], load_costs())
    assert "smb-int8 on emulator, digits, seed 3" in page
    assert "smb-int8 on emulator, digits, seed 4" in page


def test_what_a_run_is_called_is_not_html(records):
    odd = replace(records[1], summary=replace(records[1].summary, energy_reason="<b>&"))
    assert "&lt;b&gt;&amp;" in render_report([odd], load_costs())


def test_the_same_runs_give_the_same_page(records):
    assert render_report(records, load_costs()) == render_report(records, load_costs())


def test_folders_that_hold_no_finished_run_are_one_line(tmp_path, records):
    with pytest.raises(TrainError, match=r"^no folder .*; give the folder of a run"):
        read_run(tmp_path / "nothing")
    with pytest.raises(TrainError, match=r"holds no finished run: no summary\.json$"):
        read_run(tmp_path)
    (tmp_path / "summary.json").write_text(records[0].summary.to_json())
    (tmp_path / "config.toml").write_text(records[0].config.to_toml())
    with pytest.raises(TrainError, match=r"^cannot read .*ledger\.json: No such file or directory; let"):
        read_run(tmp_path)
    (tmp_path / "ledger.json").write_text('{"training": 3}')
    with pytest.raises(TrainError, match=r"ledger\.json is damaged"):
        read_run(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(TrainError, match=r"summary\.json is damaged or of another version"):
        read_run(tmp_path)

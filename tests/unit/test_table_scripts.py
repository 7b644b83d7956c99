# SPDX-License-Identifier: Apache-2.0
"""Tables of runs: which runs they plan, what they write, how they say that settings were chosen."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from e2train.train import PRESETS, TrainError, read_config, run_training
from e2train.train.folder import RunFolder

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the folder of scripts, by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture
def reproduce(scripts, monkeypatch, tmp_path, capsys):
    """Call the script on a table of two rows; runs are trained in this process."""
    module, tables = scripts("reproduce"), scripts("paper_tables")
    rows = {
        "smb-int8": tables.Row(settings={"method": "smb-int8"}, seeds=2, tried=({"lr": 0.05}, {"lr": 0.2})),
        "psg, predict": tables.Row(settings={"method": "psg"}, seeds=1),
    }
    table = tables.Table(preset="digits", common={"steps": 2, "batch": 8, "test_images": 20}, rows=rows)
    trained: list[str] = []

    def run(settings, where, under_way):
        trained.append(str(where.relative_to(tmp_path)))
        try:
            run_training(settings, out=where)
        except TrainError as error:
            return f"{where}: {error}"

    monkeypatch.setattr(module, "TABLES", {"tiny": table})
    monkeypatch.setattr(module, "run", run)

    def call(*options):
        trained.clear()
        module.RECORDS.clear()  # as in a process of its own
        module.KEPT.clear()
        arguments = ["reproduce.py", "--table", "tiny", "--data", "", "--out", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        code = module.main()
        return code, list(trained), capsys.readouterr()

    return call


def test_a_row_has_its_own_number_of_seeds_and_finished_runs_are_kept(reproduce, tmp_path):
    code, trained, _ = reproduce()
    assert code == 0
    assert trained == ["tiny/smb-int8-seed0", "tiny/psg-predict-seed0", "tiny/smb-int8-seed1"]
    table_rows = json.loads((tmp_path / "tiny/table.json").read_text())
    assert [(row["row"], row["seeds"], row["tried"]) for row in table_rows] == [
        ("smb-int8", 2, 0),
        ("psg, predict", 1, 0),
    ]
    for row, name in zip(table_rows, ("smb-int8", "psg-predict"), strict=True):
        for one in row["runs"]:
            summary = json.loads((tmp_path / f"tiny/{name}-seed{one['seed']}/summary.json").read_text())
            share = summary["blocks_skipped"] / (summary["blocks_run"] + summary["blocks_skipped"])
            written = summary | {"accuracy": summary["test_accuracy"], "blocks_skipped": share}
            assert {key: value for key, value in one.items() if key in written} == {
                key: written[key] for key in one if key in written
            }
            assert {"seed", "accuracy", "weights_sha256", "config_sha256"} <= one.keys() & written.keys()
    text = (tmp_path / "tiny/table.md").read_text()
    assert "\n\nNo settings were tried on held-out images.\n\n" in text
    assert text.startswith(
        "digits, and where a row's own settings do not say otherwise: lr 0.1, smd 0.5, stem_"
    )
    (line,) = (line for line in text.splitlines() if line.startswith("| psg, predict |"))
    assert line.endswith(" | - | 1 thread | method psg |")
    assert "one seed" in (tmp_path / "tiny/table.svg").read_text()
    assert reproduce()[1] == []
    assert reproduce("--seeds", "2", "--rows", "psg, predict")[1] == ["tiny/psg-predict-seed1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "/none"), "no folder /none: give the one that holds the data set with --data"),
        (("--steps", "-3"), "--steps must be at least 1, not -3"),
        (("--seeds", "0"), "--seeds must be at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense_are_one_line(reproduce, tmp_path, options, message):
    with pytest.raises(SystemExit) as stop:
        reproduce(*options)
    assert (stop.value.code, list(tmp_path.iterdir())) == (message, [])


def test_runs_on_other_images_are_refused_before_they_are_counted(reproduce, tmp_path, scripts, monkeypatch):
    """Also those of which only the table's record is left."""
    options = ("--rows", "psg, predict", "--seeds", "1")
    reproduce(*options)
    run, table = tmp_path / "tiny/psg-predict-seed0", tmp_path / "tiny/table.json"
    for file in (run / "config.toml", table):  # digits have no hash
        text = file.read_text()
        text, count = re.subn(r'(data_sha256"?(?: =|:)) ""', rf'\1 "{"e" * 64}"', file.read_text())
        assert count == 1
        file.write_text(text)
    (row,) = json.loads(table.read_text())
    row["runs"].append({**row["runs"][0], "seed": 9, "data_sha256": "f" * 64})  # a later one does not hide it
    table.write_text(json.dumps([row]))
    monkeypatch.setattr(scripts("reproduce"), "load_split", lambda config: SimpleNamespace(sha256="f" * 64))
    for where in (run, f"a run of {table}"):
        with pytest.raises(SystemExit) as stop:
            reproduce(*options)
        assert stop.value.code == (
            f"{where} was trained on images with SHA-256 {'e' * 12}...,  has those with {'f' * 12}...; "
            "give their folder with --data, or another --out"
        )
        shutil.rmtree(run, ignore_errors=True)
    table.unlink()
    choice = tmp_path / "tiny/choices/psg-predict/lr-0.1"  # which a shorter table takes as well
    choice.mkdir(parents=True)
    (choice / "config.toml").write_text(f'preset = "digits"\ndata_sha256 = "{"e" * 64}"\n')
    with pytest.raises(SystemExit, match=f"^{choice} was trained on images with SHA-256 eeeeeeeeeeee"):
        reproduce(*options, "--steps", "2")


def test_a_run_that_the_table_lists_is_not_needed_any_more(reproduce, tmp_path):
    options = ("--rows", "psg, predict", "--seeds")
    reproduce(*options, "1")
    table, before = tmp_path / "tiny/table.json", (tmp_path / "tiny/table.json").read_text()
    shutil.rmtree(tmp_path / "tiny/psg-predict-seed0")
    code, trained, _ = reproduce(*options, "1")
    assert (code, trained, table.read_text()) == (0, [], before)
    assert reproduce(*options, "2")[1] == ["tiny/psg-predict-seed1"]
    (row,) = json.loads(table.read_text())
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    assert row["runs"][:1] == json.loads(before)[0]["runs"]
    assert row["accuracy"] == sum(run["accuracy"] for run in row["runs"]) / 2
    assert reproduce(*options, "2", "--threads", "2")[1] == []  # computed otherwise, but set so
    for run in row["runs"]:
        del run["threads"]  # as earlier versions wrote them
    table.write_text(json.dumps([row]))
    shutil.rmtree(tmp_path / "tiny/psg-predict-seed1")
    assert reproduce(*options, "2", "--threads", "2")[1] == []
    row["runs"][0]["config_sha256"] = "0" * 64  # of other settings
    table.write_text(json.dumps([row]))
    assert reproduce(*options, "2")[1] == ["tiny/psg-predict-seed0"]


def test_runs_that_other_costs_have_priced_count_only_by_folder(reproduce, scripts, tmp_path, capsys):
    reproduce("--seeds", "1", "--rows", "psg, predict")
    out = tmp_path / "tiny"
    ((one,),) = (row["runs"] for row in json.loads((out / "table.json").read_text()))
    (out / "table.json").write_text(json.dumps([{"runs": [one, one | {"costs_sha256": "0"}]}]))
    files, other = scripts("table_files"), one | {"costs_sha256": "0"}
    assert files.read_records(out) == [one, other]
    assert [files.is_priced_alike(each) for each in (one, other)] == [True, False]
    message = f"{out}/table.json: 1 runs are priced by other costs and count only by folder\n"
    assert capsys.readouterr().err == message


def test_records_that_no_row_asks_for_are_kept(reproduce, tmp_path):
    """Fewer seeds than before lose none, whether the folders are there or not."""
    reproduce("--seeds", "2")
    table, others = tmp_path / "tiny/table.json", tmp_path / "tiny/other_runs.json"
    before = {row["row"]: row["runs"] for row in json.loads(table.read_text())}
    assert [len(runs) for runs in before.values()] == [2, 2]
    assert not others.exists()
    for folder in (tmp_path / "tiny").glob("*-seed?"):
        shutil.rmtree(folder)
    for _ in range(2):
        assert reproduce("--seeds", "1", "--rows", "psg, predict")[:2] == (0, [])
        rows = {row["row"]: row["runs"] for row in json.loads(table.read_text())}
        assert rows == {"smb-int8": before["smb-int8"], "psg, predict": before["psg, predict"][:1]}
        assert json.loads(others.read_text()) == before["psg, predict"][1:]
    assert reproduce("--seeds", "2")[:2] == (0, [])
    assert {row["row"]: row["runs"] for row in json.loads(table.read_text())} == before
    assert json.loads(others.read_text()) == []


def test_rows_need_folders_of_their_own(scripts):
    tables = scripts("paper_tables")
    row = tables.Row(settings={"method": "psg"})
    assert tables.slug("PSG, lr 0.3") == "psg-lr-0.3"
    for names in (("psg, a", "PSG (A)"), ("-",)):
        with pytest.raises(ValueError, match=r"need names with folders of their own$"):
            tables.Table(preset="digits", rows=dict.fromkeys(names, row))


def test_a_shorter_version_has_a_folder_of_its_own(reproduce, tmp_path):
    _, trained, out = reproduce("--steps", "1", "--rows", "psg, predict")
    assert trained == ["tiny-1steps/psg-predict-seed0"]
    assert ", input_gradient_bits 0, steps 1, batch 8, test_images 20.\n" in out.out
    assert read_config(tmp_path / trained[0] / "config.toml").steps == 1


def test_settings_are_chosen_on_held_out_images(reproduce, tmp_path, scripts):
    code, trained, out = reproduce("--choose", "--rows", "smb-int8")
    assert (code, trained) == (
        0,
        ["tiny/choices/smb-int8/lr-0.05-2-steps", "tiny/choices/smb-int8/lr-0.2-2-steps"],
    )
    for folder in trained:
        assert read_config(tmp_path / folder / "config.toml").validation == 0.1
        assert json.loads((tmp_path / folder / "summary.json").read_text())["test_accuracy"] is None
    tried = json.loads((tmp_path / "tiny/choices.json").read_text())
    assert sorted(one["settings"]["lr"] for one in tried) == [0.05, 0.2]
    accuracies = [one["validation_accuracy"] for one in tried]
    assert accuracies == sorted(accuracies, reverse=True)
    assert f"lr {tried[0]['settings']['lr']} | 2 | {100 * accuracies[0]:.2f} % |" in out.out
    reproduce("--seeds", "1")
    table_rows = json.loads((tmp_path / "tiny/table.json").read_text())
    assert [(row["tried"], row["best_tried"]) for row in table_rows] == [(2, False), (0, None)]
    text = (tmp_path / "tiny/table.md").read_text()
    assert "2 runs of 2 steps, listed in `choices.md`" in text
    assert " | 1 | 2, another was best | " in text
    shutil.rmtree(tmp_path / "tiny/choices/smb-int8/lr-0.2-2-steps")
    assert reproduce("--choose", "--rows", "psg, predict")[1] == []
    assert json.loads((tmp_path / "tiny/choices.json").read_text()) == tried
    table = scripts("reproduce").TABLES["tiny"]
    best = replace(table.rows["smb-int8"], settings={"method": "smb-int8", "lr": tried[0]["settings"]["lr"]})
    scripts("reproduce").TABLES["tiny"] = replace(table, rows={"smb-int8": best})
    shutil.rmtree(tmp_path / "tiny/smb-int8-seed0")
    reproduce("--seeds", "1")
    assert " | 1 | 2, the best | " in (tmp_path / "tiny/table.md").read_text()


def test_choices_are_kept_when_their_runs_are_gone(reproduce, tmp_path, scripts):
    """Also those that differ in settings that no later choice shows."""
    reproduce("--choose", "--rows", "smb-int8")
    before = json.loads((tmp_path / "tiny/choices.json").read_text())
    shutil.rmtree(tmp_path / "tiny/choices")
    table = scripts("reproduce").TABLES["tiny"]
    row = replace(table.rows["smb-int8"], tried=({"label_smoothing": 0.2},))
    scripts("reproduce").TABLES["tiny"] = replace(table, rows={"smb-int8": row})
    reproduce("--choose", "--rows", "smb-int8")
    after = json.loads((tmp_path / "tiny/choices.json").read_text())
    assert len(after) == 3
    assert all(one in after for one in before)


@pytest.mark.parametrize(
    ("settings", "trained", "seconds"),
    [
        ({"method": "smd"}, False, 0.15),
        ({"method": "slu", "skip": 0.2}, True, 0.15),
        ({"method": "slu", "skip": 0.2}, False, None),  # gates that have learnt nothing skip little
        ({"method": "e2train", "skip": 0.0}, False, 0.15),
    ],
)
def test_seconds_are_of_the_steps_that_the_whole_schedule_executes(scripts, settings, trained, seconds):
    files, config = scripts("table_files"), PRESETS["digits"].changed(steps=4, **settings)
    timed = {"s_per_executed_step": 0.2, "s_per_scheduled_step": 0.1, "trained": trained}
    assert files._seconds(config, timed, steps_run=3) == pytest.approx(seconds)
    assert files._seconds(config, None, steps_run=3) is None


def test_a_table_without_choices_has_an_empty_list(reproduce, tmp_path):
    assert reproduce("--choose", "--rows", "psg, predict")[:2] == (0, [])
    assert json.loads((tmp_path / "tiny/choices.json").read_text()) == []


def test_a_shorter_table_keeps_the_ratio_of_its_rows(scripts):
    module, tables = scripts("reproduce"), scripts("paper_tables").TABLES
    for table in tables.values():
        shorter = module.shortened(table, 300)
        assert {shorter.config(name, {}, data=".").steps for name in shorter.rows} <= {300, 600}
    short = module.shortened(tables["paper-resnet8"], 200)
    steps = {name: short.config(name, {}, data=".").steps for name in short.rows}
    assert set(steps.values()) == {200, 400}
    assert [name for name, count in steps.items() if count == 400] == [
        "e2train, aggressive, sign_scale each, lr 0.3, batch 64"
    ]
    tried = short.rows["e2train, aggressive, 16-bit input gradients, swa 0.9"].tried
    assert {settings["steps"] for settings in tried} == {50}


def test_a_run_that_fails_does_not_stop_the_others(reproduce, tmp_path):
    (tmp_path / "tiny/smb-int8-seed0").mkdir(parents=True)
    (tmp_path / "tiny/smb-int8-seed0/checkpoint.pt").write_bytes(b"")
    code, trained, out = reproduce("--seeds", "1")
    assert (code, len(trained)) == (1, 2)
    assert "holds an unfinished run" in out.err
    assert [row["row"] for row in json.loads((tmp_path / "tiny/table.json").read_text())] == ["psg, predict"]


def test_every_row_of_every_table_is_a_run(scripts):
    tables = scripts("paper_tables").TABLES
    for table in tables.values():
        rows = {name: table.config(name, {}, data=".") for name in table.rows}
        assert len({config.hash for config in rows.values()}) == len(rows)
        for name, row in table.rows.items():
            for settings in row.tried:
                assert table.config(name, settings, data=".").preset == table.preset
        assert len({scripts("paper_tables").slug(name) for name in table.rows}) == len(table.rows)
    long = tables["long"]
    assert {long.config(name, {}, data=".").schedule for name in long.rows} == {"cosine", "steps"}
    assert all(long.config(name, {}, data=".").resident for name in long.rows)


def test_steps_are_timed_from_where_a_run_ended(scripts, monkeypatch, tmp_path):
    module = scripts("time_steps")
    monkeypatch.setattr(module, "MARGIN", 1)
    config = PRESETS["digits"].changed(method="smb-int8", steps=12, batch=8, test_images=8)
    run_training(config, out=tmp_path)
    saved = tmp_path / "checkpoint.pt"
    for settings, trained in ((config, True), (config.changed(seed=1), False)):
        figures = module.measure(settings, saved, steps=4, warm_up=2)
        assert (figures["trained"], figures["scheduled_steps"], figures["executed_steps"]) == (trained, 4, 4)
        assert figures["s_per_scheduled_step"] == figures["s_per_executed_step"] > 0
    message = "the schedule has 12 steps, 13 are needed; use a smaller --steps"
    with pytest.raises(SystemExit, match=f"^{message}$"):
        module.measure(config, saved, steps=10, warm_up=2)


@pytest.mark.slow
def test_a_run_is_trained_for_minutes_at_a_time(scripts, monkeypatch, tmp_path, capsys):
    module, out = scripts("train_for_minutes"), tmp_path / "run"

    class Lent(module.subprocess.Popen):
        """A process whose time is over after its third step."""

        def wait(self, timeout=None):
            while timeout is not None and self.poll() is None:
                if len(RunFolder(out).rows()) >= 3:
                    raise module.subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.01)
            return super().wait()

    settings = [f"--set={text}" for text in ("host=cpu", "steps=90", "batch=2", "smd=0", "test_images=2")]

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["", "digits", "--data=", f"--out={out}", *settings, *options])
        module.main()

    with monkeypatch.context() as lent:
        lent.setattr(module.subprocess, "Popen", Lent)
        call()
    first = json.loads(capsys.readouterr().out)
    assert 3 <= first["step"] == first["steps"] < first["of"] == 90
    assert (first["finished"], first["calls_left"]) == (False, -(-(90 - first["step"]) // first["step"]))
    message = f"{out}/checkpoint.pt has .* MB, more than --most-mb 0.01; it can be used where it lies"
    with pytest.raises(SystemExit, match=f"^{message}$"):
        call("--most-mb=0.01")
    last = json.loads(capsys.readouterr().out)
    assert (last["steps"], last["step"], last["calls_left"]) == (90 - first["step"], 90, 0)
    assert last["finished"]


def test_minutes_that_only_suffice_to_stop_are_refused(scripts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "--data=", "--out=run", "--minutes=0.5"])
    with pytest.raises(SystemExit, match=r"^--minutes must be above 0.67, which stopping takes, not 0.5$"):
        scripts("train_for_minutes").main()


def test_gradients_are_compared_at_the_weights_of_a_run(scripts, monkeypatch, tmp_path, capsys):
    config = PRESETS["digits"].changed(method="smb-int8", steps=3, batch=8, test_images=8)
    run_training(config, out=tmp_path)
    module = scripts("bench_gradients")
    monkeypatch.setattr(sys, "argv", ["bench_gradients.py", str(tmp_path), "--batches", "4", "--json"])
    assert module.main() == 0
    rows = {row["gradients"]: row["errors"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(rows) == ["nearest", "dithered", "16-bit gradients"]
    of_mean = {name: sum(error["of_the_mean"] for error in errors.values()) for name, errors in rows.items()}
    assert 0 < of_mean["16-bit gradients"] < of_mean["dithered"] < of_mean["nearest"]
    monkeypatch.setattr(sys, "argv", ["bench_gradients.py", str(tmp_path / "none")])
    assert module.main() == 2
    assert capsys.readouterr().err.count("\n") == 1

# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: one run at a time, damaged files refused by line, full disks reported as they are."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from e2train.train import PRESETS, Interrupted, RunFolder, TrainError, files, read_run, run_training
from e2train.train.files import exclusive_lock, write_atomically
from e2train.train.finished_run import read_power

CONFIG = PRESETS["digits"].changed(method="smb-fp32", steps=4, batch=8, seed=7, test_images=1)
ROW = {"step": 1, "steps": 4, "epoch": 0.1, "loss": 2.5, "accuracy": 0.1, "lr": 0.1, "blocks_run": 1.0}


OTHER = "is damaged or of another version:"
CONTRADICTS = "is damaged or of another run: it contradicts summary.json; give the whole folder of one run"


def stop_after(step):
    """A watcher that presses Ctrl-C."""
    return lambda row: signal.raise_signal(signal.SIGINT) if row.step == step else None


@contextmanager
def largest_file(size):
    """No file may grow beyond ``size`` bytes: a disk that is full, for the files that are larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def stopped(tmp_path):
    """The folder of a run that was stopped after step 2."""
    with pytest.raises(Interrupted):
        run_training(CONFIG, out=tmp_path, watch=stop_after(2))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that is over."""
    out = tmp_path_factory.mktemp("finished")
    run_training(CONFIG, out=out)
    return out


def refusal(out, **options):
    with pytest.raises(TrainError) as error:
        run_training(CONFIG, out=out, **options)
    return str(error.value)


def test_nothing_of_a_discarded_run_stays(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "exported.qonnx.onnx").touch()
    (tmp_path / "notes.txt").touch()  # the user's own
    RunFolder(tmp_path).begin(CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "metrics.jsonl", "notes.txt"}


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}], ids=str)
def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, options):
    with RunFolder(tmp_path).held():
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert refusal(tmp_path, **options) == (
            f"{tmp_path} is in use by process {os.getpid()} on {os.uname().nodename}; "
            "wait for that run, or choose another folder with --out"
        )
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not list(tmp_path.iterdir())


def test_a_run_that_does_not_begin_leaves_no_folder(tmp_path):
    assert "nothing to resume" in refusal(tmp_path / "new", resume=True)
    (tmp_path / "mine").mkdir()  # of the user
    refusal(tmp_path / "mine", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_run_holds_its_folder_from_the_first_step_to_the_last(tmp_path):
    refused = []
    run_training(CONFIG, out=tmp_path, watch=lambda row: refused.append(refusal(tmp_path, resume=True)))
    assert len(refused) == CONFIG.steps
    assert all(f"in use by process {os.getpid()}" in message for message in refused)


def test_a_killed_process_frees_its_folder(tmp_path):
    hold = (
        "import pathlib, runpy, sys, time; lock = runpy.run_path(sys.argv[1])['exclusive_lock']\n"
        "with lock(pathlib.Path(sys.argv[2])): print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", hold, files.__file__, path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"process {other.pid} on "), exclusive_lock(path):
            pass
        other.kill()
        other.wait()
    assert path.exists()
    with exclusive_lock(path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 2 column 1 (char 2)"),
        (b"[1]", "it is a list"),
        (b"\xff{}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[" * 10**5, "maximum recursion depth exceeded"),
        (
            b'{"step": 2}',
            "Row.__init__() missing 6 required keyword-only arguments: 'steps', 'epoch', 'loss'",
        ),
        (json.dumps(ROW | {"step": "2"}).encode(), "step must be a finite int, not 2"),
        (
            json.dumps(ROW | {"step": 2, "loss": float("nan")}).encode(),
            "loss must be a finite float, not nan",
        ),
        (b'{"step": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits) for integer string conversion"),
        (json.dumps(ROW).encode(), "step 1 is not after step 1"),
        (b"", "Expecting value: line 2 column 1 (char 1)"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_an_ill_formed_line_of_metrics_is_named(tmp_path, line, reason):
    folder = RunFolder(tmp_path)
    folder.metrics.write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(TrainError) as error:
        folder.rows()
    message = str(error.value)
    assert message.startswith(f"{folder.metrics}, line 2 is no step: {reason}")
    assert message.endswith("; remove the line to leave it out")
    assert "\n" not in message


def test_a_last_line_without_its_end_counts_if_it_is_whole(tmp_path):
    folder, row = RunFolder(tmp_path), json.dumps(ROW)
    folder.metrics.write_text(row)
    assert folder.rows() == [ROW]
    folder.metrics.write_text(f"{row}\n{row[:-9]}")
    assert folder.rows() == [ROW]


def test_neither_resume_nor_report_takes_damaged_metrics(tmp_path, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("loss", "lost", 1))
    message = f"{metrics}, line 1 is no step: Row.__init__() got an unexpected keyword argument 'lost'"
    with pytest.raises(TrainError, match=f"^{re.escape(message)}"):
        read_run(tmp_path)
    (tmp_path / "summary.json").unlink()  # as if it had been stopped before its test
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert refusal(tmp_path, resume=True).startswith(message)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("lost", ["first", "middle", "last", "all"])
def test_a_run_that_lost_rows_is_not_resumed(tmp_path, finished, lost):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").unlink()  # as if it had been stopped before its test
    metrics = tmp_path / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    cut = {"first": slice(0, 1), "middle": slice(1, 2), "last": slice(-1, None), "all": slice(None)}[lost]
    count = len(lines)
    del lines[cut]
    metrics.write_text("".join(lines))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert refusal(tmp_path, resume=True) == (
        f"{metrics} holds {len(lines)} of the {count} steps that were run when checkpoint.pt was saved; "
        "restore the file, or start again with --overwrite instead of --resume"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "summary.json",
            {"steps_run": "4"},
            "is damaged or of another version: steps_run must be a finite int",
        ),
        (
            "summary.json",
            {"validation_accuracy": 0.5},
            "is damaged or of another version: one of test_accuracy and validation_accuracy must be a "
            "number, the other null",
        ),
        ("summary.json", {"preset": None}, f"{OTHER} preset must be of type str, not NoneType"),
        ("summary.json", {"test_accuracy": 7.5}, f"{OTHER} test_accuracy is 7.5, not in 0..1"),
        ("summary.json", {"block_skip_rates": [0.5, 2]}, f"{OTHER} block_skip_rates is 2, not in 0..1"),
        ("summary.json", {"energy_measured_j": -1}, f"{OTHER} energy_measured_j is -1, not at least 0"),
        ("summary.json", {"energy_phases_j": {"forward": "x"}}, f"{OTHER} energy_phases_j must hold finite"),
        ("summary.json", {"energy_phases_j": {"forward": 1}}, f"{OTHER} energy_phases_j must have the keys"),
        ("summary.json", {"energy_factors": []}, f"{OTHER} energy_factors must be of type dict"),
        ("summary.json", {"energy_origin": "metered"}, f"{OTHER} energy_origin is 'metered', not one of"),
        ("summary.json", {"steps_run": 3, "steps_dropped": 1}, None),
        ("ledger.json", {"training": [{"name": "stem"}]}, "is damaged: 'counters'"),
        ("ledger.json", {"training": []}, CONTRADICTS),
        ("ledger.json", {"steps_run": 0}, CONTRADICTS),
        ("ledger.json", {"samples": 10**6}, CONTRADICTS),
        ("ledger.json", {"ranks": 2}, CONTRADICTS),
        ("ledger.json", {"samples": None}, "is damaged: samples must be a finite int, not None"),
        ("ledger.json", {"samples": -1}, "is damaged: samples is -1, not at least 0"),
    ],
    ids=str,
)
def test_a_report_takes_no_damaged_figures(tmp_path, finished, name, change, message):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TrainError) as error:
        read_run(tmp_path)
    blamed = path if message else tmp_path / "ledger.json"  # what contradicts the summary
    assert str(error.value).startswith(f"{blamed} {message or CONTRADICTS}")


def test_a_sensor_may_be_below_zero_while_nothing_is_computed(tmp_path, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "summary.json"
    phases = {"forward": 1.0, "backward": 2.0, "idle": -0.1}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"energy_phases_j": phases}))
    assert read_run(tmp_path).summary.energy_phases_j == phases


def test_power_whose_last_sample_was_cut_off_is_shown_without_it(tmp_path):
    path = tmp_path / "power.csv"
    path.write_text("time_s,power_w,step\n1.0,2,1\n2.0,2,1\n3.0,2,2\n4.0,2.5,")
    power = read_power(path)
    assert (power.times_s.tolist(), power.steps.tolist()) == ([1.0, 2.0, 3.0], [1.0, 1.0, 2.0])


def test_a_report_takes_no_run_that_lost_steps(tmp_path, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainError, match=f"^{re.escape(str(metrics))} {CONTRADICTS}"):
        read_run(tmp_path)


def test_a_row_of_a_ledger_has_a_layer_and_a_mode(tmp_path, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "ledger.json"
    ledger = json.loads(path.read_text())
    ledger["test"][0]["mode"] = "x"
    path.write_text(json.dumps(ledger))
    with pytest.raises(
        TrainError, match=rf"^{re.escape(str(path))} is damaged: '\S+', 'x' are no layer and mode"
    ):
        read_run(tmp_path)


@pytest.mark.parametrize("sample", [b"nine,2,1\n", b"\xff\n"])
def test_an_ill_formed_sample_of_power_is_named(tmp_path, sample):
    folder = RunFolder(tmp_path)
    folder.power.write_bytes(b"time_s,power_w,step\n1.0,2,1\n" + sample)
    shown = sample.decode(errors="replace").strip()
    with pytest.raises(TrainError) as error:
        folder.go_on(1, steps_run=0, measured_s=2.0)
    assert str(error.value) == f"{folder.power}: {shown!r} is no sample; remove the line to leave it out"


def test_a_sample_of_power_that_was_cut_off_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    folder.power.write_bytes(b"time_s,power_w,step\n1.0,2,1\n1.")
    folder.go_on(1, steps_run=0, measured_s=2.0)
    assert folder.power.read_bytes() == b"time_s,power_w,step\n1.0,2,1\n"


def test_a_full_disk_at_the_first_checkpoint(tmp_path):
    with largest_file(50_000):
        message = refusal(tmp_path)
    assert message == (
        f"cannot write {tmp_path}/checkpoint.pt: File too large; "
        "no checkpoint was saved yet, start the run again"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "metrics.jsonl"}
    assert run_training(CONFIG, out=tmp_path).steps_run == 4


def test_a_full_disk_at_a_later_checkpoint(stopped):
    saved = (stopped / "checkpoint.pt").read_bytes()
    with largest_file(50_000):
        message = refusal(stopped, resume=True)
    assert message == (
        f"cannot write {stopped}/checkpoint.pt: File too large; "
        "the last checkpoint stands, go on from it with --resume"
    )
    assert (stopped / "checkpoint.pt").read_bytes() == saved
    assert run_training(CONFIG, out=stopped, resume=True).steps_run == 4


def test_a_full_disk_at_a_step(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    assert refusal(tmp_path) == (
        f"cannot write {tmp_path}/metrics.jsonl: No space left on device; "
        "no checkpoint was saved yet, start the run again"
    )


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "before")
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        write_atomically(path, "x" * 100)
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "nowhere" / "file", "x")
    assert str(error.value).endswith(f"'{tmp_path}/nowhere/file'")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]

# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one-line errors, JSON on stdout and nothing else there."""

import json
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from e2train import __version__
from e2train.cli.app import main
from e2train.devices import MODES
from e2train.nn import MODEL_NAMES
from e2train.train import METHODS
from e2train.train.presets import PRESET_NAMES


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line as a user does; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_the_version_is_shown(run):
    assert run("--version") == (0, f"e2train {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nope"], f"no preset 'nope'; there are: {', '.join(PRESET_NAMES)}, or give a .toml file"),
        (["train", "digits", "--method", "sgd"], f"no method 'sgd'; there are: {', '.join(METHODS)}"),
        (["train", "digits", "--set", "psg_mode=guess"],
         "psg_mode must be one of resolve, sparsify, predict, not 'guess'"),
        (["train", "digits", "--set", "smd=half"], "smd must be of type float, not 'half'"),
        (["train", "cifar10-resnet8"],
         "cifar10-resnet8 needs its data: give the folder where it lies with --data DIR"),
        (["train", "cifar10-resnet8", "--data", "/none"],
         "no folder /none/cifar-10-batches-py: get it with e2train data fetch cifar10 --to DIR, and give "
         "--data DIR"),
        (["train", "digits", "--seed", "-1"], "seed must be in 0..9223372036854775807, not -1"),
        (["train", "none.toml"], "cannot read none.toml: No such file or directory"),
        (
            ["train", "digits", "--out", "/proc/run"],
            "cannot write to /proc/run: No such file or directory; choose another folder with --out",
        ),
        (
            ["train", "digits", "--out", "new", "--resume"],
            "nothing to resume: new/checkpoint.pt does not exist; leave --resume out to start",
        ),
        (["bench", "--model", "vgg"], f"no model 'vgg'; there are: {', '.join(MODEL_NAMES)}"),
    ],
)  # fmt: skip
def test_a_users_error_is_one_line(run, arguments, message):
    assert run(*arguments) == (2, "", f"e2train: {message}\n")


@pytest.mark.parametrize("options", [[], ["--method", "smb-fp32"], ["--set", "execution=offload"]])
def test_a_host_that_is_not_there_is_one_line(run, monkeypatch, options):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = "host is cuda, but torch finds no CUDA device; use --set host=cpu"
    assert run("train", "digits", "--set", "host=cuda", *options) == (2, "", f"e2train: {message}\n")


def test_a_warning_is_one_line(run, monkeypatch, tmp_path):
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)  # the command line sets another
    arrays = {"x_train": np.zeros((10, 8, 9), np.uint8), "y_train": np.arange(10) % 2}
    np.savez(tmp_path / "own.npz", **arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        options = ("--method", "signsgd", "--steps", "1", "--batch", "4", "--json")
        code, _, stderr = run("train", "folder-digits", "--data", "own.npz", *options)
        cut = "images of 9 x 8 pixels are not square: the middle square of each is used"
        assert (code, stderr) == (0, f"e2train: {cut}; crop or pad them for another part\n")
        code, _, stderr = run(
            "train", "digits", "--method", "psg", "--set", "smd=0.3", "--steps", "1", "--json"
        )
    assert (code, stderr) == (0, "e2train: without effect: smd (method psg)\n")


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["nonsense"], "no such command 'nonsense'", []),
        (["train"], "missing argument 'PRESET|FILE.toml'", ["train"]),
        (["train", "--quantum"], "no such option: --quantum", ["train"]),
        (["bench", "--device", "fpga"],
         "invalid value for '--device': 'fpga' is not one of 'rtl', 'csim', 'emulator'", ["bench"]),
        *((["energy", "record", "--idle", idle, "--", "true"],
           "invalid value for '--idle': Input should be less than or equal to 86400",
           ["energy", "record"]) for idle in ("inf", "nan")),
        (["bitstream", "build", "--simulated", "--dry-run"],
         "invalid value: --simulated needs no Vivado and has no steps to print; leave out --dry-run",
         ["bitstream", "build"]),
        *((["bitstream", "build", "--dry-run", *option],
           "invalid value: --top, -I and -D belong to a kernel of your own; name it by --kernel FILE.cpp",
           ["bitstream", "build"]) for option in (["--top", "f"], ["-I", "."], ["-D", "X"])),
        *((["board", "plan", "resnet8", option, value],
           f"invalid value for '{option}': Input should be less than or equal to {most}", ["board", "plan"])
          for option, most in (("--call-ms", 60000), ("--link-mb-s", 1000000)) for value in ("inf", "nan")),
        (["board", "plan", "resnet8", "--batch", "0"],
         "invalid value for '--batch': Input should be greater than or equal to 1", ["board", "plan"]),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(run, arguments, message, command):
    where = " ".join(["e2train", *command, "--help"])
    assert run(*arguments) == (2, "", f"e2train: {message}; see {where}\n")


def test_a_command_without_arguments_shows_its_help(run):
    code, stdout, stderr = run("board")
    assert (code, stderr) == (2, "")
    assert "Usage: e2train board" in stdout


def test_an_output_folder_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "taken").write_text("mine")
    code, _, stderr = run("train", "digits", "--out", "taken")
    assert code == 2
    assert stderr == "e2train: cannot write to taken: File exists; choose another folder with --out\n"
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("command", [[], ["train"], ["bench"], ["verify"], ["hls"], ["hls", "report"]])
def test_every_command_has_help(run, command):
    code, stdout, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: e2train" in stdout


def test_json_is_one_line_on_stdout(run):
    code, stdout, stderr = run("train", "digits", "--steps", "2", "--batch", "4", "--json")
    assert (code, stderr, stdout.count("\n")) == (0, "", 1)
    assert json.loads(stdout)["out"] == "runs/digits-e2train-emulator-seed0"


def test_ctrl_c_says_how_to_go_on(run, monkeypatch):
    resumed = ("train", "digits", "--steps", "3", "--batch", "4", "--out", "run", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("rich.progress.Progress.update", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        code, stdout, stderr = run(*resumed)
    assert (code, stdout) == (130, "")
    assert stderr == (
        "e2train: stopped after step 1 of 3, saved; "
        "go on with: e2train train run/config.toml --out run --resume\n"
    )
    assert run("train", "run/config.toml", "--out", "run", "--resume", "--json")[0] == 0


def test_bench_gives_a_line_per_layer_and_a_summary(run):
    code, stdout, _ = run("bench", "--model", "digits", "--device", "emulator", "--batch", "1", "--json")
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert [row["row"] for row in rows] == ["layer"] * (len(rows) - 1) + ["summary"]
    counts = {row["layer"]: row["count"] for row in rows[:-1]}
    assert counts == {"stem.0": 1, "blocks.0.branch.0": 4, "blocks.2.branch.0": 1, "blocks.2.branch.3": 3}
    assert {row["mode"] for row in rows[:-1]} == set(MODES) - {"grad_msb"}
    assert rows[-1]["utilisation_but_first_layer"] == dict.fromkeys(("forward", "grad_input", "grad_weight"))
    assert rows[-1]["cycles"] is None  # the emulator has no clock


def test_bench_with_predicted_gradients_runs_high_bits_in_place_of_full_ones(run):
    options = ("--device", "emulator", "--batch", "1", "--gradient-bits", "16", "--result-bits", "8")
    code, stdout, _ = run("bench", "--model", "digits", *options, "--psg", "--json")
    *rows, summary = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert {row["mode"] for row in rows} == set(MODES) - {"grad_weight"}
    assert (summary["gradient_bits"], summary["result_bits"]) == (16, 8)


def test_bench_of_a_model_that_cannot_stay_on_a_device_is_refused(run):
    code, stdout, stderr = run("bench", "--model", "resnet18", "--device", "emulator")
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1
    assert "its stem cannot stay on the device" in stderr
    assert "execution" not in stderr  # a setting of trainings


def test_a_fault_of_ours_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr("e2train.train.run_training", lambda *_, **__: 1 // 0)
    monkeypatch.setattr("sys.argv", ["e2train", "train", "digits"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_ctrl_c_during_imports_ends_the_process_at_once():
    swallowing = (
        "import os, signal\n"
        "from e2train.cli.interrupt import ends_at_once\n"
        "with ends_at_once():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", swallowing], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")

# SPDX-License-Identifier: Apache-2.0
"""The wheel, installed outside the checkout, does what the checkout does; the sdist installs the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
UNTRACKED = (".*", "build", "runs", "__pycache__", "*.egg-info")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
INSTALL = ("install", "--no-deps", "--no-index", "--no-build-isolation")
TRAIN = ("train", "digits", "--steps", "4", "--seed", "7", "--json")
# Where what was built from these sources is kept: a hash of their content.
KEPT = """
import e2hls, e2sim
from e2train.config import load_config
from e2train.devices.build import engine_kernel
from e2train.devices.native.library import library
kernel = engine_kernel(load_config("pynq_z2"))
rtl = e2hls.build_rtl(kernel)
print(*rtl.sv_files, e2sim.build_soc(rtl), e2hls.build_native(kernel).library, library()._name, sep="\\n")
"""


def outside(*command: object, cwd: Path, **options: object) -> str:
    """Run a command that does not know the checkout; what it printed."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel, each built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("built")
    copy = shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*UNTRACKED))
    for kind in ("sdist", "wheel"):
        hook = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
        outside(sys.executable, "-c", hook, cwd=copy)
    shutil.rmtree(copy)
    return {"sdist": next(folder.glob("*.tar.gz")), "wheel": next(folder.glob("*.whl"))}


@pytest.fixture(scope="module")
def home(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are those of the environment of this test."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home / "venv", symlinks=True)
    python = home / "venv" / "bin" / "python"
    outside(*PIP, "--python", python, *INSTALL, built["wheel"], cwd=home)
    (packages,) = (home / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home


def run(home: Path, *arguments: object) -> str:
    return outside(home / "venv" / "bin" / "e2train", *arguments, cwd=home)


def test_the_sdist_installs_what_the_wheel_holds(built, tmp_path):
    outside(*PIP, *INSTALL, "--no-compile", "--target", tmp_path / "got", built["sdist"], cwd=tmp_path)
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(tmp_path / "want")
    got, want = (
        {
            str(path.relative_to(folder)): path.read_bytes()
            for top in ("e2hls", "e2sim", "e2train")
            for path in (folder / top).rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "got", tmp_path / "want")
    )
    assert got == want


def test_the_wheel_is_what_runs(home):
    script = (
        "import sys, e2train, e2hls, e2sim; print(e2train.__version__, *sys.path, sep='\\n'); "
        "print(*(package.__file__ for package in (e2train, e2hls, e2sim)), sep='\\n')"
    )
    version, *paths = outside(home / "venv" / "bin" / "python", "-c", script, cwd=home).splitlines()
    assert version == "0.1.0"
    assert not any(Path(path).is_relative_to(ROOT / folder) for path in paths for folder in ("hls", "host"))
    assert all(Path(path).is_relative_to(home) for path in paths[-3:])


def test_what_is_built_does_not_depend_on_the_place(home):
    inside = subprocess.run([sys.executable, "-c", KEPT], text=True, capture_output=True, check=True)
    assert outside(home / "venv" / "bin" / "python", "-c", KEPT, cwd=home) == inside.stdout


def test_training_on_rtl_gives_the_weights_of_the_emulator(home):
    rtl, emulated = (
        json.loads(run(home, *TRAIN, "--device", device, "--out", device)) for device in ("rtl", "emulator")
    )
    assert rtl["weights_sha256"] == emulated["weights_sha256"]
    assert rtl["cycles"] > 0
    assert (home / "rtl" / "report.html").is_file()


def test_it_trains_with_offload(home):
    payload = json.loads(run(home, *TRAIN, "--set", "execution=offload", "--out", "offloaded"))
    assert payload["steps_run"] + payload["steps_dropped"] == 4


def test_it_reports_on_a_configuration(home):
    payload = json.loads(run(home, "hls", "report", "--board", "pynq_z2", "--json"))
    assert (payload["board"], payload["fits"]) == ("pynq_z2", True)


def test_it_verifies_the_engine(home):
    rows = [json.loads(line) for line in run(home, "verify", "engine", "--json").splitlines()]
    assert rows
    assert all(row["passed"] for row in rows)


def test_it_checks_a_kernel(home):
    (home / "twice.cpp").write_text("int twice(int x) { return 2 * x; }\n")
    told = json.loads(run(home, "hls", "check", "twice.cpp", "--no-cells", "--json"))
    assert (told["kernel"], told["exact"]) == ("twice_wrapper", True)


def test_it_serves_and_checks_a_board(home):
    run(home, "bitstream", "build", "--board", "pynq_z2", "--simulated", "--out", "overlays")
    (overlay,) = (home / "overlays").glob("*.zip")
    command = [home / "venv" / "bin" / "e2train", "board", "serve", "--board", "pynq_z2", "--port", "0"]
    with subprocess.Popen(
        command, cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            address = server.stdout.readline().split()[-1]
            checked = run(
                *(home, "board", "check", "--device", f"pynq:{address}", "--board", "pynq_z2"),
                *("--overlay", overlay, "--json"),
            )
        finally:
            server.terminate()
    assert all(json.loads(line)["passed"] for line in checked.splitlines())

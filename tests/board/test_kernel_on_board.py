# SPDX-License-Identifier: Apache-2.0
"""A user's kernel behind the DMA of a simulated board, called through the unmodified pynq client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from e2sim.board import Design
from e2train.cli.app import app
from e2train.devices import DeviceError, open_device
from e2train.devices.simulated_board import build_logic
from e2train.overlay import OverlayError, read_overlay
from pages import blocks
from serving import Served
from typer.testing import CliRunner

BOARD = "zcu104"
SELECT = """\
from pynq import Device
from pynq.pl_server.remote_device import RemoteDevice
Device.active_device = RemoteDevice(0, "127.0.0.1", {port})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel and the script of the tutorial, with its overlay."""
    folder = tmp_path_factory.mktemp("tutorial")
    for block in blocks("kernel_on_board.md", "cpp", "python"):
        (folder / str(block.file)).write_text(block.text)
    arguments = (
        "bitstream",
        "build",
        "--kernel",
        folder / "running_sum.cpp",
        "--board",
        BOARD,
        "--simulated",
    )
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(folder / "build/bitstreams")])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def archive(folder: Path) -> Path:
    (found,) = folder.glob("build/bitstreams/running_sum_zcu104_simulated_*.zip")
    return found


def run(folder: Path, board: Served) -> subprocess.CompletedProcess[str]:
    script = SELECT.format(port=board.port) + (folder / "call_it.py").read_text()
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pynq_calls_the_kernel(folder: Path, serve: Callable[..., Served]) -> None:
    done = run(folder, serve(BOARD, "--kernel", str(folder / "running_sum.cpp")))
    assert done.returncode == 0, done.stderr


def test_a_board_takes_the_kernel_that_it_serves(
    folder: Path, serve: Callable[..., Served], tmp_path: Path
) -> None:
    changed = tmp_path / "running_sum.cpp"
    changed.write_text((folder / "running_sum.cpp").read_text().replace("+= sum", "-= sum"))
    done = run(folder, serve(BOARD, "--kernel", str(changed)))
    assert done.returncode != 0
    assert "the board serves running_sum as it is built now; rebuild one of them" in done.stderr


def test_vivado_is_given_the_kernel(folder: Path) -> None:
    arguments = ["bitstream", "build", "--kernel", str(folder / "running_sum.cpp"), "--board", BOARD]
    steps = CliRunner().invoke(app, [*arguments, "--dry-run"]).stdout.splitlines()
    command = next(step.split() for step in steps if step.startswith("vivado "))
    assert steps[0].startswith("write ")
    assert {"engine.v", "running_sum.v", "e2hls_fifo.v"} <= {Path(word).name for word in command}


def test_the_manifest_names_the_kernel(archive: Path) -> None:
    overlay = read_overlay(archive)
    assert (overlay.manifest.kernel, overlay.manifest.simulated) == ("running_sum", True)


def test_no_training_on_a_kernel(archive: Path) -> None:
    with pytest.raises(DeviceError) as raised:
        open_device("pynq:127.0.0.1:9", config=BOARD, overlay=archive)
    assert str(raised.value) == f"{archive} holds the kernel running_sum, and no engine to train with"


def test_a_board_of_the_engine_refuses_a_kernel() -> None:
    design = Design(
        board=BOARD,
        config=BOARD,
        config_hash=0,
        clock_mhz=100.0,
        dma_base=0,
        dma_range=4096,
        gpio_base=4096,
        hwh_sha256="",
        kernel="running_sum",
    )
    with pytest.raises(OverlayError) as raised:
        build_logic(design)
    assert str(raised.value) == (
        "the bitstream is for the kernel running_sum; serve the board with --kernel FILE.cpp"
    )

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


# After the tutorial's second script, whose names these are.
REGISTERS = """
assert str(overlay.ip_dict["engine_0"]["type"]) == "xilinx.com:module_ref:engine_axis_control:1.0"
found = overlay.ip_dict["engine_0"]["registers"]
offsets = {name: found[name]["address_offset"] for name in found}
assert offsets == {"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12, "ap_return": 0x10, "gain": 0x18,
                   "offset_1": 0x20, "offset_2": 0x24}, offsets
control = kernel.register_map.CTRL
assert (control.AP_START, control.AP_DONE, control.AP_IDLE, control.AUTO_RESTART) == (0, 0, 1, 0), control
assert (int(kernel.register_map.gain), kernel.read(0x18), kernel.read(0x1C)) == (3, 3, 0)
"""


def built(folder: Path, kernel: str) -> Path:
    """A folder with the kernels and the scripts of the tutorial, and the overlay of one."""
    for block in blocks("kernel_on_board.md", "cpp", "python"):
        (folder / str(block.file)).write_text(block.text)
    arguments = ("bitstream", "build", "--kernel", folder / kernel, "--board", BOARD, "--simulated")
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(folder / "build/bitstreams")])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("tutorial"), "running_sum.cpp")


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("registers"), "scaled.cpp")


@pytest.fixture(scope="module")
def archive(folder: Path) -> Path:
    (found,) = folder.glob("build/bitstreams/running_sum_zcu104_simulated_*.zip")
    return found


def run(
    folder: Path, board: Served, name: str = "call_it.py", more: str = ""
) -> subprocess.CompletedProcess[str]:
    script = SELECT.format(port=board.port) + (folder / name).read_text() + more
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


def test_pynq_starts_a_kernel_and_sets_its_registers(controlled: Path, serve: Callable[..., Served]) -> None:
    done = run(
        controlled, serve(BOARD, "--kernel", str(controlled / "scaled.cpp")), "call_scaled.py", REGISTERS
    )
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


def test_vivado_is_given_the_registers(controlled: Path) -> None:
    arguments = ["bitstream", "build", "--kernel", str(controlled / "scaled.cpp"), "--board", BOARD]
    steps = CliRunner().invoke(app, [*arguments, "--dry-run"]).stdout.splitlines()
    assert "    set e2train(engine_module) engine_axis_control" in steps
    assert "    set e2train(control_base) 0xa0050000" in steps
    (archive,) = controlled.glob("build/bitstreams/scaled_zcu104_simulated_*.zip")
    assert read_overlay(archive).manifest.registers == {
        **{"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12, "ap_return": 16},
        **{"gain": 24, "offset_1": 32, "offset_2": 36},
    }


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

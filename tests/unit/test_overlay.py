# SPDX-License-Identifier: Apache-2.0
"""Overlays: one description for hand-off, Tcl and driver; archives that are checked before use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from e2train.config import ConfigError, config_header
from e2train.overlay import (
    BITSTREAMS,
    OverlayError,
    board_names,
    load_board,
    read_overlay,
    simulated_overlay,
    write_overlay,
)
from e2train.overlay.control import scalar_registers, scalars
from e2train.overlay.hwh import check_hwh, hwh_text, with_registers
from e2train.overlay.manifest import read_manifest
from e2train.overlay.vivado import VivadoBuild, board_tcl

BOARDS = board_names()

# Vivado's commands that the scripts use, as far as a plain Tcl can go: they write down their arguments.
VIVADO = r"""
proc note {args} { lappend ::calls $args }
foreach command {
  create_project add_files update_compile_order create_bd_design validate_bd_design save_bd_design
  generate_target launch_runs wait_on_run open_run report_timing_summary report_utilization
  create_bd_cell connect_bd_intf_net connect_bd_net assign_bd_address apply_bd_automation set_property
} { proc $command {args} "note $command {*}\$args" }
foreach command {
  get_bd_cells get_bd_pins get_bd_intf_pins get_bd_addr_segs get_files get_runs get_cells get_timing_paths
} { proc $command {args} {return [lindex $args end]} }
proc current_project {} {return project}
proc current_fileset {} {return sources_1}
proc make_wrapper {args} {return overlay_wrapper.v}
proc version {} {return "Vivado v2022.1 (stub)"}
proc get_property {name object} {
  switch $name {
    PROGRESS {return 100%}
    SLACK {return 0.25}
    DIRECTORY {return $::env(RUN)}
  }
  error "get_property $name"
}
"""


@pytest.mark.parametrize("name", BOARDS)
def test_description_is_complete(name):
    board = load_board(name)
    assert board.config.name == name
    assert board.clock_mhz == pytest.approx(1000 / board.config.period_ns)


def test_descriptions_are_checked(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    text = (BITSTREAMS / "zcu104" / "board.toml").read_text()
    for old, new, message in (
        ("dma_length_bits = 26", "", "lacks dma_length_bits"),
        ("dma_length_bits = 26", "dma_length_bits = 30", "mine: dma_length_bits must be in 14..26, not 30"),
        ("dma_length_bits = 26", "dma_length_bits = 26\ncolour = 1", "has unknown 'colour'"),
        ("dma_base = 0xA0000000", 'dma_base = "A"', "dma_base must be of type int, not 'A'"),
        (
            "gpio_base = 0xA0040000",
            "gpio_base = 0xA0030000",
            "gpio_base must be another multiple of dma_range",
        ),
        (
            "S_AXI_HP{}_FPD",
            "S_AXI_HP0_FPD",
            "mine: memory_port must have one {} for the number of the engine",
        ),
    ):
        (folder / "board.toml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_board("mine", tmp_path)
    with pytest.raises(ConfigError, match=r"^no board 'other' in .*; there are: mine$"):
        load_board("other", tmp_path)


@pytest.mark.parametrize("name", BOARDS)
def test_hand_off_and_tcl_say_the_same(name):
    board = load_board(name)
    root, tcl = ET.fromstring(hwh_text(board)), board_tcl(board)
    variables = dict(re.findall(r"set e2train\((\w+)\) (\S+)", tcl))
    ranges = {entry.get("INSTANCE"): int(entry.get("BASEVALUE"), 16) for entry in root.iter("MEMRANGE")}
    base, step = (int(variables[name], 16) for name in ("dma_base", "dma_range"))
    ports = re.findall(r"memory_ports\) \{(.*)\}", tcl)[0].split()
    assert len(set(ports)) == len(ports) == board.config.engines
    assert ranges == {
        **{f"axi_dma_{engine}": base + engine * step for engine in range(len(ports))},
        "axi_gpio_0": int(variables["gpio_base"], 16),
        **({"axi_cdma_0": int(variables["starter_base"], 16)} if board.engines > 1 else {}),
    }
    vlnvs = {module.get("INSTANCE"): module.get("VLNV") for module in root.iter("MODULE")}
    assert vlnvs["axi_dma_0"] == variables["dma_vlnv"]
    assert vlnvs.get("axi_cdma_0") == variables.get("starter_vlnv")
    assert vlnvs[f"{board.processing_system}_0"] == variables["processing_system_vlnv"]
    parameters = {entry.get("NAME"): entry.get("VALUE") for entry in root.iter("PARAMETER")}
    assert parameters["c_sg_length_width"] == variables["dma_length_bits"]
    assert parameters["c_m_axi_mm2s_data_width"] == variables["data_bits"]
    assert parameters["c_include_sg"] == "1"


def test_registers_of_a_kernel_in_the_hand_off():
    """In that of the simulated board and, where Vivado has written one without them, added to it."""
    board = load_board("zcu104").of_kernel()
    registers = scalar_registers(scalars({"gain": 16, "offset": 40}))
    text, tcl = hwh_text(board, registers).encode(), board_tcl(board, control=True)
    variables = dict(re.findall(r"set e2train\((\w+)\) (\S+)", tcl))
    assert (variables["control_base"], variables["engine_module"]) == ("0xa0050000", "engine_axis_control")
    plain = ET.fromstring(text)
    for module in plain.iter("MODULE"):
        if module.get("INSTANCE") == "engine_0":
            module.remove(module.find("ADDRESSBLOCKS"))
    for written in (text, with_registers(ET.tostring(plain), board, registers)):
        check_hwh(written, control=True)
        root = ET.fromstring(written)
        (kernel,) = (each for each in root.iter("MODULE") if each.get("INSTANCE") == "engine_0")
        (block,) = kernel.iter("ADDRESSBLOCK")
        assert block.get("INTERFACE") == "s_axi_control"
        offsets = [
            entry.get("VALUE") for entry in block.iterfind(".//REGISTER/PROPERTY[@NAME='ADDRESS_OFFSET']")
        ]
        assert offsets == ["0x0", "0x4", "0x8", "0xC", "0x10", "0x18", "0x1C"]
        (entry,) = (each for each in root.iter("MEMRANGE") if each.get("INSTANCE") == "engine_0")
        assert (entry.get("BASEVALUE"), entry.get("SLAVEBUSINTERFACE")) == ("0xA0050000", "s_axi_control")
    with pytest.raises(OverlayError, match=r"^the \.hwh file gives engine_0 no address for its registers$"):
        with_registers(hwh_text(board).encode(), board, registers)


@pytest.mark.parametrize("wrong", [{"a b": 16}, {"gain": -4}, {"gain": 1 << 16}, {"gain": "16"}])
def test_registers_of_a_manifest_are_checked(wrong):
    manifest = asdict(simulated_overlay(load_board("zcu104"), source_sha256="0" * 64).manifest)
    with pytest.raises(OverlayError) as raised:
        read_manifest(json.dumps(manifest | {"registers": wrong}).encode())
    assert str(raised.value) == (
        f"is wrong: registers must have names and offsets below 65536, not {wrong!r}"
    )


def test_boards_have_room_for_the_registers_of_a_kernel():
    for board in map(load_board, BOARDS):
        assert board.control_base % board.dma_range == 0
        assert board.control_base not in (*board.dma_bases, board.gpio_base)


def test_boards_of_several_engines_have_what_starts_them():
    for board in map(load_board, BOARDS):
        base = board.starter_base
        assert (base is not None) == (board.engines > 1)
        assert base is None or (
            base % board.dma_range == 0 and base not in (*board.dma_bases, board.gpio_base)
        )
        assert board.of_kernel().starter_base is None
    text = hwh_text(load_board("zcu104")).encode()
    check_hwh(text, engines=4)
    with pytest.raises(
        OverlayError, match=r"^the \.hwh file has no module axi_cdma_0 of type axi_cdma; rebuild"
    ):
        check_hwh(text.replace(b"axi_cdma_0", b"axi_cdma_1"), engines=4)


@pytest.mark.parametrize("value", ["0", None])
def test_a_dma_of_single_transfers_is_refused(value):
    """Vivado writes names of parameters in capitals."""
    text = hwh_text(load_board("zcu104"))
    entry = '<PARAMETER NAME="c_include_sg" VALUE="1" />'
    assert entry in text
    check_hwh(text.replace(entry, entry.replace("c_include_sg", "C_INCLUDE_SG")).encode())
    other = "" if value is None else entry.replace('"1"', f'"{value}"')
    with pytest.raises(
        OverlayError,
        match=r"^the \.hwh file's axi_dma_0 has no scatter-gather port; rebuild the overlay$",
    ):
        check_hwh(text.replace(entry, other).encode())


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh on PATH (apt install tcl)")
@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("name", BOARDS)
def test_the_tcl_runs_to_its_end(tmp_path, name, control):
    """With Vivado's commands replaced by ones that take notes."""
    board = load_board(name).of_kernel() if control else load_board(name)
    for folder in ("run", "project/overlay.gen/sources_1/bd/overlay/hw_handoff"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "overlay_wrapper.bit").write_text("bit")
    (tmp_path / "project/overlay.gen/sources_1/bd/overlay/hw_handoff/overlay.hwh").write_text("hwh")
    (tmp_path / "board.tcl").write_text(board_tcl(board, control=control))
    script = tmp_path / "test.tcl"
    script.write_text(
        f"{VIVADO}\nset argv [list {tmp_path / 'board.tcl'} {tmp_path} engine.v engine_load.v]\n"
        f"source {BITSTREAMS / 'build.tcl'}\nforeach call $calls {{ puts $call }}\n"
    )
    done = subprocess.run(
        ["tclsh", script], capture_output=True, text=True, check=False, env={"RUN": str(tmp_path / "run")}
    )
    assert done.returncode == 0, done.stderr
    calls = done.stdout
    assert (tmp_path / "overlay.bit").read_text() == "bit"
    assert (tmp_path / "overlay.hwh").read_text() == "hwh"
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["slack_ns"], result["tool"]) == (0.25, "Vivado v2022.1 (stub)")
    assert set(result["resources"]) == {"lut", "ff", "bram36", "dsp"}
    clocked = re.findall(r"connect_bd_net ps_0/\w+ (\S+)", calls)
    for i, (dma_base, memory_port) in enumerate(zip(board.dma_bases, board.memory_ports, strict=True)):
        assert f"connect_bd_net axi_dma_{i}/mm2s_prmry_reset_out_n engine_{i}/rst_n" in calls
        assert f"assign_bd_address -offset {dma_base:#x} -range {board.dma_range:#x} axi_dma_{i}/" in calls
        assert f"connect_bd_intf_net control_0/M0{i}_AXI axi_dma_{i}/S_AXI_LITE" in calls
        assert f"connect_bd_intf_net memory_{i}/M00_AXI ps_0/{memory_port}" in calls
        for index, port in enumerate(("MM2S", "S2MM", "SG")):
            assert f"connect_bd_intf_net axi_dma_{i}/M_AXI_{port} memory_{i}/S0{index}_AXI" in calls
        assert {f"engine_{i}/clk", f"axi_dma_{i}/m_axi_mm2s_aclk", f"axi_dma_{i}/m_axi_sg_aclk"} <= set(
            clocked
        )
    engines, starter = board.engines, board.engines > 1
    assert calls.count("CONFIG.c_include_sg 1 ") == engines
    settings = f"{calls} ".replace("}", " ").replace("\n", " ")
    assert f"CONFIG.NUM_SI {1 + starter} CONFIG.NUM_MI {engines + 1 + control + starter} " in settings
    for calls_of_starter in (
        f"assign_bd_address -offset {board.starter_base or 0:#x} -range {board.dma_range:#x} axi_cdma_0/",
        f"connect_bd_intf_net control_0/M0{engines + 1}_AXI axi_cdma_0/S_AXI_LITE",
        "connect_bd_intf_net starter_0/M00_AXI control_0/S01_AXI",
        "connect_bd_intf_net starter_0/M01_AXI memory_0/S03_AXI",
        "connect_bd_intf_net axi_cdma_0/M_AXI_SG memory_0/S04_AXI",
    ):
        assert (calls_of_starter in calls) == starter
    assert ("axi_cdma_0/m_axi_aclk" in clocked) == starter
    assert ("engine_axis_control.v" in calls) == control
    assert (f"connect_bd_intf_net control_0/M0{engines + 1}_AXI engine_0/s_axi_control" in calls) == control
    assert ("connect_bd_net reset_0/peripheral_aresetn engine_0/s_axi_aresetn" in calls) == control
    assert (
        f"assign_bd_address -offset {board.control_base:#x} -range {board.dma_range:#x} engine_0" in calls
    ) == control
    assert f"connect_bd_intf_net control_0/M0{engines}_AXI axi_gpio_0/S_AXI" in calls
    ports = re.findall(r"CONFIG\.P(?:CW|SU_)_USE_{1,2}S_AXI_(?:HP|GP)(\d) 1", calls)
    first = 0 if board.processing_system == "processing_system7" else 2
    assert sorted(map(int, ports)) == list(range(first, first + engines))


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh on PATH (apt install tcl)")
@pytest.mark.parametrize("name", BOARDS)
def test_the_tcl_for_vitis_runs_to_its_end(tmp_path, name):
    """With the commands of Vitis HLS replaced by ones that take notes."""
    commands = (
        *("open_project", "set_top", "add_files", "open_solution", "set_part", "create_clock"),
        *("csynth_design", "export_design"),
    )
    stubs = "".join(f"proc {command} args {{puts [list {command} {{*}}$args]}}\n" for command in commands)
    script = tmp_path / "test.tcl"
    vitis = BITSTREAMS.parent / "scripts" / "vitis_hls.tcl"
    arguments = f"-f {vitis} -tclargs {name} {tmp_path / 'out'} {sys.executable}"
    script.write_text(f"{stubs}set argv [list {arguments}]\nsource {vitis}\n")
    done = subprocess.run(["tclsh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    board = load_board(name)
    assert f"set_part {board.config.part}\ncreate_clock -period {board.config.period_ns}\n" in done.stdout
    (source,) = re.findall(r"add_files (\S+engine_top\.cpp)", done.stdout)
    assert Path(source).is_file()
    assert (tmp_path / "out" / "engine_config.hpp").read_text() == config_header(board.config)


def test_an_archive_comes_back_whole(tmp_path):
    overlay = simulated_overlay(load_board("zcu104"), source_sha256="0" * 64)
    path = write_overlay(overlay, tmp_path)
    assert read_overlay(path) == overlay
    first = path.read_bytes()
    assert write_overlay(overlay, tmp_path).read_bytes() == first
    bit = overlay.unpack(tmp_path / "unpacked")
    assert bit.with_suffix(".hwh").read_bytes() == overlay.hwh
    assert bit.stem == overlay.name


def test_a_name_changes_with_any_content():
    overlay = simulated_overlay(load_board("zcu104"), source_sha256="0" * 64)
    assert overlay.name.startswith("e2train_zcu104_simulated_")
    assert replace(overlay, hwh=overlay.hwh + b" ").name != overlay.name


def rewritten(path: Path, change: dict[str, bytes | None]) -> Path:
    """The archive with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_an_altered_archive_is_refused(tmp_path):
    overlay = simulated_overlay(load_board("zcu104"), source_sha256="0" * 64)
    manifest = json.loads(json.dumps({"board": "zcu104"}))
    for change, message in (
        ({f"{overlay.name}.bit": overlay.bit + b"x"}, "the .bit file is not the one of its manifest"),
        ({f"{overlay.name}.hwh": overlay.hwh + b" "}, "the .hwh file is not the one of its manifest"),
        ({f"{overlay.name}.hwh": None}, "must hold one .hwh file, it holds 0"),
        ({"../evil.bit": b"x"}, "must hold one .bit file, it holds 2"),
        ({"manifest.json": b"{"}, "manifest.json is not JSON"),
        ({"manifest.json": json.dumps(manifest).encode()}, "manifest.json lacks config, config_hash, "),
    ):
        path = rewritten(write_overlay(overlay, tmp_path), change)
        with pytest.raises(OverlayError, match=re.escape(message)):
            read_overlay(path)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "file.zip").write_text("no archive")
    with pytest.raises(OverlayError, match=r"file.zip is no overlay archive"):
        read_overlay(tmp_path / "file.zip")
    with pytest.raises(OverlayError, match=r"^cannot read .*none.zip: No such file or directory$"):
        read_overlay(tmp_path / "none.zip")


def test_without_vivado_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OverlayError, match=r"^no vivado on PATH: install Vivado ML"):
        VivadoBuild(load_board("pynq_z2"), tmp_path, rtl=()).run()


def test_vivado_finds_its_files_from_any_folder(tmp_path, monkeypatch):
    """A stand-in for Vivado that looks at the paths it is given, as the build script does."""
    vivado = tmp_path / "bin" / "vivado"
    vivado.parent.mkdir()
    vivado.write_text(
        "#!/bin/sh\nset -e\n"
        'while [ "$1" != -tclargs ]; do shift; done\n'
        'grep -q e2train "$2"; test -f "$4"\n'
        'echo bit > "$3/overlay.bit"; echo hwh > "$3/overlay.hwh"\n'
        'echo \'{"slack_ns": 0.5, "tool": "stub", "resources": {"lut": 1}}\' > "$3/result.json"\n'
    )
    vivado.chmod(0o755)
    monkeypatch.setenv("PATH", f"{vivado.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    rtl = tmp_path / "engine.v"
    rtl.write_text("module engine; endmodule\n")
    overlay = VivadoBuild(load_board("pynq_z2"), Path("build"), rtl=(rtl,)).run()
    assert (overlay.bit, overlay.manifest.slack_ns, overlay.manifest.simulated) == (b"bit\n", 0.5, False)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ('{"slack_ns": , "tool": ""}', "result.json of the build script is wrong: Expecting value"),
        ("{}", "result.json of the build script is wrong: lacks slack_ns, resources, tool;"),
        ("[" * 60_000, "result.json of the build script is wrong: maximum recursion depth exceeded"),
        ('{"slack_ns": "0.1", "tool": "stub", "resources": {}}',
         "result.json of the build script is wrong: slack_ns must be of type float, not '0.1'"),
        (None, "Vivado ended without writing result.json (see "),
        ('{"slack_ns": -0.5, "tool": "stub", "resources": {}}',
         "the timing is not met: slack -0.5 ns at 100 MHz;"),
        ('{"slack_ns": NaN, "tool": "stub", "resources": {}}',
         "slack_ns must be in 0..1000 or null, not nan"),
    ],
)  # fmt: skip
def test_a_result_of_vivado_that_makes_no_sense_is_one_line(tmp_path, monkeypatch, result, message):
    """Also where an earlier build left one that does."""
    made, vivado = tmp_path / "made", tmp_path / "bin" / "vivado"
    for folder in (made, vivado.parent):
        folder.mkdir()
    vivado.write_text(f"#!/bin/sh\ncp {made}/* .\n")
    vivado.chmod(0o755)
    monkeypatch.setenv("PATH", f"{vivado.parent}:/usr/bin:/bin")
    build = VivadoBuild(load_board("pynq_z2"), tmp_path, rtl=())
    build.folder.mkdir()
    (build.folder / "result.json").write_text('{"slack_ns": 0.5, "tool": "stub", "resources": {}}')
    for name, content in {"overlay.bit": "bit", "overlay.hwh": "hwh", "result.json": result}.items():
        if content is not None:
            (made / name).write_text(content)
    with pytest.raises(OverlayError, match=re.escape(message)):
        build.run()


def test_dry_run_prints_every_step(tmp_path):
    steps = VivadoBuild(load_board("pynq_z2"), tmp_path, rtl=(Path("engine.v"),)).steps()
    assert steps[0] == "e2train hls build --board pynq_z2"
    assert any(step.startswith("vivado -mode batch") and step.endswith("engine.v") for step in steps)
    assert "    set e2train(clock_mhz) 100" in steps

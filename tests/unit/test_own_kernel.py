# SPDX-License-Identifier: Apache-2.0
"""Which kernels fit behind the DMA, the module that has the engine's streams, and its registers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2hls.base.errors import HlsError, Loc
from e2hls.base.kernel import DONE, Kernel
from e2hls.base.rtl_design import FifoReport, PortReport, RtlDesign, RtlReport
from e2hls.frontend.top_function import TopFunction
from e2train.config import load_config
from e2train.devices import DeviceError
from e2train.devices.control_slave import control_slave
from e2train.devices.own_kernel import OwnKernel, own_kernel
from e2train.overlay.control import scalars


def port(name: str, bits: int = 32, *, axis: bool = True, output: bool = False, sides=()) -> PortReport:
    return PortReport(name=name, data_bits=bits, axis=axis, output=output, sides=sides)


X, Y = port("x"), port("y", output=True)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("E2TRAIN_CACHE", str(tmp_path))

    def build_with(*ports: PortReport, name: str = "fir") -> OwnKernel:
        design = RtlDesign(
            *(name, tmp_path, (tmp_path / "fir.sv",), (tmp_path / "fir.v",)),
            RtlReport(ports=ports, processes=(), rams=()),
        )
        module = "e2train.devices.own_kernel"
        kernel = Kernel(name, Path("fir.cpp"))
        top = TopFunction(name=name, parameters=(), returns=False, loc=Loc("fir.cpp", 1))
        monkeypatch.setattr(f"{module}.find_function", lambda source, **options: (kernel, top))
        monkeypatch.setattr("e2hls.build_rtl", lambda kernel, options: design)
        return own_kernel(Path("fir.cpp"), load_config("pynq_z2"))

    return build_with


def test_a_beat_is_the_low_bits_of_a_word(build) -> None:
    made = build(port("x", 24, sides=(("keep", 3),)), port("y", 8, output=True, sides=(("strb", 1),)))
    assert (made.name, made.kernel, [path.name for path in made.sv_files]) == (
        *("engine", "fir"),
        ["fir.sv", "engine.sv"],
    )
    body = made.verilog_files[-1].read_text().partition(");\n")[2].split("\n")
    assert [line.strip() for line in body] == [
        "wire [7:0] data;",
        "assign m_axis_tdata = {56'b0, data};",
        "fir kernel_i (",
        ".clk(clk),",
        ".rst_n(rst_n),",
        ".x_tdata(s_axis_tdata[23:0]),",
        ".x_tkeep({3{1'b1}}),",
        ".x_tlast(s_axis_tlast),",
        ".x_tvalid(s_axis_tvalid),",
        ".x_tready(s_axis_tready),",
        ".y_tstrb(),",
        ".y_tlast(m_axis_tlast),",
        ".y_tvalid(m_axis_tvalid),",
        ".y_tready(m_axis_tready),",
        ".y_tdata(data)",
        ");",
        "endmodule",
        "",
    ]


@pytest.mark.parametrize(
    ("ports", "name", "message"),
    [
        ((X, X, Y), "fir", "fir has 2 inputs and 1 outputs; behind the DMA a kernel has one stream each way"),
        ((X,), "fir", "fir has 1 inputs and 0 outputs; behind the DMA a kernel has one stream each way"),
        (
            *((port("x", axis=False), Y), "fir"),
            "stream x of fir has words of 32 bits without TLAST; the DMA wants ap_axiu<BITS, 0, 0, 0> of at "
            "most 64",
        ),
        (
            *((X, port("y", 65, output=True)), "fir"),
            "stream y of fir has words of 65 bits with TLAST; the DMA wants ap_axiu<BITS, 0, 0, 0> of at "
            "most 64",
        ),
        (
            *((port("x", sides=(("keep", 4), ("user", 2))), Y), "fir"),
            "fir uses user of x, which no DMA gives or takes; use ap_axiu<32, 0, 0, 0>",
        ),
        ((X, Y), "engine", "name the top function otherwise: engine is what it is put into"),
    ],
)
def test_what_does_not_fit_is_one_line(build, ports, name: str, message: str) -> None:
    with pytest.raises(DeviceError) as raised:
        build(*ports, name=name)
    assert str(raised.value) == f"fir.cpp: {message}"


STREAMS = "hls::stream<ap_axiu<32, 0, 0, 0>>& x, hls::stream<ap_axiu<32, 0, 0, 0>>& y"
INTERFACE = "#pragma HLS INTERFACE "
RETURN = f"{INTERFACE}s_axilite port=return"
GAIN = f"{INTERFACE}s_axilite port=gain"
WAYS = "on a board a kernel has streams, scalars by value in registers, and a result"


@pytest.mark.parametrize(
    ("parameters", "lines", "message"),
    [
        ("int gain[4]", (GAIN, RETURN), f"gain of fir is an array; {WAYS}"),
        ("int *gain", (GAIN, RETURN), f"gain of fir is a pointer; {WAYS}"),
        ("int& gain", (GAIN, RETURN), f"gain of fir is a reference; {WAYS}; return it"),
        (
            *("int gain", (RETURN,)),
            "gain of fir must be a register to be set on a board; add #pragma HLS INTERFACE s_axilite "
            "port=gain",
        ),
        (
            *("int gain", (GAIN,)),
            "nothing starts fir on a board; add #pragma HLS INTERFACE s_axilite port=return",
        ),
        (
            *("int gain", (GAIN, f"{INTERFACE}ap_ctrl_none port=return")),
            "fir has registers and ap_ctrl_none, with which it is not known what call takes a new value; use "
            "#pragma HLS INTERFACE s_axilite port=return",
        ),
        (
            *("int gain", (GAIN, RETURN, f"{INTERFACE}mode=ap_ctrl_chain port=return")),
            "fir has ap_ctrl_chain; on a board it is started by ap_ctrl_hs",
        ),
        (
            *("int gain", (GAIN, RETURN, "#pragma HLS DATAFLOW")),
            "fir has registers and DATAFLOW; put one or the other into a kernel for a board",
        ),
        (
            *("int gain", (f"{GAIN} offset=0x40", RETURN)),
            "offset= of INTERFACE is not taken for registers of fir on a board; leave it out",
        ),
        (
            *("int gain", (f"{GAIN} bundle=a", f"{RETURN} bundle=b")),
            "registers of fir are in a and b; on a board they are in one bundle",
        ),
        ("int ap_return", (RETURN,), "ap_return of fir has the name of the result's register; rename it"),
    ],
)
def test_registers_that_are_refused(
    tmp_path: Path, parameters: str, lines: tuple[str, ...], message: str
) -> None:
    source = tmp_path / "fir.cpp"
    pragmas = "\n".join(lines)
    source.write_text(
        "#include <ap_axi_sdata.h>\n#include <hls_stream.h>\n"
        f"void fir({STREAMS}, {parameters}) {{\n{pragmas}\n  y.write(x.read());\n}}\n"
    )
    with pytest.raises(HlsError) as raised:
        own_kernel(source, load_config("pynq_z2"))
    assert raised.value.message == message


def controlled(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    gain: int,
    writer: str = "fir",
    others: dict[str, int] | None = None,
) -> OwnKernel:
    others = others or {}
    monkeypatch.setenv("E2TRAIN_CACHE", str(tmp_path))
    source = tmp_path / "fir.cpp"
    source.write_text(
        "#include <ap_axi_sdata.h>\n#include <hls_stream.h>\n"
        f"void fir({', '.join([STREAMS, 'const ap_int<9>& gain', *(f'int {name}' for name in others)])}) {{\n"
        + "".join(f"{INTERFACE}s_axilite port={name}\n" for name in others)
        + f"{GAIN}\n{RETURN}\n"
        f"{INTERFACE}ap_ctrl_hs port=return\n}}\n"
    )
    registers = [port(f"{name}_in", bits, axis=False) for name, bits in {"gain": gain, **others}.items()]
    ports = (X, Y, *registers, port(DONE, 1, axis=False, output=True))
    fifos = (
        *(FifoReport(name=name, depth=2, writer="", reader="fir") for name in ("x", "gain_in")),
        FifoReport(name="y", depth=2, writer=writer, reader=""),
        FifoReport(name=DONE, depth=2, writer="fir", reader=""),
    )
    report = RtlReport(ports=ports, processes=(), rams=(), fifos=fifos)
    design = RtlDesign("fir_wrapper", tmp_path, (), (tmp_path / "fir.v",), report)
    monkeypatch.setattr("e2hls.build_rtl", lambda kernel, options: design)
    return own_kernel(source, load_config("pynq_z2"))


def test_registers_of_a_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = controlled(monkeypatch, tmp_path, gain=33)
    assert made.kernel == "fir"
    assert [(each.name, each.offset) for each in made.registers] == [
        *(("CTRL", 0), ("GIER", 4), ("IP_IER", 8), ("IP_ISR", 12)),
        *(("gain_1", 16), ("gain_2", 20)),
    ]
    assert made.registers[-1].fields == {"gain_2": (0, 1)}


def test_a_scalar_of_more_than_two_registers_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError) as raised:
        controlled(monkeypatch, tmp_path, gain=65)
    assert str(raised.value) == (
        f"{tmp_path / 'fir.cpp'}: gain of fir has 65 bits; registers of a board hold at most 64"
    )


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"gain_1": 8}, "two registers of fir are called gain_1; rename a scalar"),
        ({"CTRL": 8}, "two registers of fir are called CTRL; rename a scalar"),
        (
            {f"s{number}": 64 for number in range(400)},
            "registers of fir end at 0x12d8, those of a board at 0x1000 at most; take fewer scalars",
        ),
    ],
    ids=["halves", "control", "too many"],
)
def test_registers_of_one_name_or_beyond_the_map_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: dict[str, int], message: str
) -> None:
    with pytest.raises(DeviceError) as raised:
        controlled(monkeypatch, tmp_path, gain=33, others=others)
    assert str(raised.value) == f"{tmp_path / 'fir.cpp'}: {message}"


def test_scalars_of_any_names_have_registers_of_their_own() -> None:
    text = "\n".join(control_slave(scalars({"x": 8, "x_q": 8, "start": 8, "b": 8})))
    declared = re.findall(
        r"^ *(?:input|output|reg|wire)(?: +wire)?(?: \[[^]]*\])? +(\w+)", text, re.MULTILINE
    )
    assert {"arg_x", "q_x", "arg_x_q", "q_x_q", "start_q", "b_q"} <= set(declared)
    assert len(declared) == len(set(declared))


def test_a_stream_of_another_process_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as raised:
        controlled(monkeypatch, tmp_path, gain=9, writer="merge")
    assert str(raised.value) == (
        f"{tmp_path / 'fir.cpp'}: y of fir belongs to a process of its own, so that the end of a call is not "
        "known; leave the registers out"
    )

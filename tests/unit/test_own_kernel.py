# SPDX-License-Identifier: Apache-2.0
"""Which kernels fit behind the DMA, and the module that has the engine's streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import PortReport, RtlDesign, RtlReport
from e2hls.checking import Wrapped
from e2train.config import load_config
from e2train.devices import DeviceError
from e2train.devices.own_kernel import OwnKernel, own_kernel


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
        found = Wrapped(kernel=Kernel(name, Path("fir.cpp")))
        monkeypatch.setattr(f"{module}.find_kernel", lambda source, **options: found)
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
            "fir uses user of x, which no DMA gives or takes",
        ),
        ((X, Y), "engine", "name the top function otherwise: engine is what it is put into"),
    ],
)
def test_what_does_not_fit_is_one_line(build, ports, name: str, message: str) -> None:
    with pytest.raises(DeviceError) as raised:
        build(*ports, name=name)
    assert str(raised.value) == f"fir.cpp: {message}"

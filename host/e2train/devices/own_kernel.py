# SPDX-License-Identifier: Apache-2.0
"""A user's kernel in the engine's place on a board: behind the DMA, one beat to a 64-bit word.

A processor starts it and sets its scalars by registers, where its pragmas say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import e2hls
from e2hls.base.cache import cached, content_key
from e2hls.base.kernel import DONE
from e2hls.base.rtl_design import PortReport
from e2hls.checking.controlled import Controlled, control
from e2hls.checking.kernel import find_function
from e2hls.checking.wrapper import wrap
from e2hls.checking.wrapper_text import RESULT, START

from e2train.config import EngineConfig
from e2train.devices.build import rtl_options
from e2train.devices.control_slave import ADDRESS_BITS, AXI_PINS, control_slave
from e2train.devices.protocol import DeviceError
from e2train.overlay.control import RESULT as RESULT_REGISTER
from e2train.overlay.control import Scalar, scalar_registers, scalars
from e2train.overlay.registers import Register

__all__ = ["OwnKernel", "own_kernel"]

_BITS = 64  # of the overlay's streams, and the most that a scalar has
_TIED = ("keep", "strb")  # side channels that a DMA of whole words does not need


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKernel:
    """The RTL of a module that has the engine's name and streams, with a user's kernel inside."""

    kernel: str
    sv_files: tuple[Path, ...]
    verilog_files: tuple[Path, ...]
    name: str = "engine"
    registers: tuple[Register, ...] = ()  # with which it is controlled


def own_kernel(
    source: Path,
    cfg: EngineConfig,
    *,
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
) -> OwnKernel:
    """Build the kernel in a C++ file for the clock of a board.

    Raises: DeviceError where its ports are not those of a DMA; HlsError for what the flow does not take.
    """
    kernel, function = find_function(source, top=top, include_dirs=include_dirs, defines=defines)
    controlled = control(kernel, function)
    built = controlled.kernel if controlled else wrap(kernel, function).kernel
    design = e2hls.build_rtl(built, rtl_options(cfg))
    name = controlled.name if controlled else design.name
    found = _scalars(source, design, controlled) if controlled else ()
    text = "\n".join(_module(design.name, name, *_ports(source, name, design, controlled), found, controlled))

    def write(folder: Path) -> None:
        for suffix in ("sv", "v"):
            (folder / f"engine.{suffix}").write_text(text, encoding="utf-8")

    folder = cached("own_kernel", content_key(text), write)
    return OwnKernel(
        kernel=name,
        sv_files=(*design.sv_files, folder / "engine.sv"),
        verilog_files=(*design.verilog_files, folder / "engine.v"),
        registers=scalar_registers(found) if controlled else (),
    )


def _scalars(source: Path, design: e2hls.RtlDesign, controlled: Controlled) -> tuple[Scalar, ...]:
    """The result, then the parameters, at their offsets.

    Raises: DeviceError for one that two registers cannot hold, or where names or addresses would be shared.
    """
    ports = {port.name: port.data_bits for port in design.report.ports}
    streams = {RESULT_REGISTER: RESULT} if controlled.returns else {}
    streams |= {name: f"{name}_in" for name in controlled.scalars}
    for name, stream in streams.items():
        if ports[stream] > _BITS:
            what = f"the result of {controlled.name}" if stream == RESULT else f"{name} of {controlled.name}"
            raise DeviceError(
                f"{source}: {what} has {ports[stream]} bits; registers of a board hold at most {_BITS}"
            )
    found = scalars({name: ports[stream] for name, stream in streams.items()})
    registers = scalar_registers(found)
    names = [register.name for register in registers]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DeviceError(
            f"{source}: two registers of {controlled.name} are called {double}; rename a scalar"
        )
    if registers[-1].offset >= 1 << ADDRESS_BITS:
        raise DeviceError(
            f"{source}: registers of {controlled.name} end at {registers[-1].offset + 4:#x}, those of a "
            f"board at {1 << ADDRESS_BITS:#x} at most; take fewer scalars"
        )
    return found


def _ports(
    source: Path, name: str, design: e2hls.RtlDesign, controlled: Controlled | None
) -> tuple[PortReport, PortReport]:
    """The input and the output.

    Raises: DeviceError unless these are its ports, of beats with TLAST and at most 64 bits.
    """
    ends = {fifo.name: fifo.writer or fifo.reader for fifo in design.report.fifos}
    registers = {START, DONE, RESULT, *(f"{each}_in" for each in controlled.scalars)} if controlled else set()
    ports = [port for port in design.report.ports if port.name not in registers]
    inputs = [port for port in ports if not port.output]
    outputs = [port for port in ports if port.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise DeviceError(
            f"{source}: {name} has {len(inputs)} inputs and {len(outputs)} outputs; behind the DMA a "
            "kernel has one stream each way"
        )
    for port in ports:
        if not port.axis or port.data_bits > _BITS:
            raise DeviceError(
                f"{source}: stream {port.name} of {name} has words of {port.data_bits} bits with"
                f"{'' if port.axis else 'out'} TLAST; the DMA wants ap_axiu<BITS, 0, 0, 0> of at most {_BITS}"
            )
        side = next((side for side, _ in port.sides if side not in _TIED), None)
        if side is not None:
            raise DeviceError(
                f"{source}: {name} uses {side} of {port.name}, which no DMA gives or takes; use "
                f"ap_axiu<{port.data_bits}, 0, 0, 0>"
            )
        if controlled and ends[port.name] != ends[DONE]:
            raise DeviceError(
                f"{source}: {port.name} of {name} belongs to a process of its own, so that the end of a call "
                "is not known; leave the registers out"
            )
    if name == "engine":
        raise DeviceError(f"{source}: name the top function otherwise: engine is what it is put into")
    return inputs[0], outputs[0]


def _module(
    module: str,
    name: str,
    source: PortReport,
    sink: PortReport,
    found: tuple[Scalar, ...],
    controlled: Controlled | None,
) -> Iterator[str]:
    """Verilog, with the engine's ports."""
    yield f"// The kernel {name} in the engine's place, one beat to a word; generated by e2train."
    if controlled:
        yield from control_slave(found)
    yield "module engine ("
    yield "  input  wire        clk,"
    yield "  input  wire        rst_n,"
    if controlled:
        yield from (
            f"  {'output' if output else 'input '} wire [{bits - 1}:0] {pin},"
            for pin, bits, output in AXI_PINS
        )
    yield f"  input  wire [{_BITS - 1}:0] s_axis_tdata,"
    yield "  input  wire        s_axis_tlast,"
    yield "  input  wire        s_axis_tvalid,"
    yield "  output wire        s_axis_tready,"
    yield f"  output wire [{_BITS - 1}:0] m_axis_tdata,"
    yield "  output wire        m_axis_tlast,"
    yield "  output wire        m_axis_tvalid,"
    yield "  input  wire        m_axis_tready"
    yield ");"
    yield f"  wire [{sink.data_bits - 1}:0] data;"
    above = _BITS - sink.data_bits
    zeros = f"{above}'b0, " if above else ""
    yield f"  assign m_axis_tdata = {{{zeros}data}};"
    if controlled:
        yield from _control(found)
    yield f"  {module} kernel_i ("
    yield "    .clk(clk),"
    yield "    .rst_n(rst_n),"
    if controlled:
        yield from _control_pins(found)
    yield f"    .{source.name}_tdata(s_axis_tdata[{source.data_bits - 1}:0]),"
    yield from (f"    .{source.name}_t{side}({{{width}{{1'b1}}}})," for side, width in source.sides)
    for pin in ("last", "valid", "ready"):
        yield f"    .{source.name}_t{pin}(s_axis_t{pin}),"
    yield from (f"    .{sink.name}_t{side}()," for side, _ in sink.sides)
    for pin in ("last", "valid", "ready"):
        yield f"    .{sink.name}_t{pin}(m_axis_t{pin}),"
    yield f"    .{sink.name}_tdata(data)"
    yield "  );"
    yield "endmodule"
    yield ""


def _streams(found: tuple[Scalar, ...]) -> tuple[dict[str, str], bool]:
    """The kernel's stream of each scalar; whether it has a result."""
    names = [each.name for each in found]
    return {name: f"{name}_in" for name in names if name != RESULT_REGISTER}, RESULT_REGISTER in names


def _control(found: tuple[Scalar, ...]) -> Iterator[str]:
    """The slave. A call is over when its result has come, and the DMA has taken its last word."""
    inputs, returns = _streams(found)
    yield "  wire launch, running, start_ready, done_valid;"
    for each in found:
        if each.name in inputs:
            yield f"  wire [{each.bits - 1}:0] arg_{each.name};"
            yield f"  wire ready_{each.name};"
        else:
            yield f"  wire [{each.bits - 1}:0] result;"
            yield "  wire result_valid;"
    taken = " && ".join(["start_ready", *(f"ready_{name}" for name in inputs)])
    yield f"  wire done = running && done_valid{' && result_valid' if returns else ''} && !m_axis_tvalid;"
    yield "  engine_control control_i ("
    yield "    .clk(clk),"
    yield "    .rst_n(rst_n),"
    yield from (f"    .{pin}({pin})," for pin, _, _ in AXI_PINS)
    yield from (f"    .arg_{name}(arg_{name})," for name in inputs)
    if returns:
        yield "    .result(result),"
    yield "    .launch(launch),"
    yield f"    .taken({taken}),"
    yield "    .running(running),"
    yield "    .done(done)"
    yield "  );"


def _control_pins(found: tuple[Scalar, ...]) -> Iterator[str]:
    inputs, returns = _streams(found)
    yield f"    .{START}_tdata(1'b1),"
    yield f"    .{START}_tvalid(launch),"
    yield f"    .{START}_tready(start_ready),"
    for name, stream in inputs.items():
        yield f"    .{stream}_tdata(arg_{name}),"
        yield f"    .{stream}_tvalid(launch),"
        yield f"    .{stream}_tready(ready_{name}),"
    if returns:
        yield f"    .{RESULT}_tdata(result),"
        yield f"    .{RESULT}_tvalid(result_valid),"
        yield f"    .{RESULT}_tready(done),"
    yield f"    .{DONE}_tdata(),"
    yield f"    .{DONE}_tvalid(done_valid),"
    yield f"    .{DONE}_tready(done),"

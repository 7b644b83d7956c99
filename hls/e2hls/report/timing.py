# SPDX-License-Identifier: Apache-2.0
"""The longest register-to-register paths of a netlist of Xilinx cells, by assumed delays of cells and nets.

This is evidence, not timing: places and nets are not known before the vendor's tool has run.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from e2hls.report.wires import Bit, Cell, WireModel, Wires, nets

__all__ = ["DELAYS", "DelayModel", "StagePath", "longest_paths"]

_UNNAMED = "(unnamed)"
_STAGE = re.compile(r"(?:^|_)p(\d+)_")
_ADDRESS = re.compile(r"^(A|ADDR|DPRA|RADR)")
_CLOCKED_ASYNC_READ = re.compile(r"^(RAM\d+[XM]|SRL)")
_DSP = re.compile(r"^DSP48E[12]$")
_DSP_DATA = ("A", "B", "C", "D", "ACIN", "BCIN", "PCIN")


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayModel:
    """What a path is assumed to pay for each thing on it, in nanoseconds."""

    register_ns: float  # clock to output and setup together
    ram_ns: float  # the same, out of a block RAM without its output register
    ram_register_ns: float  # and out of that register
    lut_ns: float  # one LUT
    carry_ns: float  # into a carry chain and out of it
    carry_bit_ns: float  # one bit along it
    dsp_ns: float  # through the multiplier of a DSP that has no register on the way
    wires: WireModel


# Cells: rounded from the families' published switching characteristics (Zynq-7000 -1, UltraScale+ -2). Nets:
# see wires.py; in UltraScale+ parts as fast as the cells, compared with 7-series ones.
DELAYS: Mapping[str, DelayModel] = {
    "xc7": DelayModel(
        register_ns=0.6,
        ram_ns=2.55,
        ram_register_ns=1.0,
        lut_ns=0.13,
        carry_ns=0.4,
        carry_bit_ns=0.03,
        dsp_ns=3.9,
        wires=WireModel(net_ns=0.4, fanout_ns=0.12, span_ns=0.012),
    ),
    "xcup": DelayModel(
        register_ns=0.25,
        ram_ns=1.2,
        ram_register_ns=0.45,
        lut_ns=0.08,
        carry_ns=0.2,
        carry_bit_ns=0.015,
        dsp_ns=1.9,
        wires=WireModel(net_ns=0.2, fanout_ns=0.06, span_ns=0.006),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePath:
    """The longest path that ends in one pipeline stage of one module."""

    stage: str  # "instance.p3", "instance.state" between activations, "instance" otherwise, "outputs"
    estimate_ns: float
    wire_ns: float  # of it, on nets
    lut_levels: int
    carry_bits: int
    dsps: int  # unregistered DSPs passed
    start: str  # names of the netlist
    end: str
    start_term: str = ""  # and what they are in the kernel
    end_term: str = ""

    @property
    def wire_percent(self) -> float:
        return 100.0 * self.wire_ns / self.estimate_ns if self.estimate_ns else 0.0


class _Arrival(NamedTuple):
    ns: float
    wire_ns: float
    luts: int
    carry: int
    dsps: int
    start: Bit

    def plus(
        self, ns: float, *, wire_ns: float = 0.0, luts: int = 0, carry: int = 0, dsps: int = 0
    ) -> _Arrival:
        return _Arrival(
            self.ns + ns + wire_ns,
            self.wire_ns + wire_ns,
            self.luts + luts,
            self.carry + carry,
            self.dsps + dsps,
            self.start,
        )


@dataclass(frozen=True, slots=True)
class _Timing:
    """Delays of cells and nets, and the latest arrival at each net's driver as far as it is known."""

    delays: DelayModel
    wires: Wires
    arrivals: dict[Bit, _Arrival]

    def at(self, cell: Cell, ports: Iterable[str]) -> _Arrival | None:
        """The latest arrival at input ports of a cell, nets included."""
        return _latest(self.pin(cell, port, bit) for port in ports for bit in cell.inputs.get(port, ()))

    def pin(self, cell: Cell, port: str, bit: Any) -> _Arrival | None:
        reached = self.arrivals.get(bit) if isinstance(bit, int) else None
        return reached and reached.plus(0.0, wire_ns=self.wires.delay_ns(bit, cell, port))


def longest_paths(module: Mapping[str, Any], *, family: str) -> tuple[tuple[StagePath, ...], int]:
    """The longest path into each stage, longest first, and how many cells lie on combinational loops."""
    cells = [Cell.parse(name, raw) for name, raw in module["cells"].items()]
    delays = DELAYS[family]
    timing = _Timing(delays, Wires(cells, delays.wires), _starts(cells, module, delays))
    looped = _propagate(cells, timing)
    names = _bit_names(module)
    worst: dict[str, tuple[_Arrival, str]] = {}
    for end, reached in _ends(cells, module, names, timing):
        stage = _stage_of(end)
        if stage not in worst or reached > worst[stage][0]:
            worst[stage] = (reached, end)
    paths = [
        StagePath(
            stage=stage,
            estimate_ns=round(reached.ns, 2),
            wire_ns=round(reached.wire_ns, 2),
            lut_levels=reached.luts,
            carry_bits=reached.carry,
            dsps=reached.dsps,
            start=names.get(reached.start, _UNNAMED),
            end=end,
        )
        for stage, (reached, end) in worst.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.estimate_ns, path.stage))), looped


def _instance(name: str) -> str:
    return name.split(".")[0] if "." in name else ""


def _bit_names(module: Mapping[str, Any]) -> dict[Bit, str]:
    """The user's name of each bit, where it has one: visible before hidden, short before long.

    A hidden name such as ``$\\fifo.mem$rdreg[0]$q`` still tells where it came from.
    """
    best: dict[Bit, tuple[int, int, str]] = {}
    for name, net in module["netnames"].items():
        shown = name.removeprefix("$\\").split("$")[0]
        if not shown:
            continue
        rank = (int(net.get("hide_name", 0)), len(shown), shown)
        for bit in nets(net["bits"]):
            if bit not in best or rank < best[bit]:
                best[bit] = rank
    return {bit: rank[2] for bit, rank in best.items()}


def _flag(cell: Cell, name: str) -> bool:
    text = cell.parameters.get(name, "0")
    return int(text, 2) != 0 if set(text) <= {"0", "1"} else text != "FALSE"


def _is_multiplying(cell: Cell) -> bool:
    return cell.parameters.get("USE_MULT", "MULTIPLY") != "NONE"


def _through(cell: Cell) -> list[str]:
    """The input ports from which a change reaches the outputs without a clock edge."""
    kind = cell.kind
    if kind.startswith(("LUT", "CARRY", "MUXF", "INV", "BUFG", "IBUF", "OBUF")):
        return list(cell.inputs)
    if _CLOCKED_ASYNC_READ.match(kind):
        return [port for port in cell.inputs if _ADDRESS.match(port)]
    if _DSP.match(kind) and not _flag(cell, "PREG"):
        return [port for port in _DSP_DATA if port in cell.inputs and not _registered(cell, port)]
    return []


def _registered(cell: Cell, port: str) -> bool:
    """Whether a DSP's data port has a register before, or inside, the multiplier."""
    own = {"A": "AREG", "ACIN": "AREG", "B": "BREG", "BCIN": "BREG", "C": "CREG", "D": "DREG"}.get(port)
    return (own is not None and _flag(cell, own)) or (port not in ("C", "PCIN") and _flag(cell, "MREG"))


def _propagate(cells: list[Cell], timing: _Timing) -> int:
    """Find the arrivals in topological order; cells on loops are left out and counted."""
    arrivals = timing.arrivals
    waits: dict[int, int] = {}
    readers: defaultdict[Bit, list[int]] = defaultdict(list)
    through = {index: ports for index, cell in enumerate(cells) if (ports := _through(cell))}
    driven = {bit for index in through for bits in cells[index].outputs.values() for bit in nets(bits)}
    for index, ports in through.items():
        needed = {bit for port in ports for bit in nets(cells[index].inputs[port])} & driven
        waits[index] = len(needed)
        for bit in needed:
            readers[bit].append(index)
    ready = deque(index for index, count in waits.items() if count == 0)
    done = 0
    while ready:
        index = ready.popleft()
        done += 1
        cell = cells[index]
        for bit, arrival in _outputs(cell, through[index], timing):
            if bit not in arrivals or arrival > arrivals[bit]:
                arrivals[bit] = arrival
        for bit in {bit for bits in cell.outputs.values() for bit in nets(bits)}:
            for reader in readers[bit]:
                waits[reader] -= 1
                if waits[reader] == 0:
                    ready.append(reader)
    return len(through) - done


def _starts(cells: list[Cell], module: Mapping[str, Any], delays: DelayModel) -> dict[Bit, _Arrival]:
    """Paths start at input ports and at the outputs of clocked cells."""
    starts: dict[Bit, _Arrival] = {}
    for port in module["ports"].values():
        if port["direction"] == "input":
            starts.update({bit: _Arrival(0.0, 0.0, 0, 0, 0, bit) for bit in nets(port["bits"])})
    for cell in cells:
        if _through(cell) and not _CLOCKED_ASYNC_READ.match(cell.kind) and not _DSP.match(cell.kind):
            continue
        ns = delays.register_ns
        if cell.kind.startswith(("RAMB", "URAM")):
            registered = _flag(cell, "DOA_REG") or _flag(cell, "DOB_REG")
            ns = delays.ram_register_ns if registered else delays.ram_ns
        if _DSP.match(cell.kind) and not _flag(cell, "PREG") and not _flag(cell, "MREG"):
            ns += delays.dsp_ns  # from its input registers through the multiplier
        for bits in cell.outputs.values():
            starts.update({bit: _Arrival(ns, 0.0, 0, 0, 0, bit) for bit in nets(bits)})
    return starts


def _outputs(cell: Cell, ports: list[str], timing: _Timing) -> Iterator[tuple[Bit, _Arrival]]:
    """What a cell passes on."""
    if cell.kind.startswith("CARRY"):
        yield from _carry_outputs(cell, timing)
        return
    reached = timing.at(cell, ports)
    if reached is None:
        return
    if cell.kind.startswith("LUT") or _CLOCKED_ASYNC_READ.match(cell.kind):
        reached = reached.plus(timing.delays.lut_ns, luts=1)
    elif _DSP.match(cell.kind):
        reached = reached.plus(timing.delays.dsp_ns, dsps=1)
    for bits in cell.outputs.values():
        for bit in nets(bits):
            yield bit, reached


def _carry_outputs(cell: Cell, timing: _Timing) -> Iterator[tuple[Bit, _Arrival]]:
    """Along a CARRY4 or CARRY8 bit by bit: a sum needs its own select and the carry from below."""
    delays = timing.delays

    def entering(port: str, bit: Any) -> _Arrival | None:
        reached = timing.pin(cell, port, bit)
        return reached and reached.plus(delays.carry_ns)

    carry = _latest(
        (
            timing.at(cell, ["CI", "CI_TOP"]),
            *(entering("CYINIT", bit) for bit in cell.inputs.get("CYINIT", ())),
        )
    )
    for select, data, total, out in zip(
        cell.inputs["S"], cell.inputs["DI"], cell.outputs["O"], cell.outputs["CO"], strict=True
    ):
        own = entering("S", select)
        summed = _latest((carry, own))
        carry = _latest((carry, own, entering("DI", data)))
        if summed is not None and isinstance(total, int):
            yield total, summed.plus(delays.carry_bit_ns, carry=1)
        if carry is not None:
            carry = carry.plus(delays.carry_bit_ns, carry=1)
            if isinstance(out, int):
                yield out, carry


def _latest(arrivals: Iterable[_Arrival | None]) -> _Arrival | None:
    return max((arrival for arrival in arrivals if arrival is not None), default=None)


def _ends(
    cells: list[Cell], module: Mapping[str, Any], names: Mapping[Bit, str], timing: _Timing
) -> Iterator[tuple[str, _Arrival]]:
    """Where paths end: name, and the latest arrival with what the end itself still takes."""
    for name, port in module["ports"].items():
        reached = _latest(timing.arrivals.get(bit) for bit in nets(port["bits"]))
        if port["direction"] == "output" and reached is not None:
            yield f"output {name}", reached
    for cell in cells:
        through = set(_through(cell))
        pins = [port for port in cell.inputs if port not in through]
        if not pins or cell.kind.startswith(("LUT", "CARRY", "MUXF", "INV", "BUFG")):
            continue
        outputs = [bit for bits in cell.outputs.values() for bit in nets(bits)]
        own_name = cell.name.removeprefix("$\\").split("$")[0] or _UNNAMED
        end = next((names[bit] for bit in outputs if bit in names), own_name)
        slow = [port for port in pins if _multiplies_first(cell, port)]
        for ports, extra_ns in ((slow, timing.delays.dsp_ns), ([p for p in pins if p not in slow], 0.0)):
            reached = timing.at(cell, ports)
            if reached is not None:
                yield end, reached.plus(extra_ns)


def _multiplies_first(cell: Cell, port: str) -> bool:
    """Whether a DSP multiplies what comes in here before its first register."""
    is_factor = _DSP.match(cell.kind) and port in ("A", "B", "D", "ACIN", "BCIN")
    return bool(is_factor) and _is_multiplying(cell) and not _registered(cell, port)


def _stage_of(end: str) -> str:
    if end.startswith("output "):
        return "outputs"
    instance, local = _instance(end) or "top", end.rpartition(".")[2]
    if stage := _STAGE.search(local):
        return f"{instance}.p{stage[1]}"
    return f"{instance}.state" if local.startswith("__") else instance

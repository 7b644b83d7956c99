# SPDX-License-Identifier: Apache-2.0
"""The longest register-to-register paths of a netlist of Xilinx cells, by an assumed delay for each.

This is evidence, not timing: places and nets are not known before the vendor's tool has run.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["DELAYS", "DelayModel", "StagePath", "longest_paths"]

Bit = int
Ports = Mapping[str, list[Any]]

_UNNAMED = "(unnamed)"
_STAGE = re.compile(r"(?:^|_)p(\d+)_")
_ADDRESS = re.compile(r"^(A|ADDR|DPRA|RADR)")
_CLOCKED_ASYNC_READ = re.compile(r"^(RAM\d+[XM]|SRL)")
_DSP = re.compile(r"^DSP48E[12]$")
_DSP_DATA = ("A", "B", "C", "D", "ACIN", "BCIN", "PCIN")


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayModel:
    """What a path is assumed to pay for each thing on it, a typical net included, in nanoseconds."""

    register_ns: float  # clock to output and setup together
    ram_ns: float  # clock to output of a block RAM without its output register
    lut_ns: float  # one LUT level
    carry_bit_ns: float  # one bit along a carry chain
    dsp_ns: float  # through the multiplier of a DSP that has no register on the way


# Rounded from the families' published switching characteristics (Zynq-7000 -1, UltraScale+ -2), nets guessed.
DELAYS: Mapping[str, DelayModel] = {
    "xc7": DelayModel(register_ns=0.7, ram_ns=3.0, lut_ns=0.8, carry_bit_ns=0.03, dsp_ns=4.5),
    "xcup": DelayModel(register_ns=0.3, ram_ns=1.4, lut_ns=0.4, carry_bit_ns=0.015, dsp_ns=2.2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePath:
    """The longest path that ends in one pipeline stage of one module."""

    stage: str  # "instance.p3", "instance.state" between activations, "instance" otherwise, "outputs"
    estimate_ns: float
    lut_levels: int
    carry_bits: int
    dsps: int  # unregistered DSPs passed
    start: str
    end: str


class _Arrival(NamedTuple):
    ns: float
    luts: int
    carry: int
    dsps: int
    start: Bit

    def plus(self, ns: float, *, luts: int = 0, carry: int = 0, dsps: int = 0) -> _Arrival:
        return _Arrival(self.ns + ns, self.luts + luts, self.carry + carry, self.dsps + dsps, self.start)


class _Cell(NamedTuple):
    name: str
    kind: str
    inputs: Ports
    outputs: Ports
    parameters: Mapping[str, str]


def longest_paths(module: Mapping[str, Any], *, family: str) -> tuple[tuple[StagePath, ...], int]:
    """The longest path into each stage, longest first, and how many cells lie on combinational loops."""
    delays = DELAYS[family]
    cells = [_cell(name, raw) for name, raw in module["cells"].items()]
    names = _bit_names(module)
    arrivals, looped = _propagate(cells, module, delays)
    worst: dict[str, tuple[_Arrival, str]] = {}
    for end, inputs, extra_ns in _ends(cells, module, names, delays):
        reached = _latest(arrivals, inputs)
        if reached is None:
            continue
        reached = reached.plus(extra_ns)
        stage = _stage_of(end)
        if stage not in worst or reached > worst[stage][0]:
            worst[stage] = (reached, end)
    paths = [
        StagePath(
            stage=stage,
            estimate_ns=round(reached.ns, 2),
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


def _cell(name: str, raw: Mapping[str, Any]) -> _Cell:
    directions, connections = raw["port_directions"], raw["connections"]
    inputs = {port: bits for port, bits in connections.items() if directions[port] == "input"}
    outputs = {port: bits for port, bits in connections.items() if directions[port] == "output"}
    return _Cell(name, raw["type"], inputs, outputs, raw["parameters"])


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
        for bit in _nets(net["bits"]):
            if bit not in best or rank < best[bit]:
                best[bit] = rank
    return {bit: rank[2] for bit, rank in best.items()}


def _nets(bits: Iterable[Any]) -> Iterator[Bit]:
    """Bits that are nets; constants are strings."""
    return (bit for bit in bits if isinstance(bit, int))


def _flag(cell: _Cell, name: str) -> bool:
    text = cell.parameters.get(name, "0")
    return int(text, 2) != 0 if set(text) <= {"0", "1"} else text != "FALSE"


def _is_multiplying(cell: _Cell) -> bool:
    return cell.parameters.get("USE_MULT", "MULTIPLY") != "NONE"


def _through(cell: _Cell) -> list[str]:
    """The input ports from which a change reaches the outputs without a clock edge."""
    kind = cell.kind
    if kind.startswith(("LUT", "CARRY", "MUXF", "INV", "BUFG", "IBUF", "OBUF")):
        return list(cell.inputs)
    if _CLOCKED_ASYNC_READ.match(kind):
        return [port for port in cell.inputs if _ADDRESS.match(port)]
    if _DSP.match(kind) and not _flag(cell, "PREG"):
        return [port for port in _DSP_DATA if port in cell.inputs and not _registered(cell, port)]
    return []


def _registered(cell: _Cell, port: str) -> bool:
    """Whether a DSP's data port has a register before, or inside, the multiplier."""
    own = {"A": "AREG", "ACIN": "AREG", "B": "BREG", "BCIN": "BREG", "C": "CREG", "D": "DREG"}.get(port)
    return (own is not None and _flag(cell, own)) or (port not in ("C", "PCIN") and _flag(cell, "MREG"))


def _propagate(
    cells: list[_Cell], module: Mapping[str, Any], delays: DelayModel
) -> tuple[dict[Bit, _Arrival], int]:
    """The latest arrival at each bit, in topological order; cells on loops are left out and counted."""
    arrivals = _starts(cells, module, delays)
    waits: dict[int, int] = {}
    readers: defaultdict[Bit, list[int]] = defaultdict(list)
    through = {index: ports for index, cell in enumerate(cells) if (ports := _through(cell))}
    driven = {bit for index in through for bits in cells[index].outputs.values() for bit in _nets(bits)}
    for index, ports in through.items():
        needed = {bit for port in ports for bit in _nets(cells[index].inputs[port])} & driven
        waits[index] = len(needed)
        for bit in needed:
            readers[bit].append(index)
    ready = deque(index for index, count in waits.items() if count == 0)
    done = 0
    while ready:
        index = ready.popleft()
        done += 1
        cell = cells[index]
        for bit, arrival in _outputs(cell, through[index], arrivals, delays):
            if bit not in arrivals or arrival > arrivals[bit]:
                arrivals[bit] = arrival
        for bit in {bit for bits in cell.outputs.values() for bit in _nets(bits)}:
            for reader in readers[bit]:
                waits[reader] -= 1
                if waits[reader] == 0:
                    ready.append(reader)
    return arrivals, len(through) - done


def _starts(cells: list[_Cell], module: Mapping[str, Any], delays: DelayModel) -> dict[Bit, _Arrival]:
    """Paths start at input ports and at the outputs of clocked cells."""
    starts: dict[Bit, _Arrival] = {}
    for port in module["ports"].values():
        if port["direction"] == "input":
            starts.update({bit: _Arrival(0.0, 0, 0, 0, bit) for bit in _nets(port["bits"])})
    for cell in cells:
        if _through(cell) and not _CLOCKED_ASYNC_READ.match(cell.kind) and not _DSP.match(cell.kind):
            continue
        unregistered_ram = cell.kind.startswith(("RAMB", "URAM")) and not (
            _flag(cell, "DOA_REG") or _flag(cell, "DOB_REG")
        )
        ns = delays.ram_ns if unregistered_ram else delays.register_ns
        if _DSP.match(cell.kind) and not _flag(cell, "PREG") and not _flag(cell, "MREG"):
            ns += delays.dsp_ns  # from its input registers through the multiplier
        for bits in cell.outputs.values():
            starts.update({bit: _Arrival(ns, 0, 0, 0, bit) for bit in _nets(bits)})
    return starts


def _outputs(
    cell: _Cell, ports: list[str], arrivals: Mapping[Bit, _Arrival], delays: DelayModel
) -> Iterator[tuple[Bit, _Arrival]]:
    """What a cell passes on."""
    if cell.kind.startswith("CARRY"):
        yield from _carry_outputs(cell, arrivals, delays)
        return
    reached = _latest(arrivals, (bit for port in ports for bit in cell.inputs[port]))
    if reached is None:
        return
    if cell.kind.startswith("LUT") or _CLOCKED_ASYNC_READ.match(cell.kind):
        reached = reached.plus(delays.lut_ns, luts=1)
    elif _DSP.match(cell.kind):
        reached = reached.plus(delays.dsp_ns, dsps=1)
    for bits in cell.outputs.values():
        for bit in _nets(bits):
            yield bit, reached


def _carry_outputs(
    cell: _Cell, arrivals: Mapping[Bit, _Arrival], delays: DelayModel
) -> Iterator[tuple[Bit, _Arrival]]:
    """Along a CARRY4 or CARRY8 bit by bit: a sum needs its own select and the carry from below."""
    carry = _latest(
        arrivals, [*cell.inputs.get("CI", ()), *cell.inputs.get("CYINIT", ()), *cell.inputs.get("CI_TOP", ())]
    )
    for select, data, total, out in zip(
        cell.inputs["S"], cell.inputs["DI"], cell.outputs["O"], cell.outputs["CO"], strict=True
    ):
        own = _latest(arrivals, [select])
        summed = max((a for a in (carry, own) if a is not None), default=None)
        fed = _latest(arrivals, [select, data])
        carry = max((a for a in (carry, fed) if a is not None), default=None)
        if summed is not None and isinstance(total, int):
            yield total, summed.plus(delays.carry_bit_ns, carry=1)
        if carry is not None:
            carry = carry.plus(delays.carry_bit_ns, carry=1)
            if isinstance(out, int):
                yield out, carry


def _latest(arrivals: Mapping[Bit, _Arrival], bits: Iterable[Any]) -> _Arrival | None:
    return max((arrivals[bit] for bit in _nets(bits) if bit in arrivals), default=None)


def _ends(
    cells: list[_Cell], module: Mapping[str, Any], names: Mapping[Bit, str], delays: DelayModel
) -> Iterator[tuple[str, list[Any], float]]:
    """Where paths end: name, the bits that must have arrived, and what the end itself still takes."""
    for name, port in module["ports"].items():
        if port["direction"] == "output":
            yield f"output {name}", port["bits"], 0.0
    for cell in cells:
        through = set(_through(cell))
        pins = [port for port in cell.inputs if port not in through]
        if not pins or cell.kind.startswith(("LUT", "CARRY", "MUXF", "INV", "BUFG")):
            continue
        outputs = [bit for bits in cell.outputs.values() for bit in _nets(bits)]
        own_name = cell.name.removeprefix("$\\").split("$")[0] or _UNNAMED
        end = next((names[bit] for bit in outputs if bit in names), own_name)
        slow = [port for port in pins if _multiplies_first(cell, port)]
        if slow:
            yield end, [bit for port in slow for bit in cell.inputs[port]], delays.dsp_ns
        yield end, [bit for port in pins if port not in slow for bit in cell.inputs[port]], 0.0


def _multiplies_first(cell: _Cell, port: str) -> bool:
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

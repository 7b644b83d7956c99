# SPDX-License-Identifier: Apache-2.0
"""What the nets of a netlist are assumed to take: by the pins that they drive, and how far these lie apart.

A net takes ``net_ns`` to the nearest cell, ``fanout_ns`` more each time the pins that it drives double, and
``span_ns`` times the square root of its span. The span counts all nets that enter the cells that it drives:
these cells lie between the sources of all of them, in an area that grows as their number, at a distance that
grows as its root. A counter that picks words out of a wide register thus pays for the register's width.

Calibration: a net with four pins and the LUT behind it take 0.8 ns in 7-series parts of speed grade -1
(0.13 ns of them the LUT, by the switching characteristics), as is typical of placed designs. The one placed
and routed engine that is known (by open tools for an xc7z020) had its worst path from the word counter of
store through the selection of a lane out of 6,145 bits into an adder of 13 CARRY4, 85 % of it wire. These
tools neither copy drivers nor pull cells together, as Vivado does: their share is an upper bound, and the
terms in fan-out and span are set so that wires are the larger part of that path too (tested).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any, NamedTuple

__all__ = ["Bit", "Cell", "WireModel", "Wires", "nets"]

Bit = int
Ports = Mapping[str, list[Any]]

_CLOCKS = frozenset(("C", "CLK", "CLKARDCLK", "CLKBWRCLK", "WCLK"))


class Cell(NamedTuple):
    """A cell of the netlist; its clock is left out."""

    name: str
    kind: str
    inputs: Ports
    outputs: Ports
    parameters: Mapping[str, str]

    @classmethod
    def parse(cls, name: str, raw: Mapping[str, Any]) -> Cell:
        directions, connections = raw["port_directions"], raw["connections"]
        inputs = {
            port: bits
            for port, bits in connections.items()
            if directions[port] == "input" and port not in _CLOCKS
        }
        outputs = {port: bits for port, bits in connections.items() if directions[port] == "output"}
        return cls(name, raw["type"], inputs, outputs, raw["parameters"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WireModel:
    """Nanoseconds of a net, as the module says."""

    net_ns: float
    fanout_ns: float
    span_ns: float

    def delay_ns(self, fanout: int, span: int) -> float:
        return self.net_ns + self.fanout_ns * log2(fanout) + self.span_ns * sqrt(span)


class Wires:
    """The delay of each net to each kind of pin."""

    def __init__(self, cells: list[Cell], model: WireModel) -> None:
        self._drivers = {bit: cell.kind for cell in cells for bit in _bits(cell.outputs)}
        self._fanouts: Counter[Bit] = Counter()
        spans: defaultdict[Bit, set[Bit]] = defaultdict(set)
        for cell in cells:
            entering = list(_bits(cell.inputs))
            self._fanouts.update(entering)
            for bit in set(entering):
                spans[bit].update(entering)
        self._ns = {bit: model.delay_ns(self._fanouts[bit], len(span)) for bit, span in spans.items()}

    def delay_ns(self, bit: Bit, cell: Cell, port: str) -> float:
        """From the net's driver to one pin; none where both lie in one slice or cascade."""
        driver = self._drivers.get(bit, "")
        if _is_dedicated(driver, cell.kind, port, alone=self._fanouts[bit] == 1):
            return 0.0
        return self._ns[bit]


def _is_dedicated(driver: str, kind: str, port: str, *, alone: bool) -> bool:
    """Whether the pin takes the driver's output without a routed net."""
    if port in ("CI", "PCIN", "ACIN", "BCIN"):
        return driver.startswith(("CARRY", "DSP48"))
    if not alone:
        return False
    if kind.startswith(("CARRY", "MUXF")):
        return driver.startswith(("LUT", "MUXF")) and port != "CYINIT"
    return port == "D" and kind.startswith("FD") and driver.startswith(("LUT", "CARRY", "MUXF", "RAM"))


def nets(bits: Iterable[Any]) -> Iterator[Bit]:
    """Bits that are nets; constants are strings."""
    return (bit for bit in bits if isinstance(bit, int))


def _bits(ports: Ports) -> Iterator[Bit]:
    return (bit for bits in ports.values() for bit in nets(bits))

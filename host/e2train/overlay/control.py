# SPDX-License-Identifier: Apache-2.0
"""The registers that start a kernel and hold its scalars: the vendor's map of s_axilite (UG1399)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from e2train.overlay.registers import Register

__all__ = ["CONTROL_REGISTERS", "RESULT", "Scalar", "scalar_registers", "scalars"]

RESULT = "ap_return"
_BITS = 32
_FIRST = 0x10

# of ap_ctrl_hs
CONTROL_REGISTERS = (
    Register(
        name="CTRL",
        offset=0x0,
        description="Control signals",
        fields={
            "AP_START": (0, 1),
            "AP_DONE": (1, 1),
            "AP_IDLE": (2, 1),
            "AP_READY": (3, 1),
            "AUTO_RESTART": (7, 1),
        },
    ),
    Register(name="GIER", offset=0x4, description="Global interrupt enable", fields={"Enable": (0, 1)}),
    Register(
        name="IP_IER",
        offset=0x8,
        description="Interrupt enable",
        fields={"CHAN0_INT_EN": (0, 1), "CHAN1_INT_EN": (1, 1)},
    ),
    Register(
        name="IP_ISR",
        offset=0xC,
        description="Interrupt status",
        fields={"CHAN0_INT_ST": (0, 1), "CHAN1_INT_ST": (1, 1)},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A scalar or a result in one or two registers, lower half first."""

    name: str
    bits: int
    offset: int

    @property
    def halves(self) -> tuple[tuple[int, int, int], ...]:
        """Offset, lowest bit and width of each register."""
        starts = range(0, self.bits, _BITS)
        return tuple((self.offset + at // 8, at, min(_BITS, self.bits - at)) for at in starts)


def scalars(widths: dict[str, int]) -> tuple[Scalar, ...]:
    """Each with its offset, in order: data words, then a reserved one.

    >>> [hex(each.offset) for each in scalars({"gain": 16, "offset": 64, "negate": 1})]
    ['0x10', '0x18', '0x24']
    """
    return tuple(_placed(widths))


def _placed(widths: dict[str, int]) -> Iterator[Scalar]:
    offset = _FIRST
    for name, bits in widths.items():
        scalar = Scalar(name=name, bits=bits, offset=offset)
        yield scalar
        offset += 4 * (len(scalar.halves) + 1)


def scalar_registers(found: tuple[Scalar, ...]) -> tuple[Register, ...]:
    """The whole map, as a hand-off lists it."""
    return (*CONTROL_REGISTERS, *(register for scalar in found for register in _data(scalar)))


def _data(scalar: Scalar) -> Iterator[Register]:
    for number, (offset, _, width) in enumerate(scalar.halves, 1):
        name = scalar.name if len(scalar.halves) == 1 else f"{scalar.name}_{number}"
        yield Register(
            name=name, offset=offset, description=f"Data signal of {scalar.name}", fields={name: (0, width)}
        )

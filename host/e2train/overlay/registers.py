# SPDX-License-Identifier: Apache-2.0
"""The registers of the overlay's peripherals, as far as they do something here."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

__all__ = ["CDMA_REGISTERS", "DMA_REGISTERS", "GPIO_REGISTERS", "Register", "add_registers", "offsets"]

_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One 32-bit register; fields by name: first bit, number of bits."""

    name: str
    offset: int
    description: str
    fields: dict[str, tuple[int, int]]


_CONTROL = {
    "RS": (0, 1),
    "Reset": (2, 1),
    "Keyhole": (3, 1),
    "IOC_IrqEn": (12, 1),
    "Dly_IrqEn": (13, 1),
    "Err_IrqEn": (14, 1),
    "IRQThreshold": (16, 8),
    "IRQDelay": (24, 8),
}
_STATUS = {
    "Halted": (0, 1),
    "Idle": (1, 1),
    "SGIncld": (3, 1),
    "DMAIntErr": (4, 1),
    "DMASlvErr": (5, 1),
    "DMADecErr": (6, 1),
    "SGIntErr": (8, 1),
    "SGSlvErr": (9, 1),
    "SGDecErr": (10, 1),
    "IOC_Irq": (12, 1),
    "Dly_Irq": (13, 1),
    "Err_Irq": (14, 1),
    "IRQThresholdSts": (16, 8),
    "IRQDelaySts": (24, 8),
}


_LOW, _HIGH = {"Pointer": (6, _BITS - 6)}, {"Pointer": (0, _BITS)}


def _channel(way: str, base: int) -> tuple[Register, ...]:
    def register(name: str, offset: int, description: str, fields: dict[str, tuple[int, int]]) -> Register:
        return Register(name=f"{way}_{name}", offset=base + offset, description=description, fields=fields)

    return (
        register("DMACR", 0x00, f"{way} DMA control", _CONTROL),
        register("DMASR", 0x04, f"{way} DMA status", _STATUS),
        register("CURDESC", 0x08, f"{way} current descriptor, lower half", _LOW),
        register("CURDESC_MSB", 0x0C, f"{way} current descriptor, upper half", _HIGH),
        register("TAILDESC", 0x10, f"{way} last descriptor, lower half", _LOW),
        register("TAILDESC_MSB", 0x14, f"{way} last descriptor, upper half", _HIGH),
    )


# Scatter-gather mode, PG021.
DMA_REGISTERS = (*_channel("MM2S", 0x00), *_channel("S2MM", 0x30))

# Scatter-gather mode, PG034.
CDMA_REGISTERS = (
    Register(
        name="CDMACR",
        offset=0x00,
        description="CDMA control",
        fields={"TailPntrEn": (1, 1), "Reset": (2, 1), "SGMode": (3, 1)},
    ),
    Register(
        name="CDMASR",
        offset=0x04,
        description="CDMA status",
        fields={name: bits for name, bits in _STATUS.items() if name != "Halted"},
    ),
    Register(name="CURDESC_PNTR", offset=0x08, description="CDMA current descriptor", fields=_LOW),
    Register(name="TAILDESC_PNTR", offset=0x10, description="CDMA last descriptor", fields=_LOW),
)

# One channel, PG144.
GPIO_REGISTERS = (
    Register(
        name="GPIO_DATA",
        offset=0x0,
        description="Channel 1 data",
        fields={"Channel_1_GPIO_DATA": (0, _BITS)},
    ),
    Register(
        name="GPIO_TRI",
        offset=0x4,
        description="Channel 1 directions, 1 for input",
        fields={"Channel_1_GPIO_TRI": (0, _BITS)},
    ),
)


def offsets(registers: tuple[Register, ...]) -> dict[str, int] | None:
    """The registers' offsets by name, as a manifest has them; None where there are none."""
    return {register.name: register.offset for register in registers} or None


def add_registers(module: ET.Element, interface: str, registers: tuple[Register, ...], *, size: int) -> None:
    """List a peripheral's registers in its module of a hardware hand-off."""
    blocks = ET.SubElement(module, "ADDRESSBLOCKS")
    block = ET.SubElement(
        blocks,
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE=interface,
        NAME="Reg",
        RANGE=str(size),
        USAGE="register",
    )
    listed = ET.SubElement(block, "REGISTERS")
    for register in registers:
        entry = ET.SubElement(listed, "REGISTER", NAME=register.name)
        _properties(
            entry,
            DESCRIPTION=register.description,
            ADDRESS_OFFSET=f"0x{register.offset:X}",
            SIZE=str(_BITS),
            ACCESS="read-write",
            IS_ENABLED="true",
        )
        fields = ET.SubElement(entry, "FIELDS")
        for name, (first, bits) in register.fields.items():
            field = ET.SubElement(fields, "FIELD", NAME=name)
            _properties(
                field, DESCRIPTION=name, BIT_OFFSET=str(first), BIT_WIDTH=str(bits), ACCESS="read-write"
            )


def _properties(element: ET.Element, **values: str) -> None:
    for name, value in values.items():
        ET.SubElement(element, "PROPERTY", NAME=name, VALUE=value)

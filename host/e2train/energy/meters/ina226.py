# SPDX-License-Identifier: Apache-2.0
"""An INA226 power monitor on an I2C bus: the usual external meter for boards without a sensor.

Power is computed from the shunt and bus registers, so that no calibration is written to the chip.
Source: Texas Instruments, INA226 data sheet (SBOS547).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from e2train.energy.meters.protocol import Reading
from e2train.energy.readings import EnergyError, Origin

__all__ = ["Ina226Meter", "open_ina226"]

_CONFIGURATION, _SHUNT, _BUS, _MAKER, _DIE = 0x00, 0x01, 0x02, 0xFE, 0xFF
_MAKER_ID, _DIE_ID = 0x5449, 0x2260
_FULL_SCALE = (0x7FFF, 0x8000)
_SHUNT_LSB_V = 2.5e-6
_BUS_LSB_V = 1.25e-3
_BOTH_CONTINUOUS = 0b111  # its mode: shunt and bus voltage, over and over
_AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)
_CONVERSIONS_S = (140e-6, 204e-6, 332e-6, 588e-6, 1.1e-3, 2.116e-3, 4.156e-3, 8.244e-3)
_READS_S = 0.02  # a sample's share of the bus: its two reads take about a millisecond
_LARGEST_SHUNT_OHM = 1.0  # with which it measures up to 82 mA; more are milliohms that were meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Ina226Meter:
    """One chip and the resistance of its shunt."""

    bus: Any  # smbus2.SMBus
    address: int
    shunt_ohm: float
    name: str = field(default="ina226 on I2C")
    period_s: float = _READS_S
    counts_energy: bool = False
    wraps_at_j: float | None = None
    origin: Origin = "measured"

    def read(self) -> Reading:
        """Watts.

        Raises: OSError when the chip does not answer; EnergyError beyond the range of the shunt's voltage.
        """
        shunt = self.register(_SHUNT)
        if shunt in _FULL_SCALE:
            most_a = _FULL_SCALE[0] * _SHUNT_LSB_V / self.shunt_ohm
            raise EnergyError(f"{self.name}: {most_a:.3g} A or more, beyond its range; take a smaller shunt")
        current_a = (shunt - (shunt >> 15 << 16)) * _SHUNT_LSB_V / self.shunt_ohm  # two's complement
        return Reading(current_a * self.register(_BUS) * _BUS_LSB_V)

    def register(self, number: int) -> int:
        """A register; SMBus sends the low byte first, the chip the high one."""
        word: int = self.bus.read_word_data(self.address, number)
        return (word & 0xFF) << 8 | word >> 8

    def close(self) -> None:
        """Close the bus."""
        self.bus.close()


def open_ina226(spec: str) -> Ina226Meter:
    """Open the chip at ``BUS,ADDRESS,SHUNT_OHM``, such as ``1,0x40,0.1``.

    Raises: EnergyError when it is not there, or not an INA226.
    """
    try:
        number, address, shunt = spec.split(",")
        bus_number, chip, shunt_ohm = int(number), int(address, 0), float(shunt)
    except ValueError:
        raise EnergyError(f"ina226 takes BUS,ADDRESS,SHUNT_OHM such as 1,0x40,0.1, not {spec!r}") from None
    if not (0 <= chip <= 0x7F and 0 < shunt_ohm <= _LARGEST_SHUNT_OHM):
        raise EnergyError(
            f"ina226: an address is in 0..0x7f and a shunt above 0 and up to {_LARGEST_SHUNT_OHM:g} ohm, "
            f"not {spec!r}"
        )
    try:
        import smbus2
    except ImportError as error:
        raise EnergyError("ina226 needs smbus2; pip install 'e2train[meters]'") from error
    try:
        meter = Ina226Meter(bus=smbus2.SMBus(bus_number), address=chip, shunt_ohm=shunt_ohm)
        found = meter.register(_MAKER), meter.register(_DIE)
        configuration = meter.register(_CONFIGURATION)
    except OSError as error:
        raise EnergyError(f"no INA226 at {chip:#x} of I2C bus {bus_number}: {error.strerror}") from error
    if found != (_MAKER_ID, _DIE_ID):
        raise EnergyError(f"the chip at {chip:#x} is no INA226: it says {found[0]:#06x}, {found[1]:#06x}")
    return replace(meter, period_s=_period_s(configuration, meter.name))


def _period_s(configuration: int, name: str) -> float:
    """How often there is something new, by the chip's configuration register.

    Raises: EnergyError when it does not convert both voltages over and over.
    """
    if configuration & 0b111 != _BOTH_CONTINUOUS:
        raise EnergyError(
            f"{name} does not measure shunt and bus voltage continuously: its configuration is "
            f"{configuration:#06x}; set its mode to 7, as after a reset"
        )
    averages, bus, shunt = (configuration >> shift & 0b111 for shift in (9, 6, 3))
    return max(_READS_S, _AVERAGES[averages] * (_CONVERSIONS_S[bus] + _CONVERSIONS_S[shunt]))

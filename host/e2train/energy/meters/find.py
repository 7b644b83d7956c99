# SPDX-License-Identifier: Apache-2.0
"""Meters by their names, and what there is of them on this machine and on a board."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2train.energy.meters.csv_log import CsvLog, check_csv_head, read_csv_log
from e2train.energy.meters.files import read_local_file
from e2train.energy.meters.hwmon import base_name, find_hwmon
from e2train.energy.meters.ina226 import open_ina226
from e2train.energy.meters.joulescope import open_joulescope
from e2train.energy.meters.pmbus import find_rails
from e2train.energy.meters.protocol import Meter, ReadFile
from e2train.energy.meters.rapl import find_rapl
from e2train.energy.readings import EnergyError, Origin

__all__ = ["METER_HELP", "LogSpec", "SensorRow", "check_meter", "open_meter", "sensor_rows"]

_KINDS = ("none", "hwmon", "pmbus", "rapl", "ina226", "joulescope", "csv")
_NOTHING = {
    "hwmon": "no chip in /sys/class/hwmon has a power",
    "pmbus": "libsensors knows no rail with a power",
    "rapl": "no /sys/class/powercap/intel-rapl:0",
}
METER_HELP = (
    "auto (a board's own sensor), none, hwmon[:NAME], pmbus[:RAIL], rapl[:PACKAGE], "
    "ina226:BUS,ADDRESS,SHUNT_OHM, joulescope, csv:FILE or csv-marker:FILE (an external meter's log, aligned "
    "by time or by its marker)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpec:
    """A log that an external meter writes meanwhile, read when everything is over."""

    path: Path
    by_marker: bool
    origin: Origin = "measured"

    @property
    def name(self) -> str:
        """As its recordings name it."""
        return self.path.name

    def read(self) -> CsvLog:
        """The log.

        Raises: EnergyError when it is not there or makes no sense.
        """
        return read_csv_log(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorRow:
    """One kind of meter: what there is of it, or why there is nothing."""

    kind: str
    where: str
    found: tuple[str, ...]
    reason: str = ""  # why nothing was found


def check_meter(spec: str) -> None:
    """Look whether ``spec`` names a meter.

    Raises: EnergyError when it does not.
    """
    kind, _, rest = spec.partition(":")
    if kind not in ("auto", "csv-marker", *_KINDS):
        raise EnergyError(f"no meter {spec!r}; there are: {METER_HELP}")
    if kind in ("csv", "csv-marker", "ina226") and not rest:
        raise EnergyError(f"meter {kind} needs to know which: {METER_HELP}")


def open_meter(
    spec: str, read_board: ReadFile | None = None, *, elsewhere: bool = False
) -> Meter | LogSpec | str:
    """Open a meter; ``read_board`` reads files of the board that is used, if there is one.

    ``elsewhere`` says that the board is not this machine.
    For ``auto`` and ``none`` without a sensor the result is the reason, in words.
    Raises: EnergyError when a meter that is named is not there, or a log that is there lacks a column.
    """
    check_meter(spec)
    kind, _, rest = spec.partition(":")
    if kind == "pmbus" and elsewhere:
        raise EnergyError("this machine's libsensors does not know a board's rails; use another --meter")
    if kind == "none":
        return "no meter was asked for"
    if kind == "auto":
        if read_board is None:
            return "the device has no power sensor; name another meter with --meter"
        found = find_hwmon(read_board)
        # Regulators of single rails are in hwmon too; what watches the whole board is an INA2xx.
        chosen = [meter for meter in found if "ina2" in meter.name] or found
        if len(chosen) > 1:
            names = ", ".join(f"hwmon:{meter.name}" for meter in chosen)
            return f"the board has several power sensors; name one with --meter: {names}"
        return chosen[0] if chosen else "the board has no power sensor; name another meter with --meter"
    if kind in ("csv", "csv-marker"):
        log = LogSpec(path=Path(rest).expanduser(), by_marker=kind == "csv-marker")
        check_csv_head(log.path, by_marker=log.by_marker)
        return log
    if kind == "ina226":
        return open_ina226(rest)
    if kind == "joulescope":
        return open_joulescope()
    finders: dict[str, Callable[[], Sequence[Meter]]] = {
        "hwmon": lambda: find_hwmon(read_board or read_local_file),
        "pmbus": find_rails,
        "rapl": find_rapl,
    }
    on_board = kind == "hwmon" and read_board is not None
    nothing = "the board has no power sensor" if on_board else _NOTHING[kind]
    meter = _chosen(kind, rest, finders[kind](), nothing)
    meter.read()  # what may not be read says so here, not sample by sample
    return meter


def sensor_rows(read_board: ReadFile | None = None, board: str = "") -> list[SensorRow]:
    """What can be measured, here and on a board."""
    rows = []
    if read_board is not None:
        rows.append(_row("hwmon", board, lambda: find_hwmon(read_board), "the board has no power sensor"))
    return [
        *rows,
        _row("hwmon", "here", lambda: find_hwmon(read_local_file), _NOTHING["hwmon"]),
        _row("pmbus", "here", find_rails, _NOTHING["pmbus"]),
        _row("rapl", "here", _readable_rapl, _NOTHING["rapl"]),
        SensorRow(kind="ina226", where="here", found=(), reason="not searched for: give bus, address, shunt"),
        _row("joulescope", "here", lambda: [_closed(open_joulescope())], ""),
        SensorRow(kind="csv", where="here", found=(), reason="any meter that writes a log: give the file"),
    ]


def _chosen(kind: str, name: str, found: Sequence[Meter], nothing: str) -> Meter:
    """The one meter of a kind that ``name`` means; an empty name means any.

    Raises: EnergyError when there is none, for which ``nothing`` is the reason, or more than one.
    """
    names = [meter.name.removeprefix(f"{kind} ") for meter in found]
    pairs = list(zip(names, found, strict=True))
    matching = [pair for pair in pairs if name in ("", pair[0], pair[1].name)]
    if len(matching) == 1:
        return matching[0][1]
    matching = matching or [pair for pair in pairs if name == base_name(pair[0])]
    asked = f" {name!r}" if name else ""
    if matching:
        choice = ", ".join(f"{kind}:{known}" for known, _ in matching)
        raise EnergyError(f"there are several {kind} meters{asked}; name one: {choice}")
    raise EnergyError(
        f"no {kind} meter{asked}" + (f"; there are: {', '.join(names)}" if names else f": {nothing}")
    )


def _readable_rapl() -> list[Meter]:
    """The packages that can be read.

    Raises: EnergyError saying why there is none, though there are packages.
    """
    readable: list[Meter] = []
    refusal: EnergyError | None = None
    for meter in find_rapl():
        try:
            meter.read()
            readable.append(meter)
        except EnergyError as error:
            refusal = refusal or error
    if refusal is not None and not readable:
        raise refusal
    return readable


def _row(kind: str, where: str, find: Callable[[], Sequence[Meter]], nothing: str) -> SensorRow:
    try:
        found = tuple(meter.name for meter in find())
    except (OSError, RuntimeError) as error:
        return SensorRow(kind=kind, where=where, found=(), reason=str(error))
    return SensorRow(kind=kind, where=where, found=found, reason="" if found else nothing)


def _closed(meter: Meter) -> Meter:
    meter.close()
    return meter

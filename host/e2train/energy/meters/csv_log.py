# SPDX-License-Identifier: Apache-2.0
"""The log of any external meter: a CSV file with times and powers."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2train.energy.readings import EnergyError, Recording

__all__ = ["CsvLog", "check_csv_head", "read_csv_log"]

_LARGEST = 1 << 30  # bytes of a file that is read
_LONGEST_HEAD = 1 << 16
_LARGEST_W = 1e9
_FORMS = "power_w, or voltage_v and current_a"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLog:
    """A meter's samples by its own clock.

    Shapes: times_s, powers_w and marker (N,); marker None where the file has no such column.
    """

    path: Path
    times_s: NDArray[np.float64]
    powers_w: NDArray[np.float64]
    marker: NDArray[np.bool_] | None
    local: bool = False  # dates without a zone

    def recording(self, *, offset_s: float = 0.0) -> Recording:
        """The log as a recording, by a clock that is ``offset_s`` behind the log's."""
        return Recording(
            meter=self.path.name,
            origin="measured",
            period_s=float(np.median(np.diff(self.times_s))),
            times_s=self.times_s - offset_s,
            values=self.powers_w,
            marks=np.full(len(self.times_s), -1, np.int64),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What its alignment by time rests on, where that is not in the file."""
        if not self.local:
            return ()
        zone = datetime.fromtimestamp(self.times_s[0]).astimezone().strftime("UTC%z")
        return (f"dates without a zone are taken as this machine's, {zone}",)

    def pulse(self) -> tuple[float, float]:
        """Begin and end of the marker's one pulse, by the log's clock, halfway between two samples.

        Raises: EnergyError when there is no marker, or not exactly one whole pulse.
        """
        if self.marker is None:
            raise _no_marker(self.path)
        edges = np.flatnonzero(np.diff(self.marker.astype(np.int8)))
        if len(edges) != 2 or self.marker[0]:
            raise EnergyError(
                f"{self.path}: the marker must rise once and fall once, it has {len(edges)} edges and "
                f"begins {'high' if self.marker[0] else 'low'}"
            )
        begin, end = (float(self.times_s[edge : edge + 2].mean()) for edge in edges)
        return begin, end


def read_csv_log(path: Path) -> CsvLog:
    """Read a log with the columns ``time_s``, power and maybe ``marker``; other columns are ignored.

    A time is a number of seconds, or an ISO date and time; the power is ``power_w``, or ``voltage_v`` times
    ``current_a``; a marker is 0 or 1. A last line that does not end is left out, as it may have been cut.
    Raises: EnergyError naming the line for anything else, also for times that do not ascend.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise EnergyError(f"{path} is larger than {_LARGEST >> 30} GiB; cut it to the run")
        with path.open(newline="", encoding="utf-8-sig") as file:
            whole = (line for line in file if line.endswith(("\n", "\r")))
            reader = csv.reader(whole, skipinitialspace=True, strict=True)
            names = next(reader, [])
            rows = ((reader.line_num, values) for values in reader if values)
            samples = list(_samples(path, rows, names))
    except OSError as error:
        raise EnergyError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EnergyError(f"{path} is no CSV file: {error}") from error
    if len(samples) < 2:
        raise EnergyError(f"{path} holds {len(samples)} samples; at least 2 are needed")
    times, powers, markers, local = (np.array(column) for column in zip(*samples, strict=True))
    return CsvLog(
        path=path,
        times_s=times,
        powers_w=powers,
        marker=markers if "marker" in names else None,
        local=bool(local.any()),
    )


def check_csv_head(path: Path, *, by_marker: bool) -> None:
    """Look at the columns of a log that is there already; one that is not, or has no line yet, may come.

    Raises: EnergyError when it cannot be read or lacks a column.
    """
    try:
        if not (path.is_file() or path.is_dir()):  # nor is a pipe, whose lines come once
            if not path.parent.is_dir():
                raise EnergyError(f"there is no folder {path.parent} for a log to come; look at --meter")
            return
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline(_LONGEST_HEAD)
        if not head.endswith(("\n", "\r")):  # still being written
            return
        found = next(csv.reader([head], skipinitialspace=True), [])
    except OSError as error:
        raise EnergyError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EnergyError(f"{path} is no CSV file: {error}") from error
    _power_columns(path, found)
    if by_marker and "marker" not in found:
        raise _no_marker(path)


def _no_marker(path: Path) -> EnergyError:
    return EnergyError(f"{path} has no column marker; align it by time")


def _power_columns(path: Path, found: Sequence[str]) -> tuple[str, ...]:
    names = set(found)
    if repeated := [name for name in names if name and found.count(name) > 1]:
        raise EnergyError(f"{path} has more than one column {min(repeated)}; rename all but one"[:300])
    for columns in (("power_w",), ("voltage_v", "current_a")):
        if {"time_s", *columns} <= names:
            return columns
    shown = ", ".join(found) or "none"
    raise EnergyError(f"{path} needs the columns time_s and {_FORMS}; it has {shown}"[:300])


def _samples(
    path: Path, rows: Iterable[tuple[int, list[str]]], names: Sequence[str]
) -> Iterator[tuple[float, float, bool, bool]]:
    columns, last_s = _power_columns(path, names), -math.inf
    dated: bool | None = None
    for line, values in rows:
        where = f"{path}, line {line}"
        if len(values) != len(names):
            raise EnergyError(
                f"{where} has {len(values)} columns, the header {len(names)}; "
                "write numbers with a decimal point, and a value for each column"
            )
        row = dict(zip(names, values, strict=True))
        try:
            time_s = _seconds(row["time_s"])
            power_w = math.prod(_number(row[column]) for column in columns)
            marker = _marker(row.get("marker", "0"))
        except ValueError as error:
            raise EnergyError(f"{where}: {' '.join(str(error).split())[:100]}") from None
        if not (math.isfinite(time_s) and math.isfinite(power_w)):
            raise EnergyError(f"{where}: {time_s} s, {power_w} W are no finite numbers")
        if abs(power_w) > _LARGEST_W:
            raise EnergyError(f"{where}: {power_w:.3g} W is no power of a board; power_w is in watts")
        before, dated = dated, not _is_number(row["time_s"])
        if before not in (None, dated):
            raise EnergyError(f"{where}: times are seconds or dates, not both; write all of them alike")
        if time_s <= last_s:
            raise EnergyError(f"{where}: its time {time_s:.6f} s is not after the one before, {last_s:.6f} s")
        last_s = time_s
        yield time_s, power_w, marker, dated and _date(row["time_s"]).tzinfo is None


def _seconds(text: str) -> float:
    """Seconds, since 1970 for a date; a date without a zone is in this machine's.

    >>> _seconds("2026-01-01T00:00:01Z"), _seconds("1.5")
    (1767225601.0, 1.5)
    """
    if _is_number(text):
        return _number(text)
    return _date(text).timestamp()


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text.strip().replace("Z", "+00:00"))


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    """A decimal number; Python's own underscores are none.

    Raises: ValueError when it is something else.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def _marker(text: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError(f"a marker is 0 or 1, not {text!r}")
    return text.strip() == "1"

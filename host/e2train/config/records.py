# SPDX-License-Identifier: Apache-2.0
"""Tables from files as records: the keys of a dataclass, with values of its types."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["RecordError", "check_record", "kinds_of", "load_toml", "quoted"]

_MOST_QUOTED = 60

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
_TYPES |= {"list": (list,), "dict": (dict,)}
_TYPES |= {"float | None": (int, float, type(None)), "dict[str, int] | None": (dict, type(None))}


class RecordError(ValueError):
    """A table that is not the record that it should be; the message goes on from the table's name."""


def load_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises: OSError; ValueError or RecursionError when it is not TOML.
    """
    return tomllib.loads(path.read_text(encoding="utf-8"))


def kinds_of(record: Any, *without: str) -> dict[str, str]:
    """The type of each field of a dataclass, by name."""
    return {field.name: str(field.type) for field in fields(record) if field.name not in without}


def check_record(table: object, kinds: Mapping[str, str], *, partial: bool = False) -> dict[str, Any]:
    """The table, if it has exactly the keys of ``kinds``, or ``partial`` ones, and values of their types.

    Raises: RecordError naming what is missing, unknown or of another type.

    >>> check_record({"steps": "9"}, {"steps": "int"})
    Traceback (most recent call last):
    e2train.config.records.RecordError: steps must be of type int, not '9'
    """
    if not isinstance(table, dict):
        raise RecordError(f"must be a table, not {quoted(table)}")
    keys = f"the keys are: {', '.join(kinds)}"
    missing = [] if partial else [key for key in kinds if key not in table]
    if missing:
        raise RecordError(f"lacks {', '.join(missing)}; {keys}")
    if unknown := [key for key in table if key not in kinds]:
        raise RecordError(f"has unknown {', '.join(map(quoted, unknown))}; {keys}")
    for key, value in table.items():
        types = _TYPES[kinds[key]]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise RecordError(f"{key} must be of type {kinds[key]}, not {quoted(value)}")
    return table


def quoted(value: object) -> str:
    """A value as an error message shows it: printable, and of a length that fits into a line."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    text = ascii(value)
    return text if len(text) <= _MOST_QUOTED else f"{text[: _MOST_QUOTED - 3]}..."

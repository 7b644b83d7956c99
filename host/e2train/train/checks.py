# SPDX-License-Identifier: Apache-2.0
"""Whether what was read from a file is what its reader expects: types, shapes, keys, and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_numbers", "check_state"]

_NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}
_LAZY = ("optimiser.state", "averager.means")  # whose entries come when they are first needed
_CONSTANT = "optimiser.param_groups."  # whose values do not change, but for the scheduled lr


def check_numbers(record: DataclassInstance, *, counts: bool = False) -> None:
    """Make sure that every field declared as int or float, or either or None, holds such a value.

    Raises: ValueError naming the first that does not, is not finite, or as one of ``counts`` is negative.
    """
    for field in fields(record):
        kind, *others = str(field.type).split(" | ")
        value = getattr(record, field.name)
        if kind not in _NUMBERS or (value is None and "None" in others):
            continue
        if type(value) not in _NUMBERS[kind] or not math.isfinite(value):
            raise ValueError(f"{field.name} must be a finite {kind}, not {str(value)[:40]}")
        if counts:
            _in_range(field.name, value)


def check_state(state: dict[str, Any], form: dict[str, Any], *, steps: int) -> None:
    """Compare a saved state with a state of the session that has every entry it may have.

    Raises: ValueError naming the first entry that is missing, unknown, or of another type, shape or range.
    """
    _same_form("", state, form)
    _in_range("step", state["step"], steps)
    _in_range("steps_dropped", state["steps_dropped"], state["step"])
    _in_range("samples", state["samples"])
    for block, runs in enumerate(state["block_runs"]):
        _in_range(f"block_runs.{block}", runs, state["samples"])
    averager = state["averager"]
    _in_range("averager.count", averager["count"], state["step"])
    if len(averager["means"]) != (len(form["averager"]["means"]) if averager["count"] else 0):
        raise ValueError(f"averager.means has {len(averager['means'])} entries, count is {averager['count']}")


def _same_form(name: str, got: Any, want: Any) -> None:
    if isinstance(want, Mapping) and isinstance(got, Mapping):
        missing = [] if name in _LAZY else [key for key in want if key not in got]
        if missing:
            raise ValueError(f"{_join(name, missing[0])} is missing")
        for key, value in got.items():
            if key not in want:
                raise ValueError(f"{_join(name, key)} is unknown")
            _same_form(_join(name, key), value, want[key])
    elif isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
        for index, values in enumerate(zip(got, want, strict=True)):
            _same_form(_join(name, index), *values)
    elif name.startswith(_CONSTANT) and not name.endswith(".lr"):
        if got != want:
            raise ValueError(f"{name} is {got!r}, not {want!r}")
    elif _describe(got) != _describe(want):
        raise ValueError(f"{name} is {_describe(got)}, not {_describe(want)}")


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"of type {type(value).__name__}"


def _in_range(name: str, value: float, highest: int | None = None) -> None:
    if value < 0 or (highest is not None and value > highest):
        wanted = "at least 0" if highest is None else f"in 0..{highest}"
        raise ValueError(f"{name} is {value}, not {wanted}")

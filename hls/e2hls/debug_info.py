# SPDX-License-Identifier: Apache-2.0
"""Source places, names and types of variables, from clang's debug metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from e2hls.ir import Loc

__all__ = ["DebugInfo", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the source declares it; ``width`` of one element is 0 where it is no number."""

    name: str
    dims: tuple[int, ...]
    width: int
    loc: Loc | None


class DebugInfo:
    """A view on the metadata nodes of a module."""

    def __init__(self, metadata: Mapping[str, str], *, own_headers: Path, files: Iterable[Path]) -> None:
        self._nodes = metadata
        self._own = str(own_headers)
        self._names = {os.path.abspath(path): str(path) for path in files}  # as the user wrote them

    @property
    def start(self) -> Loc | None:
        """The first line of the kernel's source."""
        return next((Loc(name, 1, 1) for name in self._names.values()), None)

    def _field(self, number: str, key: str) -> str:
        found = re.search(rf"\b{key}: (?:!(\d+)|\"([^\"]*)\"|([^,)]+))", self._nodes.get(number, ""))
        return next((group for group in found.groups() if group is not None), "") if found else ""

    def loc(self, number: str) -> Loc | None:
        """Where the user's code is: the innermost inlined place outside of the stand-in headers."""
        last = None
        for last in self._inlined(number):
            if not last.file.startswith(self._own):
                return last
        return last

    def _inlined(self, number: str) -> Iterator[Loc]:
        while number:
            line = int(self._field(number, "line") or 0)
            file = self._file(self._field(number, "scope"))
            if file and line:
                yield Loc(file, line, int(self._field(number, "column") or 0))
            number = self._field(number, "inlinedAt")

    def _file(self, scope: str) -> str:
        while scope:
            file = self._field(scope, "file")
            if file:
                path = os.path.join(self._field(file, "directory"), self._field(file, "filename"))
                return self._names.get(os.path.normpath(path), path)
            scope = self._field(scope, "scope")
        return ""

    def is_own_code(self, loc: Loc | None) -> bool:
        """Whether a place lies in the stand-in headers."""
        return loc is not None and loc.file.startswith(self._own)

    def first_loc(self, number: str) -> Loc | None:
        """The innermost place, stand-in headers or not."""
        return next(self._inlined(number), None)

    @cached_property
    def _functions(self) -> dict[str, str]:
        return {
            self._field(number, "linkageName") or self._field(number, "name"): number
            for number, node in self._nodes.items()
            if "!DISubprogram(" in node
        }

    def function_name(self, linkage_name: str) -> str:
        """A function as the source calls it, without template arguments."""
        number = self._functions.get(linkage_name)
        return self._field(number, "name").split("<")[0] if number else linkage_name

    def function_loc(self, linkage_name: str) -> Loc | None:
        """Where a function is defined."""
        number = self._functions.get(linkage_name)
        if number is None:
            return None
        return Loc(self._file(number), int(self._field(number, "line") or 0))

    def variable(self, number: str, location: str = "") -> Variable:
        """The variable that a DILocalVariable or DIGlobalVariable node describes."""
        dims, width = self._type(self._field(number, "type"))
        place = self.loc(location) if location else None
        if place is None:
            place = Loc(self._file(number), int(self._field(number, "line") or 0))
        return Variable(self._field(number, "name"), dims, width, place)

    def global_variable(self, expression: str) -> Variable:
        """The variable behind a DIGlobalVariableExpression node."""
        return self.variable(self._field(expression, "var"))

    def _type(self, number: str) -> tuple[tuple[int, ...], int]:
        node = self._nodes.get(number, "")
        if "DW_TAG_array_type" in node:
            ranges = re.findall(r"!(\d+)", self._nodes.get(self._field(number, "elements"), ""))
            dims = tuple(int(self._field(each, "count") or 0) for each in ranges)
            inner, width = self._type(self._field(number, "baseType"))
            return dims + inner, width
        if "!DIBasicType(" in node:
            encoding = self._field(number, "encoding")
            if encoding == "DW_ATE_boolean":
                return (), 1
            size = self._field(number, "dataSize") or self._field(number, "size")
            return (), int(size or 0) if encoding != "DW_ATE_float" else 0
        number_type = re.match(r"ap_int_base<(\d+), (?:true|false)>", self._field(number, "name"))
        if "!DICompositeType(" in node and number_type:
            return (), int(number_type[1])
        if "DW_TAG_enumeration_type" in node:
            return (), int(self._field(number, "size") or 0)
        if "!DIDerivedType(" in node and "DW_TAG_pointer" not in node and "DW_TAG_reference" not in node:
            return self._type(self._field(number, "baseType"))
        return (), 0

# SPDX-License-Identifier: Apache-2.0
"""Source places, names and types of variables, from clang's debug metadata."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2hls.base.errors import Loc

__all__ = ["DebugInfo", "Field", "Variable"]

_LIBRARY = "/lib/libcxx/"  # the C++ library beside clang


@dataclass(frozen=True, slots=True)
class Field:
    """A number inside of a variable: where it starts, and the strides in bytes of the dimensions above it."""

    path: str  # "" for a number itself, ".r" for a field of a struct
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    width: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the source declares it; ``dims`` are its own, those within a struct come on top."""

    name: str
    dims: tuple[int, ...]
    fields: tuple[Field, ...]
    loc: Loc | None


class DebugInfo:
    """A view on the metadata nodes of a module; valid after LLVM has renumbered them, too."""

    def __init__(self, metadata: Mapping[str, str], *, own_headers: Path, files: Iterable[str]) -> None:
        self._own = str(own_headers)
        self.metadata = metadata
        self._names = {os.path.abspath(path): path for path in files}  # as the user wrote them

    @property
    def metadata(self) -> Mapping[str, str]:
        """The nodes by number."""
        return self._nodes

    @metadata.setter
    def metadata(self, nodes: Mapping[str, str]) -> None:
        self._nodes = nodes
        self._places: dict[str, Loc | None] = {}
        self._functions = {
            self._field(number, "linkageName") or self._field(number, "name"): number
            for number, node in nodes.items()
            if "!DISubprogram(" in node
        }

    @property
    def start(self) -> Loc | None:
        """The first line of the kernel's source."""
        return next((Loc(name, 1, 1) for name in self._names.values()), None)

    def _field(self, number: str, key: str) -> str:
        found = re.search(rf"\b{key}: (?:!(\d+)|\"([^\"]*)\"|([^,)]+))", self._nodes.get(number, ""))
        return next((group for group in found.groups() if group is not None), "") if found else ""

    def loc(self, number: str) -> Loc | None:
        """Where the user's code is: the innermost inlined place outside of the flow's and clang's headers."""
        if number not in self._places:
            places = list(self._inlined(number))
            users = (at for at in places if not at.file.startswith(self._own) and _LIBRARY not in at.file)
            self._places[number] = next(users, places[-1] if places else None)
        return self._places[number]

    def _inlined(self, number: str) -> Iterator[Loc]:
        while number:
            line = int(self._field(number, "line") or 0)
            file = self._file(self._field(number, "scope"))
            if file and line:
                yield Loc(file, line, int(self._field(number, "column") or 0))
            number = self._field(number, "inlinedAt")

    def in_call(self, places: Sequence[str], number: str) -> bool:
        """Whether a loop with these locations lies in the function, or inlined call, of another location."""
        calls = list(self._calls(number))
        return len(calls) < 2 or not places or calls[0] in self._calls(places[0])

    def _calls(self, number: str) -> Iterator[tuple[str, str]]:
        """The functions that a location lies in, from the innermost, each with where it has been inlined."""
        while number:
            scope, at = self._field(number, "scope"), self._field(number, "inlinedAt")
            while scope and "DISubprogram" not in self._nodes[scope]:
                scope = self._field(scope, "scope")
            yield scope, at
            number = at

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

    def function_name(self, linkage_name: str) -> str:
        """A function as the source calls it, without template arguments."""
        number = self._functions.get(linkage_name)
        return self._field(number, "name").split("<")[0] if number else linkage_name

    def function_loc(self, linkage_name: str) -> Loc | None:
        """Where a function is defined."""
        number = self._functions.get(linkage_name)
        if number is None:
            return None
        return Loc(self._file(number), int(self._field(number, "line") or 0), 1)

    def variable(self, number: str, location: str = "") -> Variable:
        """The variable that a DILocalVariable or DIGlobalVariable node describes."""
        kind = self._field(number, "type")
        place = self.loc(location) if location else None
        if place is None:
            place = Loc(self._file(number), int(self._field(number, "line") or 0), 1)
        return Variable(self._field(number, "name"), self._array(kind)[0], tuple(self._fields(kind)), place)

    def global_variable(self, expression: str) -> Variable:
        """The variable behind a DIGlobalVariableExpression node."""
        return self.variable(self._field(expression, "var"))

    def _plain(self, number: str) -> str:
        """The type behind const, volatile and typedefs."""
        while "!DIDerivedType(" in (node := self._nodes.get(number, "")):
            if "DW_TAG_pointer_type" in node or "DW_TAG_reference_type" in node:
                break
            number = self._field(number, "baseType")
        return number

    def _array(self, number: str) -> tuple[tuple[int, ...], str]:
        """Dimensions and element type; no dimensions where it is no array."""
        number = self._plain(number)
        if "DW_TAG_array_type" not in self._nodes.get(number, ""):
            return (), number
        ranges = re.findall(r"!(\d+)", self._nodes.get(self._field(number, "elements"), ""))
        dims = tuple(int(self._field(each, "count") or 0) for each in ranges)
        inner, element = self._array(self._field(number, "baseType"))
        return dims + inner, element

    def _bytes(self, number: str) -> int:
        dims, element = self._array(number)
        return math.prod(dims) * (int(self._field(element, "size") or 0) // 8)

    def _fields(self, number: str) -> Iterator[Field]:
        """The numbers that a type is made of."""
        dims, element = self._array(number)
        size = self._bytes(element)
        strides = tuple(size * math.prod(dims[d + 1 :]) for d in range(len(dims)))
        width = self._width(element)
        if width:
            yield Field("", 0, dims, strides, width)
            return
        node = self._nodes.get(element, "")
        if "DW_TAG_structure_type" not in node and "DW_TAG_class_type" not in node:
            return
        for member in re.findall(r"!(\d+)", self._nodes.get(self._field(element, "elements"), "")):
            text = self._nodes.get(member, "")
            base = "DW_TAG_inheritance" in text
            if not base and ("DW_TAG_member" not in text or "DIFlagStaticMember" in text):
                continue
            offset = int(self._field(member, "offset") or 0) // 8
            path = "" if base else f".{self._field(member, 'name')}"
            for inner in self._fields(self._field(member, "baseType")):
                # Fields of bits are accessed by bytes, which they share.
                width = -(-inner.width // 8) * 8 if "DIFlagBitField" in text else inner.width
                yield Field(
                    path + inner.path,
                    offset + inner.offset,
                    dims + inner.dims,
                    strides + inner.strides,
                    width,
                )

    def _width(self, number: str) -> int:
        """Bits of a number, 0 for anything else."""
        node = self._nodes.get(number, "")
        number_type = re.match(r"ap_int_base<(\d+), (?:true|false)>", self._field(number, "name"))
        if "!DICompositeType(" in node and number_type:
            return int(number_type[1])
        if "!DIBasicType(" in node and self._field(number, "encoding") != "DW_ATE_float":
            if self._field(number, "encoding") == "DW_ATE_boolean":
                return 1
            return int(self._field(number, "dataSize") or self._field(number, "size") or 0)
        return int(self._field(number, "size") or 0) if "DW_TAG_enumeration_type" in node else 0

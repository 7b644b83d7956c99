# SPDX-License-Identifier: Apache-2.0
"""Sizes, offsets and constant values of LLVM types, as on AArch64."""

from __future__ import annotations

import re
from collections.abc import Iterator

from e2hls.frontend.llvm_text import split_operands

__all__ = ["Layout"]

_ARRAY = re.compile(r"^\[(\d+) x (.*)\]$")
_TYPE_DEFINITION = re.compile(r'^(%(?:"[^"]*"|[\w.$-]+)) = type (.*)$')


class Layout:
    """The layout of the types of one module."""

    def __init__(self, lines: list[str]) -> None:
        definitions = (_TYPE_DEFINITION.match(line) for line in lines)
        self._named = {found[1]: found[2] for found in definitions if found}

    def size(self, kind: str) -> int:
        """Bytes from one element of an array to the next."""
        return self._size_align(kind)[0]

    def fields(self, kind: str) -> list[tuple[str, int]]:
        """Type and offset of each element of a struct or of the first one of an array."""
        kind = self._named.get(kind, kind)
        array = _ARRAY.match(kind)
        if array:
            return [(array[2], 0)]
        packed = kind.startswith("<{")
        found, at = [], 0
        for each in split_operands(kind.strip("<>")[1:-1].strip()):
            size, align = self._size_align(each)
            at = at if packed else -(-at // align) * align
            found.append((each, at))
            at += size
        return found

    def step(self, kind: str) -> tuple[str, int] | None:
        """Element type and stride of an array, None for a struct."""
        array = _ARRAY.match(self._named.get(kind, kind))
        return (array[2], self.size(array[2])) if array else None

    def scalars(self, kind: str, offset: int = 0) -> Iterator[tuple[int, str]]:
        """Offset and type of everything in a type that is no aggregate itself."""
        step = self.step(kind)
        if step is not None:
            count = self.size(kind) // step[1] if step[1] else 0
            for index in range(count):
                yield from self.scalars(step[0], offset + index * step[1])
        elif self._named.get(kind, kind).startswith(("{", "<{")):
            for each, at in self.fields(kind):
                yield from self.scalars(each, offset + at)
        else:
            yield offset, kind

    def _size_align(self, kind: str) -> tuple[int, int]:
        kind = self._named.get(kind, kind)
        array = _ARRAY.match(kind)
        if array:
            size, align = self._size_align(array[2])
            return int(array[1]) * size, align
        if kind == "ptr":
            return 8, 8
        if re.fullmatch(r"i\d+", kind):
            stored = -(-int(kind[1:]) // 8)
            align = min(16, 1 << max(0, (stored - 1).bit_length()))
            return -(-stored // align) * align, align
        if kind.startswith(("{", "<{")):
            return self._struct_size_align(kind)
        return 0, 1  # opaque or floating point: reported where it is used

    def _struct_size_align(self, kind: str) -> tuple[int, int]:
        fields = self.fields(kind)
        packed = kind.startswith("<{")
        align = 1 if packed else max((self._size_align(each)[1] for each, _ in fields), default=1)
        end = fields[-1][1] + self.size(fields[-1][0]) if fields else 0
        return -(-end // align) * align, align

    def image(self, kind: str, value: str) -> bytes:
        """The bytes of a constant; undefined ones are zero."""
        size = self.size(kind)
        if value in ("zeroinitializer", "undef", "poison"):
            return bytes(size)
        if value in ("true", "false"):
            return bytes([value == "true"])
        if re.fullmatch(r"-?\d+", value):
            return (int(value) % (1 << 8 * size)).to_bytes(size, "little")
        if value.startswith('c"'):
            text = re.sub(r"\\([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), value[2:-1])
            return text.encode("latin-1")
        body = value.removeprefix("<")[1:].removesuffix(">")[:-1].strip()
        image = bytearray(size)
        elements = split_operands(body)
        step = self.step(kind)
        places = self.fields(kind) if step is None else [(step[0], i * step[1]) for i in range(len(elements))]
        for element, (each, at) in zip(elements, places, strict=True):
            part = self.image(each, element[len(each) :].strip())
            image[at : at + len(part)] = part
        return bytes(image)

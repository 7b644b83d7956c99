# SPDX-License-Identifier: Apache-2.0
"""Loads and stores: from addresses to elements of arrays, each as wide as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.builder import Builder
from e2hls.frontend.hidden_indices import is_hidden, is_step
from e2hls.frontend.pointers import Index, Pointer, split_index
from e2hls.frontend.prepare import storage_bytes
from e2hls.frontend.variables import Memory, Variables
from e2hls.frontend.walks import Walk
from e2hls.ir import Const, Operand

__all__ = ["MemoryAccess"]

_Element = tuple[str, tuple[Operand, ...]]


class MemoryAccess:
    """The accesses of one process; within a block, a repeated load costs no second port."""

    def __init__(
        self,
        variables: Variables,
        process: str,
        value: Callable[[str, Loc | None], Operand],
        walks: Mapping[str, Walk],
    ) -> None:
        self._variables = variables
        self._process = process
        self._value = value
        self._walks = walks  # of the loops' counters
        self._known: dict[_Element, Operand] = {}

    def start_block(self) -> None:
        """Forget what is known of the arrays' contents."""
        self._known = {}

    def load(self, pointer: Pointer, width: int, b: Builder, name: str) -> Operand:
        """``width`` bits at ``pointer``: an element, or several whole ones."""
        total: Operand | None = None
        for at, bits in self._parts(pointer, width, b):
            part = self._load(pointer.moved(at // 8), bits, b, name)
            if bits == width:
                return part
            part = b.binary("shl", b.resize(part, width), Const(width, at))
            total = part if total is None else b.binary("or", total, part)
        assert total is not None
        return total

    def _load(self, pointer: Pointer, width: int, b: Builder, name: str) -> Operand:
        memory, indices, byte = self._element(pointer, width, b)
        key = memory.name, indices
        if key not in self._known:
            self._known[key] = b.emit("load", memory.width, indices, target=memory.name, name=name)
        element = self._known[key]
        if byte:
            element = b.binary("lshr", element, Const(element.width, 8 * byte))
        return b.resize(element, width)

    def store(self, pointer: Pointer, value: Operand, b: Builder) -> None:
        """Write ``value`` at ``pointer``; it must be a whole element, or several."""
        for at, bits in self._parts(pointer, value.width, b):
            part = b.binary("lshr", value, Const(value.width, at))
            self._store(pointer.moved(at // 8), b.resize(part, bits), b)

    def _store(self, pointer: Pointer, value: Operand, b: Builder) -> None:
        memory, indices, byte = self._element(pointer, value.width, b)
        if byte or value.width < memory.width:
            raise HlsError(
                f"only a part of an element of {memory.name} is written; write it as a whole", b.loc
            )
        value = b.resize(value, memory.width)
        memory.writers.add(self._process)
        b.effect("store", (*indices, value), target=memory.name)
        self._known = {
            key: known
            for key, known in self._known.items()
            if key[0] != memory.name or _differ(key[1], indices)
        }
        self._known[memory.name, indices] = value

    def _parts(self, pointer: Pointer, width: int, b: Builder) -> Iterator[tuple[int, int]]:
        """First bit and bits of each element of an access: a struct may be passed as one number."""
        memories = self._variables.memory(pointer.base, self._process, b.loc)
        at = 0
        while at < width:
            here, bits = pointer.moved(at // 8), width - at
            if at or not any(self._holds(memory, here, bits, memories) for memory in memories):
                memory, _, byte = self._element(here, 8, b)
                bits = min(bits, 8 * (storage_bytes(memory.width) - byte))
            yield at, bits
            at += bits

    def _element(self, pointer: Pointer, width: int, b: Builder) -> tuple[Memory, tuple[Operand, ...], int]:
        memories = self._variables.memory(pointer.base, self._process, b.loc)
        outside: tuple[int, int] | None = None  # the first index that is not within its dimension, and that
        for memory in memories:
            split = self._split(memory, pointer, width, memories)
            if split is None:
                continue
            indices, byte = split
            wrong = _wrong(indices, memory)
            if wrong is not None:  # which leads to another field of the struct, or nowhere
                outside = outside or wrong
                continue
            memory.users[self._process] = None
            places = zip(indices, memory.dims, strict=True)
            return memory, tuple(self._index(index, dim, b) for index, dim in places), byte
        if outside is not None:
            raise HlsError(f"index {outside[0]} is out of bounds 0..{outside[1] - 1}", b.loc)
        free = memories[0].whole and len(memories[0].dims) == 1
        if not free and any(not is_hidden(operand) or is_step(operand) for _, operand in pointer.terms):
            raise HlsError(
                f"a pointer walks over {memories[0].name} here, and where it leads is not known; "
                "use an index for each dimension",
                b.loc,
            )
        raise HlsError(f"{memories[0].name} is not accessed by whole elements; access them one by one", b.loc)

    def _split(
        self, memory: Memory, pointer: Pointer, width: int, memories: Sequence[Memory]
    ) -> tuple[list[Index], int] | None:
        """The indices and the byte within the element, if ``width`` bits there can lie in one."""
        split = split_index(
            pointer.moved(-memory.offset),
            memory.dims,
            memory.strides,
            self._walks,
            alone=memory.whole and len(memories) == 1,
        )
        return None if split is None or 8 * split[1] + width > 8 * storage_bytes(memory.width) else split

    def _holds(self, memory: Memory, pointer: Pointer, width: int, memories: Sequence[Memory]) -> bool:
        """Whether ``width`` bits at ``pointer`` lie within one element."""
        split = self._split(memory, pointer, width, memories)
        return split is not None and _wrong(split[0], memory) is None

    def _index(self, index: Index, dim: int, b: Builder) -> Operand:
        """An index in as few bits as the dimension needs: arithmetic modulo a power of two stays exact."""
        width = max(1, (dim - 1).bit_length())
        total: Operand = Const(width, index.constant % (1 << width))
        for factor, operand, divisor in index.terms:
            value = self._value(operand, b.loc)
            if divisor & (divisor - 1):
                value = b.binary("udiv", value, Const(value.width, divisor))
            elif divisor > 1:
                value = b.binary("ashr", value, Const(value.width, divisor.bit_length() - 1))
            value = b.resize(value, width, signed=True)
            value = b.binary("mul", value, Const(width, factor % (1 << width)))
            total = value if isinstance(total, Const) and total.value == 0 else b.binary("add", value, total)
        return total


def _wrong(indices: Sequence[Index], memory: Memory) -> tuple[int, int] | None:
    """The first constant index that is not within its dimension, and that."""
    pairs = zip(indices, memory.dims, strict=True)
    return next(
        ((each.constant, dim) for each, dim in pairs if not each.terms and not 0 <= each.constant < dim), None
    )


def _differ(a: tuple[Operand, ...], c: tuple[Operand, ...]) -> bool:
    """Whether two elements are surely not the same."""
    pairs = zip(a, c, strict=True)
    return any(isinstance(x, Const) and isinstance(y, Const) and x.value != y.value for x, y in pairs)

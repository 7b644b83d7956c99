# SPDX-License-Identifier: Apache-2.0
"""Dimensions that are partitioned cyclically or in blocks become two: the memory, and the place in it.

Of an index, a power of two is a matter of bits, and the memory is known where all that the index is made of
has the same remainder by it: the counter of a loop that is unrolled in part.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from e2hls.ir import Array, Block, Const, Cut, Design, Instr, Operand, Process, Ref

__all__ = ["partition"]


def partition(design: Design) -> Design:
    """Split the dimensions and the indices of all accesses."""
    if not any(array.cuts for array in _arrays(design)):
        return design
    return replace(
        design,
        processes=tuple(_split_process(process, design) for process in design.processes),
        shared=tuple(map(_split_array, design.shared)),
    )


def _arrays(design: Design) -> Iterator[Array]:
    yield from design.shared
    for process in design.processes:
        yield from process.arrays


def _block_size(cut: Cut, size: int) -> int:
    return -(-size // cut.parts)


def _split_array(array: Array) -> Array:
    dims: list[int] = []
    partitioned: list[bool] = []
    for dim, (size, split) in enumerate(zip(array.dims, array.partitioned, strict=True)):
        cut = array.cuts.get(dim)
        dims += [size] if cut is None else [cut.parts, _block_size(cut, size)]
        partitioned += [split] if cut is None else [True, False]
    whole = replace(array, dims=tuple(dims), partitioned=tuple(partitioned), cuts={})
    return replace(whole, init=_moved(array, whole)) if array.init else whole


def _moved(array: Array, whole: Array) -> tuple[int, ...]:
    """The initial values in the order of the new dimensions; what is behind the end of the array is 0."""
    init = [0] * math.prod(whole.dims)
    for value, place in zip(array.init, itertools.product(*map(range, array.dims)), strict=True):
        at = 0
        for dim, (index, size) in enumerate(zip(place, array.dims, strict=True)):
            cut = array.cuts.get(dim)
            if cut is None:
                at = at * size + index
                continue
            block = _block_size(cut, size)
            bank, row = (index % cut.parts, index // cut.parts) if cut.cyclic else divmod(index, block)
            at = (at * cut.parts + bank) * block + row
        init[at] = value
    return tuple(init)


def _split_process(process: Process, design: Design) -> Process:
    arrays = {array.name: array for array in (*process.arrays, *design.shared) if array.cuts}
    used = {i.target for block in process.blocks for i in block.instrs if i.op in ("load", "store")}
    if not used & set(arrays):
        return process
    splitter = _Splitter(process, arrays)
    return replace(
        process,
        blocks=tuple(splitter.block(block) for block in process.blocks),
        arrays=tuple(map(_split_array, process.arrays)),
    )


class _Splitter:
    """Rewrites the accesses of one process."""

    def __init__(self, process: Process, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._process = process
        self._names = {phi.result for block in process.blocks for phi in block.phis}
        self._names |= {instr.result for block in process.blocks for instr in block.instrs}
        self._remainders: dict[int, _Remainders] = {}

    def block(self, block: Block) -> Block:
        """The block with the accesses to its arrays by the new indices."""
        out: list[Instr] = []
        for instr in block.instrs:
            array = self._arrays.get(instr.target) if instr.op in ("load", "store") else None
            if array is not None:
                instr = replace(instr, args=tuple(self._args(instr, array, out)))
            out.append(instr)
        return replace(block, instrs=tuple(out))

    def _args(self, instr: Instr, array: Array, out: list[Instr]) -> Iterator[Operand]:
        for dim, arg in enumerate(instr.args):
            cut = array.cuts.get(dim)
            if cut is None:
                yield arg
            else:
                yield from self._split(arg, cut, array.dims[dim], instr, out)

    def _split(
        self, index: Operand, cut: Cut, size: int, access: Instr, out: list[Instr]
    ) -> tuple[Operand, Operand]:
        """Memory and place of an index."""
        divisor = cut.parts if cut.cyclic else _block_size(cut, size)
        low = self._low(index, divisor, access, out)
        high = self._computed("udiv", index, divisor, access, out)
        high, low = self._fit(high, -(-size // divisor), access, out), self._fit(low, divisor, access, out)
        return (low, high) if cut.cyclic else (high, low)

    def _low(self, index: Operand, divisor: int, access: Instr, out: list[Instr]) -> Operand:
        if isinstance(index, Ref) and divisor.bit_count() == 1:
            known = self._remainders.setdefault(divisor, _Remainders(self._process, divisor)).of(index)
            if known is not None:
                return Const(index.width, known)
        return self._computed("urem", index, divisor, access, out)

    def _computed(self, op: str, index: Operand, divisor: int, access: Instr, out: list[Instr]) -> Operand:
        if isinstance(index, Const):
            value = index.value // divisor if op == "udiv" else index.value % divisor
            return replace(index, value=value)
        by = Const(index.width, divisor)
        if divisor.bit_count() == 1:
            shift = op == "udiv"
            op = "lshr" if shift else "and"
            by = Const(index.width, divisor.bit_length() - 1 if shift else divisor - 1)
        return self._emit(op, index.width, (index, by), access, out)

    def _fit(self, index: Operand, size: int, access: Instr, out: list[Instr]) -> Operand:
        """In as few bits as a dimension of this size needs."""
        width = max(1, (size - 1).bit_length())
        if index.width <= width:
            return index
        if isinstance(index, Const):
            return Const(width, index.value % (1 << width))
        return self._emit("trunc", width, (index,), access, out)

    def _emit(self, op: str, width: int, args: tuple[Operand, ...], access: Instr, out: list[Instr]) -> Ref:
        stem = f"{access.target}_{op}"
        name = next(name for n in itertools.count() if (name := f"{stem}_{n}") not in self._names)
        self._names.add(name)
        out.append(Instr(op=op, width=width, result=name, args=args, loc=access.loc))  # type: ignore[arg-type]
        return Ref(width, name)


@dataclass(frozen=True, slots=True)
class _Any:
    """No value yet: whatever the others are."""


_ANY = _Any()
_Known = int | None | _Any  # a remainder; None where it varies


class _Remainders:
    """Of the values of a process, their remainders by a power of two where these are always the same."""

    def __init__(self, process: Process, divisor: int) -> None:
        self._divisor = divisor
        self._known: dict[str, _Known] = {}
        changed = True
        while changed:
            changed = False
            for block in process.blocks:
                for phi in block.phis:
                    met: _Known = _ANY
                    for value in phi.incoming.values():
                        met = _meet(met, self._operand(value))
                    changed |= self._set(phi.result, met)
                for instr in block.instrs:
                    if instr.result:
                        changed |= self._set(instr.result, self._computed(instr))

    def of(self, value: Ref) -> int | None:
        """The remainder of a value, None where it varies."""
        known = self._known.get(value.name)
        return known if isinstance(known, int) else None

    def _set(self, name: str, known: _Known) -> bool:
        old = self._known.get(name, _ANY)
        self._known[name] = known
        return known != old

    def _operand(self, operand: Operand) -> _Known:
        if isinstance(operand, Const):
            return _ANY if operand.undef else operand.value % self._divisor
        return self._known.get(operand.name, _ANY)

    def _computed(self, instr: Instr) -> _Known:
        args = [self._operand(arg) for arg in instr.args]
        if instr.op in ("zext", "sext", "trunc", "freeze"):
            narrow = min(instr.width, instr.args[0].width) < self._divisor.bit_length() - 1
            return None if narrow else args[0]
        if instr.op == "select":
            return _meet(args[1], args[2])
        if instr.op == "mul" and 0 in args:
            return 0
        if instr.op == "shl" and isinstance(instr.args[1], Const):
            by = instr.args[1].value
            return 0 if 1 << by >= self._divisor else _all(args[:1], lambda a: a << by, self._divisor)
        operation = _OPERATIONS.get(instr.op)
        return None if operation is None else _all(args, operation, self._divisor)


def _meet(one: _Known, other: _Known) -> _Known:
    if isinstance(one, _Any):
        return other
    return one if isinstance(other, _Any) or one == other else None


_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def _all(args: Sequence[_Known], operation: Callable[..., int], divisor: int) -> _Known:
    """The remainder of a result, where those of all operands are known."""
    if any(arg is None for arg in args):
        return None
    known = [arg for arg in args if isinstance(arg, int)]
    return operation(*known) % divisor if len(known) == len(args) else _ANY

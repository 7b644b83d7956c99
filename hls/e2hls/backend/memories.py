# SPDX-License-Identifier: Apache-2.0
"""Arrays in hardware: registers, or one RAM per bank behind ready/valid channels.

A RAM that its process both reads and writes has one request channel, so that the order of requests is
the order of the program. Where one iteration writes what it made of what it read, there is one channel for
each side, and what is on its way to the RAM is forwarded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2hls.backend.bit_slices import Value, concat, constant, disjoint
from e2hls.backend.forwarding import RecentWrites
from e2hls.backend.xls_text import Channel, ProcText
from e2hls.base.errors import HlsError, Loc
from e2hls.ir import Array, Const, Process
from e2hls.passes.regions import Flow

__all__ = ["Memories", "Ram", "Site", "address_bits", "ram_arrays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an access stands: its block, and whether this activation runs it."""

    label: str
    when: Value
    loc: Loc | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ram:
    """One bank as the wrapper builds it; ``joint`` says that reads and writes share a request channel."""

    name: str
    array: str  # that it is a bank of
    width: int
    depth: int
    init: tuple[int, ...]  # empty: anything; one word: all are alike
    reads: bool
    writes: bool
    joint: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    site: Site
    chosen: Value  # whether the indices name this bank or register
    when: Value
    address: Value
    data: Value | None = None


@dataclass(slots=True, kw_only=True)
class _Bank:
    name: str
    reads: list[_Access] = field(default_factory=list)
    writes: list[_Access] = field(default_factory=list)


def address_bits(depth: int) -> int:
    """Bits that address ``depth`` words."""
    return max(1, (depth - 1).bit_length())


def ram_arrays(process: Process) -> frozenset[str]:
    """Arrays whose memories have ports to share: neither registers nor tables, which are copied per load."""
    usage = _usage(process)
    return frozenset(
        array.name
        for array in process.arrays
        if (used := usage.get(array.name)) and not _in_registers(array, used)
        if used.stores or array.scope == "shared"
    )


def _in_registers(array: Array, used: _Usage) -> bool:
    indices = zip(array.partitioned, used.constant, strict=True)
    return array.scope != "shared" and all(split or fixed for split, fixed in indices)


class Memories:
    """All arrays of one process; loads and stores must come in an order that follows execution.

    ``forwarded`` says for which RAMs recent writes are kept in registers, and how many; ``names`` are all
    arrays of the design.
    """

    def __init__(
        self,
        text: ProcText,
        flow: Flow,
        process: Process,
        forwarded: Mapping[str, int],
        names: frozenset[str] = frozenset(),
    ) -> None:
        self.names = names
        self.text = text
        self.flow = flow
        self.forwarded = forwarded
        self.rams: list[Ram] = []
        self.constraints: list[str] = []
        usage = _usage(process)
        self._memories: dict[str, _Registers | _Banks] = {}
        for array in process.arrays:
            used = usage.get(array.name)
            if used is None:
                continue
            if _in_registers(array, used):
                self._memories[array.name] = _Registers(self, array)
            else:
                copies = used.loads if used.stores == 0 and array.scope != "shared" else 0
                self._memories[array.name] = _Banks(self, array, rom_copies=copies)

    def load(self, name: str, site: Site, indices: Sequence[Value]) -> Value:
        return self._memories[name].load(site, indices)

    def store(self, name: str, site: Site, indices: Sequence[Value], value: Value) -> None:
        self._memories[name].store(site, indices, value)

    def finish(self) -> None:
        """Make the ports and registers that the accesses ask for."""
        for memory in self._memories.values():
            memory.finish()


@dataclass(slots=True, kw_only=True)
class _Usage:
    constant: list[bool]  # by dimension: every index is a constant
    loads: int = 0
    stores: int = 0


def _usage(process: Process) -> dict[str, _Usage]:
    usage: dict[str, _Usage] = {}
    dims = {array.name: len(array.dims) for array in process.arrays}
    for block in process.blocks:
        for instr in block.instrs:
            if instr.op in ("load", "store"):
                used = usage.setdefault(instr.target, _Usage(constant=[True] * dims[instr.target]))
                for dim in range(dims[instr.target]):
                    used.constant[dim] &= isinstance(instr.args[dim], Const)
                used.loads += instr.op == "load"
                used.stores += instr.op == "store"
    return usage


def _matches(
    text: ProcText, array: Array, dims: Sequence[int], indices: Sequence[Value]
) -> list[tuple[tuple[int, ...], Value]]:
    """All positions along ``dims`` that the indices may name, each with the condition that they do."""
    out = []
    for place in itertools.product(*(range(array.dims[dim]) for dim in dims)):
        when = constant(1, 1)
        for dim, at in zip(dims, place, strict=True):
            when = text.bit_and(when, text.equals(indices[dim], at))
        if not when.is_zero():
            out.append((place, when))
    return out


class _Registers:
    """An array whose elements are state elements."""

    def __init__(self, home: Memories, array: Array) -> None:
        self.home = home
        self.array = array
        self.dims = range(len(array.dims))
        self.stores: dict[tuple[int, ...], list[_Access]] = {}

    def _element(self, place: tuple[int, ...]) -> Value:
        index = 0
        for dim, at in zip(self.array.dims, place, strict=True):
            index = index * dim + at
        init = self.array.init[index] if self.array.init else 0
        return self.home.text.state(f"{self.array.name}_{index}", self.array.width, init)

    def load(self, site: Site, indices: Sequence[Value]) -> Value:
        text, flow = self.home.text, self.home.flow
        result: Value | None = None
        for place, when in _matches(text, self.array, self.dims, indices):
            value = self._element(place)
            for store in self.stores.get(place, []):
                assert store.data is not None
                if site.label == store.site.label:
                    value = text.select(store.address, store.data, value)
                elif site.label in flow.reached[store.site.label]:
                    value = text.select(store.when, store.data, value)
            result = value if result is None else text.select(when, value, result)
        return constant(self.array.width, 0) if result is None else result

    def store(self, site: Site, indices: Sequence[Value], value: Value) -> None:
        text = self.home.text
        for place, chosen in _matches(text, self.array, self.dims, indices):
            self._element(place)
            when = text.bit_and(site.when, chosen)
            access = _Access(site=site, chosen=chosen, when=when, address=chosen, data=value)
            self.stores.setdefault(place, []).append(access)

    def finish(self) -> None:
        text, flow = self.home.text, self.home.flow
        for place, stores in self.stores.items():
            name = self._element(place).parts[0].node
            for index, store in enumerate(stores):
                later = [
                    s.when for s in stores[index + 1 :] if s.site.label in flow.reached[store.site.label]
                ]
                when = text.bit_and(store.when, text.bit_not(text.any(later)))
                assert store.data is not None
                text.next_value(name, store.data, when)


class _Banks:
    """An array in RAM: a bank for each place along its partitioned dimensions.

    A table that is never written is copied for each of its ``rom_copies`` loads, which may then coincide.
    """

    def __init__(self, home: Memories, array: Array, *, rom_copies: int) -> None:
        self.home = home
        self.array = array
        self.rom_copies = rom_copies
        self.split = [dim for dim, split in enumerate(array.partitioned) if split]
        self.flat = [dim for dim, split in enumerate(array.partitioned) if not split]
        self.depth = 1
        for dim in self.flat:
            self.depth *= array.dims[dim]
        self.banks: dict[tuple[int, ...], _Bank] = {}
        self.loads = 0
        # A bank a_1 is not the bank of an array a_1, nor that array.
        longer = rf"{re.escape(array.name)}_\d+(?:_.*)?"
        taken = any(re.fullmatch(longer, each) for each in home.names)
        self._stem = f"{array.name}_" if taken and self.split else array.name

    def _bank(self, place: tuple[int, ...], copy: int) -> _Bank:
        name = "_".join((self._stem, *map(str, place)))
        if self.rom_copies > 1:
            name, place = f"{name}_rom{copy}", (*place, copy)
        return self.banks.setdefault(place, _Bank(name=name))

    def _address(self, indices: Sequence[Value]) -> Value:
        """Row-major over the dimensions that are not partitioned, modulo the address width."""
        text, bits = self.home.text, address_bits(self.depth)
        total, stride = constant(bits, 0), self.depth
        for dim in self.flat:
            stride //= self.array.dims[dim]
            index = indices[dim]
            index = index.cut(0, bits) if index.width >= bits else text.zero_extend(index, bits)
            term = text.multiply(index, constant(bits, stride)) if stride > 1 else index
            joined = text.bit_or(total, term) if disjoint(total, term) else None
            total = joined or text.binary("add", total, term, bits)
        return total

    def load(self, site: Site, indices: Sequence[Value]) -> Value:
        text = self.home.text
        address = self._address(indices)
        result: Value | None = None
        for place, chosen in _matches(text, self.array, self.split, indices):
            bank = self._bank(place, self.loads)
            self._read(bank, site, chosen, address)
            value = text.placeholder(self.array.width, f"{bank.name}_data")
            if recent := self._recent(bank):
                value = recent.content(address, value)
            for write in bank.writes:
                if site.label in self.home.flow.reached[write.site.label]:
                    assert write.data is not None
                    same = text.binary("eq", write.address, address, 1)
                    value = text.select(text.bit_and(write.when, same), write.data, value)
            result = value if result is None else text.select(chosen, value, result)
        self.loads += 1
        return constant(self.array.width, 0) if result is None else result

    def _read(self, bank: _Bank, site: Site, chosen: Value, address: Value) -> None:
        """Ask for a read, unless one that always comes before it reads the same."""
        above = self.home.flow.dominators[site.label]
        if not any(r.site.label in above and (r.chosen, r.address) == (chosen, address) for r in bank.reads):
            when = self.home.text.bit_and(site.when, chosen)
            bank.reads.append(_Access(site=site, chosen=chosen, when=when, address=address))

    def _recent(self, bank: _Bank) -> RecentWrites | None:
        depth = self.home.forwarded.get(self.array.name)
        return None if depth is None else RecentWrites(self.home.text, bank.name, depth)

    def store(self, site: Site, indices: Sequence[Value], value: Value) -> None:
        text = self.home.text
        address = self._address(indices)
        for place, chosen in _matches(text, self.array, self.split, indices):
            when = text.bit_and(site.when, chosen)
            access = _Access(site=site, chosen=chosen, when=when, address=address, data=value)
            self._bank(place, 0).writes.append(access)

    def finish(self) -> None:
        for place, bank in self.banks.items():
            self._check(bank.reads, "read", "reads of")
            self._check(bank.writes, "write", "writes to")
            if bank.reads or self.array.scope == "shared":
                self._ports(place[: len(self.split)], bank)

    def _check(self, accesses: list[_Access], verb: str, verbs: str) -> None:
        """Raises: HlsError where one port would have to do two accesses in one iteration."""
        for one, other in itertools.combinations(accesses, 2):
            if self.home.flow.exclusive(one.site.label, other.site.label):
                continue
            if verb == "read" and one.address == other.address:
                continue
            lines = sorted({a.site.loc.line for a in (one, other) if a.site.loc})
            at = f" (lines {' and '.join(map(str, lines))})" if lines else ""
            raise HlsError(
                f"two {verbs} array {self.array.name} in one iteration{at}, but each of its memories has one "
                f"{verb} port; use ARRAY_PARTITION, or {verb} it once per iteration",
                other.site.loc or self.array.loc,
            )

    def _ports(self, place: tuple[int, ...], bank: _Bank) -> None:
        both = bool(bank.reads and bank.writes)
        joint = both and self.array.name not in self.home.forwarded
        self.home.rams.append(
            Ram(
                name=bank.name,
                array=self.array.name,
                width=self.array.width,
                depth=self.depth,
                init=self._init(place),
                reads=bool(bank.reads),
                writes=bool(bank.writes),
                joint=joint,
            )
        )
        if joint:
            self._joint_port(bank)
            return
        if bank.writes:
            self._write_port(bank)
        if bank.reads:
            self._read_port(bank)
        if both and (recent := self._recent(bank)):
            self.home.constraints.append(recent.constraint)

    def _joint_port(self, bank: _Bank) -> None:
        text = self.home.text
        read, write = text.any([r.when for r in bank.reads]), text.any([w.when for w in bank.writes])
        fields = (
            _merged(text, bank.writes, data=True),
            _merged(text, bank.writes),
            _merged(text, bank.reads),
        )
        request = concat((*fields, write, read))
        channel = Channel(name=f"{bank.name}_req", width=request.width, sends=True)
        token = text.send(channel, request, text.any([read, write]))
        self._respond(bank, channel.name, read, token)

    def _write_port(self, bank: _Bank) -> None:
        text = self.home.text
        data, address = _merged(text, bank.writes, data=True), _merged(text, bank.writes)
        when = text.any([write.when for write in bank.writes])
        channel = Channel(name=f"{bank.name}_wreq", width=data.width + address.width, sends=True)
        text.send(channel, concat((data, address)), when)
        if bank.reads and (recent := self._recent(bank)):
            recent.add(address, data, when)

    def _read_port(self, bank: _Bank) -> None:
        text = self.home.text
        channel = Channel(name=f"{bank.name}_rreq", width=address_bits(self.depth), sends=True)
        when = text.any([read.when for read in bank.reads])
        token = text.send(channel, _merged(text, bank.reads), when)
        self._respond(bank, channel.name, when, token)

    def _respond(self, bank: _Bank, request: str, when: Value, token: str) -> None:
        channel = Channel(name=f"{bank.name}_rresp", width=self.array.width, sends=False)
        self.home.text.receive(channel, when, f"{bank.name}_data", after=token, late=True)
        self.home.constraints.append(f"{request}:send:{channel.name}:recv:1:1")

    def _init(self, place: tuple[int, ...]) -> tuple[int, ...]:
        if self.array.scope != "static":
            return ()
        if not any(self.array.init):
            return (0,)
        words = []
        for flat in itertools.product(*(range(self.array.dims[dim]) for dim in self.flat)):
            full = dict(zip(self.split, place, strict=True)) | dict(zip(self.flat, flat, strict=True))
            index = 0
            for dim, size in enumerate(self.array.dims):
                index = index * size + full[dim]
            words.append(self.array.init[index])
        return tuple(words)


def _merged(text: ProcText, accesses: list[_Access], *, data: bool = False) -> Value:
    """The address (or the data) of the one access that happens."""
    result: Value | None = None
    for access in accesses:
        value = access.data if data else access.address
        assert value is not None
        result = value if result is None else text.select(access.when, value, result)
    assert result is not None
    return result

# SPDX-License-Identifier: Apache-2.0
"""Arrays in hardware: registers, or one RAM per bank behind ready/valid channels.

A RAM that its process both reads and writes has one request channel, so that the order of requests is
the order of the program. Where one iteration writes what it made of what it read, there is one channel for
each side, and what is on its way to the RAM is forwarded. Where one iteration reads twice, or writes twice,
the RAM has two ports, each of which reads or writes, and one request channel for both.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2hls.backend.bit_slices import Value, concat, constant, disjoint
from e2hls.backend.element_registers import Access, Registers, Site, in_registers, matches, usage_of
from e2hls.backend.forwarding import RecentWrites
from e2hls.backend.xls_text import Channel, ProcText
from e2hls.base.errors import HlsError
from e2hls.ir import Array, Process
from e2hls.passes.regions import Flow

__all__ = ["Memories", "Ram", "address_bits", "ram_arrays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ram:
    """One bank as the wrapper builds it; ``joint`` says that reads and writes share a request channel.

    ``answers`` are the ports of a RAM of two ports that read, by the stems of their channels' names.
    """

    name: str
    array: str  # that it is a bank of
    width: int
    depth: int
    init: tuple[int, ...]  # empty: anything; one word: all are alike
    reads: bool
    writes: bool
    joint: bool
    answers: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Bank:
    name: str
    reads: list[Access] = field(default_factory=list)
    second: list[Access] = field(default_factory=list)  # reads that coincide with others
    writes: list[Access] = field(default_factory=list)


def address_bits(depth: int) -> int:
    """Bits that address ``depth`` words."""
    return max(1, (depth - 1).bit_length())


def ram_arrays(process: Process) -> frozenset[str]:
    """Arrays whose memories have ports to share: neither registers nor tables, which are copied per load."""
    usage = usage_of(process)
    return frozenset(
        array.name
        for array in process.arrays
        if (used := usage.get(array.name)) and not in_registers(array, used)
        if used.stores or array.scope == "shared"
    )


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
        usage = usage_of(process)
        self._memories: dict[str, Registers | _Banks] = {}
        for array in process.arrays:
            used = usage.get(array.name)
            if used is None:
                continue
            if in_registers(array, used):
                self._memories[array.name] = Registers(text, flow, array)
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
        # The other end of a shared array has a port, and so has each side of one that is forwarded.
        self._dual = not rom_copies and array.scope != "shared" and array.name not in home.forwarded
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
        for place, chosen in matches(text, self.array, self.split, indices):
            bank = self._bank(place, self.loads)
            port = self._read(bank, site, chosen, address)
            value = text.placeholder(self.array.width, f"{port}_data")
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

    def _read(self, bank: _Bank, site: Site, chosen: Value, address: Value) -> str:
        """Ask for a read, unless one that always comes before it reads the same; the port that does it."""
        above = self.home.flow.dominators[site.label]
        ports = ((bank.name, bank.reads), (_second(bank), bank.second))
        for name, reads in ports:
            if any(r.site.label in above and (r.chosen, r.address) == (chosen, address) for r in reads):
                return name
        when = self.home.text.bit_and(site.when, chosen)
        read = Access(site=site, chosen=chosen, when=when, address=address)
        taken = self._dual and any(self._coincide(read, other) for other in bank.reads)
        name, reads = ports[taken]
        reads.append(read)
        return name

    def _coincide(self, one: Access, other: Access) -> bool:
        """Whether one port would have to do both in one iteration."""
        if self.home.flow.exclusive(one.site.label, other.site.label):
            return False
        return one.data is not None or other.data is not None or one.address != other.address

    def _recent(self, bank: _Bank) -> RecentWrites | None:
        depth = self.home.forwarded.get(self.array.name)
        return None if depth is None else RecentWrites(self.home.text, bank.name, depth)

    def store(self, site: Site, indices: Sequence[Value], value: Value) -> None:
        text = self.home.text
        address = self._address(indices)
        for place, chosen in matches(text, self.array, self.split, indices):
            when = text.bit_and(site.when, chosen)
            access = Access(site=site, chosen=chosen, when=when, address=address, data=value)
            self._bank(place, 0).writes.append(access)

    def finish(self) -> None:
        for place, bank in self.banks.items():
            if not bank.reads and self.array.scope != "shared":
                continue
            init = self._init(place[: len(self.split)])
            pairs = itertools.combinations(bank.writes, 2)
            if self._dual and (bank.second or any(self._coincide(*pair) for pair in pairs)):
                self._two_ports(bank, init)
                continue
            for accesses, verb, what in (
                (bank.reads, "read", "reads of"),
                (bank.writes, "write", "writes to"),
            ):
                advice = f"{verb} it once per iteration"
                self._check(accesses, f"two {what}", f"one {verb} port", advice)
            self._ports(bank, init)

    def _check(self, accesses: list[Access], what: str, ports: str, advice: str) -> None:
        """Raises: HlsError where one port would have to do two accesses in one iteration."""
        for one, other in itertools.combinations(accesses, 2):
            if self._coincide(one, other):
                lines = sorted({a.site.loc.line for a in (one, other) if a.site.loc})
                at = f" (lines {' and '.join(map(str, lines))})" if lines else ""
                raise HlsError(
                    f"{what} array {self.array.name} in one iteration{at}, but each of its memories has "
                    f"{ports}; use ARRAY_PARTITION, or {advice}",
                    other.site.loc or self.array.loc,
                )

    def _ports(self, bank: _Bank, init: tuple[int, ...]) -> None:
        both = bool(bank.reads and bank.writes)
        joint = both and self.array.name not in self.home.forwarded
        self._add(bank, init, joint=joint)
        if joint:
            self._joint_port(bank)
            return
        if bank.writes:
            self._write_port(bank)
        if bank.reads:
            self._read_port(bank)
        if both and (recent := self._recent(bank)):
            self.home.constraints.append(recent.constraint)

    def _add(self, bank: _Bank, init: tuple[int, ...], *, joint: bool, answers: tuple[str, ...] = ()) -> None:
        self.home.rams.append(
            Ram(
                name=bank.name,
                array=self.array.name,
                width=self.array.width,
                depth=self.depth,
                init=init,
                reads=bool(bank.reads),
                writes=bool(bank.writes),
                joint=joint,
                answers=answers,
            )
        )

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
        self._respond(bank.name, channel.name, read, token)

    def _two_ports(self, bank: _Bank, init: tuple[int, ...]) -> None:
        """Ports that read or write; a write goes to the one that is free."""
        text, bits = self.home.text, address_bits(self.depth)
        ports: tuple[tuple[list[Access], list[Access]], ...] = ((bank.reads, []), (bank.second, []))
        for write in bank.writes:
            free = (
                writes
                for reads, writes in reversed(ports)
                if not any(self._coincide(write, other) for other in (*reads, *writes))
            )
            next(free, ports[1][1]).append(write)
        for reads, writes in ports:
            advice = "access it twice per iteration"
            self._check([*reads, *writes], "three accesses to", "two ports", advice)
        fields, flags, answers = [], [], []
        for reads, writes in ports:
            accesses = [*reads, *writes]
            data = _merged(text, writes, data=True) if writes else constant(self.array.width, 0)
            fields += [data, _merged(text, accesses) if accesses else constant(bits, 0)]
            flags += [
                text.any([self._last(bank, write) for write in writes]),
                text.any([r.when for r in reads]),
            ]
        channel = Channel(name=f"{bank.name}_req", width=2 * (self.array.width + bits + 2), sends=True)
        token = text.send(channel, concat((*fields, *flags)), text.any(flags))
        for name, (reads, _), read in zip((bank.name, _second(bank)), ports, flags[1::2], strict=True):
            if reads:
                self._respond(name, channel.name, read, token)
                answers.append(name)
        self._add(bank, init, joint=True, answers=tuple(answers))

    def _last(self, bank: _Bank, write: Access) -> Value:
        """Whether the write happens, and none behind it in this activation to the same place."""
        text = self.home.text
        later = bank.writes[bank.writes.index(write) + 1 :]
        again = [
            text.bit_and(other.when, text.binary("eq", other.address, write.address, 1))
            for other in later
            if other.site.label in self.home.flow.reached[write.site.label]
        ]
        return text.bit_and(write.when, text.bit_not(text.any(again)))

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
        self._respond(bank.name, channel.name, when, token)

    def _respond(self, port: str, request: str, when: Value, token: str) -> None:
        channel = Channel(name=f"{port}_rresp", width=self.array.width, sends=False)
        self.home.text.receive(channel, when, f"{port}_data", after=token, late=True)
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


def _second(bank: _Bank) -> str:
    """Stem of the names of the second port's channels."""
    return f"{bank.name}_second"


def _merged(text: ProcText, accesses: list[Access], *, data: bool = False) -> Value:
    """The address (or the data) of the one access that happens."""
    result: Value | None = None
    for access in accesses:
        value = access.data if data else access.address
        assert value is not None
        result = value if result is None else text.select(access.when, value, result)
    assert result is not None
    return result

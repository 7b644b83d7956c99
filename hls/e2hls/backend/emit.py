# SPDX-License-Identifier: Apache-2.0
"""One process as one XLS proc: each activation runs one region of the process.

Values inside an activation are wires. Phis of loop headers, and values that a later activation needs,
are state elements. A block's operations happen where its condition holds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from e2hls.backend.bit_slices import Value, concat, constant, shifted_left
from e2hls.backend.dividers import divide
from e2hls.backend.element_registers import Site
from e2hls.backend.kernel_terms import term
from e2hls.backend.memories import Memories
from e2hls.backend.xls_text import Channel, ProcText
from e2hls.base.errors import HlsError, Loc
from e2hls.base.kernel import DONE
from e2hls.ir import STATE_SUFFIX, Block, Const, Instr, Operand, Phi, Process, Ref, Stream
from e2hls.passes.regions import Edge, Flow, analyse

__all__ = ["ProcessEmitter"]

_SAME_NAME = {"add", "sub", "udiv", "sdiv", "and", "or", "xor"}
_DIVISIONS = {"udiv": "udiv", "sdiv": "sdiv", "urem": "umod", "srem": "smod"}
_SHIFTS = {"shl": "shll", "lshr": "shrl", "ashr": "shra"}
_ORDERS = {"smin": "slt", "smax": "sgt", "umin": "ult", "umax": "ugt"}
_GATED_BITS = 16  # narrower sums gain nothing from a DSP slice


class ProcessEmitter:
    """Translates a process; ``text`` holds the result once ``run`` has returned."""

    def __init__(
        self,
        name: str,
        process: Process,
        streams: Mapping[str, Stream],
        *,
        merge: bool,
        forwarded: Mapping[str, int],
        names: frozenset[str] = frozenset(),
        one_hot: bool = True,
    ) -> None:
        """``one_hot`` says whether a bit for each region tells which one is next, or its number does."""
        self.process = process
        self.streams = streams
        self.flow: Flow = analyse(process, merge=merge)
        self.text = ProcText(name=name)
        self.memories = Memories(self.text, self.flow, process, forwarded, names)
        self.terms: dict[str, str] = {}  # node or state element -> what it is in the kernel
        self._values: dict[str, Value] = {}
        self._conds: dict[str, Value] = {}
        self._uses_of_add = _added_names(process)
        self._reads: dict[str, list[Site]] = {}
        self._writes: dict[str, list[tuple[Site, Value]]] = {}
        self._tests: dict[tuple[str, str], list[Site]] = {}  # of streams: the operation and the stream
        self._homes: dict[str, tuple[str, int]] = {}  # value -> defining block, width
        self._states: dict[str, str] = {}  # value -> its state element
        self._one_hot = one_hot
        self._pc_bits = max(1, (len(self.flow.headers) - 1).bit_length())
        self._late: dict[str, str] = {}  # value that a later activation needs -> its state element
        for label in self.flow.order:
            block = self.flow.blocks[label]
            made: tuple[Phi | Instr, ...] = (*block.phis, *block.instrs)
            self._homes |= {m.result: (label, m.width) for m in made if m.result}

    def run(self) -> None:
        """Translate all blocks, then close the loops.

        Raises: HlsError for accesses that the hardware cannot do in one iteration.
        """
        for label in self.flow.order:
            block = self.flow.blocks[label]
            self._conds[label] = self._condition(label)
            for phi in block.phis:
                self._values[phi.result] = self._phi(block, phi)
                self._note(label, phi)
            for instr in block.instrs:
                value = self._instr(label, instr)
                if instr.result:
                    self._values[instr.result] = value
                    self._note(label, instr)
        self._turns()
        self._finish_streams()
        self.memories.finish()
        for name, state in self._late.items():  # written where the value is made
            node = self._values[name].parts[0].node
            if node in self.terms:
                self.terms[state] = self.terms[node]
            self.text.next_value(state, self._values[name], self._conds[self._homes[name][0]])
        self.text.finish()

    # -- control

    def _at(self, header: str) -> Value:
        """Whether this activation is one of ``header``'s region."""
        regions, index = len(self.flow.headers), self.flow.headers.index(header)
        if regions == 1:
            return constant(1, 1)
        if self._one_hot:
            return self.text.state("pc", regions, init=1).cut(index, 1)
        return self.text.equals(self.text.state("pc", self._pc_bits), index)

    def _condition(self, label: str) -> Value:
        if label in self.flow.headers:
            return self._at(label)
        anchor = self.flow.anchors[label]
        if anchor != label:
            return self._conds[anchor]
        return self.text.any([self._taken(edge, self._conds[edge.source]) for edge in self.flow.into[label]])

    def _taken(self, edge: Edge, source: Value) -> Value:
        if edge.cond is None:
            return source
        cond = self._operand(edge.cond, edge.source)
        return self.text.bit_and(source, cond if edge.polarity else self.text.bit_not(cond))

    def _turns(self) -> None:
        """The edges that end an activation: next region, next values of its phis."""
        text = self.text
        for edge in self.flow.turns:
            taken = self._taken(edge, self._conds[edge.source])
            self._go(edge.target, taken, edge.source)
            for phi in self.flow.blocks[edge.target].phis:
                incoming = phi.incoming[edge.source]
                if not _is_undefined(incoming):  # else the old value is as good as any
                    text.next_value(self._state(phi.result), self._operand(incoming, edge.source), taken)
        for label in self.flow.returns:
            self._go(self.flow.headers[0], self._conds[label], label)

    def _go(self, header: str, taken: Value, source: str) -> None:
        if len(self.flow.headers) > 1 and self.flow.regions_of(source) != (header,):
            index = self.flow.headers.index(header)
            one_bit = constant(len(self.flow.headers), 1 << index)
            self.text.next_value("pc", one_bit if self._one_hot else constant(self._pc_bits, index), taken)

    # -- names, for messages and reports

    def _note(self, label: str, made: Phi | Instr) -> None:
        """Note what the nodes of a value are in the kernel; the first value that has them counts."""
        for part in self._values[made.result].parts:
            if part.node not in self.terms:
                loops = [self.process.loops.get(header) for header in self.flow.regions_of(label)]
                names = [loop.name for loop in loops if loop]
                self.terms[part.node] = term(self.process.name, names, made.result, made.loc)

    def owns(self, label: str, state: str) -> bool:
        """Whether the state element is a phi of the loop header ``label``."""
        return any(self._states.get(phi.result) == state for phi in self.flow.blocks[label].phis)

    def source_name(self, state: str) -> str:
        """What the compiler calls the value that a state element holds."""
        return next((name for name, held in self._states.items() if held == state), state)

    # -- values

    def _state(self, name: str) -> str:
        if name not in self._states:
            plain = "s_" + re.sub(r"\W", "_", name)
            taken = plain in self._states.values()
            self._states[name] = f"{plain}_{len(self._states)}" if taken else plain
            self.text.state(self._states[name], self._homes[name][1])
        return self._states[name]

    def _operand(self, operand: Operand, label: str) -> Value:
        """The value as block ``label`` sees it: made in this activation, or kept from an earlier one."""
        if isinstance(operand, Const):
            return constant(operand.width, operand.value)
        home = self._homes[operand.name][0]
        if home in self.flow.dominators[label] or (home in self.flow.headers and self._is_phi(operand)):
            return self._values[operand.name]
        self._late[operand.name] = self._state(operand.name)
        kept = self.text.state(self._late[operand.name], operand.width)
        if label not in self.flow.reached[home]:
            return kept
        return self.text.select(self._conds[home], self._values[operand.name], kept)

    def _is_phi(self, operand: Ref) -> bool:
        return any(phi.result == operand.name for phi in self.flow.blocks[self._homes[operand.name][0]].phis)

    def _phi(self, block: Block, phi: Phi) -> Value:
        if block.label in self.flow.headers:
            return self.text.state(self._state(phi.result), phi.width)
        edges = [e for e in self.flow.into[block.label] if not _is_undefined(phi.incoming[e.source])]
        if not edges:
            return constant(phi.width, 0)
        values = [self._operand(phi.incoming[edge.source], edge.source) for edge in edges]
        result = values[0]
        if len(set(values)) > 1:
            for edge, value in zip(edges[1:], values[1:], strict=True):
                result = self.text.select(self._taken_from_fork(edge, block.label), value, result)
        return result

    def _taken_from_fork(self, edge: Edge, join: str) -> Value:
        """Whether the edge is taken, given that its join is reached: free of conditions above the fork."""
        fork = self.flow.fork(join)
        if fork is None:
            return self._taken(edge, self._conds[edge.source])
        known = {fork: constant(1, 1)}
        for label in self.flow.order:
            if label != fork and label in self.flow.reached[fork] and edge.source in self.flow.reached[label]:
                into = [e for e in self.flow.into[label] if e.source in known]
                known[label] = self.text.any([self._taken(e, known[e.source]) for e in into])
        return self._taken(edge, known[edge.source])

    # -- operations

    def _instr(self, label: str, instr: Instr) -> Value:
        args = [self._operand(arg, label) for arg in instr.args]
        site = Site(label=label, when=self._conds[label], loc=instr.loc)
        if instr.op == "load":
            return self.memories.load(instr.target, site, args)
        if instr.op == "store":
            self.memories.store(instr.target, site, args[:-1], args[-1])
            return constant(1, 0)
        if instr.op == "stream_read":
            self._reads.setdefault(instr.target, []).append(site)
            return self.text.placeholder(instr.width, f"{instr.target}_data")
        if instr.op == "stream_write":
            self._writes.setdefault(instr.target, []).append((site, args[0]))
            return constant(1, 0)
        if instr.op in ("stream_empty", "stream_full"):
            self._check_order(instr, site)
            self._tests.setdefault((instr.op, instr.target), []).append(site)
            return self.text.placeholder(1, f"{instr.target}_{instr.op}_data")
        return self._arithmetic(instr, args)

    def _arithmetic(self, instr: Instr, args: Sequence[Value]) -> Value:
        text, op, width = self.text, instr.op, instr.width
        handlers: dict[str, Callable[[], Value]] = {
            "mul": lambda: text.multiply(args[0], args[1]),
            "and": lambda: text.bit_and(args[0], args[1]),
            "or": lambda: text.bit_or(args[0], args[1]),
            "zext": lambda: text.zero_extend(args[0], width),
            "sext": lambda: text.sign_extend(args[0], width),
            "trunc": lambda: args[0].cut(0, width),
            "freeze": lambda: args[0],
            "select": lambda: self._select(instr, args),
            "icmp": lambda: text.binary(instr.predicate, args[0], args[1], 1),
        }
        if op in handlers:
            return handlers[op]()
        if op in _SHIFTS:
            return self._shift(op, args[0], args[1])
        if op in _ORDERS:
            first = text.binary(_ORDERS[op], args[0], args[1], 1)
            return text.select(first, args[0], args[1])
        if op in _DIVISIONS and args[1].const is None:
            return divide(text, op, args[0], args[1])
        if op in _SAME_NAME or op in _DIVISIONS:
            return text.binary(_DIVISIONS.get(op, op), args[0], args[1], width)
        raise HlsError(f"operation {op} has no hardware", instr.loc)

    def _select(self, instr: Instr, args: Sequence[Value]) -> Value:
        cond, then, other = args
        if instr.width >= _GATED_BITS and instr.result in self._uses_of_add and cond.const is None:
            if then.is_zero():
                return self.text.gate(self.text.bit_not(cond), other)
            if other.is_zero():
                return self.text.gate(cond, then)
        return self.text.select(cond, then, other)

    def _shift(self, op: str, value: Value, by: Value) -> Value:
        """A shift by too much is poison in LLVM, so the high bits of the amount are free."""
        width = value.width
        if by.const is None:
            amount = by.cut(0, min(by.width, max(1, (width - 1).bit_length())))
            return self.text.binary(_SHIFTS[op], value, amount, width)
        count = min(by.const, width - 1 if op == "ashr" else width)
        if count == width:
            return constant(width, 0)
        if op == "shl":
            return shifted_left(value, count)
        rest = value.cut(count, width - count)
        if op == "ashr":
            return self.text.sign_extend(rest, width)
        return concat((rest, constant(count, 0))) if count else rest

    # -- streams

    def _finish_streams(self) -> None:
        for name, reads in self._reads.items():
            self._check_stream(name, "reads of", reads)
            channel = Channel(name=name, width=self.streams[name].width, sends=False)
            self.text.receive(channel, self.text.any([site.when for site in reads]), f"{name}_data")
        for name in self._reads:
            written = self.streams[name].hands_on
            if written and self._written_before(written, name):  # in one iteration: it must be on its way
                self.memories.constraints.append(f"{written}:send:{name}:recv:1:none")
        for name, writes in self._writes.items():
            self._check_stream(name, "writes to", [site for site, _ in writes])
            data = writes[0][1]
            for site, value in writes[1:]:
                data = self.text.select(site.when, value, data)
            channel = Channel(name=name, width=self.streams[name].width, sends=True)
            self.text.send(channel, data, self.text.any([site.when for site, _ in writes]))
        for read, write in itertools.product(self._reads, self._writes):
            if write != DONE and not self._written_before(write, read):  # DONE waits for longer than this
                # No word overtakes a read of this iteration or an earlier one, even if it does not need it.
                self.memories.constraints.append(f"{read}:recv:{write}:send:0:none")
        for (op, name), sites in self._tests.items():
            self._test_stream(op, name, sites)

    def _accesses(self, op: str, name: str) -> list[Site]:
        """So far, the accesses to the end of a stream that the test ``op`` is for."""
        written = [site for site, _ in self._writes.get(name, [])]
        return self._reads.get(name, []) if op == "stream_empty" else written

    def _check_order(self, test: Instr, site: Site) -> None:
        """Raises: HlsError for a test behind an access, for it would tell how it was before."""
        for access in self._accesses(test.op, test.target):
            if access.label == site.label or site.label in self.flow.reached[access.label]:
                asked = test.op.removeprefix("stream_")
                raise HlsError(
                    f"{test.target}.{asked}() stands behind an access in one iteration; put it first",
                    test.loc,
                )

    def _written_before(self, written: str, read: str) -> bool:
        """Whether an iteration may write one stream and then read the other."""
        order = [
            (label, instr.op, instr.target)
            for label in self.flow.order
            for instr in self.flow.blocks[label].instrs
            if (instr.op, instr.target) in (("stream_write", written), ("stream_read", read))
        ]
        return any(
            one[1] == "stream_write" and other[1] == "stream_read" and other[0] in self.flow.reached[one[0]]
            for one, other in itertools.combinations(order, 2)
        )

    def _test_stream(self, op: str, name: str, sites: list[Site]) -> None:
        """Ask whether a stream is empty or full in the very cycle in which it is accessed."""
        asked = op.removeprefix("stream_")
        if not self._accesses(op, name):
            raise HlsError(f"{name}.{asked}() is called in a process that does not access it", sites[0].loc)
        channel = Channel(name=f"{name}{STATE_SUFFIX[op]}", width=1, sends=False)
        # In any case: whether it is asked at all may depend on what it said before.
        self.text.receive(channel, constant(1, 1), f"{name}_{op}_data")
        ends = "recv" if op == "stream_empty" else "send"
        self.memories.constraints.append(f"{channel.name}:recv:{name}:{ends}:0:0")

    def _check_stream(self, name: str, what: str, sites: list[Site]) -> None:
        for one, other in itertools.combinations(sites, 2):
            if not self.flow.exclusive(one.label, other.label):
                raise HlsError(
                    f"two {what} stream {name} in one iteration{_lines(one.loc, other.loc)}, but a stream "
                    "moves one word per cycle; put them into separate iterations of a loop",
                    other.loc or one.loc,
                )


def _is_undefined(operand: Operand) -> bool:
    return isinstance(operand, Const) and operand.undef


def _lines(one: Loc | None, other: Loc | None) -> str:
    lines = sorted({loc.line for loc in (one, other) if loc})
    return f" (lines {' and '.join(map(str, lines))})" if len(lines) > 1 else ""


def _added_names(process: Process) -> frozenset[str]:
    """Values that an addition uses."""
    return frozenset(
        arg.name
        for block in process.blocks
        for instr in block.instrs
        if instr.op == "add"
        for arg in instr.args
        if isinstance(arg, Ref)
    )

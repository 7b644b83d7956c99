# SPDX-License-Identifier: Apache-2.0
"""An XLS proc as text: nodes are made in any order and written in the order that their operands ask for."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2hls.backend.bit_slices import Part, Value, concat, constant, mask_runs, overlay, shifted_left
from e2hls.backend.foreign import Foreign
from e2hls.backend.xls_names import to_xls
from e2hls.backend.xls_nodes import Node, ordered

__all__ = ["SPARE", "Channel", "ProcText"]

SPARE = "hls__spare"  # a channel that no kernel has, as C++ keeps such names to itself
_TOKEN = "tok"  # that a proc starts with


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A ready/valid port of the proc."""

    name: str
    width: int
    sends: bool


@dataclass(slots=True)
class ProcText:
    """The nodes, channels and state elements of one proc.

    Equal nodes are made once. Nodes that no root (send, receive, next_value) needs are left out.
    """

    name: str
    channels: list[Channel] = field(default_factory=list)
    states: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> width, reset value
    multipliers: set[str] = field(default_factory=set)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _widths: dict[str, int] = field(default_factory=dict)
    _known: dict[Node, str] = field(default_factory=dict)
    _narrow: dict[str, Value] = field(default_factory=dict)  # sign_ext node -> what it extends
    _roots: list[str] = field(default_factory=list)
    _nexts: dict[str, list[tuple[Value, Value]]] = field(default_factory=dict)
    _late: set[str] = field(default_factory=set)  # words that arrive late in a cycle

    # -- nodes

    def node(self, bits: int, op: str, *operands: str, **attributes: object) -> Value:
        """The value of an XLS operation that gives so many bits."""
        made = Node(f"bits[{bits}]", op, operands, attributes=tuple(attributes.items()))
        if made not in self._known:
            name = self._known[made] = f"n{len(self._nodes)}"
            self._nodes[name] = made
            self._widths[name] = bits
        return self._whole(self._known[made])

    def placeholder(self, width: int, name: str) -> Value:
        """A value that a node made later, called ``name``, will give."""
        self._widths[name] = width
        return Value((Part(width, name, 0),))

    def use(self, value: Value) -> str:
        """Name of a node that holds ``value``."""
        names = []
        for part in value.parts:
            if not part.node:
                names.append(self._name("literal", part.width, value=f"{part.low:#x}"))
            elif part.low == 0 and part.width == self._widths[part.node]:
                names.append(part.node)
            else:
                names.append(self._name("bit_slice", part.width, part.node, start=part.low, width=part.width))
        return names[0] if len(names) == 1 else self._name("concat", value.width, *reversed(names))

    def _name(self, op: str, bits: int, *operands: str, **attributes: object) -> str:
        return self.node(bits, op, *operands, **attributes).parts[0].node

    # -- operations

    def binary(self, op: str, a: Value, b: Value, width: int) -> Value:
        """An XLS operation on two values, without simplification."""
        return self.node(width, op, self.use(a), self.use(b))

    def bit_not(self, a: Value) -> Value:
        if a.const is not None:
            return constant(a.width, ~a.const)
        made = self._nodes.get(a.parts[0].node)
        if len(a.parts) == 1 and a.width == 1 and made and (made.kind, made.op) == ("bits[1]", "not"):
            return self._whole(made.operands[0])
        return self.node(a.width, "not", self.use(a))

    def bit_and(self, a: Value, b: Value) -> Value:
        if a.const is not None:
            a, b = b, a
        if a == b or b.is_ones():
            return a
        runs = None if b.const is None else mask_runs(a, b.const)
        return runs or self.binary("and", a, b, a.width)

    def bit_or(self, a: Value, b: Value) -> Value:
        return overlay(a, b) or self.binary("or", a, b, a.width)

    def any(self, bits: list[Value]) -> Value:
        """Whether one of the one-bit values is set."""
        left = list(dict.fromkeys(bit for bit in bits if not bit.is_zero()))
        if any(bit.is_ones() for bit in left):
            return constant(1, 1)
        if len(left) < 2:
            return left[0] if left else constant(1, 0)
        return self.node(1, "or", *(self.use(bit) for bit in left))

    def select(self, cond: Value, then: Value, other: Value) -> Value:
        if then == other or cond.const is not None:
            return then if cond.const != 0 else other
        if then.width == 1 and then.const is not None and other.const is not None:
            return cond if then.const else self.bit_not(cond)
        cases = self.use(other), self.use(then)
        return self.node(then.width, "sel", self.use(cond), *cases)

    def gate(self, cond: Value, value: Value) -> Value:
        """``cond ? value : 0``, kept as it is down to the Verilog: synthesis puts it inside a DSP slice."""
        return self.node(value.width, "gate", self.use(cond), self.use(value))

    def equals(self, a: Value, number: int) -> Value:
        """Whether ``a`` is ``number``."""
        if a.const is not None or number >> a.width:
            return constant(1, a.const == number)
        return self.binary("eq", a, constant(a.width, number), 1)

    def zero_extend(self, a: Value, width: int) -> Value:
        return a if width == a.width else concat((a, constant(width - a.width, 0)))

    def sign_extend(self, a: Value, width: int) -> Value:
        if width == a.width:
            return a
        if a.parts[-1].node == "":  # the sign is known
            sign = a.parts[-1].low >> (a.parts[-1].width - 1) & 1
            return concat((a, constant(width - a.width, -sign)))
        core = self._narrow.get(a.parts[0].node, a) if len(a.parts) == 1 and self._is_whole(a) else a
        result = self.node(width, "sign_ext", self.use(core), new_bit_count=width)
        self._narrow[result.parts[0].node] = core
        return result

    def multiply(self, a: Value, b: Value) -> Value:
        """Product modulo ``2**a.width``, on operands as narrow as they are known to be."""
        width = a.width
        if a.const is not None:
            a, b = b, a
        if b.const is not None and b.const.bit_count() == 1:
            return shifted_left(a, b.const.bit_length() - 1)
        (left, left_signed), (right, right_signed) = self._core(a), self._core(b)
        signed = left_signed or right_signed
        if signed:  # an unsigned operand gets a zero for its sign
            left = left if left_signed else self.zero_extend(left, min(width, left.width + 1))
            right = right if right_signed else self.zero_extend(right, min(width, right.width + 1))
        size = min(width, left.width + right.width)
        product = self.binary("smul" if signed else "umul", left, right, size)
        if b.const is None:
            self.multipliers.add(product.parts[0].node)
        return self.sign_extend(product, width) if signed else self.zero_extend(product, width)

    def _core(self, value: Value) -> tuple[Value, bool]:
        """The low bits that tell the rest, and whether their top bit is a sign."""
        if len(value.parts) == 1 and value.parts[0].node in self._narrow and self._is_whole(value):
            return self._narrow[value.parts[0].node], True
        if value.const is not None:
            number, width = value.const, value.width
            if number >> (width - 1):
                return value.cut(0, min(width, ((1 << width) - 1 - number).bit_length() + 1)), True
            return value.cut(0, max(1, number.bit_length())), False
        top = value.parts[-1]
        if not top.node and top.low == 0:
            return value.cut(0, value.width - top.width), False
        return value, True

    def _is_whole(self, value: Value) -> bool:
        part = value.parts[0]
        return part.low == 0 and part.width == self._widths.get(part.node)

    def _whole(self, name: str) -> Value:
        return Value((Part(self._widths[name], name, 0),))

    # -- state and channels

    def state(self, name: str, width: int, init: int = 0) -> Value:
        """A state element, made at its first use."""
        self.states.setdefault(name, (width, init))
        self._widths[name] = width
        return self._whole(name)

    def next_value(self, state: str, value: Value, when: Value) -> None:
        """Give the state element a new value where ``when`` holds; its conditions exclude each other."""
        if not when.is_zero() and value != self._whole(state):
            self._nexts.setdefault(state, []).append((value, when))

    def finish(self) -> None:
        """Join the next values of each state element: one multiplexer and one enable."""
        for state, nexts in self._nexts.items():
            result, when = nexts[0][0], self.any([condition for _, condition in nexts])
            for value, condition in nexts[1:]:
                result = self.select(condition, value, result)
            named = (("param", state), ("value", self.use(result)), *self._where(when))
            self._root(Node("()", "next_value", named=named))

    def receive(
        self, channel: Channel, when: Value, result: str, *, after: str = _TOKEN, late: bool = False
    ) -> str:
        """Take a word of the channel as value ``result``; the token that orders it.

        A ``late`` word has used up a part of the cycle when it arrives, as those of memories have.
        """
        self._add(channel)
        pair = f"{result}_pair"
        self._nodes[pair] = Node(
            f"(token, bits[{channel.width}])",
            "receive",
            (after,),
            named=self._where(when),
            attributes=(("channel", to_xls(channel.name)),),
        )
        self._nodes[result] = Node(
            f"bits[{channel.width}]", "tuple_index", (pair,), attributes=(("index", 1),)
        )
        self._widths[result] = channel.width
        self._roots.append(pair)
        if late:
            self._late.add(result)
        self._nodes[f"{pair}_tok"] = Node("token", "tuple_index", (pair,), attributes=(("index", 0),))
        return f"{pair}_tok"

    def send(self, channel: Channel, data: Value, when: Value, *, after: str = _TOKEN) -> str:
        """Put a word into the channel; the token that orders it."""
        self._add(channel)
        operands = after, self.use(data)
        named = self._where(when)
        return self._root(
            Node("token", "send", operands, named=named, attributes=(("channel", to_xls(channel.name)),))
        )

    def _where(self, when: Value) -> tuple[tuple[str, str], ...]:
        return () if when.is_ones() else (("predicate", self.use(when)),)

    def _root(self, node: Node) -> str:
        name = f"root{len(self._roots)}"
        self._nodes[name] = node
        self._roots.append(name)
        return name

    def _add(self, channel: Channel) -> None:
        if channel not in self.channels:
            self.channels.append(channel)

    # -- text

    def text(self, *, dsp_products: bool = False, spare: bool = False) -> str:
        """The package with this proc as its top; with a ``spare`` channel it sends a bit there as well.

        Late words, and with ``dsp_products`` all products that one DSP slice makes, are results of foreign
        functions: their delay is an option of the schedule.
        Raises: CycleError.
        """
        written = [
            self._written(name, dsp_products=dsp_products) for name in ordered(self._nodes, self._roots)
        ]
        functions = {function.name: function for _, function in written if function}
        lines = [f"package {self.name}", ""]
        extra = [Channel(name=SPARE, width=1, sends=True)] if spare else []
        for index, channel in enumerate([*self.channels, *extra]):
            ops = "send_only" if channel.sends else "receive_only"
            lines.append(
                f"chan {to_xls(channel.name)}(bits[{channel.width}], id={index}, kind=streaming, ops={ops}, "
                "flow_control=ready_valid)"
            )
        lines += [line for function in functions.values() for line in function.text()]
        params = ", ".join(f"{name}: bits[{width}]" for name, (width, _) in self.states.items())
        inits = ", ".join(str(init) for _, init in self.states.values())
        head = f"{params}, init={{{inits}}}" if params else "init={}"
        lines += ["", f"top proc {self.name}({head}) {{", f"  {_TOKEN}: token = literal(value=token)"]
        lines += [f"  {line}" for nodes, _ in written for line in nodes]
        if spare:
            lines.append(f"  {SPARE}_bit: bits[1] = literal(value=1)")
            lines.append(f"  {SPARE}_sent: token = send({_TOKEN}, {SPARE}_bit, channel={SPARE})")
        return "\n".join([*lines, "}", ""])

    def _written(self, name: str, *, dsp_products: bool) -> tuple[list[str], Foreign | None]:
        """The lines of a node, and the foreign function that it calls."""
        node = self._nodes[name]
        if name in self._late:
            late = Foreign.wire(self._widths[name])
            call = Node(node.kind, "invoke", (f"{name}_in",), attributes=(("to_apply", late.name),))
            return [f"{name}_in: {node}", f"{name}: {call}"], late
        if dsp_products and name in self.multipliers:
            left, right = (self._widths[operand] for operand in node.operands)
            product = Foreign.product(node.op, self._widths[name], left, right)
            if product:
                call = Node(node.kind, "invoke", node.operands, attributes=(("to_apply", product.name),))
                return [f"{name}: {call}"], product
        return [f"{name}: {node}"], None

    def late_states(self) -> list[tuple[str, str]]:
        """State elements whose next value waits for a memory whose request waits for them; the memory too."""
        found = []
        for root in self._roots:
            if self._nodes[root].op != "next_value":
                continue
            state = dict(self._nodes[root].named)["param"]
            for name in sorted(self._needs(root)):
                made = self._nodes.get(name)
                answers = made is not None and made.op == "receive" and made.operands[0] != _TOKEN
                if answers and name.endswith("_data_pair") and state in self._needs(name):
                    found.append((state, name[: -len("_data_pair")]))
        return found

    def _needs(self, name: str) -> set[str]:
        """Nodes and state elements that a node depends on."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            for used in self._nodes[todo.pop()].uses:
                if used not in seen and (used in self._nodes or used in self.states):
                    seen.add(used)
                    if used in self._nodes:
                        todo.append(used)
        return seen

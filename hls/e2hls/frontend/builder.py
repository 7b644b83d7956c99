# SPDX-License-Identifier: Apache-2.0
"""Makes instructions of the ir, folding what is trivial; lowers LLVM's integer intrinsics."""

from __future__ import annotations

from collections.abc import Callable

from e2hls.base.errors import Loc
from e2hls.ir import Const, Instr, Op, Operand, Ref

__all__ = ["INTRINSICS", "Builder"]


class Builder:
    """Appends to one block; ``loc`` is that of the instruction being lowered."""

    def __init__(self, fresh: Callable[[str], str], defs: dict[str, Instr]) -> None:
        self._fresh = fresh
        self._defs = defs
        self._resized: dict[tuple[Op, int, Operand], Ref] = {}  # so that equal indices are seen to be equal
        self.instrs: list[Instr] = []
        self.loc: Loc | None = None

    def emit(
        self,
        op: Op,
        width: int,
        args: tuple[Operand, ...],
        *,
        name: str = "t",
        predicate: str = "",
        target: str = "",
    ) -> Ref:
        """Append an instruction and return its result."""
        result = self._fresh(name)
        instr = Instr(
            op=op, width=width, result=result, args=args, predicate=predicate, target=target, loc=self.loc
        )
        self._defs[result] = instr
        self.instrs.append(instr)
        return Ref(width, result)

    def effect(self, op: Op, args: tuple[Operand, ...], *, target: str) -> None:
        """Append an instruction without a result."""
        self.instrs.append(Instr(op=op, width=0, args=args, target=target, loc=self.loc))

    def resize(self, value: Operand, width: int, *, signed: bool = False, name: str = "t") -> Operand:
        """``value`` in so many bits."""
        if value.width == width:
            return value
        if isinstance(value, Const):
            negative = signed and value.value >> (value.width - 1)
            return Const(width, (value.value - (negative << value.width)) % (1 << width))
        source = self._defs.get(value.name)
        if source is not None and source.op in ("zext", "sext", "trunc") and width < value.width:
            if source.op == "trunc" or width <= source.args[0].width:
                return self.resize(source.args[0], width, name=name)
            return self.resize(source.args[0], width, signed=source.op == "sext", name=name)
        op: Op = "trunc" if width < value.width else "sext" if signed else "zext"
        key = op, width, value
        if key not in self._resized:
            self._resized[key] = self.emit(op, width, (value,), name=name)
        return self._resized[key]

    def binary(self, op: Op, a: Operand, b: Operand, *, name: str = "t") -> Operand:
        """An operation whose result is as wide as its operands."""
        if op == "add" and isinstance(a, Const) and a.value == 0:
            return b
        if op in ("add", "sub", "shl", "lshr", "or") and isinstance(b, Const) and b.value == 0:
            return a
        if op == "mul" and isinstance(b, Const) and b.value == 1:
            return a
        if isinstance(a, Const) and isinstance(b, Const) and op in ("add", "sub", "mul"):
            value = {"add": a.value + b.value, "sub": a.value - b.value, "mul": a.value * b.value}[op]
            return Const(a.width, value % (1 << a.width))
        return self.emit(op, a.width, (a, b), name=name)

    def compare(self, predicate: str, a: Operand, b: Operand, *, name: str = "t") -> Ref:
        """One bit."""
        return self.emit("icmp", 1, (a, b), predicate=predicate, name=name)

    def select(self, cond: Operand, then: Operand, other: Operand, *, name: str = "t") -> Operand:
        """``then`` where ``cond``, else ``other``."""
        return self.emit("select", then.width, (cond, then, other), name=name)


def _absolute(b: Builder, args: list[Operand], name: str) -> Operand:
    zero = Const(args[0].width, 0)
    return b.select(b.compare("slt", args[0], zero), b.binary("sub", zero, args[0]), args[0], name=name)


def _funnel(left: bool) -> Callable[[Builder, list[Operand], str], Operand]:
    def lower(b: Builder, args: list[Operand], name: str) -> Operand:
        high, low, amount = args
        width = high.width
        if isinstance(amount, Const):
            by = amount.value % width
            up = by if left else width - by
            if by == 0:
                return high if left else low
            a = b.binary("shl", high, Const(width, up))
            return b.binary("or", a, b.binary("lshr", low, Const(width, width - up)), name=name)
        by_width = b.emit("urem", width, (amount, Const(width, width)))
        both = b.binary(
            "or",
            b.binary("shl", b.resize(high, 2 * width), Const(2 * width, width)),
            b.resize(low, 2 * width),
        )
        moved = b.binary("shl" if left else "lshr", both, b.resize(by_width, 2 * width))
        return b.resize(b.binary("lshr", moved, Const(2 * width, width)) if left else moved, width, name=name)

    return lower


def _saturating(op: Op, signed: bool) -> Callable[[Builder, list[Operand], str], Operand]:
    def lower(b: Builder, args: list[Operand], name: str) -> Operand:
        width = args[0].width
        wide = width + 1
        exact = b.binary(op, b.resize(args[0], wide, signed=signed), b.resize(args[1], wide, signed=signed))
        if not signed:
            over = b.resize(b.binary("lshr", exact, Const(wide, width)), 1)
            limit = Const(width, 0 if op == "sub" else (1 << width) - 1)
            return b.select(over, limit, b.resize(exact, width), name=name)
        low = Const(wide, (1 << wide) - (1 << (width - 1)))
        high = Const(wide, (1 << (width - 1)) - 1)
        clamped = b.emit("smax", wide, (b.emit("smin", wide, (exact, high)), low))
        return b.resize(clamped, width, name=name)

    return lower


def _three_way(signed: bool) -> Callable[[Builder, list[Operand], str], Operand]:
    def lower(b: Builder, args: list[Operand], name: str) -> Operand:
        below = b.compare("slt" if signed else "ult", args[0], args[1])
        above = b.compare("sgt" if signed else "ugt", args[0], args[1])
        return b.binary("sub", b.resize(above, 8), b.resize(below, 8), name=name)

    return lower


def _count_ones(b: Builder, args: list[Operand], name: str) -> Operand:
    width = args[0].width
    bits = [b.resize(b.binary("lshr", args[0], Const(width, i)), 1) for i in range(width)]
    terms: list[Operand] = [b.resize(bit, width) for bit in bits]
    while len(terms) > 1:
        pairs = [b.binary("add", a, c) for a, c in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]


def _count_zeros(leading: bool) -> Callable[[Builder, list[Operand], str], Operand]:
    def lower(b: Builder, args: list[Operand], name: str) -> Operand:
        width = args[0].width
        found: Operand = Const(width, width)
        for i in range(width) if leading else reversed(range(width)):
            bit = b.resize(b.binary("lshr", args[0], Const(width, i)), 1)
            found = b.select(bit, Const(width, width - 1 - i if leading else i), found)
        return found

    return lower


def _permute(group: int) -> Callable[[Builder, list[Operand], str], Operand]:
    def lower(b: Builder, args: list[Operand], name: str) -> Operand:
        width = args[0].width
        mask, whole = (1 << group) - 1, Const(width, 0)
        result: Operand = whole
        for at in range(0, width, group):
            part = b.binary("and", b.binary("lshr", args[0], Const(width, at)), Const(width, mask))
            result = b.binary("or", b.binary("shl", part, Const(width, width - group - at)), result)
        return result

    return lower


def _plain(op: Op) -> Callable[[Builder, list[Operand], str], Operand]:
    return lambda b, args, name: b.emit(op, args[0].width, (args[0], args[1]), name=name)


INTRINSICS: dict[str, Callable[[Builder, list[Operand], str], Operand]] = {
    "abs": _absolute,
    "bitreverse": _permute(1),
    "bswap": _permute(8),
    "ctlz": _count_zeros(leading=True),
    "ctpop": _count_ones,
    "cttz": _count_zeros(leading=False),
    "fshl": _funnel(left=True),
    "fshr": _funnel(left=False),
    "sadd.sat": _saturating("add", signed=True),
    "scmp": _three_way(signed=True),
    "smax": _plain("smax"),
    "smin": _plain("smin"),
    "ssub.sat": _saturating("sub", signed=True),
    "uadd.sat": _saturating("add", signed=False),
    "ucmp": _three_way(signed=False),
    "umax": _plain("umax"),
    "umin": _plain("umin"),
    "usub.sat": _saturating("sub", signed=False),
}

# SPDX-License-Identifier: Apache-2.0
"""Lowers one optimised LLVM function to a process of the ir."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.builder import INTRINSICS, Builder
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.hidden_indices import HIDDEN
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Line, parse_line, split_operands, unquote
from e2hls.frontend.memory_access import MemoryAccess
from e2hls.frontend.passed_values import PassedValue
from e2hls.frontend.pointers import Pointer, gep
from e2hls.frontend.variables import Variables
from e2hls.frontend.walks import find_walks
from e2hls.ir import SIDES, Block, Branch, Const, Instr, Op, Operand, Phi, Ref, Return, Terminator

__all__ = ["FunctionLowering"]

_BINARY: tuple[Op, ...] = (
    *("add", "sub", "mul", "udiv", "sdiv", "urem", "srem"),
    *("and", "or", "xor", "shl", "lshr", "ashr"),
)  # fmt: skip
_FLAGS = re.compile(r"^\w+ (?:(?:nuw|nsw|exact|disjoint|nneg|samesign) )*")
_CALL = re.compile(
    r"^(?:(?:tail|musttail|notail) )?call (?P<before>[^@%]*)"
    r'(?P<name>[@%](?:"[^"]*"|[\w.$-]+))\((?P<args>.*)\)'
)
_STREAM = re.compile(r"^@__hls_(?P<op>read|write|side|attach)\.(?P<width>\d+)\.(?P<detail>\d+)(?:\.\d+)?$")
_STATES: Mapping[str, Op] = {"@_Z11__hls_emptyPKv": "stream_empty", "@_Z10__hls_fullPKv": "stream_full"}
_PHI = re.compile(r"^phi (?P<type>\S+) (?P<pairs>.*)$")
_PAIR = re.compile(r'\[ (?P<value>[^,]+), %(?P<block>"[^"]*"|[\w.$-]+) \]')
_NO_EFFECT = (
    "@llvm.lifetime.",
    "@llvm.assume",
    "@llvm.experimental.noalias",
    "@llvm.invariant.",
    "@llvm.dbg.",
)
_FLOATS = ("half", "bfloat", "float", "double", "x86_fp80", "fp128")
_FLOAT_OPS = ("fadd", "fsub", "fmul", "fdiv", "frem", "fneg", "fcmp")


class FunctionLowering:
    """One function of a design, one of its ``processes``; ``binding`` says what its parameters stand for."""

    def __init__(
        self,
        function: Function,
        *,
        process: str,
        binding: Mapping[str, Pointer | Const | PassedValue],
        layout: Layout,
        debug: DebugInfo,
        variables: Variables,
        processes: Collection[str],
    ) -> None:
        self._function = function
        self._processes = processes
        self._layout = layout
        self._debug = debug
        self._process = process
        self._variables = variables
        self._used_names: set[str] = set()
        self._defs: dict[str, Instr] = {}
        self._values: dict[str, Operand] = {}
        self._pointers: dict[str, Pointer] = {}
        self._passed: dict[str, PassedValue] = {}
        for name, bound in binding.items():
            if isinstance(bound, Pointer):
                self._pointers[name] = bound
            elif isinstance(bound, PassedValue):
                self._passed[name] = bound
                self._pointers.update(bound.pointers)
            else:
                self._values[name] = bound
        self._attached: dict[str, list[Operand]] = {}  # side channels of the next beat, by stream
        self._order = function.flow().order
        self.labels = {label: self._fresh(label) for label in self._order}
        self._access = MemoryAccess(variables, process, self.value, find_walks(function))

    def blocks(self) -> tuple[Block, ...]:
        """The function's reachable blocks, each after those that dominate it.

        Raises: HlsError for anything that has no counterpart in hardware.
        """
        parsed = {label: [parse_line(text) for text in self._function.blocks[label]] for label in self._order}
        for lines in parsed.values():
            for line in lines:
                if line.op == "phi":
                    self._name_phi(line, lines)
        bodies = {label: self._body(lines) for label, lines in parsed.items()}
        return tuple(
            Block(
                label=self.labels[label],
                phis=tuple(self._phi(line) for line in lines if line.op == "phi"),
                instrs=tuple(bodies[label]),
                end=self._end(lines[-1]),
            )
            for label, lines in parsed.items()
        )

    def _fresh(self, name: str) -> str:
        base = re.sub(r"\W", "_", name)
        base = f"v{base}" if base[:1].isdigit() or not base else base
        candidate, number = base, 0
        while candidate in self._used_names:
            number += 1
            candidate = f"{base}_{number}"
        self._used_names.add(candidate)
        return candidate

    # Operands

    def value(self, text: str, loc: Loc | None) -> Operand:
        """A typed operand such as ``i8 %x``."""
        kind, _, token = text.strip().rpartition(" ")
        width = self._width(kind.split()[0], loc)
        if token.startswith("%"):
            name = unquote(token[1:])
            if name not in self._values:
                raise HlsError("this value does not exist in hardware (an address or an aggregate)", loc)
            return self._values[name]
        if token in ("true", "false"):
            return Const(1, int(token == "true"))
        if token in ("undef", "poison", "zeroinitializer"):
            return Const(width, 0, undef=token != "zeroinitializer")
        if re.fullmatch(r"-?\d+", token):
            return Const(width, _number(token) % (1 << width))
        raise HlsError("the value of an address is not known in hardware", loc)

    def _width(self, kind: str, loc: Loc | None) -> int:
        if re.fullmatch(r"i\d+", kind):
            return int(kind[1:])
        if kind in _FLOATS:
            raise HlsError("floating point is not supported; use ap_int with a scale of your own", loc)
        if kind == "ptr":
            raise HlsError(
                "a pointer escapes; hardware takes arrays and streams, indexed or passed as such", loc
            )
        raise HlsError(f"values of LLVM type {kind} are not supported; use integers", loc)

    def pointer(self, token: str, loc: Loc | None) -> Pointer:
        """The address that an operand names."""
        if token.startswith("%"):
            name = unquote(token[1:])
            return self._pointers.get(name) or Pointer(f"{self._function.name}:%{name}")
        if token.startswith("getelementptr"):
            return gep(token, self._layout, lambda base: self.pointer(base, loc))
        if token.startswith("@"):
            return Pointer(f"@{unquote(token[1:])}")
        raise HlsError("a null or computed pointer is used; hardware takes arrays and streams only", loc)

    # Blocks

    def _name_phi(self, line: Line, block: list[Line]) -> None:
        found = _PHI.match(line.body)
        places = (self._debug.loc(each.attached.get("dbg", "")) for each in (line, *block))
        loc = next((place for place in places if place), None)
        kind = found["type"] if found else ""
        if kind == "ptr":
            raise HlsError(
                "which variable is accessed here is decided at run time; use one array and an index", loc
            )
        self._values[line.result] = Ref(self._width(kind, loc), self._fresh(line.result))

    def _phi(self, line: Line) -> Phi:
        found = _PHI.match(line.body)
        assert found
        result = self._values[line.result]
        assert isinstance(result, Ref)
        loc = self._debug.loc(line.attached.get("dbg", ""))
        incoming = {
            self.labels[unquote(pair["block"])]: self.value(f"{found['type']} {pair['value']}", loc)
            for pair in _PAIR.finditer(found["pairs"])
            if unquote(pair["block"]) in self.labels
        }
        return Phi(result=result.name, width=result.width, incoming=incoming, loc=loc)

    def _body(self, lines: list[Line]) -> list[Instr]:
        builder = Builder(self._fresh, self._defs)
        self._access.start_block()
        while self._passed:  # before all else
            self._take_passed(*self._passed.popitem(), builder)
        for line in lines[:-1]:
            if line.op != "phi":
                builder.loc = self._debug.loc(line.attached.get("dbg", ""))
                self._lower(line, builder)
        return builder.instrs

    def _take_passed(self, name: str, passed: PassedValue, b: Builder) -> None:
        """Compute what a parameter is passed."""
        for line in passed.lines:
            if line.result not in self._values:
                b.loc = self._debug.loc(line.attached.get("dbg", ""))
                self._lower(line, b)
        self._values[name] = self.value(passed.operand, b.loc)

    def _end(self, line: Line) -> Terminator:
        loc = self._debug.loc(line.attached.get("dbg", ""))
        if line.op in ("ret", "unreachable"):
            return Return()
        if line.op != "br":
            raise HlsError(f"the LLVM instruction {line.op} is not supported", loc)
        parts = split_operands(line.body.removeprefix("br "))
        targets = [
            self.labels[unquote(part.removeprefix("label %"))] for part in parts if part.startswith("label")
        ]
        if len(targets) == 1:
            return Branch(then=targets[0], loc=loc)
        return Branch(then=targets[0], cond=self.value(parts[0], loc), other=targets[1], loc=loc)

    # Instructions

    def _lower(self, line: Line, b: Builder) -> None:
        handler = self._handlers.get(line.op)
        if handler is None and line.op in _BINARY:
            handler = FunctionLowering._binary
        if handler is None:
            if line.op in _FLOAT_OPS or any(f" {kind} " in f" {line.body} " for kind in _FLOATS):
                raise HlsError("floating point is not supported; use ap_int with a scale of your own", b.loc)
            raise HlsError(f"the LLVM instruction {line.op} is not supported", b.loc)
        handler(self, line, b)

    def _binary(self, line: Line, b: Builder) -> None:
        kind, rest = _FLAGS.sub("", line.body).split(" ", 1)
        first, second = split_operands(rest)
        args = self.value(f"{kind} {first}", b.loc), self.value(f"{kind} {second}", b.loc)
        self._values[line.result] = b.binary(line.op, *args, name=line.result)  # type: ignore[arg-type]

    def _cast(self, line: Line, b: Builder) -> None:
        operand, kind = _FLAGS.sub("", line.body).rsplit(" to ", 1)
        width, signed = self._width(kind, b.loc), line.op == "sext"
        self._values[line.result] = b.resize(
            self.value(operand, b.loc), width, signed=signed, name=line.result
        )

    def _compare(self, line: Line, b: Builder) -> None:
        predicate, kind, rest = _FLAGS.sub("", line.body).split(" ", 2)
        if kind == "ptr":
            raise HlsError("pointers are compared; hardware has no addresses", b.loc)
        first, second = split_operands(rest)
        args = self.value(f"{kind} {first}", b.loc), self.value(f"{kind} {second}", b.loc)
        self._values[line.result] = b.compare(predicate, *args, name=line.result)

    def _select(self, line: Line, b: Builder) -> None:
        operands = split_operands(line.body.removeprefix("select "))
        if operands[1].startswith("ptr"):
            raise HlsError(
                "which variable is accessed here is decided at run time; use one array and an index", b.loc
            )
        args = [self.value(operand, b.loc) for operand in operands]
        self._values[line.result] = b.select(*args, name=line.result)

    def _alias(self, line: Line, b: Builder) -> None:
        operand = line.body.split(" ", 1)[1].split(" to ")[0]
        self._values[line.result] = self.value(operand, b.loc)

    def _gep(self, line: Line, b: Builder) -> None:
        self._pointers[line.result] = gep(line.body, self._layout, lambda base: self.pointer(base, b.loc))

    def _alloca(self, line: Line, b: Builder) -> None:
        kind = split_operands(line.body.removeprefix("alloca "))
        if any(re.match(r"i\d+ %", part) for part in kind[1:]):
            raise HlsError("the size of this array is not constant", b.loc)

    def _load(self, line: Line, b: Builder) -> None:
        kind, pointer = split_operands(line.body.removeprefix("load ").removeprefix("volatile "))[:2]
        width = self._width(kind, b.loc)
        at = self.pointer(pointer.removeprefix("ptr "), b.loc)
        self._values[line.result] = self._access.load(at, width, b, line.result)

    def _store(self, line: Line, b: Builder) -> None:
        typed, pointer = split_operands(line.body.removeprefix("store ").removeprefix("volatile "))[:2]
        value = self.value(typed, b.loc)
        self._access.store(self.pointer(pointer.removeprefix("ptr "), b.loc), value, b)

    def _call(self, line: Line, b: Builder) -> None:
        call = _CALL.match(line.body)
        if call is None or call["name"].startswith("%"):
            raise HlsError(
                "a function is called through a pointer; hardware needs to know which one it is", b.loc
            )
        name, args = call["name"], split_operands(call["args"])
        if name.startswith(_NO_EFFECT):
            return
        if name.startswith(HIDDEN):
            self._values[line.result] = self.value(args[0], b.loc)
        elif name.startswith("@llvm."):
            self._intrinsic(name, call["before"].split()[-1], args, line.result, b)
        elif _STREAM.match(name) or name in _STATES:
            self._stream(name, args, line.result, b)
        else:
            called = self._debug.function_name(unquote(name[1:]))
            if unquote(name[1:]) in self._processes:
                raise HlsError(
                    f"{called} is a process of its own and is called by another; give each a copy of it",
                    b.loc,
                )
            raise HlsError(f"{called} is called, which has no body in this kernel", b.loc)

    def _intrinsic(self, name: str, kind: str, args: list[str], result: str, b: Builder) -> None:
        short = re.sub(r"\.i\d+.*$", "", name.removeprefix("@llvm."))
        if short.startswith(("memcpy", "memmove", "memset")):
            raise HlsError("whole arrays are copied or set here; write a loop over the elements", b.loc)
        if short in ("trap", "debugtrap"):
            return
        if short not in INTRINSICS:
            if re.search(r"\.(?:f32|f64|f16|f80)", name):
                raise HlsError("floating point is not supported; use ap_int with a scale of your own", b.loc)
            raise HlsError(f"the LLVM intrinsic {name[1:]} is not supported", b.loc)
        values = [self.value(arg, b.loc) for arg in args]
        value = INTRINSICS[short](b, values, result)
        self._values[result] = b.resize(value, self._width(kind, b.loc), signed=short in ("ucmp", "scmp"))

    def _stream(self, name: str, args: list[str], result: str, b: Builder) -> None:
        address = re.search(r"getelementptr .*|\S+$", args[0])
        pointer = self.pointer(address[0] if address else args[0], b.loc)
        if pointer.terms:
            raise HlsError("which stream is accessed here is decided at run time; unroll the loop", b.loc)
        key = f"{pointer.base}+{pointer.offset}" if pointer.offset else pointer.base
        port = self._variables.port(key, pointer.base.split("%")[-1], b.loc)
        found = _STREAM.match(name)
        if found is None:
            op = _STATES[name]
            (port.readers if op == "stream_empty" else port.writers)[self._process] = None
            self._values[result] = b.emit(op, 1, (), target=port.name, name=result)
            return
        if found["op"] == "attach":
            port.sides[SIDES[int(found["detail"])]] = int(found["width"])
            self._attached.setdefault(port.name, []).append(self.value(args[1], b.loc))
            return
        if found["op"] == "side":
            word, side = self.value(args[1], b.loc), SIDES[int(found["detail"])]
            port.sides[side] = int(found["width"])
            self._values[result] = b.emit(
                "stream_side", int(found["width"]), (word,), predicate=side, target=port.name, name=result
            )
            return
        port.width, port.axis = int(found["width"]), found["detail"] == "1"
        if found["op"] == "read":
            port.readers[self._process] = None
            self._values[result] = b.emit("stream_read", port.width, (), target=port.name, name=result)
        else:
            port.writers[self._process] = None
            sides = self._attached.pop(port.name, [])
            b.effect("stream_write", (self.value(args[1], b.loc), *sides), target=port.name)

    _handlers: Mapping[str, Callable[[FunctionLowering, Line, Builder], None]] = {
        "alloca": _alloca,
        "bitcast": _alias,
        "call": _call,
        "freeze": _alias,
        "getelementptr": _gep,
        "icmp": _compare,
        "load": _load,
        "select": _select,
        "sext": _cast,
        "store": _store,
        "trunc": _cast,
        "zext": _cast,
    }


def _number(token: str) -> int:
    """Any decimal number: Python refuses those of more than 4300 digits."""
    sign, digits, value = (-1, token[1:], 0) if token.startswith("-") else (1, token, 0)
    for at in range(0, len(digits), 4000):
        part = digits[at : at + 4000]
        value = value * 10 ** len(part) + int(part)
    return sign * value

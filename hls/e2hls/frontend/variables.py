# SPDX-License-Identifier: Apache-2.0
"""The arrays and streams of a design: what the source declares, and what the accesses show."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.debug_info import DebugInfo, Field, Variable
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Module, parse_line, split_operands, unquote
from e2hls.frontend.pointers import Pointer
from e2hls.frontend.pragma_metadata import Mark
from e2hls.frontend.prepare import storage_bytes
from e2hls.ir import Array, Cut, Stream

__all__ = ["Memory", "Port", "Variables"]

_CYCLIC = 2  # kind of a partition, as pragmas number them
_ALLOCA = re.compile(r"^%(?P<name>\"[^\"]*\"|\S+) = alloca (?P<type>.*?), align \d+(?:, .*)?$")
_GLOBAL = re.compile(
    r"^@(?P<name>\"[^\"]*\"|[\w.$-]+) = (?P<linkage>(?:\S+ )*?)(?P<kind>global|constant) (?P<rest>.*?), "
    r"align \d+(?P<attached>.*)$"
)
_STREAMS = re.compile(r'\[(\d+) x %"?(?:class|struct)\.hls::stream')
_CALL = re.compile(r'\bcall void @(?P<name>"[^"]*"|[\w.$-]+)\((?P<args>.*)\)')
_DECLARE = re.compile(
    r"^#dbg_declare\(ptr %(?P<name>\"[^\"]*\"|[^,]+), !(?P<variable>\d+), .*, !(?P<loc>\d+)\)$"
)


@dataclass(slots=True)
class Memory:
    """An array under construction: a variable's numbers, or those in one field of its structs."""

    name: str
    width: int
    dims: tuple[int, ...]
    offset: int  # of the first element in the variable
    strides: tuple[int, ...]
    loc: Loc | None
    static: bool = False
    whole: bool = False  # all of the variable
    init: tuple[int, ...] = ()
    partitioned: set[int] = field(default_factory=set)
    cuts: dict[int, Cut] = field(default_factory=dict)  # dimensions that are partitioned in part
    users: dict[str, None] = field(default_factory=dict)  # processes, in order
    writers: set[str] = field(default_factory=set)

    def array(self) -> Array:
        """The finished record."""
        scope = "shared" if len(self.users) > 1 else "static" if self.static else "local"
        return Array(
            name=self.name,
            width=self.width,
            dims=self.dims,
            partitioned=tuple(d in self.partitioned for d in range(len(self.dims))),
            cuts={d: cut for d, cut in self.cuts.items() if d not in self.partitioned},
            scope=scope,  # type: ignore[arg-type]
            init=self.init if any(self.init) else (),
            loc=self.loc,
        )


@dataclass(slots=True)
class Port:
    """A stream under construction."""

    name: str
    loc: Loc | None
    width: int = 0
    depth: int = 2
    axis: bool = False
    sides: dict[str, int] = field(default_factory=dict)  # widths of all side channels of its words
    readers: dict[str, None] = field(default_factory=dict)
    writers: dict[str, None] = field(default_factory=dict)

    def stream(self) -> Stream:
        """The finished record."""
        return Stream(
            name=self.name,
            width=self.width + sum(self.sides.values()),
            depth=self.depth,
            axis=self.axis,
            sides=tuple(self.sides.items()),
            loc=self.loc,
        )


class Variables:
    """Everything that an address can start from, by ``@global`` or ``function:%local``."""

    def __init__(self, debug: DebugInfo) -> None:
        self._debug = debug
        self._declared: dict[str, Variable] = {}
        self._types: dict[str, str] = {}
        self._images: dict[str, tuple[str, str]] = {}  # global -> type, value
        self._tables: set[str] = set()  # globals that never change
        self._elsewhere: set[str] = set()  # globals that another source defines
        self._layout = Layout([])
        self._names: set[str] = set()
        self._memories: dict[
            tuple[str, str], list[Memory]
        ] = {}  # by variable and process, if there are several
        self.ports: dict[str, Port] = {}

    def declare(self, module: Module, functions: tuple[str, ...]) -> None:
        """Note what the source says of the variables; the debug records are taken out."""
        for name in functions:
            function = module.functions[name]
            for label, lines in function.blocks.items():
                for text in lines:
                    found = _DECLARE.match(text)
                    if found:
                        key = f"{name}:%{unquote(found['name'])}"
                        self._declared.setdefault(key, self._debug.variable(found["variable"], found["loc"]))
                function.blocks[label] = [text for text in lines if not text.startswith("#dbg_")]
        for text in module.others:
            found = _GLOBAL.match(text)
            node = re.search(r"!dbg !(\d+)", found["attached"]) if found else None
            if found and node:
                self._declared[f"@{unquote(found['name'])}"] = self._debug.global_variable(node[1])

    def bind(self, module: Module, functions: tuple[str, ...], layout: Layout) -> None:
        """Note the types and initial values that the final module gives its variables."""
        self._layout = layout
        for name in functions:
            for text in module.functions[name].lines():
                found = _ALLOCA.match(text)
                if found:
                    self._types[f"{name}:%{unquote(found['name'])}"] = found["type"]
        for text in module.others:
            found = _GLOBAL.match(text)
            if found:
                key = f"@{unquote(found['name'])}"
                kind, value = _split_typed(found["rest"])
                self._types[key] = kind
                self._images[key] = kind, value
                self._tables |= {key} if found["kind"] == "constant" else set()
                self._elsewhere |= {key} if "external " in found["linkage"] else set()

    def type_of(self, function: str, token: str) -> str | None:
        """The type in LLVM of the variable that an operand names, None for anything else."""
        key = f"@{unquote(token[1:])}" if token.startswith("@") else f"{function}:%{unquote(token[1:])}"
        return self._types.get(key)

    def used(self) -> list[Memory]:
        """The arrays that some process accesses."""
        return [memory for each in self._memories.values() for memory in each if memory.users]

    def unique(self, name: str) -> str:
        """``name`` as an identifier that nothing else in the design has."""
        base = re.sub(r"\W", "_", name) or "unnamed"
        candidate, number = base, 0
        while candidate in self._names:
            number += 1
            candidate = f"{base}_{number}"
        self._names.add(candidate)
        return candidate

    def memory(self, key: str, process: str, loc: Loc | None) -> list[Memory]:
        """The arrays at ``key``: one, or one for each field of a struct; of a table, those of ``process``.

        Raises: HlsError where the address leads to no variable of the kernel.
        """
        user = process if key in self._tables else ""
        if (key, user) not in self._memories:
            self._memories[key, user] = self._new_memories(key, loc)
        return self._memories[key, user]

    def _new_memories(self, key: str, loc: Loc | None) -> list[Memory]:
        if key not in self._types:
            raise HlsError("this pointer leads to no array of the kernel; index the array itself", loc)
        variable = self._variable(key)
        if key in self._elsewhere:
            raise HlsError(f"{variable.name} is defined in no source of this kernel; define it here", loc)
        image = self._layout.image(*self._images[key]) if key in self._images else b""
        made = []
        for field_ in variable.fields:
            dims, strides = field_.dims or (1,), field_.strides or (storage_bytes(field_.width),)
            memory = Memory(
                name=self.unique((variable.name + field_.path).replace(".", "_")),
                width=field_.width,
                dims=dims,
                offset=field_.offset,
                strides=strides,
                whole=not field_.offset and dims[0] * strides[0] == self._layout.size(self._types[key]),
                loc=variable.loc or loc,
                # What lies within one struct is accessed at once.
                partitioned=set(range(len(variable.dims), len(field_.dims))),
            )
            if image:
                memory.static = True
                memory.init = _initial(image, memory)
            made.append(memory)
        if not made:
            raise HlsError(f"the array {variable.name} holds no integers", variable.loc or loc)
        return made

    def _variable(self, key: str) -> Variable:
        """What the source says, or else what the type in LLVM shows."""
        kind = self._types[key]
        declared = self._declared.get(key)
        if declared and declared.fields:
            ends = [
                each.offset
                + sum((dim - 1) * stride for dim, stride in zip(each.dims, each.strides, strict=True))
                + storage_bytes(each.width)
                for each in declared.fields
            ]
            if max(ends) <= self._layout.size(kind):
                return declared
        stem = self._declared.get(re.sub(r"\.sroa\..*$", "", key))
        name = stem.name if stem else key.split("%")[-1].lstrip("@")
        dims: tuple[int, ...] = ()
        strides: tuple[int, ...] = ()
        while step := self._layout.step(kind):
            each = self._layout.size(step[0])
            dims, strides = (*dims, self._layout.size(kind) // each if each else 0), (*strides, each)
            kind = step[0]
        width = 8 * self._layout.size(kind)
        fields = (Field("", 0, dims, strides, width),) if width and math.prod(dims) else ()
        return Variable(name, dims, fields, stem.loc if stem else None)

    def shape(self, function: str, token: str) -> tuple[tuple[int, ...], int] | None:
        """Dimensions and bytes per element of the numbers that an operand names, None for anything else."""
        key = token if token.startswith("@") else f"{function}:{token}"
        if key not in self._types:
            return None
        fields = self._variable(key).fields
        if len(fields) != 1 or not fields[0].dims:
            return None
        return fields[0].dims, fields[0].strides[-1]

    def stream_counts(self, module: Module, top: str, function: str) -> dict[str, int]:
        """How many streams the variables of a function hold that are arrays of them."""
        own = {key.removeprefix(f"{function}:"): _STREAMS.match(kind) for key, kind in self._types.items()}
        found = {key: int(array[1]) for key, array in own.items() if array}
        if function == top:
            return found
        lines = [parse_line(text) for text in module.functions[top].lines()]
        kinds = {key.removeprefix(f"{top}:"): kind for key, kind in self._types.items()}
        kinds |= {f"%{line.result}": self._pointed(line.body) for line in lines if line.op == "getelementptr"}
        for line in lines:
            call = _CALL.search(line.body)
            if call is None or unquote(call["name"]) != function:
                continue
            params = module.functions[function].params
            for argument, (_, name) in zip(split_operands(call["args"]), params, strict=True):
                array = _STREAMS.match(kinds.get(argument.split()[-1], ""))
                found[f"%{name}"] = int(array[1]) if array else 0
        return found

    def _pointed(self, body: str) -> str:
        """Type of what a ``getelementptr`` leads to."""
        kind, _, *indices = split_operands(re.sub(r"^getelementptr (?:(?:inbounds|nusw|nuw) )*", "", body))
        for index in indices[1:]:
            step = self._layout.step(kind)
            kind = step[0] if step else self._layout.fields(kind)[int(index.split()[-1])][0]
        return kind

    def port(self, key: str, name: str, loc: Loc | None) -> Port:
        """The stream at ``key``."""
        if key not in self.ports:
            variable = self._declared.get(key) or self._declared.get(key.partition("+")[0])
            self.ports[key] = Port(
                self.unique(variable.name if variable else name), variable.loc if variable else loc
            )
        return self.ports[key]

    def mark(self, place: Pointer, mark: Mark) -> None:
        """Apply what a pragma says of the variable at ``place``, where it is still there.

        Raises: HlsError for what that variable does not have.
        """
        memories = [each for (key, _), found in self._memories.items() if key == place.base for each in found]
        fields = [each for each in memories if _is_marked(each, place, mark.step)]
        memories = fields or memories
        ports = [port for key, port in self.ports.items() if _leads_to(key, place, mark.step)]
        wrong = {"depth": [memory.name for memory in memories], "partition": [port.name for port in ports]}
        if wrong.get(mark.kind):
            what = "STREAM is for an hls::stream" if memories else "ARRAY_PARTITION is for an array"
            raise HlsError(f"pragma HLS {what}, but {wrong[mark.kind][0]} is none", mark.loc)
        if mark.kind == "depth":
            for port in ports:
                (depth,) = mark.values
                if depth < 1:
                    raise HlsError(f"pragma HLS STREAM depth={depth} must be at least 1", mark.loc)
                port.depth = depth
        for memory in memories:
            if mark.kind == "partition":
                _partition(memory, mark)


def _is_marked(memory: Memory, place: Pointer, step: int) -> bool:
    """Whether numbers lie in the elements of an array at ``place`` that are ``step`` bytes apart."""
    return step in memory.strides and 0 <= memory.offset - place.offset < step


def _leads_to(port: str, place: Pointer, step: int) -> bool:
    """Whether the stream with this key is the one at ``place``, or in the array that starts there."""
    base, _, offset = port.partition("+")
    if base != place.base:
        return False
    every = step or place.terms
    return int(offset or 0) >= place.offset if every else int(offset or 0) == place.offset


def _partition(memory: Memory, mark: Mark) -> None:
    """Split what is an array in the pragma's place: a row may be only the last dimensions of the memory."""
    dim, kind, factor = mark.values
    first = memory.strides.index(mark.step) if mark.step in memory.strides else len(memory.dims)
    dims = range(first, len(memory.dims))
    if not 0 <= dim <= len(dims):
        raise HlsError(f"pragma HLS ARRAY_PARTITION dim={dim}, but {memory.name} has {len(dims)}", mark.loc)
    if kind != 0 and factor < 1:
        raise HlsError(f"pragma HLS ARRAY_PARTITION factor={factor} must be at least 1", mark.loc)
    for each in dims if dim == 0 else (dims[dim - 1],):
        if kind == 0 or factor >= memory.dims[each]:
            memory.partitioned.add(each)
        elif factor > 1:
            memory.cuts[each] = Cut(parts=factor, cyclic=kind == _CYCLIC)


def _split_typed(text: str) -> tuple[str, str]:
    """Type and value of ``[2 x i8] c"ab"``."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "[{<(") - (char in "]}>)")
        if char == " " and depth == 0:
            return text[:at], text[at + 1 :]
    return text, "zeroinitializer"


def _initial(image: bytes, memory: Memory) -> tuple[int, ...]:
    """The elements of an array in a variable's bytes, row by row."""
    places = [memory.offset]
    for dim, stride in zip(memory.dims, memory.strides, strict=True):
        places = [place + i * stride for place in places for i in range(dim)]
    size, mask = storage_bytes(memory.width), (1 << memory.width) - 1
    return tuple(int.from_bytes(image[place : place + size], "little") & mask for place in places)

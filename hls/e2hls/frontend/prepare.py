# SPDX-License-Identifier: Apache-2.0
"""Edits to clang's LLVM IR before any pass runs on it.

clang copies structs by ``memcpy``, which hides the fields from the passes: each becomes loads and stores of
its fields. Streams hand over their words by value, and every function but the processes is inlined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from e2hls.base.errors import HlsError, Loc
from e2hls.base.verilog_keywords import VERILOG_KEYWORDS
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Module, parse_line, split_operands, unquote
from e2hls.frontend.translation_unit import TranslationUnit

__all__ = ["DATAFLOW", "STREAM_CALL", "callees", "prepare", "reject_heap", "reject_keyword", "storage_bytes"]

DATAFLOW = "@_Z19__hls_mark_dataflowv("
_INTERFACE = "@_Z20__hls_mark_interfacev("
STREAM_CALL = re.compile(
    r"_Z\d+__hls_(?P<op>read|write|side|attach)ILi(?P<width>\d+)EL[bi](?P<detail>\d+)E(?:Li(?P<word>\d+)E)?"
)
_CALL = re.compile(r'\bcall [^@]*@(?P<name>"[^"]*"|[\w.$-]+)\((?P<args>.*)\)')
_HEAP = re.compile(r"_Zn[wa]m|_Zd[la]Pv|(malloc|calloc|realloc|aligned_alloc|free)$")
_MEMCPY = re.compile(
    r"^call void @llvm\.memcpy\.\S+\(ptr(?: align \d+)? (?P<to>[^,]+), ptr(?: align \d+)? (?P<source>[^,]+), "
    r"i64 (?P<size>\d+), i1 false\)(?:.*!tbaa\.struct !(?P<node>\d+))?"
)
_ALLOCA = re.compile(r"^(?P<name>%\S+) = alloca (?P<type>.*?), align \d+")
_LIFETIME = re.compile(r"^call void @llvm\.lifetime\.start\.p0\(ptr (?P<name>%[^)]+)\)")
_SHARED = "linkonce_odr|linkonce|weak_odr|weak|available_externally"  # what several modules may define
_FIELD_SIZES = {"bool": 1, "short": 2, "int": 4, "long": 8, "long long": 8}
_MAX_COPIED_FIELDS = 4096


def prepare(module: Module, top: str, debug: DebugInfo, unit: TranslationUnit) -> tuple[str, ...]:
    """Edit ``module`` in place and return the functions to keep: the top and the processes under DATAFLOW.

    Raises: HlsError for a missing top function, one with an interface of another kind, or recursion.
    """
    if top not in module.functions:
        raise HlsError(f"there is no function {top} in this source", debug.start)
    reject_keyword(top, debug.function_loc(top))
    module.others = [_plain(line) for line in module.others if not line.startswith("@llvm.used")]
    calls = {name: callees(function, module) for name, function in module.functions.items()}
    _reject_recursion(calls, top, debug)
    _drop_interfaces(module, top, debug, unit)
    layout = Layout(module.others)
    kept = (top, *_processes(module, calls, top))
    for name, function in module.functions.items():
        _begin_undefined(function)
        _by_value(function)
        _typed_copies(function, module.metadata, layout)
        _set_inlining(function, inline=name not in kept)
    _declare_streams(module)
    return kept


def reject_heap(function: Function, debug: DebugInfo) -> None:
    """Refuse new, delete, malloc and their like, which the passes that follow might take out.

    Raises: HlsError with the first one's place.
    """
    for line in function.lines():
        call = _CALL.search(line)
        if call and _HEAP.match(unquote(call["name"])):
            raise HlsError(
                "memory is allocated here (new, malloc, a container of std), but hardware has no heap: use "
                "an array of constant size",
                debug.loc(parse_line(line).attached.get("dbg", "")),
            )


def reject_keyword(module: str, loc: Loc | None, function: str = "") -> None:
    """Refuse a module of the Verilog that could not be read; ``function`` is what of it is a process.

    Raises: HlsError.
    """
    if module not in VERILOG_KEYWORDS:
        return
    what = f"the module of process {function} would be {module}," if function else f"{module} is"
    raise HlsError(f"{what} a keyword of Verilog; rename the function", loc)


def _drop_interfaces(module: Module, top: str, debug: DebugInfo, unit: TranslationUnit) -> None:
    """Of a function within the kernel an interface means nothing; the top has streams only.

    Raises: HlsError for another interface of the top.
    """
    for name, function in module.functions.items():
        marks = [line for line in function.lines() if _INTERFACE in line]
        if marks and name == top:
            raise HlsError(
                "pragma HLS INTERFACE is taken with axis, and with ap_ctrl_none port=return",
                unit.written(debug.loc(parse_line(marks[0]).attached.get("dbg", ""))),
            )
        function.edit({line: [] for line in marks})


def _plain(line: str) -> str:
    """A variable or a list of attributes without what only a linker or an inliner looks at."""
    if line.startswith("attributes "):
        return re.sub(r" (noinline|optnone)\b", r' "\1"', line)  # as text they mean nothing to LLVM
    if not line.startswith("@"):
        return line
    line = re.sub(r", comdat(?:\(\$[^)]*\))?|, section \"[^\"]*\"", "", line)
    line = re.sub(rf"^(@\S+ = )(?:{_SHARED})(?: dso_local)?\b", r"\1internal", line)
    # What guards a variable's first use has 64 bits, of which the lowest 8 are used.
    return re.sub(r"^(@_ZGV\S+ = internal global) i64 0", r"\1 i8 0", line)


def callees(function: Function, module: Module) -> dict[str, str]:
    """The functions with a body that ``function`` calls, with the number of the call's debug location."""
    found = {}
    for line in function.lines():
        call = _CALL.search(line)
        if call and unquote(call["name"]) in module.functions:
            found[unquote(call["name"])] = parse_line(line).attached.get("dbg", "")
    return found


def _reject_recursion(calls: Mapping[str, Mapping[str, str]], top: str, debug: DebugInfo) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...], at: Loc | None) -> None:
        if name in path:
            raise HlsError(
                f"{debug.function_name(name)} calls itself; hardware has no call stack: use a loop", at
            )
        if name in done:
            return
        done.add(name)
        for callee, location in calls[name].items():
            visit(callee, (*path, name), debug.loc(location))

    visit(top, (), None)


def _processes(module: Module, calls: Mapping[str, Mapping[str, str]], top: str) -> list[str]:
    """What a DATAFLOW function calls, other than the headers' helpers; one within another is that one's text.

    Anywhere else, what stands in a DATAFLOW function runs in sequence, which gives the same.
    """
    helpers = _always_inlined(module)
    bodies = module.functions.items()
    flows = {name for name, function in bodies if any(DATAFLOW in line for line in function.lines())}
    found: dict[str, None] = {}
    joined: set[str] = set()
    todo = [top]
    while todo:
        name = todo.pop(0)
        if name in flows or (name in helpers and name != top):
            joined.add(name)
            todo = [*calls[name], *todo]
        elif name != top:
            found[name] = None
    for name in sorted(flows - joined):
        function = module.functions[name]
        function.edit({line: [] for line in function.lines() if DATAFLOW in line})
    return list(found)


def _always_inlined(module: Module) -> set[str]:
    groups = {
        line.split()[1] for line in module.others if line.startswith("attributes") and "alwaysinline" in line
    }
    return {
        name
        for name, function in module.functions.items()
        if groups & set(re.findall(r"#\d+", function.header))
    }


def _set_inlining(function: Function, *, inline: bool) -> None:
    header = re.sub(r" comdat(?:\([^)]*\))?", "", function.header)
    header = re.sub(rf"^define (?:{_SHARED}|internal|dso_local) ", "define ", header)
    if inline:
        header = header.replace("define ", "define internal ", 1)
        header = re.sub(r" (#\d+)", r" alwaysinline \1", header, count=1)
    function.header = header


def _begin_undefined(function: Function) -> None:
    """A variable has no value where its life begins: else it would be kept from one iteration to the next."""
    types = {found["name"]: found["type"] for line in function.lines() if (found := _ALLOCA.match(line))}
    replace = {}
    for line in function.lines():
        start = _LIFETIME.match(line)
        if start and start["name"] in types and not types[start["name"]].startswith("["):
            replace[line] = [line, f"store {types[start['name']]} undef, ptr {start['name']}"]
    function.edit(replace)


def _by_value(function: Function) -> None:
    """``read(stream, &bits)`` becomes ``bits = read(stream)``, and the other accesses likewise."""
    replace = {}
    for number, line in enumerate(function.lines()):
        call = _CALL.search(line)
        stream = STREAM_CALL.match(call["name"]) if call else None
        if not call or not stream:
            continue
        port, *pointers = (operand.split()[-1] for operand in split_operands(call["args"]))
        at = "".join(f", !dbg !{n}" for n in [parse_line(line).attached.get("dbg")] if n)
        name = ".".join(part for part in ("@__hls_" + stream["op"], *stream.groups()[1:]) if part)
        width = int(stream["width"])
        if stream["op"] in ("read", "side"):
            before, word = (
                _loaded(f"{stream['op']}.{number}", int(stream["word"]), pointers[0], at)
                if stream["op"] == "side"
                else ([], "")
            )
            value, stored = f"%hls.{stream['op']}.{number}", f"i{8 * storage_bytes(width)}"
            kept = value if f"i{width}" == stored else f"%hls.word.{number}"
            replace[line] = [
                *before,
                f"{value} = call i{width} {name}(ptr {port}{word}){at}",
                *_cast("zext", kept, f"i{width}", value, stored),
                f"store {stored} {kept}, ptr {pointers[-1]}{at}",
            ]
        else:
            before, word = _loaded(f"{stream['op']}.{number}", width, pointers[0], at)
            replace[line] = [*before, f"call void {name}(ptr {port}{word}){at}"]
    function.edit(replace)


def _loaded(name: str, width: int, pointer: str, at: str) -> tuple[list[str], str]:
    """The lines that load so many bits, and the operand that they make."""
    value, kept, stored = f"%hls.{name}.value", f"%hls.{name}.word", f"i{8 * storage_bytes(width)}"
    lines = [f"{kept} = load {stored}, ptr {pointer}{at}", *_cast("trunc", value, stored, kept, f"i{width}")]
    return lines, f", i{width} {value if f'i{width}' != stored else kept}"


def _cast(op: str, to: str, kind: str, value: str, wanted: str) -> list[str]:
    return [] if kind == wanted else [f"{to} = {op} {kind} {value} to {wanted}"]


def _declare_streams(module: Module) -> None:
    used = {
        (found[1], found[2], found[3], found[4])
        for function in module.functions.values()
        for line in function.lines()
        for found in re.finditer(r"@__hls_(read|write|side|attach)\.(\d+)\.(\d+)((?:\.\d+)?)\(", line)
    }
    for op, width, detail, word in sorted(used):
        gives = f"i{width}" if op in ("read", "side") else "void"
        takes = {"read": "", "side": f", i{word[1:]}"}.get(op, f", i{width}")
        effects = "nounwind willreturn speculatable memory(none)" if op == "side" else "nounwind"
        module.others.append(f"declare {gives} @__hls_{op}.{width}.{detail}{word}(ptr{takes}) {effects}")


def _typed_copies(function: Function, metadata: Mapping[str, str], layout: Layout) -> None:
    """A copied struct becomes a load and a store of each of its fields."""
    types = {found["name"]: found["type"] for line in function.lines() if (found := _ALLOCA.match(line))}
    replace = {}
    for number, line in enumerate(function.lines()):
        copy = _MEMCPY.match(line)
        fields = _fields(copy["node"], metadata) if copy and copy["node"] else None
        if copy and not fields:
            fields = _fields_of_locals(types, copy, layout)
        if not copy or not fields:
            continue
        at = "".join(f", !dbg !{n}" for n in [parse_line(line).attached.get("dbg")] if n)
        new = []
        for index, (offset, kind) in enumerate(fields):
            name = f"hls.copy.{number}.{index}"
            new += [
                f"%{name}.from = getelementptr inbounds i8, ptr {copy['source']}, i64 {offset}",
                f"%{name}.to = getelementptr inbounds i8, ptr {copy['to']}, i64 {offset}",
                f"%{name} = load {kind}, ptr %{name}.from{at}",
                f"store {kind} %{name}, ptr %{name}.to{at}",
            ]
        replace[line] = new
    function.edit(replace)


def _fields_of_locals(
    types: Mapping[str, str], copy: re.Match[str], layout: Layout
) -> list[tuple[int, str]] | None:
    """The fields of the local variable that is copied as a whole, if one is."""
    for name in (copy["to"], copy["source"]):
        kind = types.get(name)
        # A whole array stays one copy: it becomes a loop where it is a memory.
        if kind and not kind.startswith("[") and layout.size(kind) == int(copy["size"]):
            fields = list(layout.scalars(kind))
            numbers = all(re.fullmatch(r"i\d+", each) for _, each in fields)
            return fields if numbers and len(fields) <= _MAX_COPIED_FIELDS else None
    return None


def _fields(number: str, metadata: Mapping[str, str]) -> list[tuple[int, str]] | None:
    """Offset and type of each field that a ``tbaa.struct`` node lists, or None where one is not a number."""
    fields: list[tuple[int, str]] = []
    for offset, size, tag in re.findall(r"i64 (\d+), i64 (\d+), !(\d+)", metadata[number]):
        scalar = re.search(r"!(\d+)", metadata[tag])
        name = re.match(r'!\{!"([^"]*)"', metadata[scalar[1]]) if scalar else None
        if name is None:
            return None
        bits = re.fullmatch(r"_BitInt\((\d+)\)", name[1])
        each = storage_bytes(int(bits[1])) if bits else _FIELD_SIZES.get(name[1], 0)
        if each == 0:
            return None
        fields += [(int(offset) + i, f"i{8 * each}") for i in range(0, int(size), each)]
    return fields if len(fields) <= _MAX_COPIED_FIELDS else None


def storage_bytes(width: int) -> int:
    """The size of a ``_BitInt`` in memory on AArch64."""
    if width > 64:
        return -(-width // 128) * 16
    return (1 << (width - 1).bit_length()) // 8 if width > 8 else 1

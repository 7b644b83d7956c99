# SPDX-License-Identifier: Apache-2.0
"""A kernel of streams around a function with other ports: filled before each call, sent out after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from e2hls.base.cache import cached, content_key
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend.top_function import Parameter, TopFunction

__all__ = ["RESULT", "Wrapped", "wrap"]

RESULT = "return_out"  # the stream of a function's result
_SUFFIX = "_wrapper"
_STREAM_MODES = ("axis", "ap_ctrl_none", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """The kernel to build, and in one sentence what of the function's interface it leaves out."""

    kernel: Kernel
    note: str = ""
    scalars: frozenset[str] = frozenset()  # streams that carry one word per call


def wrap(kernel: Kernel, top: TopFunction) -> Wrapped:
    """``kernel`` itself where its ports are streams alone, or else a generated kernel that calls it.

    Raises: HlsError for a parameter whose number of elements is not known.
    """
    if top.only_streams:
        modes = {port: top.interface(port).get("mode", "").lower() for port in (*_names(top), "return")}
        other = sorted({mode for mode in modes.values() if mode not in _STREAM_MODES})
        if not other:
            return Wrapped(kernel=kernel)
        return Wrapped(
            kernel=replace(kernel, wrapped=True),
            note=f"the interface itself is not checked: {', '.join(other)} of {top.name}",
        )
    text = _text(kernel, top)

    def write(folder: Path) -> None:
        (folder / f"{kernel.source.stem}{_SUFFIX}.cpp").write_text(text, encoding="utf-8")

    folder = cached("wrapper", content_key(kernel.source.stem, text), write)
    ports = [_describe(each, top) for each in top.parameters if not each.stream]
    return Wrapped(
        kernel=replace(
            kernel,
            name=f"{top.name}{_SUFFIX}",
            source=folder / f"{kernel.source.stem}{_SUFFIX}.cpp",
            include_dirs=(*kernel.include_dirs, kernel.source.resolve().parent),
            wrapped=True,
        ),
        note=f"the interface itself is not checked: {', '.join([*ports, *(['the result'] * top.returns)])} "
        f"of {top.name} go through streams",
        scalars=frozenset(
            f"{each.name}_in" for each in top.parameters if not each.stream and not _dimensions(each, top)
        ),
    )


def _names(top: TopFunction) -> list[str]:
    return [each.name for each in top.parameters]


def _dimensions(parameter: Parameter, top: TopFunction) -> tuple[str, ...]:
    """The dimensions of an array or of what a pointer leads to; none of a scalar.

    Raises: HlsError where it is not known.
    """
    options = top.interface(parameter.name)
    depth = options.get("depth", "")
    if parameter.bounds:
        return parameter.bounds
    if not parameter.pointer:
        return ()
    if depth:
        return (depth,)
    if options.get("mode", "").lower() == "m_axi" or "[" in parameter.text:
        raise HlsError(
            f"how many elements {parameter.name} of {top.name} has is not known; "
            f"add depth= to its pragma HLS INTERFACE, or write {parameter.name}[COUNT]",
            top.loc,
        )
    return ("1",)


def _describe(parameter: Parameter, top: TopFunction) -> str:
    mode = top.interface(parameter.name).get("mode", "").lower()
    kind = mode or ("array" if _dimensions(parameter, top) else "scalar")
    return f"{parameter.name} ({kind})"


def _text(kernel: Kernel, top: TopFunction) -> str:
    """The wrapper's C++."""
    ports, before, after, arguments = [], [], [], []
    for at, each in enumerate(top.parameters):
        given = f"E2hlsTop::Parameter<{at}>"
        if each.stream:
            ports.append(f"{given} {each.name}")
            arguments.append(each.name)
            continue
        local = f"{each.name}_" if each.name == top.name else each.name
        kind = f"e2hls::Element<{given}>"
        if "(" in each.text:  # a reference or pointer to a whole array
            raise HlsError(f"write {each.name} of {top.name} as an array: {each.name}[COUNT]", top.loc)
        dimensions = _dimensions(each, top)
        ports.append(f"hls::stream<e2hls::Word<{kind}>>& {each.name}_in")
        before.append(f"{kind} {local}{f'[{dimensions[0]}]' if dimensions else ''};")
        before += _loops("fill", each.name, local, dimensions, "in")
        arguments.append(local)
        if not each.constant and (dimensions or each.reference):
            ports.append(f"hls::stream<e2hls::Word<{kind}>>& {each.name}_out")
            after += _loops("send", each.name, local, dimensions, "out")
    call = f"{top.name}({', '.join(arguments)});"
    if top.returns:
        ports.append(f"hls::stream<e2hls::Word<E2hlsTop::Result>>& {RESULT}")
        before.append("e2hls::Word<E2hlsTop::Result> e2hls_result;")
        call = f"e2hls_result = {call}"
        after.append(f"{RESULT}.write(e2hls_result);")
    # Inlined, the native build knows the bounds of the arrays above.
    body = [*before, f"[[clang::always_inline]] {call}", *after]
    return "\n".join([*_head(kernel, top), *_function(top, ports, body), ""])


def _loops(verb: str, name: str, local: str, dimensions: tuple[str, ...], way: str) -> list[str]:
    """Words between a variable and its stream, in loops here: those of headers are unrolled."""
    element = local + "".join(f"[i{at}]" for at in range(len(dimensions)))
    lines = [f"{'  ' * len(dimensions)}e2hls::{verb}({element}, {name}_{way});"]
    for at in reversed(range(len(dimensions))):
        label = f"{verb}_{name}{f'_{at}' if at else ''}"
        lines = [
            f"{'  ' * at}{label}:",
            f"{'  ' * at}for (int i{at} = 0; i{at} < ({dimensions[at]}); ++i{at}) {{",
            *lines,
            f"{'  ' * at}}}",
        ]
    return lines


def _head(kernel: Kernel, top: TopFunction) -> Iterator[str]:
    yield f"// Streams around {top.name}, to check what it computes; generated by e2hls."
    yield f'#include "{kernel.source.resolve()}"'
    yield ""
    yield "#include <hls_wrapper.h>"
    yield ""
    yield f"using E2hlsTop = e2hls::Signature<decltype({top.name})>;"
    yield f"static_assert(E2hlsTop::kCount == {len(top.parameters)});"
    yield ""


def _function(top: TopFunction, ports: list[str], body: list[str]) -> Iterator[str]:
    joined = ",\n    ".join(ports)
    yield f'extern "C" void {top.name}{_SUFFIX}(\n    {joined}) {{'
    yield from (f"  {line}" for line in body)
    yield "}"

# SPDX-License-Identifier: Apache-2.0
"""A kernel of streams around a function with other ports: filled before each call, sent out after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from e2hls.base.cache import cached, content_key
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.checking.wrapper_text import SUFFIX, WrapperPort, wrapper_text
from e2hls.frontend.compile import accesses
from e2hls.frontend.top_function import Parameter, TopFunction

__all__ = ["Wrapped", "wrap"]

_NO_DEPTHS: Mapping[str, int] = MappingProxyType({})
_STREAM_MODES = ("axis", "ap_ctrl_none", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """The kernel to build, and in one sentence what of the function's interface it leaves out."""

    kernel: Kernel
    note: str = ""
    scalars: frozenset[str] = frozenset()  # streams that carry one word per call


def wrap(kernel: Kernel, top: TopFunction, depths: Mapping[str, int] = _NO_DEPTHS) -> Wrapped:
    """``kernel`` itself where its ports are streams alone, or else a generated kernel that calls it.

    ``depths`` are elements behind pointers, by parameter, where the source does not say.

    Raises: HlsError for a parameter whose number of elements is not known.
    """
    pointers = [each.name for each in top.parameters if each.pointer]
    for name in depths:
        if name not in pointers:
            raise HlsError(
                f"{top.name} has no pointer {name!r} to give a depth; it has {', '.join(pointers) or 'none'}",
                top.loc,
            )
    if top.only_streams:
        modes = {port: top.interface(port).get("mode", "").lower() for port in (*_names(top), "return")}
        other = sorted({mode for mode in modes.values() if mode not in _STREAM_MODES})
        if not other:
            return Wrapped(kernel=kernel)
        return Wrapped(
            kernel=replace(kernel, wrapped=True),
            note=f"the interface itself is not checked: {', '.join(other)} of {top.name}",
        )
    ports = tuple(_ports(kernel, top, depths))
    text = wrapper_text(kernel, top, ports)
    name = f"{kernel.source.stem}{SUFFIX}.cpp"

    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    described = [_describe(each, top) for each in ports if not each.parameter.stream]
    described += ["the result"] * top.returns
    return Wrapped(
        kernel=replace(
            kernel,
            name=f"{top.name}{SUFFIX}",
            source=cached("wrapper", content_key(name, text), write) / name,
            include_dirs=(*kernel.include_dirs, kernel.source.resolve().parent),
            wrapped=True,
        ),
        note=f"the interface itself is not checked: {', '.join(described)} of {top.name} go through streams",
        scalars=frozenset(
            f"{each.parameter.name}_in" for each in ports if each.fills and not each.dimensions
        ),
    )


def _ports(kernel: Kernel, top: TopFunction, depths: Mapping[str, int]) -> Iterator[WrapperPort]:
    """The parameters with what is done around a call.

    Under DATAFLOW an array is handed on as a whole: it is filled or sent out, as it is read or written.
    """
    used = accesses(kernel, top.name) if top.dataflow else {}
    if top.dataflow and top.returns:
        raise HlsError(f"{top.name} is under DATAFLOW and returns a value; write it to a stream", top.loc)
    for parameter in top.parameters:
        if parameter.stream:
            yield WrapperPort(parameter=parameter)
            continue
        if "(" in parameter.text:  # a reference or pointer to a whole array
            raise HlsError(
                f"write {parameter.name} of {top.name} as an array: {parameter.name}[COUNT]", top.loc
            )
        dimensions = _dimensions(parameter, top, depths.get(parameter.name))
        access = used.get(parameter.name, "both")
        if top.dataflow and (not dimensions or access == "both"):
            what = "is no array" if not dimensions else "is both read and written"
            raise HlsError(
                f"{parameter.name} of {top.name}, which is under DATAFLOW, {what}; pass it by a stream",
                top.loc,
            )
        changes = not parameter.constant and bool(dimensions or parameter.reference)
        yield WrapperPort(
            parameter=parameter,
            dimensions=dimensions,
            fills=not top.dataflow or access == "read",
            sends=changes and access in ("both", "write"),
        )


def _names(top: TopFunction) -> list[str]:
    return [each.name for each in top.parameters]


def _dimensions(parameter: Parameter, top: TopFunction, given: int | None) -> tuple[str, ...]:
    """The dimensions of an array or of what a pointer leads to; none of a scalar.

    Raises: HlsError where it is not known.
    """
    options = top.interface(parameter.name)
    depth = options.get("depth", "") if given is None else str(given)
    if parameter.bounds:
        return parameter.bounds
    if not parameter.pointer:
        return ()
    if depth:
        return (depth,)
    several = "[" in parameter.text or top.walks(parameter.name)
    if several or options.get("mode", "").lower() == "m_axi":
        raise HlsError(
            f"how many elements {parameter.name} of {top.name} has is not known; "
            f"add depth= to its pragma HLS INTERFACE, write {parameter.name}[COUNT], "
            f"or say --depth {parameter.name}=COUNT",
            top.loc,
        )
    return ("1",)


def _describe(port: WrapperPort, top: TopFunction) -> str:
    mode = top.interface(port.parameter.name).get("mode", "").lower()
    return f"{port.parameter.name} ({mode or ('array' if port.dimensions else 'scalar')})"

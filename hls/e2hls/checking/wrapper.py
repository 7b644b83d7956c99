# SPDX-License-Identifier: Apache-2.0
"""A kernel of streams around a function with other ports: filled before each call, sent out after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from e2hls.base.cache import cached, content_key
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.build import why_not_parallel
from e2hls.checking.wrapper_text import SUFFIX, WrapperPort, types_name, types_text, wrapper_text
from e2hls.frontend.compile import accesses
from e2hls.frontend.top_function import Parameter, TopFunction

__all__ = ["INTERFACE", "Wrapped", "wrap", "wrapper_kernel"]

_NO_DEPTHS: Mapping[str, int] = MappingProxyType({})
INTERFACE, _DATAFLOW = "INTERFACE", "DATAFLOW"
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
            kernel=replace(kernel, left_out=(INTERFACE,)),
            note=f"the interface itself is not checked: {', '.join(other)} of {top.name}",
        )
    dimensions = {
        each.name: _dimensions(each, top, depths.get(each.name)) for each in top.parameters if not each.stream
    }
    used = accesses(kernel, top.name) if top.dataflow else {}
    values = [each.name for each in top.parameters if _is_value(each)]
    used |= dict.fromkeys(values if top.dataflow else (), "read")
    serial = _why_serial(top, dimensions, used) if top.dataflow else ""
    found = _wrapped(kernel, top, dimensions, used, serial)
    if top.dataflow and not serial:
        serial = why_not_parallel(found.kernel)
        found = _wrapped(kernel, top, dimensions, used, serial) if serial else found
    return found


def _wrapped(
    kernel: Kernel,
    top: TopFunction,
    dimensions: Mapping[str, tuple[str, ...]],
    used: Mapping[str, str],
    serial: str,
) -> Wrapped:
    """The kernel around a function with other ports; ``serial`` is why DATAFLOW is left out, if it is."""
    dataflow = top.dataflow and not serial
    ports = tuple(_port(each, dimensions.get(each.name), used, dataflow) for each in top.parameters)
    text = wrapper_text(kernel, top, ports, dataflow=dataflow)
    described = [_describe(each, top) for each in ports if not each.parameter.stream]
    described += ["the result"] * top.returns
    return Wrapped(
        kernel=wrapper_kernel(kernel, top, ports, text, (INTERFACE, _DATAFLOW) if serial else (INTERFACE,)),
        note=f"the interface itself is not checked: {', '.join(described)} of {top.name} go through streams"
        + (f"; DATAFLOW is left out, since {serial}: functions run one after the other" if serial else ""),
        scalars=frozenset(
            f"{each.parameter.name}_in" for each in ports if each.fills and not each.dimensions
        ),
    )


def wrapper_kernel(
    kernel: Kernel, top: TopFunction, ports: Sequence[WrapperPort], text: str, left_out: tuple[str, ...]
) -> Kernel:
    """The kernel of a wrapper's source, which includes that of ``kernel``."""
    name = f"{kernel.source.stem}{SUFFIX}.cpp"
    types = types_text(top, ports)

    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")
        (folder / types_name(kernel)).write_text(types, encoding="utf-8")

    return replace(
        kernel,
        name=f"{top.name}{SUFFIX}",
        source=cached("wrapper", content_key(name, text, types), write) / name,
        include_dirs=(*kernel.include_dirs, kernel.source.resolve().parent),
        left_out=left_out,
    )


def _why_serial(top: TopFunction, dimensions: Mapping[str, tuple[str, ...]], used: Mapping[str, str]) -> str:
    """Why the processes of a DATAFLOW cannot be kept: they hand on arrays and scalars, each one way."""
    if top.returns:
        return f"{top.name} returns a value"
    both = next((name for name in dimensions if used.get(name, "both") == "both"), None)
    return f"{both} is both read and written" if both is not None else ""


def _is_value(parameter: Parameter) -> bool:
    """Whether a parameter is a scalar that is passed by value."""
    return not (parameter.stream or parameter.pointer or parameter.reference or parameter.bounds)


def _port(
    parameter: Parameter, dimensions: tuple[str, ...] | None, used: Mapping[str, str], dataflow: bool
) -> WrapperPort:
    """What is done around a call. Under DATAFLOW an array is filled or sent out, as it is read or written."""
    if dimensions is None:
        return WrapperPort(parameter=parameter)
    changes = not parameter.constant and bool(dimensions or parameter.reference)
    access = used[parameter.name] if dataflow else "both"
    return WrapperPort(
        parameter=parameter,
        dimensions=dimensions,
        fills=access in ("both", "read"),
        sends=changes and access in ("both", "write"),
    )


def _names(top: TopFunction) -> list[str]:
    return [each.name for each in top.parameters]


def _dimensions(parameter: Parameter, top: TopFunction, given: int | None) -> tuple[str, ...]:
    """The dimensions of an array or of what a pointer leads to; none of a scalar.

    Raises: HlsError where it is not known.
    """
    if "(" in parameter.text:  # a reference or pointer to a whole array
        raise HlsError(f"write {parameter.name} of {top.name} as an array: {parameter.name}[COUNT]", top.loc)
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
    modes = [each.get("mode", "").lower() for each in top.interfaces(port.parameter.name)]
    # The registers of a pointer hold its address alone.
    mode = "m_axi" if "m_axi" in modes else next(iter(reversed(modes)), "")
    return f"{port.parameter.name} ({mode or ('array' if port.dimensions else 'scalar')})"

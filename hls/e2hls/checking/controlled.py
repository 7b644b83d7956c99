# SPDX-License-Identifier: Apache-2.0
"""A function whose calls and scalars a processor controls by registers, as a kernel of streams.

A word of START begins a call, which takes one of each scalar; one of DONE follows all that it gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.checking.wrapper import INTERFACE, wrapper_kernel
from e2hls.checking.wrapper_text import WrapperPort, wrapper_text
from e2hls.frontend.top_function import Parameter, TopFunction

__all__ = ["Controlled", "control"]

_REGISTERS, _RETURN = "s_axilite", "return"
_OPTIONS = frozenset({"mode", "port", "bundle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """The kernel to build; the function's name, its scalars in order, and whether it has a result."""

    kernel: Kernel
    name: str
    scalars: tuple[str, ...]
    returns: bool


def control(kernel: Kernel, top: TopFunction) -> Controlled | None:
    """The kernel around ``top``; None where streams are its only ports and no register starts it.

    Raises: HlsError for ports and protocols that these registers do not have.
    """
    scalars = [each for each in top.parameters if not each.stream]
    modes = _modes(top, _RETURN)
    if not scalars and not top.returns and _REGISTERS not in modes:
        return None
    fault = next(_faults(top, scalars, modes), None)
    if fault is not None:
        raise HlsError(fault, top.loc)
    ports = [WrapperPort(parameter=each, fills=not each.stream) for each in top.parameters]
    text = wrapper_text(kernel, top, ports, controlled=True)
    return Controlled(
        kernel=wrapper_kernel(kernel, top, ports, text, (INTERFACE,)),
        name=top.name,
        scalars=tuple(each.name for each in scalars),
        returns=top.returns,
    )


def _faults(top: TopFunction, scalars: list[Parameter], modes: list[str]) -> Iterator[str]:
    for each in scalars:
        if each.bounds or each.pointer or (each.reference and not each.constant):
            what = "an array" if each.bounds else "a pointer" if each.pointer else "a reference"
            yield (
                f"{each.name} of {top.name} is {what}; on a board a kernel has streams, scalars by value in "
                f"registers, and a result{'; return it' if what == 'a reference' else ''}"
            )
        if each.name == "ap_return":
            yield f"{each.name} of {top.name} has the name of the result's register; rename it"
        if _modes(top, each.name) != [_REGISTERS]:
            yield (
                f"{each.name} of {top.name} must be a register to be set on a board; "
                f"add #pragma HLS INTERFACE s_axilite port={each.name}"
            )
    if "ap_ctrl_none" in modes:
        yield (
            f"{top.name} has registers and ap_ctrl_none, with which it is not known what call takes a new "
            "value; use #pragma HLS INTERFACE s_axilite port=return"
        )
    if _REGISTERS not in modes:
        yield f"nothing starts {top.name} on a board; add #pragma HLS INTERFACE s_axilite port=return"
    for mode in modes:
        if mode not in (_REGISTERS, "ap_ctrl_hs"):
            yield f"{top.name} has {mode}; on a board it is started by ap_ctrl_hs"
    if top.dataflow:
        yield f"{top.name} has registers and DATAFLOW; put one or the other into a kernel for a board"
    ports = [*(each.name for each in scalars), _RETURN]
    pragmas = [options for port in ports for options in top.interfaces(port)]
    other = sorted({name for options in pragmas for name in options} - _OPTIONS)
    if other:
        yield f"{other[0]}= of INTERFACE is not taken for registers of {top.name} on a board; leave it out"
    bundles = sorted({options["bundle"] for options in pragmas if "bundle" in options})
    if len(bundles) > 1:
        yield f"registers of {top.name} are in {' and '.join(bundles)}; on a board they are in one bundle"


def _modes(top: TopFunction, port: str) -> list[str]:
    return [options["mode"].lower() for options in top.interfaces(port) if "mode" in options]

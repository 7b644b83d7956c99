# SPDX-License-Identifier: Apache-2.0
"""How many activations one iteration of a loop takes: one, and one more for each step inside it."""

from __future__ import annotations

from e2hls.ir import Process
from e2hls.ir.flow_graph import FlowGraph
from e2hls.passes.regions import Flow, edges_of

__all__ = ["activations", "fastest", "innermost", "is_mixed"]


def innermost(process: Process, flow: Flow) -> dict[str, frozenset[str]]:
    """By header, the blocks of each loop that holds no other, and of a pipelined function without loops."""
    bodies = {loop.header: loop.blocks for loop in flow.loops}
    if (entry := process.blocks[0].label) in process.loops:
        bodies[entry] = frozenset(flow.order)
    return {
        header: body
        for header, body in bodies.items()
        if not any(other != header and other in body for other in bodies)
    }


def fastest(process: Process) -> int:
    """The smallest interval that a loop asks for, 0 where none does."""
    return min((loop.ii for loop in process.loops.values() if loop.ii), default=0)


def is_mixed(process: Process, flow: Flow) -> bool:
    """Whether a loop asks for an interval, and another one for a longer one or for none."""
    asked = {process.loops[header].ii for header in innermost(process, flow) if header in process.loops}
    return fastest(process) > 0 and bool(asked - {fastest(process)})


def activations(process: Process, flow: Flow) -> dict[str, int]:
    """By header of each innermost loop, the most activations that one of its iterations takes."""
    return {header: _longest(flow, header, body) for header, body in innermost(process, flow).items()}


def _longest(flow: Flow, header: str, body: frozenset[str]) -> int:
    """Activations along the longest way from the header to itself."""
    inside = {label: [edge.target for edge in edges_of(flow.blocks[label])] for label in body}
    onward = {
        label: [target for target in targets if target in body and target != header]
        for label, targets in inside.items()
    }
    cost: dict[str, int] = {}
    for label in reversed(FlowGraph(header, onward).order):
        ways = [cost.get(target, 0) + (target in flow.headers) for target in onward[label]]
        back = label in flow.returns or (header in inside[label] and header in flow.headers)
        cost[label] = max([*ways, int(back)])
    return cost[header]

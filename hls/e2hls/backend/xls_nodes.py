# SPDX-License-Identifier: Apache-2.0
"""Nodes of an XLS proc, as XLS IR prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["CycleError", "Node", "ordered"]


@dataclass(frozen=True, slots=True)
class Node:
    """An operation on other nodes and state elements, by their names."""

    kind: str  # of the result: bits[8], token, ...
    op: str
    operands: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()  # operands with a keyword, such as predicate=
    attributes: tuple[tuple[str, object], ...] = ()  # numbers and channels

    def __str__(self) -> str:
        operands = self.operands
        if self.op == "sel":
            operands = (operands[0], f"cases=[{', '.join(operands[1:])}]")
        pairs = (f"{key}={value}" for key, value in (*self.named, *self.attributes))
        return f"{self.kind} = {self.op}({', '.join((*operands, *pairs))})"

    @property
    def uses(self) -> Iterator[str]:
        """The names of all operands, in the order of the text."""
        yield from self.operands
        yield from (name for _, name in self.named)


class CycleError(Exception):
    """Nodes that need each other; ``names`` lists them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(names))
        self.names = names


def ordered(nodes: Mapping[str, Node], roots: list[str]) -> list[str]:
    """What the roots need, operands first.

    Raises: CycleError.
    """

    def operands(name: str) -> Iterator[str]:
        return (used for used in nodes[name].uses if used in nodes)

    done: set[str] = set()
    order: list[str] = []
    for root in roots:
        stack = [(root, operands(root))]
        path: dict[str, None] = {root: None} if root not in done else {}
        while stack and root not in done:
            name, rest = stack[-1]
            operand = next((each for each in rest if each not in done), None)
            if operand is None:
                done.add(name)
                order.append(name)
                path.pop(name)
                stack.pop()
            elif operand in path:
                raise CycleError((*list(path)[list(path).index(operand) :], operand))
            else:
                path[operand] = None
                stack.append((operand, operands(operand)))
    return order

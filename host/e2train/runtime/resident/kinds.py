# SPDX-License-Identifier: Apache-2.0
"""Which integers the tensors of a resident step are."""

from __future__ import annotations

from dataclasses import dataclass

from e2train.numerics.elementwise import Kind
from e2train.runtime.resident.network import Network

__all__ = ["Kinds", "body_kinds", "is_narrow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Where there is a choice, by what tensors are."""

    result: Kind = "int16"  # results of forward
    input_gradient: Kind = "int16"  # and of grad_input
    gradient: Kind = "int8"  # of what convolutions gave
    block_gradient: Kind = "int16"  # of what blocks gave

    @classmethod
    def of_bits(
        cls, *, result: int = 16, input_gradient: int = 0, gradient: int = 8, block_gradient: int = 16
    ) -> Kinds:
        """Signed integers of so many bits each: up to 8, else 16; input gradients of 0 as results.

        >>> kinds = Kinds.of_bits(result=8, gradient=4)
        >>> kinds.gradient, kinds.input_gradient
        ('int8', 'int8')
        """
        bits = {
            "result": result,
            "input_gradient": input_gradient or result,
            "gradient": gradient,
            "block_gradient": block_gradient,
        }
        return cls(**{name: "int8" if count <= 8 else "int16" for name, count in bits.items()})


def body_kinds(network: Network, kinds: Kinds) -> dict[str, Kind]:
    """Every tensor with a scale of its own, and the kind of its integers.

    The results of a stage's blocks share one scale, so that a sample that skips a block needs no work at all.
    """
    found: dict[str, Kind] = {"images": "int8", "pooled": "int16"}
    stages: dict[str, Kind] = {}
    for block in network.blocks:
        inner = {f"{block.name}.a{number}": conv.kind for number, conv in enumerate(block.convs[:-1], 1)}
        count = len(block.convs)
        found |= {f"{block.name}.y{number}": kinds.result for number in range(1, count + 1)}
        found |= {f"{block.name}.ga{number}": kinds.input_gradient for number in range(1, count)}
        if block.convs[0] is not network.first:
            found[f"{block.name}.ga0"] = kinds.input_gradient
        found |= {f"{block.name}.gy{number}": kinds.gradient for number in range(1, count + 1)}
        found |= inner
        stages |= {f"x{block.stage}": block.last.kind, f"g{block.stage}": kinds.block_gradient}
    return found | stages


def is_narrow(name: str, kind: Kind) -> bool:
    """Whether a tensor of this name is an output gradient, or one of a block, of 8 bits."""
    _, dot, own = name.rpartition(".")
    return kind == "int8" and own.startswith("gy" if dot else "g")

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cycles of a resident training step on the engine's RTL in the simulated SoC, by kind of operation.

A step of ``--batch`` samples is simulated, after a first one in which scales start; ``planned`` is its cycles
times ``--planned-batch`` / ``--batch``, an estimate. ``busy`` is the share of the products that the
multipliers could make, two each and cycle with operands of 8 bits; loads and stores count, the first
convolution, whose three channels fill few lanes, does not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train.config import load_config
from e2train.devices import open_resident
from e2train.devices.protocol import Counters
from e2train.nn import OffloadContext, ResidentBody, build_model
from e2train.runtime.ledger import LedgerRow

CONVOLUTIONS = ("forward", "grad_input", "grad_weight")
ELEMENT_WISE = ("affine", "reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What the operations of one mode took in a step."""

    calls: int
    cycles: int
    planned: int
    busy: float | None


def rows_of_step(name: str, *, board: str, batch: int, gradient_bits: int) -> tuple[LedgerRow, ...]:
    """The ledger of one step."""
    torch.manual_seed(1)
    model, image = build_model(name)
    images, labels = torch.randn(batch, *image), torch.randint(0, 10, (batch,))
    with closing(open_resident("rtl", config=board)) as device:
        context = OffloadContext(device=device, gradient_bits=gradient_bits)
        model.resident = ResidentBody(model, context, image=image)
        for _ in range(2):
            context.ledger.clear()
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        return context.ledger.snapshot()


def measure(*, name: str, board: str, batch: int, planned_batch: int, gradient_bits: int) -> dict[str, Any]:
    """Cycles by mode, and what element-wise operations add to convolutions."""
    rows = rows_of_step(name, board=board, batch=batch, gradient_bits=gradient_bits)
    lanes, times = load_config(board).macs_per_cycle, planned_batch / batch
    modes = {mode: _mode(rows, mode, gradient_bits, lanes, times) for mode in CONVOLUTIONS + ELEMENT_WISE}
    convolutions, elements = (
        sum(modes[mode].cycles for mode in group) for group in (CONVOLUTIONS, ELEMENT_WISE)
    )
    return {
        "model": name,
        "board": board,
        "batch": batch,
        "gradient_bits": gradient_bits,
        "planned_batch": planned_batch,
        "modes": {mode: asdict(row) for mode, row in modes.items()},
        "cycles": convolutions + elements,
        "planned": round((convolutions + elements) * planned_batch / batch),
        "element_wise_adds": round(elements / convolutions, 3),
    }


def _mode(rows: Sequence[LedgerRow], mode: str, gradient_bits: int, lanes: int, times: float) -> Mode:
    mine = [row for row in rows if row.mode == mode]
    cycles = sum((row.counters for row in mine), Counters()).cycles or 0
    first = next(row.name for row in rows if row.mode == "forward")
    counted = sum((row.counters for row in mine if row.name != first), Counters())
    products = 1 if gradient_bits == 16 and mode != "forward" else 2
    most = products * lanes * (counted.cycles or 0)
    busy = round(counted.macs / most, 3) if mode in CONVOLUTIONS else None
    return Mode(calls=sum(row.calls for row in mine), cycles=cycles, planned=round(cycles * times), busy=busy)


def main() -> None:
    """Measure, and print a table or a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--board", default="pynq_z2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--planned-batch", type=int, default=128)
    parser.add_argument("--gradient-bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    row = measure(
        name=options.model,
        board=options.board,
        batch=options.batch,
        planned_batch=options.planned_batch,
        gradient_bits=options.gradient_bits,
    )
    if options.json:
        print(json.dumps(row))
        return
    print(f"{row['model']} on {row['board']}, batch {row['batch']}, {row['gradient_bits']}-bit gradients")
    for mode, figures in row["modes"].items():
        busy = "" if figures["busy"] is None else f", busy {figures['busy']:.1%}"
        print(f"{mode:12s} {figures['calls']:3d} calls {figures['cycles']:10d} cycles{busy}")
    print(f"element-wise operations add {row['element_wise_adds']:.1%} to the convolutions")
    print(f"planned for batch {row['planned_batch']}: {row['planned']} cycles a step")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Wall time of a scheduled training step on the emulator of resident steps, with and without drops and skips.

Both trainings see the same random images and take turns, so that other load on the machine falls on both.
Half of the batches are dropped and 40 % of all block executions are skipped, by chance for each sample:
what is measured is what skipping saves, not how gates learn. Exit code 1 above ``--limit``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train.devices import open_resident
from e2train.nn import OffloadContext, ResidentBody, ResidualNet, SkipPolicy, build_model
from e2train.train.optimiser import SignSgd, parameter_groups
from e2train.train.smd import Smd
from torch import Tensor


class ByChance(SkipPolicy):
    """Every sample skips every block that may be skipped with one probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws = torch.Generator().manual_seed(5)

    def gate(self, index: int, x: Tensor) -> Tensor:
        return (torch.rand(len(x), generator=self.draws) >= self.probability).float()


@dataclass(slots=True, kw_only=True)
class Trainee:
    """A network in training, and what it has cost and run so far."""

    model: ResidualNet
    optimiser: SignSgd
    smd: Smd
    seconds: float = 0.0
    executed: int = 0
    runs: int = 0
    asked: int = 0

    def execute(self, images: Tensor, labels: Tensor) -> None:
        F.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad()

    def step(self, number: int, images: Tensor, labels: Tensor) -> None:
        begin = time.perf_counter()
        if not self.smd.drops(number):
            self.execute(images, labels)
            self.executed += 1
            self.runs += sum(self.model.runs)
            self.asked += len(images) * len(self.model.runs)
        self.seconds += time.perf_counter() - begin


def trainee(name: str, *, drop: float, skip: float, gradient_bits: int) -> Trainee:
    torch.manual_seed(1)
    model, image = build_model(name)
    if skip:
        model.policy = ByChance(skip * len(model.blocks) / len(model.skippable))
    context = OffloadContext(
        device=open_resident(threads=torch.get_num_threads()), gradient_bits=gradient_bits
    )
    model.resident = ResidentBody(model, context, image=image)
    groups = parameter_groups(model, lr=0.01, sign_lr=None, sign_weight_decay=0.0)
    for group in groups:
        group["lr"] = group["peak_lr"]
    return Trainee(
        model=model.train(),
        optimiser=SignSgd(groups, momentum=0.9, weight_decay=1e-4),
        smd=Smd(probability=drop, seed=0),
    )


def measure(
    *, name: str, batch: int, steps: int, warm_up: int, drop: float, skip: float, gradient_bits: int
) -> dict[str, object]:
    """Seconds per scheduled step of both trainings, and what was executed."""
    whole = trainee(name, drop=0.0, skip=0.0, gradient_bits=gradient_bits)
    saving = trainee(name, drop=drop, skip=skip, gradient_bits=gradient_bits)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn((batch, 3, 32, 32), generator=generator)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    for _ in range(warm_up):  # until every scale is known, an operation runs twice
        for both in (whole, saving):
            both.execute(images, labels)
    for number in range(steps):
        whole.step(number, images, labels)
        saving.step(number, images, labels)
    return {
        "model": name,
        "batch": batch,
        "gradient_bits": gradient_bits,
        "threads": torch.get_num_threads(),
        "scheduled_steps": steps,
        "executed_steps": saving.executed,
        "skipped_share": round(1 - saving.runs / saving.asked, 4),
        "whole_s_per_step": round(whole.seconds / steps, 4),
        "saving_s_per_step": round(saving.seconds / steps, 4),
        "ratio": round(saving.seconds / whole.seconds, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40, help="scheduled steps")
    parser.add_argument("--warm-up", type=int, default=5, help="steps of each before (default: %(default)s)")
    parser.add_argument("--gradient-bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--drop", type=float, default=0.5, help="share of the batches to drop")
    parser.add_argument("--skip", type=float, default=0.4, help="share of all block executions to skip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=0.36, help="largest ratio that passes")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = measure(
        name=options.model,
        batch=options.batch,
        steps=options.steps,
        warm_up=options.warm_up,
        drop=options.drop,
        skip=options.skip,
        gradient_bits=options.gradient_bits,
    )
    if options.json:
        print(json.dumps(row))
    else:
        print("\n".join(f"{key:20} {value}" for key, value in row.items()))
    return 0 if float(str(row["ratio"])) <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())

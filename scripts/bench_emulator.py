#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time one training step of a network on the emulator against the same network in plain float32 PyTorch.

The two take turns, and the fastest of each counts, so that other load on the machine falls on both.
Exit code 1 where the emulated step takes more than ``--limit`` times the plain one.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train.devices.emulator import Emulator
from e2train.devices.protocol import Closing, LayerCall, LayerResult
from e2train.nn import build_model, offload


@dataclass(slots=True)
class TimedEmulator(Closing):
    """An emulator that adds up the time spent in it."""

    name: str = "emulator"
    seconds: float = 0.0
    inner: Emulator = field(default_factory=Emulator)

    def compute(self, call: LayerCall) -> LayerResult:
        begin = time.perf_counter()
        result = self.inner.compute(call)
        self.seconds += time.perf_counter() - begin
        return result


@dataclass(slots=True)
class Trainee:
    """A network and its optimiser."""

    model: torch.nn.Module
    optimiser: torch.optim.Optimizer

    def step_seconds(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        begin = time.perf_counter()
        F.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.perf_counter() - begin


def trainee(model: torch.nn.Module) -> Trainee:
    return Trainee(
        model.train(), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    )


def measure(*, name: str, batch: int, repeats: int) -> dict[str, object]:
    """Seconds per step, plain and emulated, and the emulator's own part."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    model, picture = build_model(name)
    images = torch.rand((batch, *picture), generator=generator)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    device = TimedEmulator()
    plain, emulated = trainee(copy.deepcopy(model)), trainee(offload(model, device))
    plain_s, emulated_s, device_s = [], [], []
    for _ in range(repeats + 1):  # the first one warms up
        plain_s.append(plain.step_seconds(images, labels))
        device.seconds = 0.0
        emulated_s.append(emulated.step_seconds(images, labels))
        device_s.append(device.seconds)
    fastest = min(range(1, repeats + 1), key=lambda index: emulated_s[index])
    return {
        "model": name,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "plain_s": round(min(plain_s[1:]), 4),
        "emulated_s": round(emulated_s[fastest], 4),
        "emulator_alone_s": round(device_s[fastest], 4),
        "ratio": round(emulated_s[fastest] / min(plain_s[1:]), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=4.0, help="largest ratio that passes")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = measure(name=options.model, batch=options.batch, repeats=options.repeats)
    if options.json:
        print(json.dumps(row))
    else:
        print(
            f"{row['model']}, batch {row['batch']}, {row['threads']} threads: plain {row['plain_s']} s, "
            f"emulated {row['emulated_s']} s ({row['emulator_alone_s']} s of it in the emulator), "
            f"{row['ratio']} times"
        )
    return 0 if float(str(row["ratio"])) <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())

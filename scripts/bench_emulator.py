#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time a training step on the emulator against the same network in plain float32 PyTorch.

Resident steps, with output gradients of 8 and of 16 bits, are what counts; the emulator of offloaded layers
is timed beside them. All take turns, and the fastest step of each counts, so that other load on the machine
falls on all. Seconds by kind of operation tell what bounds a resident step. Peak memory is that of a process
of its own for each way of training. Exit code 1 where a resident step takes more than ``--limit`` times the
plain one, or its process more memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train.devices import ResidentDevice, open_resident
from e2train.devices.emulator import Emulator
from e2train.devices.protocol import Counters
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.nn import OffloadContext, ResidentBody, build_model, offload
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints
from numpy.typing import NDArray

BITS = (8, 16)  # of output gradients
WAYS = ("plain", *(f"resident, {bits}-bit gradients" for bits in BITS))


class TimedDevice:
    """A device that adds up seconds by kind of operation."""

    name = "emulator"

    def __init__(self, inner: ResidentDevice) -> None:
        self.inner = inner
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def memory_bytes(self) -> int | None:
        return self.inner.memory_bytes

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[kind] += time.perf_counter() - begin

    def reserve(self, nbytes: int) -> None:
        self.inner.reserve(nbytes)

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        with self.timed("transfers"):
            self.inner.write(tensor, values)

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        with self.timed("transfers"):
            return self.inner.read(tensor)

    def convolve(self, call: Convolution) -> Written:
        with self.timed(call.mode):
            return self.inner.convolve(call)

    def weight_gradient(self, call: WeightGradient) -> Ints:
        with self.timed(call.mode):
            return self.inner.weight_gradient(call)

    def take_counters(self) -> Counters:
        return self.inner.take_counters()

    def affine(self, call: Affine) -> Written:
        with self.timed("affine"):
            return self.inner.affine(call)

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        with self.timed("reduce"):
            return self.inner.reduce(call)

    def close(self) -> None:
        self.inner.close()


class Trainee:
    """A network in training, the seconds of its steps, and where those of the fastest went."""

    def __init__(self, model: torch.nn.Module, device: TimedDevice | None = None) -> None:
        self.model = model.train()
        self.optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.device = device
        self.fastest_s = float("inf")
        self.kinds_s: dict[str, float] = {}

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        if self.device is not None:
            self.device.seconds.clear()
        begin = time.perf_counter()
        F.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad()
        seconds = time.perf_counter() - begin
        if seconds < self.fastest_s:
            self.fastest_s = seconds
            kinds = dict(self.device.seconds) if self.device is not None else {}
            self.kinds_s = {**kinds, "host": seconds - sum(kinds.values())}


def trainee(way: str, *, name: str, threads: int) -> Trainee:
    torch.manual_seed(1)
    model, image = build_model(name)
    if way == "plain":
        return Trainee(model)
    if way == "offloaded":
        return Trainee(offload(model, Emulator()))
    device = TimedDevice(open_resident(threads=threads))
    context = OffloadContext(device=device, gradient_bits=BITS[WAYS.index(way) - 1])
    model.resident = ResidentBody(model, context, image=image)
    return Trainee(model, device)


def batch_of(name: str, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    _, image = build_model(name)
    images = torch.randn((batch, *image), generator=generator)
    return images, torch.randint(0, 10, (batch,), generator=generator)


def measure(*, name: str, batch: int, repeats: int, warm_up: int, threads: int) -> dict[str, Any]:
    """Seconds per step of every way of training."""
    torch.set_num_threads(threads)
    images, labels = batch_of(name, batch)
    trainees = {way: trainee(way, name=name, threads=threads) for way in (*WAYS, "offloaded")}
    for turn in range(warm_up + repeats):
        for each in trainees.values():
            each.step(images, labels)
            if turn < warm_up:  # caches fill, and a scale that is not known yet runs its operation twice
                each.fastest_s = float("inf")
    plain_s = trainees["plain"].fastest_s
    return {
        "model": name,
        "batch": batch,
        "threads": threads,
        "repeats": repeats,
        "ways": {
            way: {
                "s": round(each.fastest_s, 4),
                "ratio": round(each.fastest_s / plain_s, 3),
                "s_by_kind": {kind: round(seconds, 4) for kind, seconds in each.kinds_s.items()},
            }
            for way, each in trainees.items()
        },
    }


def peak_mib(way: str, *, name: str, batch: int, threads: int) -> float:
    """Peak memory of a process that trains for some steps."""
    options = ["--model", name, "--batch", str(batch), "--threads", str(threads)]
    command = [sys.executable, __file__, "--memory-of", way, *options]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def train_alone(way: str, *, name: str, batch: int, threads: int) -> float:
    """Train for some steps, and return this process's peak memory in MiB."""
    torch.set_num_threads(threads)
    images, labels = batch_of(name, batch)
    alone = trainee(way, name=name, threads=threads)
    for _ in range(4):
        alone.step(images, labels)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3, help="steps of each before (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--limit", type=float, default=0.8, help="largest ratio that passes")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = {"name": options.model, "batch": options.batch}
    if options.memory_of:
        print(train_alone(options.memory_of, **shape, threads=options.threads[0]))
        return 0
    payload: dict[str, Any] = {
        "peak_mib": {way: round(peak_mib(way, **shape, threads=max(options.threads)), 1) for way in WAYS},
        "rows": [
            measure(**shape, repeats=options.repeats, warm_up=options.warm_up, threads=threads)
            for threads in options.threads
        ],
    }
    print(json.dumps(payload)) if options.json else show(payload)
    ratios = [row["ways"][way]["ratio"] for row in payload["rows"] for way in WAYS[1:]]
    too_large = [way for way in WAYS if payload["peak_mib"][way] > payload["peak_mib"]["plain"]]
    return int(max(ratios) > options.limit or bool(too_large))


def show(payload: dict[str, Any]) -> None:
    for row in payload["rows"]:
        print(f"{row['model']}, batch {row['batch']}, {row['threads']} threads")
        for way, figures in row["ways"].items():
            kinds = ", ".join(f"{kind} {seconds:.3f}" for kind, seconds in figures["s_by_kind"].items())
            print(f"  {way:28} {figures['s']:.4f} s, {figures['ratio']:.3f} times plain; {kinds}")
    for way, mib in payload["peak_mib"].items():
        print(f"peak memory of {way}: {mib:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())

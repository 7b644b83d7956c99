# SPDX-License-Identifier: Apache-2.0
"""How far weight gradients of 8 bits are from those in float32, on a run's model and training images.

For each layer the length of the difference as a share of the gradient's, and the same of the mean over all
batches: errors of single batches are like more noise, those that the mean keeps lead training elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from e2train.devices import DeviceError
from e2train.nn import Group
from e2train.runtime import Ledger
from e2train.train import DataError, RunConfig, Session, TrainError, deterministic, open_context, read_config
from e2train.train.checkpoint import load_checkpoint
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Gradients = dict[str, Tensor]

SETTINGS: dict[str, dict[str, Any]] = {
    "nearest": {"gradient_bits": 8, "gradient_rounding": "nearest"},
    "dithered": {"gradient_bits": 8, "gradient_rounding": "dithered"},
    "16-bit gradients": {"gradient_bits": 16},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a resident run, with its checkpoint")
    parser.add_argument(
        "--batches", type=int, default=40, help="of the run's schedule (default: %(default)s)"
    )
    parser.add_argument(
        "--method", choices=("smb-int8", "psg"), default="smb-int8", help="psg: of predictions"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line per kind of gradient")
    options = parser.parse_args()
    try:
        config = read_config(options.run / "config.toml")
        if not config.resident:
            raise TrainError(f"{options.run} is no resident run; train with --set execution=resident")
        state = load_checkpoint(options.run / "checkpoint.pt", config=config).state["model"]
        batches = max(1, options.batches)
        with deterministic(config.threads):
            wanted = gradients(config.changed(method="smb-fp32"), state, batches)
            for name, settings in SETTINGS.items():
                changes = {"method": options.method, "psg_g_bits": 0, **settings}
                found = gradients(config.changed(**changes), state, batches)
                report(name, errors(found, wanted), as_json=options.json)
    except (TrainError, DataError, DeviceError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def gradients(config: RunConfig, state: Mapping[str, Tensor], batches: int) -> list[Gradients]:
    """Weight gradients of convolutions, batch by batch, all at the same weights."""
    ledger, group = Ledger(), Group()
    with open_context(config, group) as context:
        session = Session.start(config, context, ledger, group)
        own = session.model.state_dict()
        session.model.load_state_dict({name: value for name, value in state.items() if name in own})
        return [one_batch(session, step) for step in range(batches)]


def one_batch(session: Session, step: int) -> Gradients:
    """Those of a batch."""
    images, labels = session.batches.load(step)
    session.optimiser.zero_grad()
    F.cross_entropy(session.model(images), labels).backward()  # type: ignore[no-untyped-call]
    return {
        name.removesuffix(".weight"): weight.grad.double().clone()
        for name, weight in session.model.named_parameters()
        if weight.ndim == 4 and weight.grad is not None
    }


def errors(found: list[Gradients], wanted: list[Gradients]) -> dict[str, tuple[float, float]]:
    """By layer the mean error of a batch, and the error of the mean."""
    result = {}
    for layer in wanted[0]:
        got, want = (torch.stack([batch[layer].flatten() for batch in each]) for each in (found, wanted))
        single = (got - want).norm(dim=1) / want.norm(dim=1)
        of_mean = (got - want).mean(0).norm() / want.mean(0).norm()
        result[layer] = float(single.mean()), float(of_mean)
    return result


def report(name: str, found: dict[str, tuple[float, float]], *, as_json: bool) -> None:
    if as_json:
        layers = {layer: {"of_a_batch": one, "of_the_mean": mean} for layer, (one, mean) in found.items()}
        print(json.dumps({"gradients": name, "errors": layers}), flush=True)
        return
    print(f"{name}\n{'':<24}{'of a batch':>12}{'of the mean':>14}")
    for layer, (one, mean) in found.items():
        print(f"{layer:<24}{one:>12.3f}{mean:>14.3f}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())

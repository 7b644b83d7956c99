# SPDX-License-Identifier: Apache-2.0
"""What a run computes with: its rank's device, and torch's threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2train.devices import ResidentDevice, StreamDevice, TensorDevice, open_device, open_resident
from e2train.nn import Engine, Group
from e2train.train.config import RunConfig
from e2train.train.methods import METHODS
from e2train.train.ranks import device_of_rank

__all__ = ["open_engine", "torch_threads"]


@contextmanager
def open_engine(config: RunConfig, group: Group) -> Iterator[Engine | None]:
    """This rank's device, for as long as it is needed; None where the method computes on the host."""
    method = METHODS[config.method]
    if not method.offloads:
        yield None
        return
    device: TensorDevice | StreamDevice | ResidentDevice
    if config.resident:
        device = open_resident(
            device_of_rank(config, group), config=config.board, host=config.host, threads=config.threads
        )
    else:
        device = open_device(
            device_of_rank(config, group),
            config=config.board,
            overlay=config.overlay,
            token_file=config.token_file,
            deadline_s=config.deadline_s,
        )
    try:
        psg = config.psg if method.signs == "predicted" else None
        yield Engine(
            device=device,
            psg=psg,
            gradient_bits=config.widths.gradient_bits,
            group=group,
            votes=config.combine == "vote",
        )
    finally:
        device.close()


def torch_threads(config: RunConfig) -> int:
    """Beside the native emulator's threads torch has little to do, and its own would only be in their way."""
    return 1 if config.resident and METHODS[config.method].offloads else config.threads

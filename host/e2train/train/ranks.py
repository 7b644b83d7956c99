# SPDX-License-Identifier: Apache-2.0
"""Training over several processes, one device each, started by torchrun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from e2train.nn import Group, ResidualNet
from e2train.nn.layers import OffloadConv2d
from e2train.nn.parallel import Processes
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError

__all__ = ["average_statistics", "check_alike", "combine_gradients", "device_of_rank", "joined"]


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun has started this process in, or this process alone."""
    if not dist.is_torchelastic_launched():
        yield Group()
        return
    try:
        dist.init_process_group("gloo")
    except ValueError as error:  # of the environment; what others do is a RuntimeError
        raise TrainError(
            f"this process was started as if by torchrun, but {' '.join(str(error).split())[:200]}; start it "
            "with torchrun, or without TORCHELASTIC_RUN_ID"
        ) from error
    try:
        yield Processes()
    finally:
        dist.destroy_process_group()


def check_alike(group: Group, *hashes: str) -> None:
    """Look whether all ranks begin alike.

    Raises: TrainError, on all of them, when their settings or weights differ.
    """
    said = group.texts(" ".join(hashes))
    differing = [str(rank) for rank, each in enumerate(said) if each != said[0]]
    if differing:
        raise TrainError(
            f"rank {', '.join(differing)} begins with other settings, data or weights than rank 0; start all "
            "ranks alike, on the same files"
        )


def device_of_rank(config: RunConfig, group: Group) -> str:
    """This rank's device: its own where the setting names one for each, separated by commas.

    Raises: TrainError when they are neither one nor as many as there are ranks.
    """
    devices = config.device.split(",")
    shared = len(devices) == 1 and ":" not in devices[0]  # a kind of device, of which each rank opens one
    if len(devices) != group.size and not shared:
        wanted = (
            f"torchrun --nproc-per-node {len(devices)} -m e2train train ..."
            if len(devices) > 1
            else ("--device pynq:HOST1,pynq:HOST2")
        )
        raise TrainError(
            f"one board per rank: there are {len(devices)} devices for {group.size} ranks; use {wanted}"
        )
    return devices[0] if shared else devices[group.rank]


def combine_gradients(model: ResidualNet, group: Group) -> None:
    """Add up, over the ranks, the gradients that a device has not combined already."""
    if group.size == 1:
        return
    combined = {
        id(layer.weight)
        for layer in model.modules()
        if isinstance(layer, OffloadConv2d) and layer.host_reason is None
    }
    if model.resident is not None:
        combined |= {id(weight) for weight in model.resident.weights.values()}
    gradients = [
        weight.grad for weight in model.parameters() if weight.grad is not None and id(weight) not in combined
    ]
    total = group.sum(torch.cat([gradient.flatten() for gradient in gradients]))
    _put_back(total, gradients)


def average_statistics(model: ResidualNet, group: Group, *, by_batches: bool = False) -> None:
    """Give all ranks the mean of their running statistics, weighted by their batches if ``by_batches``."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if group.size == 1 or not norms:
        return
    batches = torch.stack([norm.num_batches_tracked for norm in norms])  # type: ignore[misc]
    weights = batches.double() if by_batches else torch.ones_like(batches, dtype=torch.float64)
    statistics = [torch.cat([norm.running_mean, norm.running_var]) for norm in norms]  # type: ignore[list-item]
    weighted = [weight * each.double() for weight, each in zip(weights, statistics, strict=True)]
    *means, weight = torch.split(
        group.sum(torch.cat([*weighted, weights])), [*map(len, weighted), len(weights)]
    )
    for norm, mean, of, most in zip(norms, means, weight, group.max(batches), strict=True):
        if of:
            _put_back(mean / of, [norm.running_mean, norm.running_var])  # type: ignore[list-item]
        norm.num_batches_tracked.copy_(most)  # type: ignore[union-attr]


@torch.no_grad()
def _put_back(flat: torch.Tensor, tensors: list[torch.Tensor]) -> None:
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()

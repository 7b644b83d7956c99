# SPDX-License-Identifier: Apache-2.0
"""Everything that a run holds in memory, and how it goes into a checkpoint and comes back."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from e2train.energy import Phase
from e2train.nn import (
    DivergenceError,
    GatedSkip,
    Group,
    OffloadContext,
    OffloadConv2d,
    ResidentBody,
    ResidentError,
    ResidualNet,
    SkipPolicy,
    StochasticDepth,
    build_model,
    count_host_macs,
    freeze,
    offload,
    share,
    whole_state,
)
from e2train.runtime import Ledger
from e2train.train.checks import check_state
from e2train.train.config import RunConfig
from e2train.train.data import Batches, DataError, Dataset, Split
from e2train.train.data.dataset import warn
from e2train.train.errors import TrainError
from e2train.train.optimiser import Averager, SignSgd, parameter_groups
from e2train.train.partial_backward import PartialBackward
from e2train.train.presets import METHODS, MODELS, Method
from e2train.train.resources import host_device, load_split
from e2train.train.smd import Smd

__all__ = ["Session", "deterministic", "make_model"]

_AVERAGES = 100  # weights averaged, were they averaged from the first step on


@dataclass(slots=True, kw_only=True)
class Session:
    """A model in training: what the loop reads and moves."""

    config: RunConfig
    method: Method
    model: ResidualNet
    optimiser: SignSgd
    averager: Averager
    smd: Smd
    partial_backward: PartialBackward
    batches: Batches
    test: Dataset  # or the part of the training images that was held out
    names: tuple[str, ...]  # of the classes
    steps: int
    scheduled_steps: int  # the same, but where fewer steps stand for dropped ones
    host: torch.device
    group: Group
    ledger: Ledger
    step: int = 0
    steps_dropped: int = 0
    samples: int = 0
    block_runs: list[int] = field(default_factory=list)  # samples that ran each block, over the training
    enter: Callable[[Phase], None] = field(default=lambda phase: None, repr=False)  # gets each phase

    @classmethod
    def start(
        cls,
        config: RunConfig,
        context: OffloadContext | None,
        ledger: Ledger,
        group: Group,
        split: Split | None = None,
    ) -> Session:
        """A fresh session; the model is initialised from the seed, the data loaded if it is not given.

        Raises: DataError when the data is not there; TrainError when the host has no such device, or a
            batch has fewer images than there are ranks, or all steps are dropped.
        """
        method, host = METHODS[config.method], host_device(config)
        split = split or load_split(config)
        batches = _batches(config, split, group)
        steps = scheduled = config.steps or config.epochs * batches.per_epoch
        dropped = config.smd if method.drops_batches else 0.0
        if config.smd_mode == "fewer":
            steps, dropped = max(1, round(steps * (1 - dropped))), 0.0
        smd = Smd(probability=dropped, seed=config.seed)
        if all(map(smd.drops, range(steps))):
            raise TrainError(
                f"smd {dropped:g} with seed {config.seed} drops all of {steps} steps; use more --steps, "
                "another --seed or a smaller smd"
            )
        model = make_model(config, split.classes, split.format.shape, context)
        count_host_macs(model, ledger)
        share(model, group)
        signed = method.signs != "none"
        bare = signed and config.sign_scale == "none"
        groups = parameter_groups(
            model,
            lr=config.lr,
            sign_lr=config.sign_lr if bare else None,
            sign_weight_decay=config.sign_weight_decay,
        )
        return cls(
            config=config,
            method=method,
            model=model,
            optimiser=SignSgd(groups, momentum=config.momentum, weight_decay=config.weight_decay),
            averager=Averager(
                model,
                first=math.ceil(config.swa_first * steps) if signed and config.swa_first < 1 else steps,
                every=max(1, steps // _AVERAGES),
            ),
            smd=smd,
            partial_backward=PartialBackward(
                stem=config.stem_updates if method.skips == "by gate" else 1.0,
                blocks=len(model.blocks),
                seed=config.seed,
            ),
            batches=batches,
            test=split.test,
            names=split.names,
            steps=steps,
            scheduled_steps=scheduled,
            host=host,
            group=group,
            ledger=ledger,
            block_runs=[0] * len(model.blocks),
        )

    @property
    def scheduled_samples(self) -> int:
        """Images of the schedule, dropped batches included."""
        return self.batches.images(self.scheduled_steps)

    def set_lr(self, step: int) -> float:
        """Set the learning rates of a scheduled step, and return the one of ordinary parameters."""
        factor = _lr_factor(self.config, step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = factor * group["peak_lr"]
        return factor * self.config.lr

    def count(self, samples: int, runs: Sequence[int]) -> None:
        """Enter how many samples a training step had, and how many of them ran each block."""
        self.samples += samples
        self.block_runs = [before + now for before, now in zip(self.block_runs, runs, strict=True)]

    def check_finite(self) -> None:
        """Make sure that the model can go on.

        Raises: DivergenceError naming the step, when a weight or a statistic is no longer finite.
        """
        for name, tensor in whole_state(self.model).items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise DivergenceError(f"step {self.step}: {name} is not finite; use a smaller --lr")

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            **{key: getattr(self, key) for key in _COUNTS},
            "model": whole_state(self.model),
            "optimiser": self.optimiser.state_dict(),
            "averager": self.averager.state(),
            "rng": torch.get_rng_state(),
        }

    def undo(self) -> Callable[[], None]:
        """What takes a step back that has not reached the optimiser: all that forward and backward move."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rng, rows = torch.get_rng_state(), self.ledger.snapshot()

        def take_back() -> None:
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
            torch.set_rng_state(rng)
            self.ledger.restore(rows)
            if self.model.resident is not None:
                self.model.resident.drop_step()

        return take_back

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises: ValueError when it is not a state of this session.
        """
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        form = self.state()
        form["optimiser"]["state"] = {index: {"momentum": weight} for index, weight in enumerate(weights)}
        form["averager"]["means"] = dict(self.model.named_parameters())
        check_state(state, form, steps=self.steps)
        for key in _COUNTS:
            setattr(self, key, state[key])
        self.model.load_state_dict(state["model"])
        share(self.model, self.group)  # Brevitas has rebuilt its quantisers
        self.optimiser.load_state_dict(state["optimiser"])
        self.averager.restore(state["averager"])
        rng: Tensor = state["rng"]
        torch.set_rng_state(rng)


_COUNTS = ("step", "steps_dropped", "samples", "block_runs")


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Give torch a fixed number of threads, deterministic algorithms and whole float32, for a while."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not deterministic
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    checks: Any = torch.utils.deterministic
    short, fills = torch.backends.cudnn.allow_tf32, checks.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.allow_tf32 = False
        checks.fill_uninitialized_memory = False  # it takes a tenth of a float32 step
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict)
            torch.backends.cudnn.allow_tf32 = short
            checks.fill_uninitialized_memory = fills


def make_model(
    config: RunConfig, classes: int, image: tuple[int, int, int], context: OffloadContext | None
) -> ResidualNet:
    """The model of a run as its seed initialises it, on its device.

    Raises: TrainError when it cannot be placed there, or the host has no such device.
    """
    host = host_device(config)
    torch.manual_seed(config.seed)
    model, image = build_model(MODELS[config.preset], classes=classes, image=image)
    freeze(model, config.freeze)
    model.skips_stage_starts = config.skip_where == "anywhere"
    if (policy := _policy(config, METHODS[config.method], model)) is not None:
        model.policy = policy
    model.to(host)
    if context is not None:
        _place(model, context, config, image)
    else:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fastest in float32
    return model


def _batches(config: RunConfig, split: Split, group: Group) -> Batches:
    """This rank's part of the batches.

    Raises: TrainError or DataError where the last batch of an epoch has too few images.
    """
    batches = Batches(
        split.train,
        batch=config.batch,
        seed=config.seed,
        augment=split.augment,
        part=(group.rank, group.size),
    )
    if batches.smallest < group.size:
        raise TrainError(
            f"{group.size} ranks share a batch of {batches.smallest} images at the end of an epoch; "
            "use another --batch"
        )
    if config.own_data and batches.smallest < 2 * group.size:  # batch norm may have one pixel of each
        ranks = f" for {group.size} ranks, two are needed for each" if group.size > 1 else ""
        raise DataError(
            f"the last batch of an epoch has {batches.smallest} of {len(split.train)} images{ranks}; "
            "use another --batch"
        )
    if config.batch > len(split.train) and group.rank == 0:
        warn(f"batch {config.batch}: there are {len(split.train)} training images, and each step takes all")
    return batches


def _place(
    model: ResidualNet, context: OffloadContext, config: RunConfig, image: tuple[int, int, int]
) -> None:
    """Put the convolutions of a model on a device, or with resident runs all but its classifier."""
    if not config.resident:
        offload(model, context)
        _pass_over_draws(model)
        return
    try:
        model.resident = ResidentBody(
            model,
            context,
            image=image,
            result_bits=config.result_bits,
            input_gradient_bits=config.input_gradient_bits,
            block_gradient_bits=config.block_gradient_bits,
            decay=config.scale_decay,
            gradient_range=config.gradient_range,
            dithered=config.dithered,
        )
    except ResidentError as error:
        raise TrainError(f"{config.preset}: {error}") from None


def _policy(config: RunConfig, method: Method, model: ResidualNet) -> SkipPolicy | None:
    if not config.skip:
        return None
    blocks = len(model.blocks)
    policy: StochasticDepth | GatedSkip
    if not model.skippable:  # nothing is left to skip
        _check_skip(config, 0.0)
        return None
    if method.skips == "by chance":
        policy = StochasticDepth(model.skippable, blocks=blocks, skip=config.skip, seed=config.seed)
    elif method.skips == "by gate":
        channels = {index: model.blocks[index].in_channels for index in model.skippable}
        policy = GatedSkip(
            channels,  # type: ignore[arg-type]  # nn.ModuleList knows no element type
            blocks=blocks,
            skip=config.skip,
            weight=config.gate_weight,
        )
    else:
        return None
    _check_skip(config, policy.most)
    return policy


def _check_skip(config: RunConfig, most: float) -> None:
    if METHODS[config.method].skips != "nothing" and config.skip > most:
        raise TrainError(
            f"{config.method} cannot skip {config.skip:.1%} of the blocks of {config.preset}, "
            f"only up to {most:.1%}; use a smaller --set skip=..."
        )


def _pass_over_draws(model: nn.Module) -> None:
    """Leave torch's generator, whose state is in checkpoints, where new layers on a device have left it."""
    for layer in model.modules():
        if isinstance(layer, OffloadConv2d):
            bias = layer.bias is not None
            nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, groups=layer.groups, bias=bias
            )


def _lr_factor(config: RunConfig, step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak."""
    rise = min(1.0, (step + 1) / max(1.0, config.warmup * steps))
    if config.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
    return rise * (1.0 if 2 * step < steps else 0.1 if 4 * step < 3 * steps else 0.01)

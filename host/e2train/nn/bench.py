# SPDX-License-Identifier: Apache-2.0
"""How busy a device's multipliers are in a training step over resident tensors, by layer and direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from e2train.config import EngineConfig
from e2train.devices import ConvShape, Mode, products_per_multiplier
from e2train.devices.chains.soc import SocResident
from e2train.devices.protocol import MODES, Counters
from e2train.devices.resident import Operation, ResidentDevice, run_one_by_one
from e2train.nn.context import OffloadContext
from e2train.nn.models import build_model
from e2train.nn.resident import ResidentBody
from e2train.nn.resident_network import ResidentError, describe
from e2train.numerics.psg import Psg
from e2train.runtime import Ledger
from e2train.runtime.board_plan import plan_step
from e2train.runtime.ledger import LedgerMode, LedgerRow
from e2train.runtime.resident import Kinds
from e2train.runtime.resident.schedule import CountingDevice, count_step

__all__ = ["BenchRow", "BenchStep", "StepCycles"]

_STEPS = 2  # to find scales, and one operation after the other; where cycles are counted one as they overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """All convolutions of one shape in one direction; cycles are None where the device has no clock."""

    layer: str  # the first of them
    count: int
    first: bool  # takes the images, whose few channels leave lanes idle
    mode: Mode
    macs: int
    cycles: int | None
    utilisation: float | None  # MACs / (products that the multipliers can make in a cycle * cycles)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCycles:
    """Cycles of a whole step, by kind of operation where these run one after the other."""

    convolutions: int
    idle: int  # of these: what they take longer than if no multiplier ever were idle
    affine: int
    reduce: int
    total: int  # where operations overlap, as they do on a board

    @property
    def apart(self) -> int:
        """All of them, one after the other."""
        return self.convolutions + self.affine + self.reduce

    @property
    def elements_add(self) -> float:
        """What a step takes beside its convolutions, as a share of what these take."""
        return (self.total - self.convolutions) / self.convolutions


class BenchStep:
    """A training step of a model with random weights, on random images.

    With ``predicted``, weight gradients are computed from high bits alone, as PSG does.
    Raises: ModelError when there is no such model; ResidentError when it cannot stay on a device.

    >>> from e2train.config import load_config
    >>> BenchStep("resnet8", load_config("pynq_z2"), batch=2).operations
    47
    """

    def __init__(
        self,
        model_name: str,
        config: EngineConfig,
        *,
        batch: int,
        gradient_bits: int = 8,
        result_bits: int = 16,
        input_gradient_bits: int = 0,
        block_gradient_bits: int = 16,
        predicted: bool = False,
    ) -> None:
        torch.manual_seed(1)
        self._model, self._image = build_model(model_name)
        try:
            self._network = describe(self._model, self._image)
        except ResidentError as error:  # without the hint to a setting of trainings
            raise ResidentError(f"{model_name}: {str(error).rpartition(';')[0]}") from None
        self._config = config
        self._batch, self._gradient_bits = batch, gradient_bits
        self._bits: dict[str, Any] = {
            "result_bits": result_bits,
            "input_gradient_bits": input_gradient_bits,
            "block_gradient_bits": block_gradient_bits,
        }
        self._psg = Psg(g_bits=min(10, gradient_bits)) if predicted else None

    @property
    def _kinds(self) -> Kinds:
        bits = {name.removesuffix("_bits"): count for name, count in self._bits.items()}
        return Kinds.of_bits(gradient=self._gradient_bits, **bits)

    @property
    def _kept(self) -> tuple[int, int]:
        """High bits that weight gradients are computed from."""
        return (0, 0) if self._psg is None else (self._psg.x_bits, self._psg.g_bits)

    @property
    def operations(self) -> int:
        """How many operations a step has the device do, about."""
        device = CountingDevice()
        rows = count_step(self._network, device, self._kinds, samples=self._batch, bits=self._kept)
        return sum(row.calls for row in rows)

    def steps(self, device: ResidentDevice) -> int:
        """How many steps ``run`` has it do."""
        return _STEPS + isinstance(device, SocResident)

    def run(
        self, device: ResidentDevice, done: Callable[[int], None] = lambda operations: None
    ) -> tuple[tuple[LedgerRow, ...], StepCycles | None]:
        """The ledger of the step, run after one in which scales are found; ``done`` counts operations.

        Cycles are None where the device has no clock; else they are those of one more step, too.
        """
        images = torch.randn(self._batch, *self._image)
        labels = torch.randint(0, 10, (self._batch,))
        ledger = _Watched(done)
        switched = _Switched(device) if isinstance(device, SocResident) else None
        context = OffloadContext(
            device=switched or device, ledger=ledger, gradient_bits=self._gradient_bits, psg=self._psg
        )
        self._model.resident = ResidentBody(
            self._model,
            context,
            image=self._image,
            **self._bits,
        )

        def step() -> tuple[LedgerRow, ...]:
            ledger.clear()
            F.cross_entropy(self._model(images), labels).backward()  # type: ignore[no-untyped-call]
            return ledger.snapshot()

        step()
        rows = step()
        if switched is None:
            return rows, None
        switched.interleaves = True
        total = _total(step()).cycles
        assert total is not None
        return rows, self._cycles(rows, total=total)

    def planned(self, cycles: StepCycles, samples: int) -> int:
        """Cycles of a step of so many images: those counted, as the planner's for both steps say."""
        both = [
            plan_step(self._network, self._config, samples=each, kinds=self._kinds, bits=self._kept).cycles
            for each in (samples, self._batch)
        ]
        return round(cycles.total * both[0] / both[1])

    def by_shape(self, ledger: Sequence[LedgerRow]) -> list[BenchRow]:
        """The convolutions of a ledger, those of one shape together, in order of use."""
        names: dict[ConvShape, list[str]] = {}
        for conv in self._network.convs:
            names.setdefault(conv.shape, []).append(conv.name)
        rows = []
        for same in names.values():
            for mode in MODES:
                mine = [row for row in ledger if row.mode == mode and row.name in same and row.calls]
                if not mine:
                    continue
                counters = _total(mine)
                rows.append(
                    BenchRow(
                        layer=same[0],
                        count=len(mine),
                        first=self._network.first.name in same,
                        mode=mode,
                        macs=counters.macs,
                        cycles=counters.cycles,
                        utilisation=self._utilisation(mode, counters),
                    )
                )
        return rows

    def utilisation(self, ledger: Sequence[LedgerRow], mode: Mode) -> float | None:
        """Of all convolutions but the first in one direction; None without a clock."""
        first = self._network.first.name
        rows = [row for row in ledger if row.mode == mode and row.name != first]
        return self._utilisation(mode, _total(rows))

    def _cycles(self, ledger: Sequence[LedgerRow], *, total: int) -> StepCycles:
        def of(mode: LedgerMode) -> Counters:
            return _total([row for row in ledger if row.mode == mode])

        convolutions = [of(mode) for mode in MODES]
        spent = [counters.cycles or 0 for counters in convolutions]
        least = sum(
            counters.macs / self._products(mode) for mode, counters in zip(MODES, convolutions, strict=True)
        )
        return StepCycles(
            convolutions=sum(spent),
            idle=round(sum(spent) - least),
            affine=of("affine").cycles or 0,
            reduce=of("reduce").cycles or 0,
            total=total,
        )

    def _products(self, mode: Mode) -> int:
        return self._config.macs_per_cycle * products_per_multiplier(mode, self._gradient_bits)

    def _utilisation(self, mode: Mode, counters: Counters) -> float | None:
        return counters.macs / (self._products(mode) * counters.cycles) if counters.cycles else None


class _Switched:
    """A device that does operations one by one or as they overlap, all else being the same."""

    def __init__(self, device: SocResident) -> None:
        self._device = device
        self.interleaves = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        """Cycles of operations that overlap are those of the first."""
        if not self.interleaves:
            return run_one_by_one(self._device, calls)
        outcomes, counters = self._device.run_interleaved(calls), self._device.take_counters()
        return [
            (outcome, Counters(cycles=0) if index else counters) for index, outcome in enumerate(outcomes)
        ]


class _Watched(Ledger):
    """A ledger that tells how much is entered."""

    def __init__(self, done: Callable[[int], None]) -> None:
        super().__init__()
        self._done = done

    def enter(self, row: LedgerRow) -> None:
        super().enter(row)
        self._done(row.calls)


def _total(rows: Sequence[LedgerRow]) -> Counters:
    return sum((row.counters for row in rows), Counters())

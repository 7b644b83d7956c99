# SPDX-License-Identifier: Apache-2.0
"""What each technique saved in a run, by the cost model.

The reference trains the same layers of the same model with every batch of the schedule, every block and full
gradients in float32 (SMB). From there the techniques are applied in a fixed order, since savings multiply:
operand widths, dropped batches, skipped blocks and updates, predicted signs; last comes what averaging costs,
and trial runs of resident operations whose results had no scale yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from e2train.config import load_config
from e2train.devices import Counters, Mode
from e2train.energy import CostTable, Modelled, modelled
from e2train.nn import build_model, describe, freeze
from e2train.nn.trace import trace_convs
from e2train.runtime import FULL_WIDTHS, LedgerRow, Widths, computation, merged, works
from e2train.runtime.resident import TRIAL, Kinds, full_rows
from e2train.train.config import RunConfig
from e2train.train.presets import METHODS, MODELS
from e2train.train.run_ledger import RunLedger

__all__ = ["TECHNIQUES", "EnergySaved", "Savings", "full_training", "savings"]

TECHNIQUES = ("widths", "smd", "slu", "psg", "averaging")


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Modelled energy of the references and after each technique."""

    smb_fp32: Modelled
    smb_int8: Modelled
    computation_of_fp32: float  # the paper's measure: MACs x bits x bits, as a share of the reference
    computation_of_int8: float
    after: tuple[Modelled, ...]  # each of TECHNIQUES

    @property
    def run(self) -> Modelled:
        """Energy of the run itself, its final test left out."""
        return self.after[-1]

    @property
    def factors(self) -> dict[str, float]:
        """What each technique multiplied the energy by; all of them together give the run's share."""
        energies_j = [step.total_j for step in (self.smb_fp32, *self.after)]
        pairs = zip(TECHNIQUES, energies_j, energies_j[1:], strict=False)
        # Where every batch was dropped nothing is left to save.
        return {technique: after / before if before else 1.0 for technique, before, after in pairs}


def savings(config: RunConfig, ledger: RunLedger, table: CostTable) -> Savings:
    """Price a run, its references, and everything in between."""

    def price(rows: Iterable[LedgerRow], widths: Widths = config.widths) -> Modelled:
        return modelled(works(rows, config=load_config(config.board), widths=widths), table)

    def full(steps: int, samples: int) -> tuple[LedgerRow, ...]:
        return _whole_training(config, calls=steps * ledger.ranks, samples=samples)

    scheduled = full(ledger.scheduled_steps, ledger.scheduled_samples)
    smb_fp32 = price(map(_in_float32, scheduled))
    executed = full(ledger.steps_run, ledger.samples)
    run = price((*ledger.training, *ledger.averaging))
    if METHODS[config.method].offloads:
        steady = [row for row in ledger.training if row.name != TRIAL]
        unsigned = price(_with_full_gradients(steady))
        after = [price(scheduled), price(executed), unsigned, price(steady), run]
    else:  # what a resident run does element by element, a ledger of the host does not hold
        run = price(map(_in_float32, executed)) if config.resident else run
        after = [run] * len(TECHNIQUES)
    computed = computation((*ledger.training, *ledger.averaging), config.widths)
    int8 = Widths(gradient_bits=config.widths.gradient_bits) if config.resident else FULL_WIDTHS
    return Savings(
        smb_fp32=smb_fp32,
        smb_int8=price(scheduled, int8),
        computation_of_fp32=computed / computation(map(_in_float32, scheduled)),
        computation_of_int8=computed / computation(scheduled, int8),
        after=tuple(after),
    )


class EnergySaved:
    """Modelled energy that a run saves on its way, against the same in float32 with nothing saved."""

    def __init__(self, config: RunConfig, table: CostTable, *, steps: int, samples: int, ranks: int) -> None:
        """``steps`` and ``samples`` are those of the whole schedule."""
        self._config, self._table, self._ranks = config, table, ranks
        with torch.random.fork_rng(devices=[]):  # a model is built, whose draws are not the run's
            scheduled = _whole_training(config, calls=steps * ranks, samples=samples)
        self._whole_j = self._price(map(_in_float32, scheduled))

    def share(self, rows: Iterable[LedgerRow], *, done: float) -> float | None:
        """What is saved after a share of the schedule, in which one of the ranks has executed these rows.

        None for float32 with ``execution=resident``, whose ledger does not hold all that is priced.
        """
        if self._config.resident and not METHODS[self._config.method].offloads:
            return None
        return 1 - self._ranks * self._price(rows) / (done * self._whole_j)

    def _price(self, rows: Iterable[LedgerRow]) -> float:
        config = self._config
        work = works(rows, config=load_config(config.board), widths=config.widths)
        return modelled(work, self._table).total_j


def _whole_training(config: RunConfig, *, calls: int, samples: int) -> tuple[LedgerRow, ...]:
    """Rows of the same training with nothing saved, as this kind of run counts them."""
    model_name = MODELS[config.preset]
    if not config.resident:
        return full_training(
            model_name, calls=calls, samples=samples, image=config.image, frozen=config.freeze
        )
    model, image = build_model(model_name, image=config.image)
    freeze(model, config.freeze)
    kinds = Kinds.of_bits(
        result=config.result_bits,
        input_gradient=config.input_gradient_bits,
        gradient=config.widths.gradient_bits,
        block_gradient=config.block_gradient_bits,
    )
    return full_rows(describe(model, image), kinds, calls=calls, samples=samples)


def full_training(
    model_name: str,
    *,
    calls: int,
    samples: int,
    image: tuple[int, int, int] | None = None,
    frozen: str = "",
) -> tuple[LedgerRow, ...]:
    """Rows of training every block with full gradients, ``samples`` images in ``calls`` batches.

    Layers that are ``frozen`` have no weight gradients, and input gradients where something before them
    trains.
    """
    rows = []
    for conv in trace_convs(model_name, batch=1, image=image, frozen=frozen):
        s = conv.shape
        x, y = samples * s.C * s.H * s.W, samples * s.K * s.P * s.Q
        w = calls * s.K * s.C * s.R * s.S // conv.groups
        macs = samples * s.macs // conv.groups
        counters = Counters(macs=macs) if conv.groups == 1 else Counters(host_macs=macs)
        values: dict[Mode, tuple[int, int, int]] = {"forward": (x, w, y)}
        if conv.to_weight:
            values["grad_weight"] = (x, y, w)
        if conv.to_input:
            values["grad_input"] = (y, w, x)
        for mode, (a, b, results) in values.items():
            row = LedgerRow(
                name=conv.name,
                mode=mode,
                calls=calls,
                a_values=a,
                b_values=b,
                results=results,
                counters=counters,
            )
            rows.append(row)
    return merged(rows)


def _in_float32(row: LedgerRow) -> LedgerRow:
    """The same on the host, each tensor moved once at 32 bits."""
    macs = row.counters.macs + row.counters.host_macs
    return replace(row, counters=replace(row.counters, macs=0, host_macs=macs, dram_bytes=0))


def _with_full_gradients(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Each predicted gradient as a full one, which reads the same; resident ones leave 64 bits, not 32.

    What was computed in full beside a prediction, which had left signs open, is not needed then.
    """
    rows = list(rows)
    predicted = {row.name for row in rows if row.mode == "grad_msb"}
    found = []
    for row in rows:
        if row.mode == "grad_msb":
            counters = row.counters
            if counters.dram_bytes:
                counters = replace(counters, dram_bytes=counters.dram_bytes + 4 * row.results)
            found.append(replace(row, mode="grad_weight", counters=counters))
        elif row.mode != "grad_weight" or row.name not in predicted:
            found.append(row)
    return found

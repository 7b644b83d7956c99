# SPDX-License-Identifier: Apache-2.0
"""What each technique saved in a run, by the cost model.

The reference trains the same model with every batch of the schedule, every block and full gradients in
float32 (SMB). From there the techniques are applied in a fixed order, since savings multiply: operand widths,
dropped batches, skipped blocks, predicted signs; last comes what averaging the weights costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from e2train.config import load_config
from e2train.devices import OUTER_MODES, Counters, Mode
from e2train.energy import CostTable, Modelled, modelled
from e2train.nn.trace import trace_convs
from e2train.runtime import FULL_WIDTHS, LedgerRow, Widths, computation, merged, works
from e2train.train.account import Account
from e2train.train.config import RunConfig
from e2train.train.methods import METHODS
from e2train.train.presets import MODELS

__all__ = ["TECHNIQUES", "Savings", "full_training", "savings"]

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


def savings(config: RunConfig, account: Account, table: CostTable) -> Savings:
    """Price a run, its references, and everything in between."""

    def price(rows: Iterable[LedgerRow], widths: Widths = config.widths) -> Modelled:
        return modelled(works(rows, config=load_config(config.board), widths=widths), table)

    def full(steps: int, samples: int) -> tuple[LedgerRow, ...]:
        return full_training(MODELS[config.preset], calls=steps * account.ranks, samples=samples)

    scheduled = full(account.scheduled_steps, account.scheduled_samples)
    smb_fp32 = price(map(_in_float32, scheduled))
    run = price((*account.training, *account.averaging))
    if METHODS[config.method].offloads:
        executed = price(full(account.steps_run, account.samples))
        unsigned = price(_with_full_gradients(account.training))
        after = [price(scheduled), executed, unsigned, price(account.training), run]
    else:
        after = [run] * len(TECHNIQUES)
    computed = computation((*account.training, *account.averaging), config.widths)
    return Savings(
        smb_fp32=smb_fp32,
        smb_int8=price(scheduled, FULL_WIDTHS),
        computation_of_fp32=computed / computation(map(_in_float32, scheduled)),
        computation_of_int8=computed / computation(scheduled),
        after=tuple(after),
    )


def full_training(model_name: str, *, calls: int, samples: int) -> tuple[LedgerRow, ...]:
    """Rows of training every block with full gradients, ``samples`` pictures in ``calls`` batches."""
    rows = []
    for conv in trace_convs(model_name, batch=1):
        s = conv.shape
        x, y = samples * s.C * s.H * s.W, samples * s.K * s.P * s.Q
        w = calls * s.K * s.C * s.R * s.S // conv.groups
        macs = samples * s.macs // conv.groups
        counters = Counters(macs=macs) if conv.groups == 1 else Counters(host_macs=macs)
        values: dict[Mode, tuple[int, int, int]] = {"forward": (x, w, y), "grad_weight": (x, y, w)}
        if not conv.first:
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
    """The same on the host."""
    macs = row.counters.macs + row.counters.host_macs
    return replace(row, counters=replace(row.counters, macs=0, host_macs=macs))


def _with_full_gradients(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """The same with a full weight gradient for each forward pass on the device."""
    found = []
    for row in rows:
        if row.mode in OUTER_MODES and not row.counters.host_macs:
            continue
        found.append(row)
        if row.mode == "forward" and row.counters.macs:
            full = LedgerRow(
                name=row.name,
                mode="grad_weight",
                calls=row.calls,
                a_values=row.a_values,
                b_values=row.results,
                results=row.b_values,
                counters=Counters(macs=row.counters.macs),
            )
            found.append(full)
    return found

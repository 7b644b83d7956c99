# SPDX-License-Identifier: Apache-2.0
"""The numbers of a report."""

from __future__ import annotations

from dataclasses import dataclass

from e2train.config import load_config
from e2train.devices import products_per_multiplier
from e2train.energy import CostTable, Modelled, modelled
from e2train.runtime import ELEMENT_MODES, LedgerMode, merged, stored_widths, works
from e2train.train.finished_run import FinishedRun
from e2train.train.savings import Savings, savings

__all__ = ["LayerRow", "RunFigures", "run_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer in one direction, over the training."""

    layer: str
    direction: LedgerMode
    on_host: bool
    calls: int
    macs: int
    cycles: int | None
    utilisation: float | None  # MACs / (products a cycle * cycles)
    saturations: int
    predicted: float | None  # share of the signs that high bits decided
    modelled: Modelled


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One run among others."""

    label: str
    finished: FinishedRun
    savings: Savings
    layers: tuple[LayerRow, ...]


def run_figures(finished: FinishedRun, label: str, table: CostTable) -> RunFigures:
    """All that a report shows of a run."""
    config, widths = load_config(finished.config.board), finished.config.widths
    rows = []
    for row in merged((*finished.ledger.training, *finished.ledger.averaging)):
        counters = row.counters
        on_host = bool(counters.host_macs)
        products = products_per_multiplier(row.mode, stored_widths(row, widths).gradient_bits)
        lanes = 0 if row.mode in ELEMENT_MODES else config.macs_per_cycle * products
        rows.append(
            LayerRow(
                layer=row.name,
                direction=row.mode,
                on_host=on_host,
                calls=row.calls,
                macs=counters.macs or counters.host_macs,
                cycles=counters.cycles,
                utilisation=counters.macs / (lanes * counters.cycles) if counters.cycles and lanes else None,
                saturations=row.saturations,
                predicted=row.predicted / row.elements if row.elements else None,
                modelled=modelled(works([row], config=config, widths=widths), table),
            )
        )
    saved = savings(finished.config, finished.ledger, table)
    return RunFigures(label=label, finished=finished, savings=saved, layers=tuple(rows))

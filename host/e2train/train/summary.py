# SPDX-License-Identifier: Apache-2.0
"""What a finished run was and did: its summary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from e2train.devices import Counters
from e2train.energy import PHASES, CostTable, Measured
from e2train.runtime import LedgerRow, computation
from e2train.train.config import RunConfig
from e2train.train.hashing import state_sha256, weights_sha256
from e2train.train.presets import METHODS
from e2train.train.run_ledger import RunLedger
from e2train.train.savings import savings
from e2train.train.session import Session

__all__ = ["Summary", "energy_figures", "executed", "summarise"]

_ROUNDING = ("forward", "grad_input", "affine", "load")
_NEGLIGIBLE = 0.01  # share of a run's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished run was and did; None where something was not measured or does not apply."""

    preset: str  # as in the settings
    method: str  # as in the settings
    device: str  # where convolutions ran, last if on several; host in float32
    board: str  # configuration of the engine that energy and cycles are of
    ranks: int  # processes, whose counts add up
    seed: int  # as in the settings
    test_accuracy: float | None  # null where a part of the training images was tested instead
    validation_accuracy: float | None  # on that part
    steps_run: int  # executed
    steps_dropped: int  # of the scheduled ones, by SMD
    blocks_run: int  # residual branches, times training images
    blocks_skipped: int  # likewise, by SLU or stochastic depth
    block_skip_rates: list[float]  # of each block
    psg_predicted_fraction: float | None  # share of weight gradients whose sign was predicted
    weights_sha256: str  # of the integers that the device has as weights: equal on all devices
    state_sha256: str  # of weights, statistics, optimiser and draws
    config_sha256: str  # of the settings that determine these
    macs: int | None  # on the device
    host_macs: int  # of convolutions on the host and of gates, in float32
    computation: float  # both, in float32 multiply-accumulates: MACs x bits x bits / 1024
    training_computation: float  # without the final test
    computation_of_smb_fp32: float  # the same as a share of the same schedule in float32, nothing saved
    computation_of_smb_int8: float  # as a share of it in int8 of the run's own widths, nothing saved
    cycles: int | None  # of the engine's clock, with the final test
    bytes_moved: int | None  # over the engine's streams
    saturations: int  # results that did not fit their integers
    saturated_share: float  # of the results of forward, grad_input, affine and load
    host_bytes_per_step: float | None  # resident runs: between host and device, of executed training steps
    retries: int  # of transfers
    remote_calls_per_step: float | None  # of executed training steps, on a board
    device_s_per_step: float | None  # waiting for the board; a mean over the ranks' boards
    moving_share: float | None  # what of that moved bytes
    energy_modelled_j: float  # of the training, by the cost table named below
    energy_modelled_source: str  # the cost table
    energy_of_smb_fp32: float  # modelled, as a share of training the same schedule in float32
    energy_of_smb_int8: float  # modelled, as a share of training it in int8 of the run's own widths
    energy_factors: dict[str, float]  # what each technique multiplies the modelled energy by
    energy_measured_j: float | None  # of the training, by a meter
    energy_simulated_j: float | None  # the same from a simulated board's sensor
    energy_source: str | None  # which meter; several where parts of the run or ranks had others
    energy_reason: str | None  # why there is none
    energy_origin: str | None  # of the samples in power.csv: measured or simulated; null without samples
    energy_net_j: float | None  # of the measured energy, what is above idle power
    energy_idle_power_w: float | None  # before the training, or before its last part
    energy_duration_s: float  # of the training, measured or not
    energy_per_image_j: float | None = None  # of the measured or simulated energy
    energy_phases_j: dict[str, float] | None = None  # of it: forward, backward, idle
    energy_phases_reason: str | None = None  # why that is not known
    energy_host_j: float | None = None  # of the PC beside a board, by its own counter
    energy_host_source: str | None = None  # which counter
    energy_host_reason: str | None = None  # why there is none
    energy_notes: str = ""  # gaps without samples, and what else meters noted
    threads: int  # as in the settings
    wall_s: float  # seconds of the run, without pauses between its parts
    out: str  # folder of the run

    def __post_init__(self) -> None:
        if (self.test_accuracy is None) == (self.validation_accuracy is None):
            raise ValueError("one of test_accuracy and validation_accuracy must be a number, the other null")

    @property
    def accuracy(self) -> float:
        """On what was tested."""
        accuracy = self.validation_accuracy if self.test_accuracy is None else self.test_accuracy
        assert accuracy is not None
        return accuracy

    @property
    def tested(self) -> str:
        """What was tested: ``test`` or ``validation``."""
        return "validation" if self.test_accuracy is None else "test"

    def to_json(self, indent: int | None = None) -> str:
        """The text of summary.json."""
        return json.dumps(asdict(self), indent=indent)


def summarise(
    session: Session,
    ledger: RunLedger,
    table: CostTable,
    energy: Sequence[Sequence[Measured]],
    host_energy: Sequence[Measured] = (),
    *,
    accuracy: float,
    wall_s: float,
    out: str,
) -> Summary:
    """Put together what a run did; ``energy`` is what each rank's meter says of each part, ``host_energy``
    what that of the PC beside a board does."""
    config, offloads = session.config, session.method.offloads
    rows = ledger.rows
    elements, predicted = (sum(getattr(row, key) for row in rows) for key in ("elements", "predicted"))
    saved = savings(config, ledger, table)
    run_j = saved.run.total_j
    return Summary(
        preset=config.preset,
        method=config.method,
        device=config.device if offloads else "host",
        board=config.board,
        seed=config.seed,
        test_accuracy=None if config.validation else accuracy,
        validation_accuracy=accuracy if config.validation else None,
        steps_dropped=session.steps_dropped,
        blocks_run=sum(session.block_runs),
        blocks_skipped=session.samples * len(session.block_runs) - sum(session.block_runs),
        block_skip_rates=[
            1 - runs / session.samples if session.samples else 0.0 for runs in session.block_runs
        ],
        psg_predicted_fraction=predicted / elements if elements else None,
        weights_sha256=weights_sha256(session.model),
        state_sha256=state_sha256(session.state()),
        config_sha256=config.hash,
        **executed(config, ledger),
        computation_of_smb_fp32=saved.computation_of_fp32,
        computation_of_smb_int8=saved.computation_of_int8,
        saturated_share=_saturated_share(rows),
        host_bytes_per_step=_total(ledger.training).host_bytes / max(1, ledger.steps_run)
        if config.resident and offloads
        else None,
        retries=_total(rows).retries,
        **_board_figures(ledger),
        energy_modelled_j=run_j,
        energy_modelled_source=f"{table.title}; {table.note}",
        energy_of_smb_fp32=run_j / saved.smb_fp32.total_j,
        energy_of_smb_int8=run_j / saved.smb_int8.total_j,
        energy_factors=saved.factors,
        **energy_figures(energy, images=ledger.samples),
        **_host_figures(host_energy),
        energy_notes=_remarks(*energy, host_energy),
        threads=config.threads,
        wall_s=round(wall_s, 3),
        out=out,
    )


def executed(config: RunConfig, ledger: RunLedger) -> dict[str, Any]:
    """What of a summary are sums over its ledger."""
    rows = ledger.rows
    total, on_one = _total(rows), len(ledger.devices) <= 1
    return {
        "steps_run": ledger.steps_run,
        "ranks": ledger.ranks,
        "macs": total.macs if METHODS[config.method].offloads else None,
        "host_macs": total.host_macs,
        "computation": computation(rows, config.widths),
        "training_computation": computation((*ledger.training, *ledger.averaging), config.widths),
        "cycles": total.cycles if on_one else None,
        # The emulator moves none.
        "bytes_moved": 8 * (total.words_in + total.words_out) or None if on_one else None,
        "saturations": sum(row.saturations for row in rows),
    }


def _saturated_share(rows: Iterable[LedgerRow]) -> float:
    """Of all values that operations rounded, those that did not fit."""
    rounding = [row for row in rows if row.mode in _ROUNDING and not row.counters.host_macs]
    return sum(row.saturations for row in rounding) / max(1, sum(row.results for row in rounding))


def _total(rows: Iterable[LedgerRow]) -> Counters:
    return sum((row.counters for row in rows), Counters())


def _board_figures(ledger: RunLedger) -> dict[str, Any]:
    """What a training step takes on a board; None where there is none, or not for all of the run."""
    total, steps, ranks = _total(ledger.training), ledger.steps_run, ledger.ranks
    if not total.device_s or not steps or len(ledger.devices) > 1:
        return dict.fromkeys(("remote_calls_per_step", "device_s_per_step", "moving_share"))
    return {
        "remote_calls_per_step": total.remote_calls / steps,
        "device_s_per_step": total.device_s / steps / ranks,
        "moving_share": total.moving_s / total.device_s,
    }


def energy_figures(energy: Sequence[Sequence[Measured]], *, images: int = 0) -> dict[str, Any]:
    """The parts added up, of all ranks; no figure where one of them has none, but its reason.

    Parts without a figure that lasted next to nothing, such as one resumed for its test, are left out.
    """
    duration_s = sum(part.duration_s for part in energy[0])
    ranks = [_not_negligible(parts) for parts in energy]
    all_parts = [part for parts in ranks for part in parts]
    reasons = [part.reason for part in all_parts if part.energy_j is None]
    origins = {part.origin for part in all_parts if part.origin is not None}
    if not reasons and len(origins) > 1:
        reasons = ["parts of the run were measured, others simulated"]
    whole = bool(all_parts) and not reasons
    energy_j = _sum(part.energy_j for part in all_parts) if whole else None
    return {
        "energy_measured_j": energy_j if origins == {"measured"} else None,
        "energy_simulated_j": energy_j if origins == {"simulated"} else None,
        "energy_source": ", ".join(dict.fromkeys(part.source or "" for part in all_parts)) if whole else None,
        "energy_reason": None if whole else next(iter(reasons), "nothing was measured"),
        "energy_origin": next(iter(origins)) if len(origins) == 1 else None,
        "energy_net_j": _sum(part.net_energy_j for part in all_parts) if whole else None,
        "energy_idle_power_w": _sum(parts[-1].idle_power_w for parts in ranks if parts) if whole else None,
        "energy_duration_s": duration_s,
        "energy_per_image_j": energy_j / images if energy_j is not None and images else None,
        **_phase_figures(all_parts if whole else []),
    }


def _not_negligible(parts: Sequence[Measured]) -> list[Measured]:
    """The parts of a rank without those that have no figure, where all of these lasted next to nothing."""
    measured = [part for part in parts if part.energy_j is not None]
    lost_s = sum(part.duration_s for part in parts if part.energy_j is None)
    whole_s = sum(part.duration_s for part in parts)
    return measured if measured and lost_s <= _NEGLIGIBLE * whole_s else list(parts)


def _host_figures(parts: Sequence[Measured]) -> dict[str, Any]:
    """The energy of the PC beside a board; nothing where there is no board."""
    if not parts:
        return {}
    found = energy_figures([parts])
    energy_j, reason = found["energy_measured_j"], found["energy_reason"]
    return {
        "energy_host_j": energy_j,
        "energy_host_source": None if energy_j is None else found["energy_source"],
        "energy_host_reason": reason,
    }


def _remarks(*of_ranks: Sequence[Measured]) -> str:
    """What meters remarked, once each."""
    return "; ".join(dict.fromkeys(each for parts in of_ranks for part in parts for each in part.remarks))


def _phase_figures(parts: Sequence[Measured]) -> dict[str, Any]:
    """The energy by phase of all parts; none where one of them has none, but its reason."""
    reasons = [part.phases_reason for part in parts if part.phases_j is None]
    known = [part.phases_j for part in parts if part.phases_j is not None]
    if not known or reasons:
        reason = next(iter(reasons), None) or "nothing was measured"
        return {"energy_phases_j": None, "energy_phases_reason": reason}
    phases_j = {name: sum(part[name] for part in known) for name in PHASES}
    return {"energy_phases_j": phases_j, "energy_phases_reason": None}


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)

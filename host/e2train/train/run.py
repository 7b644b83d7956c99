# SPDX-License-Identifier: Apache-2.0
"""One run from its configuration to its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import Any

from e2train.devices import Counters, open_device
from e2train.nn import Engine, Group
from e2train.runtime import Ledger, LedgerRow, computation
from e2train.train.checkpoint import load_checkpoint, save_checkpoint
from e2train.train.config import RunConfig
from e2train.train.errors import Interrupted, TrainError
from e2train.train.folder import RunFolder, Summary
from e2train.train.hashing import state_sha256, weights_sha256
from e2train.train.loop import Row, evaluate, finish, train
from e2train.train.methods import METHODS
from e2train.train.ranks import device_of_rank, joined
from e2train.train.report import render_report
from e2train.train.session import Session, deterministic
from e2train.train.stop import StopFlag, stop_on_signals
from e2train.train.tally import Tally, rows_of

__all__ = ["run_training"]

_SAVE_EVERY_S = 30.0  # the most that a failing device or a kill costs


def run_training(
    config: RunConfig,
    *,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    watch: Callable[[Row], None] = lambda row: None,
) -> Summary | None:
    """Train, test and report; ``watch`` sees every step.

    Under torchrun the ranks train together; the first one watches, writes the files (which all must be able
    to read, to resume) and returns the summary, the others return None.

    Raises: Interrupted after Ctrl-C, when everything is saved; TrainError for a folder or a checkpoint that
    cannot be used; DeviceError when the device fails.
    """
    with joined() as group, deterministic(config.threads), _engine(config, group) as engine:
        config = config.changed(ranks=group.size)
        first = group.rank == 0
        folder = RunFolder(out)
        ledger = engine.ledger if engine else Ledger()
        session, tally = Session.start(config, engine, ledger, group), Tally(ledger=ledger, group=group)
        if resume:
            state, spent = load_checkpoint(folder.checkpoint, config_hash=config.hash)
            session.restore(state)
            tally.restore(spent)
            if first:
                folder.go_on(session.step)
        elif first:
            folder.begin(config, overwrite=overwrite)
        with stop_on_signals() as flag:
            stop = partial(_agreed, group, flag)
            _train(session, folder, tally, stop=stop, watch=watch)
            finish(session, stopped=stop)
            trained = rows_of(tally.gather())
            accuracy = evaluate(session, stopped=stop)
        if accuracy is None:
            raise _interrupted(session, folder)
        rows = rows_of(tally.gather())
        summary = _summary(session, rows, accuracy=accuracy, trained=trained, wall_s=tally.wall_s, out=out)
        if first:
            folder.finish(summary, render_report(config, summary, folder.rows(), rows))
    return summary if first else None


def _agreed(group: Group, flag: StopFlag) -> bool:
    """Whether some rank was asked to stop: then all do."""
    return group.any(flag())[0]


@contextmanager
def _engine(config: RunConfig, group: Group) -> Iterator[Engine | None]:
    """This rank's device, for as long as it is needed; None where the method computes on the host."""
    method = METHODS[config.method]
    if not method.offloads:
        yield None
        return
    device = open_device(
        device_of_rank(config, group),
        config=config.board,
        overlay=config.overlay,
        token_file=config.token_file,
        deadline_s=config.deadline_s,
    )
    try:
        psg = config.psg if method.signs == "predicted" else None
        yield Engine(device=device, psg=psg, group=group, votes=config.combine == "vote")
    finally:
        device.close()


def _train(
    session: Session,
    folder: RunFolder,
    tally: Tally,
    *,
    stop: Callable[[], bool],
    watch: Callable[[Row], None],
) -> None:
    """Take every step; save after each epoch, at the end, before stopping, and where that is long ago."""
    saved_s = monotonic()
    for row in train(session):
        if session.group.rank == 0:
            folder.log(row)
            watch(row)
        stops = stop()
        (late,) = session.group.any(monotonic() - saved_s > _SAVE_EVERY_S)
        if stops or late or session.step % session.batches.per_epoch == 0:
            _save(session, folder, tally)
            saved_s = monotonic()
        if stops:
            raise _interrupted(session, folder)
    _save(session, folder, tally)


def _save(session: Session, folder: RunFolder, tally: Tally) -> None:
    spent = tally.gather()
    if session.group.rank != 0:
        return
    try:
        save_checkpoint(
            folder.checkpoint, config_hash=session.config.hash, state=session.state(), spent=spent
        )
    except OSError as error:
        raise TrainError(
            f"cannot save {folder.checkpoint}: {error.strerror}; the last checkpoint stands"
        ) from error


def _interrupted(session: Session, folder: RunFolder) -> Interrupted:
    program = "e2train" if session.group.size == 1 else "torchrun ... -m e2train"
    return Interrupted(
        f"stopped after step {session.step} of {session.steps}, saved; "
        f"go on with: {program} train {quote(str(folder.config))} --out {quote(str(folder.path))} --resume"
    )


def _summary(
    session: Session,
    rows: tuple[LedgerRow, ...],
    *,
    accuracy: float,
    trained: tuple[LedgerRow, ...],
    wall_s: float,
    out: Path,
) -> Summary:
    config, offloads = session.config, session.method.offloads
    total = sum((row.counters for row in rows), Counters())
    elements, predicted = (sum(getattr(row, key) for row in rows) for key in ("elements", "predicted"))
    return Summary(
        preset=config.preset,
        method=config.method,
        device=config.device if offloads else "host",
        board=config.board,
        ranks=config.ranks,
        seed=config.seed,
        test_accuracy=accuracy,
        steps_run=session.step - session.steps_dropped,
        steps_dropped=session.steps_dropped,
        blocks_run=sum(session.block_runs),
        blocks_skipped=session.samples * len(session.block_runs) - sum(session.block_runs),
        block_skip_rates=[1 - runs / max(1, session.samples) for runs in session.block_runs],
        psg_predicted_fraction=predicted / elements if elements else None,
        weights_sha256=weights_sha256(session.model),
        state_sha256=state_sha256(session.state()),
        config_sha256=config.hash,
        macs=total.macs if offloads else None,
        host_macs=total.host_macs,
        computation=computation(rows, config.psg),
        training_computation=computation(trained, config.psg),
        cycles=total.cycles,
        bytes_moved=8 * (total.words_in + total.words_out) or None,  # the emulator moves none
        saturations=sum(row.saturations for row in rows),
        retries=total.retries,
        **_board_figures(trained, session.step - session.steps_dropped),
        threads=config.threads,
        wall_s=round(wall_s, 3),
        out=str(out),
    )


def _board_figures(trained: tuple[LedgerRow, ...], steps: int) -> dict[str, Any]:
    """What a training step takes on a board; None where there is none."""
    total = sum((row.counters for row in trained), Counters())
    if not total.device_s or not steps:
        return dict.fromkeys(("remote_calls_per_step", "device_s_per_step", "moving_share"))
    return {
        "remote_calls_per_step": total.remote_calls / steps,
        "device_s_per_step": total.device_s / steps,
        "moving_share": total.moving_s / total.device_s,
    }

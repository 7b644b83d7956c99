# SPDX-License-Identifier: Apache-2.0
"""One run from its configuration to its report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from time import monotonic

from e2train.energy import Gauge, Measured, load_costs
from e2train.nn import Group, OffloadContext, whole_state
from e2train.runtime import ExecutionStopped, Ledger
from e2train.train.checkpoint import Checkpoint, load_checkpoint
from e2train.train.config import RunConfig, read_config
from e2train.train.data import DataError, Split
from e2train.train.errors import Interrupted, TrainError
from e2train.train.evaluation import Confusion, Evaluation
from e2train.train.finished_run import FinishedRun, read_power
from e2train.train.folder import RunFolder
from e2train.train.hashing import state_sha256
from e2train.train.loop import Row, evaluate, finish, train
from e2train.train.meter import check_same_meter, host_meter, measuring, rank_meter
from e2train.train.ranks import check_alike, device_of_rank, joined
from e2train.train.report import render_report
from e2train.train.resources import load_split, open_context, settled, torch_threads
from e2train.train.run_ledger import RankLedger, RunLedger
from e2train.train.savings import EnergySaved
from e2train.train.session import Session, deterministic
from e2train.train.stop import StopFlag, stop_on_signals
from e2train.train.summary import Summary, summarise
from e2train.train.trained import TrainedModel, load_state, start_weights

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
    if resume and overwrite:
        raise TrainError(
            "--resume goes on with the run in a folder, --overwrite discards it; give one of them"
        )
    folder = RunFolder(out)
    with joined() as group, deterministic(torch_threads(config)), ExitStack() as stack:
        if config.ranks not in (1, group.size) and not resume:
            raise TrainError(
                f"the settings are those of {config.ranks} ranks, and there are {group.size}; start with "
                f"torchrun --nproc-per-node {config.ranks} -m e2train train ..., or use --set ranks=1"
            )
        config = config.changed(ranks=group.size)
        if group.rank == 0:
            stack.enter_context(folder.held())
            if not (resume or overwrite):
                folder.refuse_taken()
        if config.preset == "digits" and config.data and not resume:
            raise DataError(
                "digits come with scikit-learn, and --data would not be read; for images of your own use "
                "folder-digits or another folder-MODEL"
            )
        split = load_split(config)
        config, weights = start_weights(settled(config, split), split.names, resume=resume)
        saved = load_checkpoint(folder.checkpoint, config=config) if resume else None
        if resume:
            folder.refuse_finished()
            _check_images(config, folder)
        check_alike(
            group, config.hash, config.data_sha256, state_sha256(weights), saved.state_sha256 if saved else ""
        )
        with open_context(config, group) as context:
            session = Session.start(config, context, context.ledger if context else Ledger(), group, split)
            if weights is not None:
                load_state(session.model, weights, origin=config.init, group=group)
            return _run(session, split, folder, context, saved=saved, watch=watch)


def _check_images(config: RunConfig, folder: RunFolder) -> None:
    """Look whether a run goes on with the images that it began with.

    Raises: TrainError when they are others; of runs from before they were noted nobody knows.
    """
    begun = read_config(folder.config).data_sha256 if folder.config.exists() else ""
    if begun not in ("", config.data_sha256):
        raise TrainError(
            f"{config.data} holds images with SHA-256 {config.data_sha256[:12]}..., the run began with those "
            f"with {begun[:12]}...; give their folder with --data"
        )


def _run(
    session: Session,
    split: Split,
    folder: RunFolder,
    context: OffloadContext | None,
    *,
    saved: Checkpoint | None,
    watch: Callable[[Row], None],
) -> Summary | None:
    """Train, test and report on a device that is open, into a folder that is held."""
    config, group, first = session.config, session.group, session.group.rank == 0
    kind = device_of_rank(config, group).partition(":")[0]
    device = f"{kind} ({config.board})" if session.method.offloads else "host"
    rank_ledger = RankLedger(ledger=session.ledger, group=group, device=device)
    meter = rank_meter(config, context, group, folder)  # where there is none as asked, an earlier run stays
    if saved is not None:
        _restore(session, rank_ledger, saved, folder)
        check_same_meter(meter, rank_ledger)
        if first:
            folder.write_config(config)  # where it computes from now on
    elif first:
        folder.begin(config)
    with _stoppable(session, folder) as flag:
        stop = partial(_agreed, group, flag)
        beside = host_meter(config, group)
        with measuring(meter, beside, folder, rank_ledger) as running:
            _train(session, folder, rank_ledger, running, stop=stop, watch=watch)
            training = rank_ledger.take_rows()
            finish(session, stopped=stop)
            averaging = rank_ledger.take_rows()
        energy, host_energy = rank_ledger.energy_of_ranks(), rank_ledger.host_energy()
        confusion = evaluate(session, stopped=stop)
    if confusion is None:
        raise _interrupted(session, folder)
    run_ledger = RunLedger(
        scheduled_steps=session.scheduled_steps,
        scheduled_samples=session.scheduled_samples,
        steps_run=session.step - session.steps_dropped,
        samples=session.samples,
        ranks=group.size,
        training=training,
        averaging=averaging,
        test=rank_ledger.take_rows(),
        devices=rank_ledger.devices_of_ranks(),
    )
    return _report(
        session,
        split,
        folder,
        run_ledger,
        energy,
        host_energy,
        confusion=confusion,
        wall_s=rank_ledger.wall_s,
    )


def _report(
    session: Session,
    split: Split,
    folder: RunFolder,
    run_ledger: RunLedger,
    energy: list[list[Measured]],
    host_energy: Sequence[Measured],
    *,
    confusion: Confusion,
    wall_s: float,
) -> Summary | None:
    """Write what a finished run leaves, on the first rank."""
    table, config = load_costs(), session.config
    evaluation = Evaluation(
        tested="validation" if config.validation else "test",
        names=list(split.names),
        confusion=confusion.tolist(),
    )
    out, accuracy = str(folder.path), evaluation.accuracy
    summary = summarise(
        session, run_ledger, table, energy, host_energy, accuracy=accuracy, wall_s=wall_s, out=out
    )
    if session.group.rank:
        return None
    evaluation = replace(evaluation, weights_sha256=summary.weights_sha256)
    finished = FinishedRun(
        config=config,
        summary=summary,
        ledger=run_ledger,
        steps=folder.rows(),
        power=read_power(folder.power),
        evaluation=evaluation,
    )
    trained = TrainedModel(
        config=config,
        format=split.format,
        names=split.names,
        state=whole_state(session.model),
        weights_sha256=summary.weights_sha256,
    )
    folder.finish(
        model=trained,
        evaluation=evaluation.to_json(),
        ledger=run_ledger.to_json(),
        report=lambda: render_report([finished], table),
        summary=summary.to_json(indent=2),
    )
    return summary


def _restore(session: Session, rank_ledger: RankLedger, saved: Checkpoint, folder: RunFolder) -> None:
    """Go on from a checkpoint, with the very bits that were saved.

    Raises: TrainError when it does not fit this run.
    """
    try:
        session.restore(saved.state)
        if state_sha256(session.state()) != saved.state_sha256:
            raise ValueError("the restored state has another hash than the saved one")
        rank_ledger.restore(saved.spent)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        missing = "no entry " if isinstance(error, KeyError) else ""
        reason = missing + " ".join(str(error).split())[:200]
        raise TrainError(
            f"{folder.checkpoint} does not fit this run: {reason}; start again with --overwrite instead of "
            "--resume"
        ) from error
    if session.group.rank == 0:
        steps_run = session.step - session.steps_dropped
        folder.go_on(session.step, steps_run=steps_run, measured_s=rank_ledger.measured_s)
        read_power(folder.power)  # as the report will


@contextmanager
def _stoppable(session: Session, folder: RunFolder) -> Iterator[StopFlag]:
    """Let a signal stop a block; ranks, who wait for each other, end the step first."""
    with stop_on_signals(at_once=session.group.size == 1) as flag:
        try:
            yield flag
        except ExecutionStopped:
            raise _interrupted(session, folder) from None


def _agreed(group: Group, flag: StopFlag) -> bool:
    """Whether some rank was asked to stop: then all do."""
    return group.any(flag())


def _train(
    session: Session,
    folder: RunFolder,
    rank_ledger: RankLedger,
    running: Gauge,
    *,
    stop: Callable[[], bool],
    watch: Callable[[Row], None],
) -> None:
    """Take every step; save after each epoch, at the end, before stopping, and where that is long ago."""
    saved_s = monotonic()
    running.mark(session.step)
    session.enter = running.enter
    report_step = _step_reporter(session, folder, rank_ledger, watch)
    try:
        for row in train(session):
            running.mark(row.step)
            report_step(row)
            if stop():
                raise ExecutionStopped
            late = session.group.any(monotonic() - saved_s > _SAVE_EVERY_S)
            if late or session.step % session.batches.per_epoch == 0:
                _save(session, folder, rank_ledger)
                saved_s = monotonic()
    except ExecutionStopped:
        running.stop()  # before saving, as a log is read only when the window is over
        _save(session, folder, rank_ledger)
        raise
    _save(session, folder, rank_ledger)


def _step_reporter(
    session: Session, folder: RunFolder, rank_ledger: RankLedger, watch: Callable[[Row], None]
) -> Callable[[Row], None]:
    """What logs and shows a step, with the energy saved so far; on other ranks than the first, nothing."""
    config = session.config
    if session.group.rank:
        return lambda row: None
    energy = EnergySaved(
        config,
        load_costs(),
        steps=session.scheduled_steps,
        samples=session.scheduled_samples,
        ranks=session.group.size,
    )
    events = folder.open_events() if config.log == "tensorboard" else None

    def report(row: Row) -> None:
        done = session.batches.images(row.step) / session.batches.images(row.steps)
        saved = energy.share(rank_ledger.rows(), done=done)
        row = replace(row, energy_saved=saved)
        folder.log(row, events)
        watch(row)

    return report


def _save(session: Session, folder: RunFolder, rank_ledger: RankLedger) -> None:
    session.check_finite()  # the last good checkpoint stands
    spent = rank_ledger.gather()
    if session.group.rank == 0:
        folder.save(session.config, session.state(), spent)


def _interrupted(session: Session, folder: RunFolder) -> Interrupted:
    called = sys.argv[0] if Path(sys.argv[0]).name == "e2train" else "e2train"
    program = quote(called) if session.group.size == 1 else "torchrun ... -m e2train"
    return Interrupted(
        f"stopped after step {session.step} of {session.steps}, saved; "
        f"go on with: {program} train {quote(str(folder.config))} --out {quote(str(folder.path))} --resume"
    )

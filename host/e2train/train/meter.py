# SPDX-License-Identifier: Apache-2.0
"""The meter of a run: which one, and measuring while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from e2train.devices.address import is_elsewhere
from e2train.energy import (
    EnergyError,
    Gauge,
    LogSpec,
    Meter,
    PowerLog,
    gauge,
    open_meter,
    write_samples,
)
from e2train.nn import Group, OffloadContext
from e2train.train.config import RunConfig
from e2train.train.folder import RunFolder
from e2train.train.ranks import device_of_rank
from e2train.train.run_ledger import RankLedger

__all__ = ["check_same_meter", "host_meter", "measuring", "rank_meter"]


def rank_meter(
    config: RunConfig, context: OffloadContext | None, group: Group, folder: RunFolder
) -> Meter | LogSpec | str | None:
    """What measures this rank: its own board's sensor, else the one meter, which the first rank reads.

    Raises: EnergyError when the meter that was named is not there, or is a file that the run would replace.
    """
    read_board = getattr(context.device, "read_file", None) if context else None
    kind = config.meter.partition(":")[0]
    device = device_of_rank(config, group)
    elsewhere = context is not None and is_elsewhere(device)
    if elsewhere and device.startswith("agent:") and kind in ("hwmon", "pmbus"):
        raise EnergyError(f"an agent does not report power, which meter {kind} takes; use another --meter")
    own = read_board is not None and kind in ("auto", "hwmon")
    meter = None
    if own or group.rank == 0:
        meter = open_meter(config.meter, read_board, elsewhere=elsewhere)
    if isinstance(meter, LogSpec) and folder.keeps(meter.path):
        raise EnergyError(f"{meter.path} is a file of the run itself; give the log another name or place")
    return meter


def check_same_meter(meter: Meter | LogSpec | str | None, rank_ledger: RankLedger) -> None:
    """Look whether a run goes on with the meter that it began with, with logs, or with none.

    A meter's next log has another name; the summary lists all of them.

    Raises: EnergyError when joules of different meters would be added up.
    """
    if meter is None or isinstance(meter, str):
        return
    source = f"{meter.origin} by {meter.name}"
    for part in rank_ledger.earlier_energy:
        alike = part.from_log if isinstance(meter, LogSpec) else part.source == source
        if part.source is not None and not alike:
            raise EnergyError(
                f"the run so far was {part.source}, now it would be {source}; go on with the same --meter, "
                "or with --meter none and no energy"
            )


def host_meter(config: RunConfig, group: Group) -> Meter | LogSpec | str | None:
    """The PC's own counter beside a board, or why there is none; None where there is no board to compare."""
    of_board = config.device.partition(":")[0] in ("pynq", "agent") and config.meter != "none"
    if group.rank or not of_board or config.meter.startswith("rapl"):
        return None
    try:
        return open_meter("rapl")
    except (EnergyError, OSError) as error:
        return str(error).partition("; name one")[0]  # no option names it


@contextmanager
def measuring(
    meter: Meter | LogSpec | str | None,
    beside: Meter | LogSpec | str | None,
    folder: RunFolder,
    rank_ledger: RankLedger,
) -> Iterator[Gauge]:
    """Measure the energy of a block, and of the PC beside the board.

    Samples are on the disk as they come, those of a log when the block is over.
    """
    after_s, first = rank_ledger.measured_s or None, rank_ledger.group.rank == 0
    log = PowerLog(folder.power, after_s=after_s) if first else None

    def close() -> None:
        if log is not None:
            with folder.writing(folder.power):
                log.close()

    with ExitStack() as stack:
        stack.callback(close)
        running = stack.enter_context(gauge("the first rank measures" if meter is None else meter, log=log))
        rank_ledger.gauge = None if meter is None else running
        if beside is not None:
            rank_ledger.host_gauge = stack.enter_context(gauge(beside, idle_s=0.0))
        rank_ledger.group.any(False)  # no rank computes while another takes its idle power
        try:
            yield running
        finally:
            running.stop()
            if first and isinstance(meter, LogSpec) and (recording := running.samples()) is not None:
                with folder.writing(folder.power):
                    write_samples(recording, folder.power, after_s=after_s)

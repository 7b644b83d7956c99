#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the host itself takes for a training step on a board: planning, laying out frames, reading replies.

The board is a stand-in that does nothing and whose replies say that all went well. Seconds are those of the
processor; beside them stands what the engines are planned to take. Exit code 1 above ``--limit``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from e2train.config import EngineConfig, load_config
from e2train.devices.chains.board import BoardResident
from e2train.devices.chains.laid import LaidRound, Runnable
from e2train.devices.chains.transfer import ChainPieces
from e2train.devices.deadline import Deadline
from e2train.devices.pynq_board import Board
from e2train.devices.pynq_buffer import Buffer
from e2train.devices.pynq_dma import ChainDma
from e2train.devices.pynq_engines import EngineDmas
from e2train.devices.pynq_starter import Starter
from e2train.nn import build_model, describe
from e2train.numerics.frames import Status, Trailer, check_sums, encode_trailer
from e2train.runtime.board_plan import plan_step
from e2train.runtime.resident import Kinds
from e2train.runtime.resident.schedule import count_step

_PLANNED = 5  # steps that plan: by then each batch of operations has come twice, with the same sums due


class Array(np.ndarray):  # type: ignore[type-arg]
    """Bytes that need not be moved."""

    def flush(self) -> None: ...
    def invalidate(self) -> None: ...


class IdleDmas(EngineDmas):
    """DMAs that are done at once."""

    def __init__(self, engines: int, deadline: Deadline, *, remote: bool) -> None:
        self._remote = remote
        self._deadline = deadline
        registers = (lambda at: 1), (lambda at, value: None)  # halted
        self._dmas = [ChainDma(*registers, deadline) for _ in range(engines)]
        self._bases = [0] * engines
        self._starter = Starter(*registers, deadline) if remote and engines > 1 else None

    def wait(self, engines: Iterable[int]) -> None: ...


class IdleBoard(Board):
    """A board that answers no call, whose engines are done at once."""

    def __init__(self, engines: int, *, remote: bool) -> None:
        self.calls = 0
        self._remote = remote
        self._deadline = Deadline(60.0)
        self._dmas = IdleDmas(engines, self._deadline, remote=remote)
        self._buffers = []
        self._to_look = 0
        self._sending = None
        self._receiving = {}
        self._next = 1 << 30

    def free_bytes(self) -> int:
        return 1 << 30

    def allocate(self, nbytes: int) -> Buffer:
        self._next += -(-nbytes // 4096) * 4096
        return Buffer(np.zeros(nbytes, np.uint8).view(Array), self._next)

    def _answered(self, call: Callable[[], Any], *, calls: int = 0) -> Any: ...
    def _collected(self, receive: Buffer, late: Callable[[], set[int]]) -> float:
        return 0.0


class IdleDevice:
    """What a resident device needs of the one that holds its board."""

    def __init__(self, config: EngineConfig, *, remote: bool) -> None:
        self.config = config
        self._board = IdleBoard(config.engines, remote=remote)

    @contextmanager
    def attended(self) -> Iterator[IdleBoard]:
        yield self._board

    def close(self) -> None: ...


class Measured(BoardResident):
    """Answers itself, and counts the seconds that this takes, which are none of the host's."""

    answering_s = 0.0
    frames = 0

    def _move_round(self, board: Any, wanted: Runnable) -> tuple[LaidRound, Buffer, float]:
        laid, receive, moving_s = super()._move_round(board, wanted)
        begin = time.process_time()
        self.frames += laid.frames
        for chain in laid.chains.values():
            answer(chain, receive)
        self.answering_s += time.process_time() - begin
        if board.is_remote and laid.late(receive):
            raise SystemExit("the replies are not whole")
        return laid, receive, moving_s


def answer(chain: ChainPieces, receive: Buffer) -> None:
    """Write replies of zeros."""
    for report in chain.reports:
        frame, headers = chain.frames[report.last], [each.header for each in chain.frames[report.frames]]
        results = np.zeros(0 if frame.results else frame.header.result_words, np.uint64)
        sides = np.zeros(frame.header.side_words, np.uint64)
        trailer = Trailer(
            status=Status.OK,
            nonce=chain.nonce * len(headers) & 0xFFFF_FFFF,
            iterations=sum(header.iterations for header in headers),
            words_in=sum(header.frame_words for header in headers),
            words_out=sum(header.result_words for header in headers) + sides.size,
            written_s1=check_sums(results)[0],
            written_s2=check_sums(results)[1],
        )
        words = np.concatenate([results, sides, encode_trailer(trailer, sides)])
        receive.memory[report.at : report.at + words.nbytes] = words.view(np.uint8)


def measure(options: argparse.Namespace) -> Mapping[str, Any]:
    """Seconds of a step, the fastest of several."""
    config = load_config(options.board)
    network = describe(*build_model(options.model))
    step: dict[str, Any] = {"samples": options.batch, "bits": (4, 8), "gates": options.gates}
    device = Measured(IdleDevice(config, remote=not options.on_board))  # type: ignore[arg-type]
    seconds = []
    for _ in range(_PLANNED + options.steps):
        begin, answered, device.frames = time.process_time(), device.answering_s, 0
        count_step(network, device, Kinds(), **step)
        seconds.append(time.process_time() - begin - (device.answering_s - answered))
    planned = plan_step(network, config, **step)
    return {
        "board": options.board,
        "frames": device.frames,
        "first_step_s": round(seconds[0], 4),
        "host_s": round(min(seconds[_PLANNED:]), 4),
        "compute_s": round(planned.compute_s(1e9 / config.period_ns), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--board", default="zcu104", help="in boards.toml (default: %(default)s)")
    parser.add_argument("--model", default="resnet20", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=128, help="images (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="that are timed (default: %(default)s)")
    parser.add_argument("--gates", action="store_true", help="the host decides block by block")
    parser.add_argument("--on-board", action="store_true", help="as an agent does it, not pynq's client")
    parser.add_argument("--limit", type=float, default=None, help="seconds of a step that are too many")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:14} {value}")
    return int(options.limit is not None and found["host_s"] > options.limit)


if __name__ == "__main__":
    sys.exit(main())

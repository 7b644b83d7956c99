# SPDX-License-Identifier: Apache-2.0
"""The engine on a PYNQ board: native, or from a PC through PYNQ.remote; the same code for both.

What a transfer costs remotely is the number of calls, not of bytes: buffers are used again, descriptors go
with what is sent and begin where the DMA expects them, and a transfer takes six calls and its polls. Single
packets go to the first engine; resident operations use all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.board_lock import BoardLock
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import Closing, DeviceError, DeviceLostError, Transfer
from e2train.devices.pynq_board import Board, LostError
from e2train.numerics.frames import Header, Mode
from e2train.overlay import ENGINE, OverlaySet, read_overlay
from e2train.packing import Frame, ReplyError, join_transfer, split_replies, with_nonces
from e2train.packing.descriptors import ChainError

__all__ = ["PynqDevice"]

_CLOCK_TOLERANCE = 0.01
_CLOSE_S = 2.0  # for leaving a board that may have stopped answering


class PynqDevice(Closing):
    """A board with the engines' overlay, locked for other programs until it is closed.

    A transfer that fails leaves the DMAs, and with them the engines, reset, or the connection made again; the
    caller may try it again.
    """

    name = "pynq"
    parallel = 1
    tries = 3

    def __init__(
        self, config: EngineConfig, *, overlay: Path, address: str = "", deadline_s: float = 60.0
    ) -> None:
        """``address`` HOST or HOST:PORT of a PYNQ.remote board; empty on the board itself.

        Raises: OverlayError for the archive; DeviceError when the board or what is on it is not as expected.
        """
        self.config = config
        self._overlay = read_overlay(overlay)
        self._address = address
        self._deadline = Deadline(deadline_s)
        self._lock = BoardLock()
        self._board: Board | None = None
        self._left_running = False
        self._check_manifest(overlay)
        self._open()

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        """Send one packet through the DMA and wait for its reply.

        Raises: DeviceError when the DMA reports an error, or hangs, or the connection broke; the board is
            ready again then. DeviceLostError when it is not.
        """
        with self.attended() as board:
            begin, calls = time.monotonic(), board.calls
            reply, moving_s = board.transfer(words, reply_words)
        return Transfer(
            reply=reply,
            remote_calls=board.calls - calls,
            device_s=time.monotonic() - begin,
            moving_s=moving_s,
        )

    @contextmanager
    def attended(self) -> Iterator[Board]:
        """The board, for one operation; where that fails, the board is made ready for the next one.

        Raises: DeviceError for any failure; what was in the board's memory is lost if it had to be connected
            again. DeviceLostError when it is gone.
        """
        board = self._opened()
        self._lock.check()
        try:
            if self._left_running:  # a chain that goes on would write to memory that is used again
                board.reset()
                self._left_running = False
            with self._deadline.running():
                yield board
        except LostError as error:
            self._reopen(error)
            raise DeviceError(f"{error}; connected again") from error
        except DeviceError:
            board.reset()
            raise
        except ChainError as error:  # nothing was started
            raise DeviceError(str(error)) from None
        except BaseException:  # such as Ctrl-C, which is not to wait for the board
            self._left_running = True
            raise

    def close(self) -> None:
        """Give the board's buffers and the board itself back; one that is gone costs a moment."""
        board, self._board = self._board, None
        with self._deadline.running(_CLOSE_S):
            try:
                if board is not None:
                    board.close()
                self._lock.release()
            except DeviceError:
                self._lock.forget()

    @property
    def clock_mhz(self) -> float:
        """The engine's clock, read back."""
        return self._opened().clock_mhz()

    @property
    def board_name(self) -> str:
        """What the board calls itself."""
        return str(self._opened().device.name)

    @property
    def overlay(self) -> OverlaySet:
        """What the board is programmed with."""
        return self._overlay

    def read_file(self, path: str) -> bytes | None:
        """A file of the board, such as a sensor's; None where there is none."""
        return self._opened().read_file(path)

    def _opened(self) -> Board:
        if self._board is None:
            raise DeviceError("device pynq is closed")
        return self._board

    def _check_manifest(self, path: Path) -> None:
        manifest = self._overlay.manifest
        if manifest.kernel != ENGINE:
            raise DeviceError(f"{path} holds the kernel {manifest.kernel}, and no engine to train with")
        if (manifest.config, manifest.config_hash) != (self.config.name, self.config.hash32):
            raise DeviceError(
                f"{path} holds the configuration {manifest.config} ({manifest.config_hash:#010x}), the host "
                f"expects {self.config.name} ({self.config.hash32:#010x}); rebuild it or choose --board"
            )
        if manifest.engines != self.config.engines:
            raise DeviceError(
                f"{path} has engines: {manifest.engines}, {self.config.name} has {self.config.engines}; "
                "rebuild it"
            )

    def _open(self) -> None:
        try:
            self._board = Board(self._address, self._overlay, lock=self._lock, deadline=self._deadline)
            for engine in range(self._board.engines):
                self._identify(engine)
            self._check_clock()
        except BaseException:
            self.close()
            raise

    def _reopen(self, lost: LostError) -> None:
        """Connect again within the deadline."""
        if self._board is not None:
            self._board.abandon()
        self._board, self._left_running = None, False
        self._lock.forget()
        end, most_s = time.monotonic() + self._deadline.whole_s, self._deadline.whole_s
        while True:
            try:
                self._open()
                return
            except DeviceError as error:
                if time.monotonic() >= end:
                    raise DeviceLostError(f"{lost}; not back within {most_s:g} s: {error}") from lost
                time.sleep(min(0.5, most_s / 10))

    def _identify(self, engine: int) -> None:
        """Ask an engine what it is."""
        cfg = self.config
        (header,) = with_nonces([Header(mode=Mode.IDENTIFY, ic_lanes=cfg.ic_lanes, oc_lanes=cfg.oc_lanes)])
        words = join_transfer([Frame(header=header)])
        transfer = self._opened().transfer(words, header.reply_words, engine=engine)
        try:
            reply = split_replies(transfer[0], [header])[0]
        except ReplyError as error:
            raise DeviceError(f"engine {engine} on the board does not identify itself: {error}") from error
        lanes, depth = (int(word) for word in reply.results)
        found = (lanes & 0xFFFF, lanes >> 16 & 0xFFFF, lanes >> 32, depth & 0xFFFFFFFF, depth >> 32)
        wanted = (cfg.ic_lanes, cfg.oc_lanes, cfg.x_depth, cfg.w_depth, cfg.hash32)
        if found != wanted:
            raise DeviceError(
                f"the board's engine {engine} is not {cfg.name}: lanes, depths and hash are {found}, "
                f"must be {wanted}"
            )

    def _check_clock(self) -> None:
        wanted, clock = self._overlay.manifest.clock_mhz, self.clock_mhz
        if abs(clock / wanted - 1) > _CLOCK_TOLERANCE:
            raise DeviceError(
                f"the board runs the engine at {clock:g} MHz, the overlay is for {wanted:g} MHz"
            )

# SPDX-License-Identifier: Apache-2.0
"""The lock of a board, on files that stand for its own."""

from __future__ import annotations

import gc
import json
import os
import threading
import time

import pytest
from e2train.devices import DeviceError, DeviceLostError, board_lock
from e2train.devices.board_lock import BoardLock, BusyError

PATH = "/run/e2train.lock"
LEASE_S = 0.8


class Files:
    """A board's files, its clock among them."""

    where = "the board at 10.0.0.7"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.answers = True

    def read_file(self, path):
        self._answer()
        return b"%.3f 1.00\n" % time.monotonic() if path == "/proc/uptime" else self.contents.get(path)

    def write_file(self, path, content):
        self._answer()
        self.contents[path] = content

    def _answer(self):
        if not self.answers:
            raise DeviceError("no answer")


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    for name, seconds in (("_LEASE_S", LEASE_S), ("_RENEW_S", 0.1), ("_SETTLE_S", 0.05)):
        monkeypatch.setattr(board_lock, name, seconds)


@pytest.fixture
def files():
    return Files()


def held(files: Files) -> dict[str, object]:
    return json.loads(files.contents[PATH])


def test_the_second_is_told_by_whom_and_the_first_stays(files):
    first, second = BoardLock(), BoardLock()
    first.acquire(files)
    for _ in range(2):
        with pytest.raises(BusyError) as error:
            second.acquire(files)
    begin, _, rest = str(error.value).partition(f"process {os.getpid()} (since ")
    assert begin.startswith("the board at 10.0.0.7 is in use by ")
    assert rest.endswith("); wait until that program ends, or use another board")
    time.sleep(2 * LEASE_S)
    first.check()
    first.release()
    second.acquire(files)
    second.release()


def test_who_no_longer_renews_loses_it_and_is_told(files):
    first, second = BoardLock(), BoardLock()
    first.acquire(files)
    first._released.set()  # as where the process is stopped
    begin = time.monotonic()
    second.acquire(files)
    assert 0.5 * LEASE_S < time.monotonic() - begin < 3 * LEASE_S
    first.check()  # it does not know yet
    first.renew()
    with pytest.raises(
        DeviceLostError, match=rf"^the board was taken over by .*process {os.getpid()} \(since .*\), as this"
    ):
        first.check()
    first.release()
    assert held(files)["key"] == second._key
    second.check()
    second.release()


def test_a_device_that_was_dropped_without_closing_lets_go(files):
    dropped, second = BoardLock(), BoardLock()
    dropped.acquire(files)
    del dropped
    gc.collect()
    second.acquire(files)
    second.release()


def test_of_many_at_once_one_gets_it(files):
    locks, outcomes = [BoardLock() for _ in range(8)], []
    gate = threading.Barrier(len(locks))

    def ask(lock):
        gate.wait()
        try:
            lock.acquire(files)
            outcomes.append("held")
        except BusyError:
            outcomes.append("busy")

    threads = [threading.Thread(target=ask, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy"] * 7 + ["held"]
    for lock in locks:
        lock.release()


def test_connecting_again_goes_on_holding_it(files):
    lock = BoardLock()
    lock.acquire(files)
    lock.forget()
    lock.acquire(files)
    files.contents.clear()  # the board has restarted
    time.sleep(0.3)
    assert held(files)["key"] == lock._key
    lock.release()
    assert held(files) == {}


def test_a_board_that_does_not_answer_is_not_lost_by_that(files):
    lock = BoardLock()
    lock.acquire(files)
    files.answers = False
    lock.renew()
    lock.check()
    files.answers = True
    lock.release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b"7",
        b'{"key": "a"}',
        b'{"key": "a", "holder": "b", "since": "c", "until_s": "d"}',
        b'{"key": "a", "holder": "b", "since": "c", "until_s": NaN}',
        b'{"key": "a", "holder": "b", "since": "c", "until_s": 1e999}',
        b'{"key": "a", "holder": "b", "since": "c", "until_s": ' + b"9" * 400 + b"}",
        b'{"key": "a", "holder": 7, "since": "c", "until_s": 1}',
    ],
    ids=range(11),
)
def test_a_file_that_is_no_lease_locks_nothing(files, content):
    files.contents[PATH] = content
    lock = BoardLock()
    lock.acquire(files)
    lock.release()


def test_a_lease_from_before_a_restart_locks_nothing(files):
    stale = {"key": "a", "holder": "b", "since": "c", "until_s": time.monotonic() + 1000}
    files.contents[PATH] = json.dumps(stale).encode()
    lock = BoardLock()
    lock.acquire(files)
    lock.release()


def test_what_a_holder_calls_itself_cannot_write_to_the_terminal(files):
    lease = {"key": "a", "holder": "\x1b[2J\nroot" + "x" * 1000, "since": "now", "until_s": 0.0}

    def renewed():
        for _ in range(5):
            files.contents[PATH] = json.dumps(lease | {"until_s": time.monotonic() + LEASE_S}).encode()
            time.sleep(0.1)

    holder = threading.Thread(target=renewed)
    holder.start()
    time.sleep(0.02)
    with pytest.raises(BusyError, match=r"^the board at 10.0.0.7 is in use by \?\[2J\?rootx{140,160}; wait"):
        BoardLock().acquire(files)
    holder.join()


def test_a_board_without_a_clock_is_one_line(files, monkeypatch):
    monkeypatch.setattr(files, "read_file", lambda path: None)
    with pytest.raises(
        DeviceError, match=r"^the board at 10.0.0.7 cannot be locked: it has no /proc/uptime$"
    ):
        BoardLock().acquire(files)

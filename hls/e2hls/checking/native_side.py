# SPDX-License-Identifier: Apache-2.0
"""What the native build makes of given or random words, in a process of its own: a kernel may crash."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import PortReport
from e2hls.checking.stimuli import LIMITS, Limits, draw, limits_of
from e2hls.native import NativeKernel, NativeRun, build_native
from e2hls.simulation.harness import from_words, to_words

__all__ = ["Reference", "reference", "undefined_words"]

_SUPPLIES = (4096, 65_536, 1_048_576)  # random words per stream; more where a call wants more
_ENOUGH_WORDS, _FEWEST_CALLS, _MOST_CALLS = 1000, 3, 400
_MORE_CALLS = 100  # of which none takes a word
_MOST_IDLE = 1000
_SECONDS = 5.0  # of computing: a call may never end
_MOST_SECONDS = 120.0  # or wait for what never comes
_STARVED = "read from an empty stream"
_HINT = "; smaller random words fail too: correct the kernel, or give words by --input if only some are valid"
_MUST_RETURN = "a function that is checked must return: give its loops an end"
_MARK = b"\n-- e2hls reference --\n"  # before the result: the kernel itself may print
_UNSET = ("zero", "pattern")  # what variables may hold that are read before they are written
_CHILD = "from e2hls.checking.native_side import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A native run: what its calls took and gave, and what calls after it would give, words as integers."""

    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    further: dict[str, list[int]]  # of calls that have more random words
    surplus: dict[str, int]  # words that more calls give without any more words to take
    calls: int
    limits: str = ""  # on random words, since the native build fails on larger ones
    refused: str = ""  # how it fails on them
    overflow: str = ""  # the first one of a number of C++
    task: _Task | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    kernel: Kernel
    ports: tuple[str, ...]
    library: Path
    inputs: tuple[PortReport, ...]
    outputs: tuple[PortReport, ...]
    given: dict[str, int]  # words that must be used up; the others are random
    words: dict[str, list[int]]


class _StarvedError(HlsError):
    """A call wanted more words than there were."""


class _EndlessError(HlsError):
    """A call did not come back in time."""


def reference(
    kernel: Kernel,
    ports: tuple[PortReport, ...],
    given: Mapping[str, list[int]],
    *,
    scalars: frozenset[str] = frozenset(),
    seed: int = 0,
) -> Reference:
    """Run the native build on ``given`` words and random ones for the other inputs.

    Random words are as large as their streams allow, or smaller where the native build fails on such.

    Raises: HlsError where it fails on all of them, or on the given words.
    """
    native = build_native(kernel, checked=True)
    drawn = {port.name for port in ports if not port.output} - set(given)
    tried = LIMITS if drawn else LIMITS[:1]
    smaller = limits_of(tried, scalars=bool(drawn & scalars), streams=bool(drawn - scalars))
    first: HlsError | None = None
    for supply in _SUPPLIES:
        failed: list[HlsError] = []
        for at, limits in enumerate(smaller):
            if isinstance(first, _EndlessError) and at % 2:
                continue  # each that is endless too takes seconds
            try:
                task = _task(native, ports, given, limits, scalars, supply, seed)
                found = _in_child(task)
            except HlsError as error:
                first = first or error
                failed.append(error)
                if isinstance(error, _StarvedError) and not drawn & scalars:
                    break  # more words, not smaller ones: nothing says how many are read
                continue
            refused = first.message if str(limits) and first else ""
            return replace(found, limits=str(limits), refused=refused, task=task)
        if not any(isinstance(each, _StarvedError) for each in failed):
            break
    assert first is not None
    if all(isinstance(each, _StarvedError) for each in failed):  # with as many words as there are
        raise HlsError(f"{failed[0].message}; {_MUST_RETURN}")
    ends = f"; {_MUST_RETURN}" if isinstance(first, _EndlessError) else ""
    raise HlsError(f"{first.message}{ends}{_HINT if drawn else ''}")


def undefined_words(found: Reference) -> dict[str, frozenset[int]]:
    """By output, the words that depend on what local variables hold before they are written.

    Raises: HlsError with the compiler's first error.
    """
    assert found.task is not None
    words = _outputs(found)
    undefined: dict[str, set[int]] = {name: set() for name in words}
    for unset in _UNSET:
        native = build_native(found.task.kernel, unset=unset, checked=True)
        try:
            other = _outputs(_in_child(replace(found.task, library=native.library.resolve())))
        except HlsError:  # which depends on these variables too
            continue
        for name, want in words.items():
            pairs = enumerate(zip_longest(want, other[name]))
            undefined[name] |= {at for at, (one, another) in pairs if one != another}
    return {name: frozenset(found) for name, found in undefined.items()}


def _outputs(found: Reference) -> dict[str, list[int]]:
    return {name: [*words, *found.further[name]] for name, words in found.outputs.items()}


def _task(
    native: NativeKernel,
    ports: tuple[PortReport, ...],
    given: Mapping[str, list[int]],
    limits: Limits,
    scalars: frozenset[str],
    supply: int,
    seed: int,
) -> _Task:
    words = {}
    for port in ports:
        if not port.output:
            rng = random.Random(f"{seed} {port.name}")
            more = draw(port, supply, limits, rng, scalar=port.name in scalars)
            words[port.name] = [*given.get(port.name, ()), *more]
    return _Task(
        kernel=replace(native.kernel, source=native.kernel.source.resolve()),
        ports=native.ports,
        library=native.library.resolve(),
        inputs=tuple(port for port in ports if not port.output),
        outputs=tuple(port for port in ports if port.output),
        given={name: len(found) for name, found in given.items()},
        words=words,
    )


def _in_child(task: _Task) -> Reference:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    try:
        # In a folder of its own: natively a kernel may write files.
        with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
            done = subprocess.run(
                [sys.executable, "-c", _CHILD],
                input=pickle.dumps(task),
                capture_output=True,
                cwd=folder,
                env=environment,
                timeout=_MOST_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise _EndlessError(
            f"{task.kernel.name}: the native build did not end within {_MOST_SECONDS:g} s"
        ) from None
    if done.returncode == -signal.SIGVTALRM:
        raise _EndlessError(f"{task.kernel.name}: the native build did not end within {_SECONDS:g} s")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise HlsError(f"{task.kernel.name}: the native build crashed ({name})")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise HlsError(f"{task.kernel.name}: the native build ended: {(lines or ['no message'])[-1]}")
    _, mark, pickled = done.stdout.rpartition(_MARK)
    if not mark:
        raise HlsError(f"{task.kernel.name}: the native build ended this process before it returned")
    kind, result = pickle.loads(pickled)
    if kind == "starved":
        raise _StarvedError(result)
    if kind == "error":
        raise HlsError(result)
    found: Reference = result
    return found


def main() -> None:
    """The child process: a task on stdin, its result on stdout."""
    task = pickle.loads(sys.stdin.buffer.read())
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)  # which ends this process
    try:
        result: tuple[str, object] = ("found", _Runner(task).run())
    except _StarvedError as error:
        result = ("starved", error.message)
    except HlsError as error:
        result = ("error", str(error))
    sys.stdout.buffer.write(_MARK + pickle.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # no destructor of the kernel's own


class _Runner:
    """Calls a kernel until it has used up what was given, or enough."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._outputs = [port.name for port in task.outputs]
        self._idle = 0  # calls in a row that moved no word, as a state machine has between packets

    def run(self) -> Reference:
        """All calls."""
        task = self._task
        with self._start(task.words) as native:
            calls = 0
            while not self._done(native, calls):
                self._call(native, calls)
                calls += 1
            taken = {port.name: self._taken(native, port.name) for port in task.inputs}
            self._check(taken)
            counts = {name: native.size(name) for name in self._outputs}
            calls, counts = self._finish(native, calls, counts)
            for _ in range(2):
                self._try(native)
            came = {port.name: from_words(native.take(port.name), port) for port in task.outputs}
            overflow = native.overflow()
        inputs = {name: task.words[name][:count] for name, count in taken.items()}
        return Reference(
            inputs=inputs,
            outputs={name: words[: counts[name]] for name, words in came.items()},
            further={name: words[counts[name] :] for name, words in came.items()},
            surplus=self._surplus(inputs, calls, counts),
            calls=calls,
            overflow=overflow,
        )

    def _start(self, words: Mapping[str, list[int]]) -> NativeRun:
        """A run that shares no static variable with another one."""
        native = NativeKernel(self._task.kernel, self._task.ports, self._task.library)
        ports = {port.name: port for port in self._task.inputs}
        return native.start({name: to_words(given, ports[name]) for name, given in words.items()})

    def _call(self, native: NativeRun, calls: int) -> None:
        before = self._state(native)
        try:
            native.call()
        except HlsError as error:
            if _STARVED in error.message:
                raise self._starved(native, str(error), before) from None
            raise HlsError(f"{error}{self._progress(native, before, calls)}") from None
        self._idle = self._idle + 1 if self._state(native) == before else 0
        if self._idle == _MOST_IDLE:
            raise HlsError(
                f"{self._task.kernel.name}: {_MOST_IDLE} calls of the top function in a row moved no word"
            )

    def _finish(self, native: NativeRun, calls: int, counts: dict[str, int]) -> tuple[int, dict[str, int]]:
        """What comes of the last given words in calls that take none, as a state machine sends its result."""
        if not self._task.given:
            return calls, counts
        needed = calls
        for more in range(1, _MORE_CALLS + 1):
            before = [native.size(port.name) for port in self._task.inputs]
            try:
                native.call()
            except HlsError:  # it wants more words
                break
            if [native.size(port.name) for port in self._task.inputs] != before:
                break
            found = {name: native.size(name) for name in self._outputs}
            if found != counts:
                needed, counts = calls + more, found
        return needed, counts

    def _starved(self, native: NativeRun, message: str, before: list[int]) -> HlsError:
        for port, count in zip(self._task.inputs, before, strict=False):
            if native.size(port.name) == 0:
                return _StarvedError(f"{message}: one call took {count} words of {port.name} and wants more")
        return HlsError(f"{message} inside the kernel; what writes it must run before what reads it")

    def _progress(self, native: NativeRun, before: list[int], calls: int) -> str:
        """How far the words of a call that failed were taken."""
        taken = ", ".join(
            f"word {self._taken(native, port.name) - 1} of {port.name}"
            for port, count in zip(self._task.inputs, before, strict=False)
            if native.size(port.name) < count
        )
        return f" (in call {calls}, up to {taken})" if taken else f" (in call {calls})"

    def _try(self, native: NativeRun) -> None:
        with suppress(HlsError):
            native.call()

    def _state(self, native: NativeRun) -> list[int]:
        return [native.size(port.name) for port in (*self._task.inputs, *self._task.outputs)]

    def _taken(self, native: NativeRun, name: str) -> int:
        return len(self._task.words[name]) - native.size(name)

    def _done(self, native: NativeRun, calls: int) -> bool:
        if self._task.given:
            return all(self._taken(native, name) >= count for name, count in self._task.given.items())
        moved = sum(self._taken(native, port.name) for port in self._task.inputs)
        moved += sum(native.size(name) for name in self._outputs)
        # What the calls so far took on average, and as much again for those after them.
        tight = any(
            native.size(port.name) * calls < 4 * self._taken(native, port.name) for port in self._task.inputs
        )
        return calls >= _MOST_CALLS or (calls >= _FEWEST_CALLS and (moved >= _ENOUGH_WORDS or tight))

    def _check(self, taken: Mapping[str, int]) -> None:
        for name, count in self._task.given.items():
            if taken[name] > count:
                raise HlsError(
                    f"{name} was given {count} words, but the calls that use them up take {taken[name]}; "
                    "give as many as whole calls take"
                )

    def _surplus(
        self, inputs: Mapping[str, list[int]], calls: int, counts: Mapping[str, int]
    ) -> dict[str, int]:
        with self._start(inputs) as native:
            with suppress(HlsError):
                for _ in range(calls + _MORE_CALLS):
                    native.call()
            return {name: native.size(name) - counts[name] for name in self._outputs}

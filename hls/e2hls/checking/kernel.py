# SPDX-License-Identifier: Apache-2.0
"""Any kernel's RTL against the same C++ compiled for this machine, word for word, under random stalls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.build import build_rtl
from e2hls.checking.compare import Difference, compare
from e2hls.checking.native_side import Reference, reference
from e2hls.checking.stimuli import Stimuli, given_words
from e2hls.checking.wrapper import Wrapped, wrap
from e2hls.frontend.compile import preprocess
from e2hls.frontend.top_function import find_top
from e2hls.simulation.harness import Simulation, build_simulation

__all__ = ["PAUSES", "CheckReport", "CheckRun", "check", "compare_with_native", "find_kernel"]

PAUSES = ((0.0, 0.0), (0.0, 0.6), (0.6, 0.0), (0.5, 0.5))  # shares of cycles: inputs idle, outputs stall
_QUIET_CYCLES = 2_000_000  # without a word, before the RTL is said to stand still
_MOST_CYCLES = 1_000_000_000
_DEFAULTS = RtlOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """One simulation: its seed, how often its streams paused, what it found."""

    seed: int
    idle: float
    stall: float
    cycles: int
    fault: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found. The kernel's RTL is exact where no run has a fault or a difference."""

    kernel: str
    design: RtlDesign
    seed: int
    calls: int
    words: dict[str, int]  # that were compared or taken, by stream
    runs: tuple[CheckRun, ...]
    note: str = ""  # what of the interface was not checked
    limits: str = ""  # on random words
    refused: str = ""  # why there are limits

    @property
    def exact(self) -> bool:
        return not any(run.fault or run.differences for run in self.runs)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong: each fault and difference of the first run that fails, and how many runs fail."""
        failed = [run for run in self.runs if run.fault or run.differences]
        if not failed:
            return ()
        first = failed[0]
        faults = [*([first.fault] if first.fault else []), *map(str, first.differences)]
        how = f"idle {first.idle:g}, stall {first.stall:g}, --seed {self.seed} repeats it"
        return (*(f"{fault} ({how})" for fault in faults), f"{len(failed)} of {len(self.runs)} runs failed")

    def as_json(self) -> dict[str, Any]:
        """For machines: everything above but the files of the design."""
        return {
            "kernel": self.kernel,
            "exact": self.exact,
            "seed": self.seed,
            "calls": self.calls,
            "words": self.words,
            "runs": [asdict(run) for run in self.runs],
            "note": self.note,
            "limits": self.limits,
            "refused": self.refused,
        }


def find_kernel(
    source: Path,
    *,
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
    depths: Mapping[str, int] | None = None,
) -> Wrapped:
    """The kernel in a C++ file, with streams around its top function where that has other ports.

    Without ``top`` it is the function with the file's name, or the only one that no other one calls.
    ``depths`` are elements behind pointers, by parameter, where the source does not say.

    Raises: HlsError where there is no such function, or the number of elements of a parameter is not known.
    """
    if not source.is_file():
        raise HlsError(f"there is no file {source}")
    try:
        kernel = Kernel(top or "top", source, (source.parent, *include_dirs), tuple(defines))
    except ValueError as error:
        raise HlsError(str(error)) from None
    function = find_top(preprocess(kernel), source, top)
    named = Kernel(function.name, source, kernel.include_dirs, kernel.defines)
    return wrap(named, function, depths or {})


def check(
    source: Path,
    *,
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
    depths: Mapping[str, int] | None = None,
    options: RtlOptions = _DEFAULTS,
    inputs: Stimuli | None = None,
    seed: int = 1,
) -> CheckReport:
    """Build the kernel in ``source`` natively and as RTL, run both, compare.

    ``inputs`` are words by stream; streams without any get random ones.

    Raises: HlsError for what the flow does not take, or where the native build fails; SimulationError.
    """
    wrapped = find_kernel(source, top=top, include_dirs=include_dirs, defines=defines, depths=depths)
    return compare_with_native(wrapped, build_rtl(wrapped.kernel, options), inputs=inputs, seed=seed)


def compare_with_native(
    wrapped: Wrapped,
    design: RtlDesign,
    *,
    inputs: Stimuli | None = None,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """The same for RTL that is built already."""
    given = given_words(inputs or {}, design.report.ports)
    progress("native build")
    want = reference(wrapped.kernel, design.report.ports, given, scalars=wrapped.scalars, seed=seed)
    progress("building the simulation")
    simulation = build_simulation(design)
    progress("simulating")
    return CheckReport(
        kernel=wrapped.kernel.name,
        design=design,
        seed=seed,
        calls=want.calls,
        words={name: len(words) for name, words in (*want.inputs.items(), *want.outputs.items())},
        runs=tuple(_runs(simulation, want, design, seed)),
        note=wrapped.note,
        limits=want.limits,
        refused=want.refused,
    )


def _runs(simulation: Simulation, want: Reference, design: RtlDesign, seed: int) -> Iterator[CheckRun]:
    """All runs, or those up to the first that did not come to its end: pauses would not change that."""
    for at in range(len(PAUSES)):
        run = _run(simulation, want, design, seed, at)
        yield run
        if run.fault:
            return


def _run(simulation: Simulation, want: Reference, design: RtlDesign, seed: int, at: int) -> CheckRun:
    idle, stall = PAUSES[at]
    counts = {name: len(words) for name, words in (*want.inputs.items(), *want.outputs.items())}
    found = simulation.attempt(
        want.inputs,
        counts,
        seed=len(PAUSES) * seed + at,
        idle=idle,
        stall=stall,
        within_cycles=_MOST_CYCLES,
        quiet_cycles=_QUIET_CYCLES,
    )
    differences = compare(want, found, processes=len(design.report.processes))
    if found.fault:  # it says which words are missing
        differences = tuple(each for each in differences if each.rtl is not None)
    return CheckRun(
        seed=len(PAUSES) * seed + at,
        idle=idle,
        stall=stall,
        cycles=found.cycles,
        fault=found.fault,
        differences=differences,
    )

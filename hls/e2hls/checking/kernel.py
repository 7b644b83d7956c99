# SPDX-License-Identifier: Apache-2.0
"""Any kernel's RTL against the same C++ compiled for this machine, word for word, under random stalls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from e2hls.base.cache import cached, content_key
from e2hls.base.errors import HlsError, ScheduleError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.build import build_rtl
from e2hls.checking.compare import Difference, compare
from e2hls.checking.native_side import Reference, reference, undefined_words
from e2hls.checking.stimuli import Stimuli, given_words
from e2hls.checking.wrapper import Wrapped, wrap
from e2hls.frontend.compile import INTERVALS, preprocess
from e2hls.frontend.top_function import TopFunction, find_top
from e2hls.simulation.harness import Simulation, build_simulation

__all__ = [
    "PAUSES",
    "CheckReport",
    "CheckRun",
    "build_checked",
    "check",
    "compare_with_native",
    "find_function",
    "find_kernel",
]

PAUSES = ((0.0, 0.0), (0.0, 0.6), (0.6, 0.0), (0.5, 0.5))  # shares of cycles: inputs idle, outputs stall
_QUIET_CYCLES = 2_000_000  # without a word, before the RTL is said to stand still
_MOST_CYCLES = 1_000_000_000
_DEFAULTS = RtlOptions()
_Undefined = Mapping[str, frozenset[int]]


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
    # Words by stream that differ, but natively depend on variables that are read before they are written.
    undefined: dict[str, int] = field(default_factory=dict)
    # The value by stream of words that are all the same, where random words are limited: that says little.
    uniform: dict[str, int] = field(default_factory=dict)
    overflow: str = ""  # where the native build overflowed first, which C++ leaves undefined

    @property
    def exact(self) -> bool:
        return not any(run.fault or run.differences for run in self.runs)

    @property
    def verdict(self) -> str:
        """The result in a line."""
        if self.exact:
            return "exact: RTL and native build give the same words"
        if any(run.differences for run in self.runs):
            return "RTL and native build differ"
        serial = (
            "; its functions run one after the other here, so give their streams a depth for all that one "
            "writes"
        )
        return "no word differs, but the RTL does not come to its end" + (
            serial if "DATAFLOW is left out" in self.note else ""
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong: each fault and difference of the first run that fails, an overflow that may be why,
        and how many runs fail.
        """
        failed = [run for run in self.runs if run.fault or run.differences]
        if not failed:
            return ()
        first = failed[0]
        faults = [*([first.fault] if first.fault else []), *map(str, first.differences)]
        how = f"idle {first.idle:g}, stall {first.stall:g}, --seed {self.seed} repeats it"
        return (
            *(f"{fault} ({how})" for fault in faults),
            *([self.overflow] if self.overflow and first.differences else []),
            f"{len(failed)} of {len(self.runs)} runs failed",
        )

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
            "undefined": self.undefined,
            "uniform": {name: f"{word:#x}" for name, word in self.uniform.items()},
            "overflow": self.overflow,
        }


def find_kernel(
    source: Path,
    *,
    others: Sequence[Path] = (),
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
    depths: Mapping[str, int] | None = None,
) -> Wrapped:
    """The kernel in a C++ file, with streams around its top function where that has other ports.

    Without ``top`` it is the function with the file's name, or the only one that no other one calls.
    ``others`` are further sources, with what it calls. ``depths`` are elements behind pointers, by parameter,
    where the source does not say.

    Raises: HlsError where there is no such function, or the number of elements of a parameter is not known.
    """
    kernel, function = find_function(
        source, others=others, top=top, include_dirs=include_dirs, defines=defines
    )
    return wrap(kernel, function, depths or {})


def find_function(
    source: Path,
    *,
    others: Sequence[Path] = (),
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
) -> tuple[Kernel, TopFunction]:
    """The same function as it is, and the kernel that it would be.

    Raises: HlsError where there is no such function.
    """
    sources = (*others, source)
    for each in sources:
        if not each.is_file():
            raise HlsError(f"there is no file {each}")
    joined = _joined(sources) if others else source
    folders = dict.fromkeys(each.parent for each in reversed(sources))
    try:
        kernel = Kernel(top or "top", joined, (*folders, *include_dirs), tuple(defines))
    except ValueError as error:
        raise HlsError(str(error)) from None
    function = find_top(preprocess(kernel), source, top)
    return Kernel(function.name, joined, kernel.include_dirs, kernel.defines), function


def _joined(sources: Sequence[Path]) -> Path:
    """A source that consists of these, named like the last one."""
    text = "".join(f'#include "{each.resolve()}"\n' for each in sources)
    name = f"{sources[-1].stem}.cpp"

    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return cached("joined", content_key(name, text), write) / name


def check(
    source: Path,
    *,
    others: Sequence[Path] = (),
    top: str | None = None,
    include_dirs: Sequence[Path] = (),
    defines: Sequence[str] = (),
    depths: Mapping[str, int] | None = None,
    options: RtlOptions = _DEFAULTS,
    inputs: Stimuli | None = None,
    seed: int = 1,
) -> CheckReport:
    """Build the kernel in ``source`` natively and as RTL, run both, compare.

    ``others`` are further sources, with what it calls. ``inputs`` are words by stream; streams without any
    get random ones.

    Raises: HlsError for what the flow does not take, or where the native build fails; SimulationError.
    """
    wrapped = find_kernel(
        source, others=others, top=top, include_dirs=include_dirs, defines=defines, depths=depths
    )
    wrapped, design = build_checked(wrapped, options)
    return compare_with_native(wrapped, design, inputs=inputs, seed=seed)


def build_checked(wrapped: Wrapped, options: RtlOptions) -> tuple[Wrapped, RtlDesign]:
    """The kernel's RTL; without the intervals that its loops ask for where these cannot be had.

    Raises: HlsError for what the flow does not take.
    """
    try:
        return wrapped, build_rtl(wrapped.kernel, options)
    except ScheduleError as error:
        kernel = replace(wrapped.kernel, left_out=(*wrapped.kernel.left_out, INTERVALS))
        try:
            design = build_rtl(kernel, options)
        except HlsError:
            raise error from None
        note = f"II= of PIPELINE is left out, and loops run at the interval that they can, since {error}"
        return replace(wrapped, kernel=kernel, note="; ".join(filter(None, (wrapped.note, note)))), design


def compare_with_native(
    wrapped: Wrapped,
    design: RtlDesign,
    *,
    inputs: Stimuli | None = None,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """The same for RTL that is built already.

    Raises: HlsError also where no word comes out that could be compared.
    """
    name = wrapped.kernel.name
    if not any(port.output for port in design.report.ports):
        raise HlsError(
            f"{name} has no output, so there is nothing to compare; write what it computes to a stream"
        )
    given = given_words(inputs or {}, design.report.ports)
    progress("native build")
    want = reference(wrapped.kernel, design.report.ports, given, scalars=wrapped.scalars, seed=seed)
    if not any(want.outputs.values()):
        raise HlsError(
            f"{name}: no word came out in {want.calls} calls, so there is nothing to compare; give words by "
            "--input with which one does"
        )
    progress("building the simulation")
    simulation = build_simulation(design)
    progress("simulating")
    runs = tuple(_runs(simulation, want, design, seed, {}))
    undefined: dict[str, frozenset[int]] = {}
    if any(run.differences for run in runs):
        progress("looking for what the source leaves undefined")
        undefined = undefined_words(want)
        runs = tuple(_runs(simulation, want, design, seed, undefined))
    return CheckReport(
        kernel=name,
        design=design,
        seed=seed,
        calls=want.calls,
        words={name: len(words) for name, words in (*want.inputs.items(), *want.outputs.items())},
        runs=runs,
        note=wrapped.note,
        limits=want.limits,
        refused=want.refused,
        undefined=_counted(undefined, want),
        uniform=_uniform(want),
        overflow=want.overflow,
    )


def _uniform(want: Reference) -> dict[str, int]:
    """The one value of outputs that have no other, where random words are limited."""
    outputs = want.outputs.items() if want.limits else ()
    return {name: words[0] for name, words in outputs if len(words) > 1 and len({*words}) == 1}


def _counted(undefined: _Undefined, want: Reference) -> dict[str, int]:
    """How many words of the calls are undefined, by stream."""
    counts = {name: sum(at < len(want.outputs[name]) for at in words) for name, words in undefined.items()}
    return {name: count for name, count in counts.items() if count}


def _runs(
    simulation: Simulation, want: Reference, design: RtlDesign, seed: int, undefined: _Undefined
) -> Iterator[CheckRun]:
    """All runs, or those up to the first that did not come to its end: pauses would not change that."""
    for at in range(len(PAUSES)):
        run = _run(simulation, want, design, seed, at, undefined)
        yield run
        if run.fault:
            return


def _run(
    simulation: Simulation, want: Reference, design: RtlDesign, seed: int, at: int, undefined: _Undefined
) -> CheckRun:
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
    processes = len(design.report.processes)
    differences = compare(want, found, processes=processes, undefined=undefined)
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

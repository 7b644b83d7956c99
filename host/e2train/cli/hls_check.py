# SPDX-License-Identifier: Apache-2.0
"""``e2train hls check``: a kernel's RTL against its native build, and what it takes of a board's part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from e2train.cli.kernel_report import part_budget, print_report, print_schedule, progress
from e2train.config import load_config

if TYPE_CHECKING:
    from e2hls import CheckReport
    from e2hls.base.rtl_design import RtlDesign
    from e2hls.report import KernelReport, PartBudget

__all__ = ["Defines", "IncludeDirs", "Top", "check"]

Top = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The top function. (default: the one with the file's name, or the one that no other calls)",
    ),
]
IncludeDirs = Annotated[
    list[Path] | None, typer.Option("-I", metavar="DIR", help="A folder of headers; may be repeated.")
]
Defines = Annotated[
    list[str] | None, typer.Option("-D", metavar="NAME[=VALUE]", help="A macro; may be repeated.")
]

Depths = Annotated[
    list[str] | None,
    typer.Option(
        "--depth",
        metavar="NAME=COUNT",
        help="Elements behind a pointer, where the source does not say; may be repeated.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE.npy|FILE.py",
        help="A stream's words, or a Python file whose inputs(rng) returns them by stream; may be repeated. "
        "(default: random words)",
    ),
]


def check(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A C++ file with a top function.")],
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--source", metavar="FILE", help="A further source, with what it calls; may be repeated."
        ),
    ] = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    depths: Depths = None,
    inputs: Inputs = None,
    board: Annotated[
        str, typer.Option(help="Configuration in boards.toml: the part and its clock.")
    ] = "pynq_z2",
    clock_ns: Annotated[
        float | None, typer.Option(min=0.1, help="Clock period to schedule for. (default: the board's)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random words and stalls.")] = 1,
    cells: Annotated[bool, typer.Option(help="Count cells and estimate paths, by Yosys.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line.")] = False,
) -> None:
    """Compare a kernel's RTL with the same C++ compiled for this machine, word for word, under random stalls.

    A top function with arrays, pointers of known depth or scalars is wrapped: they are filled from streams
    before each call and sent out after it. Exit code 1 where a word differs.
    """
    from dataclasses import asdict, replace

    from e2hls import RtlOptions
    from e2hls.checking import read_stimuli
    from e2hls.checking.kernel import build_checked, compare_with_native, find_kernel

    config = load_config(board)
    budget = replace(part_budget(config), period_ns=clock_ns or config.period_ns)
    words = read_stimuli(inputs or [], seed=seed)
    with progress(f"{source}: C++ to SystemVerilog") as step:
        found = find_kernel(
            source,
            others=others or (),
            top=top,
            include_dirs=include_dirs or (),
            defines=defines or (),
            depths=_counts(depths or ()),
        )
        options = RtlOptions(period_ns=budget.period_ns, family=config.family)
        found, design = build_checked(found, options)
        with _report_beside(design, budget if cells else None) as wait:
            result = compare_with_native(found, design, inputs=words, seed=seed, progress=step)
            step("synthesis")
            figures = wait()
    if as_json:
        report = {"schedule": asdict(design.report), "report": figures and figures.as_json()}
        typer.echo(json.dumps(result.as_json() | report))
    else:
        if figures is None:
            print_schedule(design.report)
        else:
            print_report(figures)
        _print_check(result)
    raise typer.Exit(0 if result.exact else 1)


def _counts(depths: Sequence[str]) -> dict[str, int]:
    found = {}
    for each in depths:
        name, _, count = each.partition("=")
        if not count.isdecimal() or int(count) < 1:
            raise typer.BadParameter(f"{each!r} is not NAME=COUNT, COUNT at least 1", param_hint="--depth")
        found[name] = int(count)
    return found


@contextmanager
def _report_beside(
    design: RtlDesign, budget: PartBudget | None
) -> Iterator[Callable[[], KernelReport | None]]:
    """Synthesis in a thread beside what runs meanwhile; gives a function that waits for the figures."""
    if budget is None:
        yield lambda: None
        return
    from e2hls.report import report

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(report, design, budget).result


def _print_check(result: CheckReport) -> None:
    console = Console(soft_wrap=True)
    words = ", ".join(f"{count} words of {name}" for name, count in result.words.items())
    cycles = ", ".join(str(run.cycles) for run in result.runs)
    console.print(
        f"{result.kernel}: {words} in {result.calls} calls, {len(result.runs)} runs of {cycles} cycles "
        f"with random stalls, seed {result.seed}",
        markup=False,
    )
    if result.limits:
        console.print(f"random {result.limits}: with others {result.refused}", markup=False)
    for note in result.design.report.notes:
        console.print(f"note: {note}", markup=False)
    if result.note:
        console.print(result.note, style="yellow", markup=False)
    if result.overflow and result.exact:
        console.print(result.overflow, style="yellow", markup=False)
    for line in result.lines:
        console.print(line, style="red", markup=False)
    undefined = ", ".join(f"{count} words of {name}" for name, count in result.undefined.items())
    if undefined:
        console.print(
            f"{undefined} are not compared: natively they depend on variables that are read, or arrays that "
            "are sent out, before they are written",
            style="yellow",
            markup=False,
        )
    for name, word in result.uniform.items():
        console.print(
            f"all {result.words[name]} words of {name} are {word:#x}, as random words are limited: give "
            "words of your own by --input",
            style="yellow",
            markup=False,
        )
    console.print(result.verdict, style="green" if result.exact else "red")

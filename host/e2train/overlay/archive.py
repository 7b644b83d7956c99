# SPDX-License-Identifier: Apache-2.0
"""An overlay as one archive: .bit, .hwh and a manifest that says what they are; checked before use."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from e2train.overlay.bitfile import read_bit_header, simulated_bitstream
from e2train.overlay.description import BoardDescription
from e2train.overlay.hwh import check_hwh, hwh_text
from e2train.overlay.manifest import ENGINE, Manifest, OverlayError, read_manifest
from e2train.overlay.registers import Register, offsets

__all__ = ["OverlaySet", "read_overlay", "simulated_overlay", "write_overlay"]

_MANIFEST = "manifest.json"
_MAX_BYTES = {_MANIFEST: 64 << 10, ".bit": 128 << 20, ".hwh": 32 << 20}  # a ZCU104's bitstream has 19 MB
_ENCRYPTED = 1 << 0 | 1 << 6  # bits of a member's flags: encrypted, and strongly so
# What zipfile raises for damaged archives, beside its own error: it passes on what its parts raise.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


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
        kernel = self.manifest.kernel
        return f"{'e2train' if kernel == ENGINE else kernel}_{self.manifest.board}{kind}_{digest}"

    def unpack(self, folder: Path) -> Path:
        """Write .bit and .hwh side by side, as pynq wants them; gives the .bit's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for ending, content in ((".bit", self.bit), (".hwh", self.hwh)):
            path = folder / (self.name + ending)
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        return folder / f"{self.name}.bit"


def simulated_overlay(
    board: BoardDescription,
    *,
    source_sha256: str,
    kernel: str = ENGINE,
    registers: tuple[Register, ...] = (),
) -> OverlaySet:
    """The overlay that the simulated board takes, of the engine or of another kernel, with its registers."""
    if kernel != ENGINE:
        board = board.of_kernel()
    hwh = hwh_text(board, registers).encode()
    own: dict[str, str | int] = {}
    if kernel != ENGINE:
        own = {"kernel": kernel, "source_sha256": source_sha256}
    if registers:
        own["control_base"] = board.control_base
    bit = simulated_bitstream(board, _sha256(hwh), own)
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
        kernel=kernel,
        engines=board.engines,
        registers=offsets(registers),
    )
    return OverlaySet(manifest=manifest, bit=bit, hwh=hwh)


def write_overlay(overlay: OverlaySet, folder: Path) -> Path:
    """Put an overlay into one archive in ``folder``, the same bytes for the same content.

    Raises: OverlayError when its files are not what they should be.
    """
    _check_content(overlay)
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

    Raises: OverlayError when it is not there, not whole, or altered, or its files are not an overlay's.
    """
    try:
        manifest, bit, hwh = _members(path)
        overlay = OverlaySet(manifest=_manifest(manifest), bit=bit, hwh=hwh)
        _check_content(overlay)
    except OSError as error:
        raise OverlayError(f"cannot read {path}: {error.strerror or error}") from error
    except OverlayError as error:
        raise OverlayError(f"{path}: {error}") from None
    except _DAMAGED as error:
        raise OverlayError(f"{path} is no overlay archive: {error}") from error
    return overlay


def _members(path: Path) -> tuple[bytes, bytes, bytes]:
    """The content of manifest, .bit and .hwh."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        manifest = _member(archive, [entry for entry in entries if entry.filename == _MANIFEST], _MANIFEST)
        bit, hwh = (
            _member(archive, [entry for entry in entries if entry.filename.endswith(ending)], ending)
            for ending in (".bit", ".hwh")
        )
    return manifest, bit, hwh


def _member(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], ending: str) -> bytes:
    if len(entries) != 1:
        wanted = ending if ending == _MANIFEST else f"one {ending} file"
        raise OverlayError(f"the archive must hold {wanted}, it holds {len(entries)}")
    entry, most = entries[0], _MAX_BYTES[ending]
    if entry.file_size > most:
        raise OverlayError(f"the {ending} file has {entry.file_size} bytes, more than {most}")
    if entry.flag_bits & _ENCRYPTED:
        raise OverlayError(f"the {ending} file is encrypted; an overlay archive needs no password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OverlayError(
            f"the {ending} file is compressed by method {entry.compress_type}, must be stored or deflated"
        )
    return archive.read(entry)


def _manifest(text: bytes) -> Manifest:
    try:
        return read_manifest(text)
    except OverlayError as error:
        raise OverlayError(f"{_MANIFEST} {error}") from None


def _check_content(overlay: OverlaySet) -> None:
    """Compare the two files with the manifest, and look into them.

    Raises: OverlayError.
    """
    manifest = overlay.manifest
    for ending, content, wanted in (
        (".bit", overlay.bit, manifest.bit_sha256),
        (".hwh", overlay.hwh, manifest.hwh_sha256),
    ):
        if _sha256(content) != wanted:
            raise OverlayError(f"the {ending} file is not the one of its manifest; get the archive again")
    header = read_bit_header(overlay.bit)
    if header.simulated != manifest.simulated:
        kinds = {True: "the simulated board", False: "a real board"}
        raise OverlayError(
            f"the .bit file is for {kinds[header.simulated]}, its manifest says it is for "
            f"{kinds[manifest.simulated]}"
        )
    check_hwh(overlay.hwh, engines=manifest.engines, control=bool(manifest.registers))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""Overlay archives that are damaged, forged or empty: one line each, and never another overlay."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from e2train.cli.app import main
from e2train.overlay import (
    OverlayError,
    OverlaySet,
    load_board,
    read_overlay,
    simulated_overlay,
    write_overlay,
)
from e2train.overlay.bitfile import read_bit_header
from e2train.overlay.hwh import check_hwh
from e2train.overlay.manifest import read_manifest

OVERLAY = simulated_overlay(load_board("zcu104"), source_sha256="0" * 64)
MANIFEST = asdict(OVERLAY.manifest)
MEMBERS = {
    "overlay.bit": OVERLAY.bit,
    "overlay.hwh": OVERLAY.hwh,
    "manifest.json": json.dumps(MANIFEST).encode(),
}
T = TypeVar("T")

_DAMAGES = 600
_LOCAL_FLAGS, _LOCAL_METHOD = 6, 8  # offsets in a member's local header
_CENTRAL_FLAGS, _CENTRAL_METHOD = 8, 10  # and in its entry of the central directory


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as whole:
        for name, content in members.items():
            whole.writestr(name, content)
    return file.getvalue()


def forged(bit: bytes = OVERLAY.bit, hwh: bytes = OVERLAY.hwh, **fields: Any) -> bytes:
    """An archive whose manifest fits its files, with other fields of the manifest."""
    hashes = {"bit_sha256": hashlib.sha256(bit).hexdigest(), "hwh_sha256": hashlib.sha256(hwh).hexdigest()}
    manifest = MANIFEST | hashes | fields
    return archive({"o.bit": bit, "o.hwh": hwh, "manifest.json": json.dumps(manifest).encode()})


def patched(content: bytes, offsets: tuple[int, int], value: int) -> bytes:
    """An archive with a 16-bit field of every member's local header and central entry set."""
    raw = bytearray(content)
    for signature, offset in zip((b"PK\3\4", b"PK\1\2"), offsets, strict=True):
        for found in re.finditer(re.escape(signature), content):
            struct.pack_into("<H", raw, found.start() + offset, value)
    return bytes(raw)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, overwrite a few bytes or a run of them, cut the end off, or insert."""
    raw = bytearray(content)
    at, count = int(rng.integers(len(raw))), int(rng.integers(1, 40))
    match rng.integers(6):
        case 0:
            raw[at] ^= 1 << int(rng.integers(8))
        case 1:
            for place in rng.integers(len(raw), size=4):
                raw[place] = int(rng.integers(256))
        case 2:
            raw[at : at + count] = bytes([int(rng.choice([0, 255]))]) * len(raw[at : at + count])
        case 3:
            del raw[at:]
        case 4:
            raw[at:at] = rng.bytes(count)
        case _:  # the central directory and the end of it, where offsets and sizes are
            raw[-int(rng.integers(1, 250))] = int(rng.choice([0, 1, 127, 128, 255]))
    return bytes(raw)


def read(path: Path, content: bytes) -> OverlaySet:
    path.write_bytes(content)
    return read_overlay(path)


def outcomes(count: int, attempt: Callable[[], T]) -> tuple[list[T], list[str]]:
    """What attempts gave, and the messages of those that were refused; every other error is the test's."""
    accepted, refused = [], []
    for _ in range(count):
        try:
            accepted.append(attempt())
        except OverlayError as error:
            refused.append(str(error))
    return accepted, refused


def test_a_damaged_archive_is_refused_in_one_line_or_comes_back_equal(tmp_path, rng):
    content, path = archive(MEMBERS), tmp_path / "overlay.zip"
    accepted, refused = outcomes(_DAMAGES, lambda: read(path, damaged(content, rng)))
    assert all(overlay == OVERLAY for overlay in accepted)
    assert all(str(path) in message and "\n" not in message for message in refused)
    assert accepted  # the time stamp of a member does no harm
    assert len(refused) > _DAMAGES // 2


@pytest.mark.parametrize("kind", ["manifest.json", "overlay.bit", "overlay.hwh"])
def test_a_damaged_member_is_refused_in_one_line_or_comes_back_equal(tmp_path, rng, kind):
    """In an archive that is whole: hashes and the manifest's checks are what is left."""

    def attempt() -> tuple[bytes, OverlaySet]:
        content = damaged(MEMBERS[kind], rng)
        return content, read(tmp_path / "overlay.zip", archive(MEMBERS | {kind: content}))

    accepted, refused = outcomes(_DAMAGES // 4, attempt)
    assert refused
    assert not any("\n" in message for message in refused)
    for content, overlay in accepted:
        assert (overlay.bit, overlay.hwh) == (OVERLAY.bit, OVERLAY.hwh)
        assert asdict(overlay.manifest) == (json.loads(content) if kind == "manifest.json" else MANIFEST)


@pytest.mark.parametrize(
    ("reader", "kind"),
    [(read_manifest, "manifest.json"), (read_bit_header, "overlay.bit"), (check_hwh, "overlay.hwh")],
)
def test_a_reader_refuses_damage_in_one_line(rng, reader, kind):
    """Each reader on its own, without the hashes before it."""
    _, refused = outcomes(_DAMAGES, lambda: reader(damaged(MEMBERS[kind], rng)))
    assert refused
    assert not any("\n" in message for message in refused)


METHOD = ": the manifest.json file is compressed by method"
NESTED = ": manifest.json is nested too deeply; a manifest is one flat object"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", " is no overlay archive: File is not a zip file"),
        (archive(MEMBERS, zipfile.ZIP_BZIP2), f"{METHOD} 12, must be stored or deflated"),
        (archive(MEMBERS, zipfile.ZIP_LZMA), f"{METHOD} 14, must be stored or deflated"),
        (patched(archive(MEMBERS), (_LOCAL_METHOD, _CENTRAL_METHOD), 99),
         f"{METHOD} 99, must be stored or deflated"),
        (patched(archive(MEMBERS), (_LOCAL_FLAGS, _CENTRAL_FLAGS), 1),
         ": the manifest.json file is encrypted; an overlay archive needs no password"),
        (archive(MEMBERS | {"manifest.json": b" " * (1 << 20)}),
         ": the manifest.json file has 1048576 bytes, more than 65536"),
        (archive(MEMBERS | {"manifest.json": b"[" * 60_000}), NESTED),
        (archive(MEMBERS | {"manifest.json": b'{"board":' * 7_000}), NESTED),
        (archive(MEMBERS | {"manifest.json": b"[]"}), ": manifest.json must hold an object"),
        (forged(colour=1),
         f": manifest.json has unknown 'colour'; the keys are: {', '.join(MANIFEST)}"),
    ],
)  # fmt: skip
def test_what_is_no_overlay_archive_says_why(tmp_path, content, reason):
    path = tmp_path / "overlay.zip"
    with pytest.raises(OverlayError, match=f"^{re.escape(str(path) + reason)}$"):
        read(path, content)


WANTED = {
    **dict.fromkeys(("board", "config"), "be 1 to 64 letters, digits, _ and -"),
    **dict.fromkeys(("source_sha256", "bit_sha256", "hwh_sha256"), "be 64 lower-case hexadecimal digits"),
    "config_hash": "be in 0..2**32 - 1",
    "tool": "be 1 to 200 printable characters",
    "clock_mhz": "be above 0 and at most 1000",
    "slack_ns": "be in 0..1000 or null",
    "resources": "count lut, ff, bram36, dsp from 0 on",
}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("board", "zcu\x00104", "'zcu\\x00104'"),
        ("board", "[/red]", "'[/red]'"),
        ("board", "../zcu104", "'../zcu104'"),
        ("board", "zcu104\n", "'zcu104\\n'"),
        ("config", "", "''"),
        ("config_hash", -1, "-1"),
        ("config_hash", 1 << 32, "4294967296"),
        ("config_hash", 10**4000, "a number of 13288 bits"),
        ("source_sha256", "0" * 63,
         f"'{'0' * 56}..."),
        ("bit_sha256", "F" * 64,
         f"'{'F' * 56}..."),
        ("hwh_sha256", "", "''"),
        ("tool", "a\x1b[2J", "'a\\x1b[2J'"),
        ("tool", "\ud800", "'\\ud800'"),
        ("clock_mhz", float("nan"), "nan"),
        ("clock_mhz", float("inf"), "inf"),
        ("clock_mhz", 0, "0"),
        ("clock_mhz", -0.0, "-0.0"),
        ("clock_mhz", 10**400, "a number of 1329 bits"),
        ("slack_ns", float("nan"), "nan"),
        ("slack_ns", -0.1, "-0.1"),
        ("resources", {"lut": -1}, "{'lut': -1}"),
        ("resources", {"lut": 1.5}, "{'lut': 1.5}"),
        ("resources", {"x": 1}, "{'x': 1}"),
    ],
)  # fmt: skip
def test_every_field_of_the_manifest_is_validated(tmp_path, field, value, reason):
    path = tmp_path / "overlay.zip"
    message = f"{path}: manifest.json is wrong: {field} must {WANTED[field]}, not {reason}"
    with pytest.raises(OverlayError, match=f"^{re.escape(message)}$"):
        read(path, forged(**{field: value}))


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("board", None, "str, not None"),
        ("config_hash", True, "int, not True"),
        ("config_hash", 1.0, "int, not 1.0"),
        ("clock_mhz", False, "float, not False"),
        ("slack_ns", "0", "float | None, not '0'"),
        ("tool", 10**4000, "str, not a number of 13288 bits"),
        ("resources", [], "dict[str, int] | None, not []"),
        ("simulated", 1, "bool, not 1"),
    ],
)
def test_every_field_of_the_manifest_has_its_type(tmp_path, field, value, wanted):
    path = tmp_path / "overlay.zip"
    message = f"{path}: manifest.json {field} must be of type {wanted}"
    with pytest.raises(OverlayError, match=f"^{re.escape(message)}$"):
        read(path, forged(**{field: value}))


def test_the_bounds_of_the_fields_are_accepted(tmp_path):
    fields = {"config_hash": (1 << 32) - 1, "clock_mhz": 1000, "slack_ns": 0, "resources": {"dsp": 0}}
    assert read(tmp_path / "overlay.zip", forged(**fields)).manifest == replace(OVERLAY.manifest, **fields)


HEADER_END = OVERLAY.bit.index(b"\xff" * 32)
ANNOUNCED = len(OVERLAY.bit) - HEADER_END


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (b"", "has no header of a bitstream"),
        (b"garbage" * 100, "has no header of a bitstream"),
        (OVERLAY.bit[:20], "has no field a in its header"),
        (OVERLAY.bit.replace(b"\0b\0", b"\0x\0", 1), "has no field b in its header"),
        (OVERLAY.bit.replace(b"xczu7ev", b"xczu\xff\xffv", 1), "has no field b in its header"),
        (OVERLAY.bit[:HEADER_END], f"announces {ANNOUNCED} bytes of configuration, 0 follow"),
        (OVERLAY.bit + b"\0", f"announces {ANNOUNCED} bytes of configuration, {ANNOUNCED + 1} follow"),
        (OVERLAY.bit[:HEADER_END - 4] + bytes(4), "announces 0 bytes of configuration, 0 follow"),
        (OVERLAY.bit.replace(b"\xaa\x99\x55\x66", bytes(4), 1), "has no synchronisation word"),
    ],
)  # fmt: skip
def test_a_bit_file_that_is_no_bitstream_is_refused(tmp_path, bit, reason):
    path = tmp_path / "overlay.zip"
    with pytest.raises(OverlayError, match=f"^{re.escape(f'{path}: the .bit file {reason}; rebuild it')}$"):
        read(path, forged(bit=bit))


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"simulated": False}, ("the simulated board", "a real board")),
        (
            {"bit": OVERLAY.bit.replace(b"E2TRAIN-SIMULATED", bytes(17), 1)},
            ("a real board", "the simulated board"),
        ),
    ],
)
def test_a_simulated_overlay_does_not_pass_for_a_real_one(tmp_path, fields, kinds):
    message = "the .bit file is for {}, its manifest says it is for {}".format(*kinds)
    with pytest.raises(OverlayError, match=f"{re.escape(message)}$"):
        read(tmp_path / "overlay.zip", forged(**fields))


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><EDKSYSTEM NAME="&b;"/>'
OUTSIDE = b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><EDKSYSTEM>&x;</EDKSYSTEM>'
UTF_16 = "is no XML: encoding specified in XML declaration is incorrect: line 1, column 31"
INVALID = "is no XML: not well-formed (invalid token): line 1, column 0"
CUT_LINE = OVERLAY.hwh[:-20].count(b"\n") + 1
DOCTYPE = "has a document type declaration; a hand-off has none"


@pytest.mark.parametrize(
    ("hwh", "reason"),
    [
        (b"", "is no XML: no element found: line 1, column 0"),
        (b"\0\1\2", INVALID),
        (OVERLAY.hwh[:-20], f"is no XML: unclosed token: line {CUT_LINE}, column 2"),
        (LAUGHS, DOCTYPE),
        (OUTSIDE, DOCTYPE),
        (OVERLAY.hwh.replace(b"<EDKSYSTEM", b"<!DOCTYPE EDKSYSTEM><EDKSYSTEM", 1), DOCTYPE),
        (OVERLAY.hwh.replace(b"axi_dma_0", b"&dma;"), "is no XML: undefined entity: line 7, column 4"),
        (OVERLAY.hwh.replace(b"utf-8", b"cp037"), "has encoding 'cp037', must be UTF-8"),
        (OVERLAY.hwh.decode().encode("utf-16"), UTF_16),
        (b"<EDKSYSTEM/>", "has no module of type processing_system7 or zynq_ultra_ps_e"),
        (b"<html/>", "must hold EDKSYSTEM, not 'html'"),
        (OVERLAY.hwh.replace(b'INSTANCE="axi_dma_0"', b'INSTANCE="dma"'),
         "has no module axi_dma_0 of type axi_dma; rebuild the overlay"),
        (OVERLAY.hwh.replace(b'BASEVALUE="0xA0000000"', b'BASEVALUE="here"'), "gives axi_dma_0 no address"),
    ],
)  # fmt: skip
def test_a_hand_off_that_is_none_is_refused(tmp_path, hwh, reason):
    path = tmp_path / "overlay.zip"
    with pytest.raises(OverlayError, match=f"^{re.escape(f'{path}: the .hwh file {reason}')}$"):
        read(path, forged(hwh=hwh))


def test_what_is_no_overlay_is_not_packed(tmp_path):
    with pytest.raises(
        OverlayError, match=r"^the \.bit file is not the one of its manifest; get the archive"
    ):
        write_overlay(replace(OVERLAY, bit=b""), tmp_path / "out")
    empty = replace(OVERLAY.manifest, bit_sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(OverlayError, match=r"^the \.bit file has no header of a bitstream;"):
        write_overlay(replace(OVERLAY, bit=b"", manifest=empty), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    """``e2train bitstream check`` on an archive's content; gives (exit code, stdout, stderr)."""

    def call(content, name="overlay.zip", *options):
        monkeypatch.chdir(tmp_path)
        Path(name).write_bytes(content)
        monkeypatch.setattr("sys.argv", ["e2train", "bitstream", "check", name, *options])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_check_of_a_whole_archive_prints_its_manifest(check):
    code, out, _ = check(forged(), "overlay.zip", "--json")
    assert (code, json.loads(out)) == (0, MANIFEST)
    code, out, _ = check(forged(tool="[/red] of [bold]"), "[a].zip")
    assert code == 0
    assert "[a].zip: whole" in out
    assert "[/red] of [bold]" in out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (forged(config_hash=1),
         f"overlay.zip was built for another zcu104 (0x00000001, this version has "
         f"{OVERLAY.manifest.config_hash:#010x}); rebuild it"),
        (forged(bit=OVERLAY.bit.replace(b"xczu7ev", b"xczu3eg", 1)),
         "overlay.zip: the .bit file is for 'xczu3eg-ffvc1156-2-e', zcu104 has 'xczu7ev-ffvc1156-2-e'"),
        (forged(board="nope"),
         "overlay.zip: its board 'nope' is not known; there are: kv260, pynq_z2, zcu104"),
        (forged(board="pynq_z2"),
         "overlay.zip: its configuration is zcu104, pynq_z2 has pynq_z2; rebuild it"),
        (forged(clock_mhz=100.0),
         "overlay.zip: its clock is 100 MHz, zcu104 has 187.5 MHz; rebuild it"),
        (forged(hwh=LAUGHS), f"overlay.zip: the .hwh file {DOCTYPE}"),
        (forged(bit=b""), "overlay.zip: the .bit file has no header of a bitstream; rebuild it"),
    ],
)  # fmt: skip
def test_check_refuses_in_one_line(check, content, reason):
    assert check(content) == (2, "", f"e2train: {reason}\n")

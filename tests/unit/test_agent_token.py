# SPDX-License-Identifier: Apache-2.0
"""The token that lets a PC use a board: whole or not there, long enough, and its owner's alone."""

from __future__ import annotations

import re
import resource
from contextlib import contextmanager

import pytest
from e2train.cli.agent import main
from e2train.devices import DeviceError
from e2train.devices.agent_token import check_token, make_token, read_token

REMEDY = "; name another file, which is created if missing"


@contextmanager
def full_disk():
    """Every write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def started(capsys, *options):
    """Exit code and stderr of an agent that does not come as far as serving."""
    try:
        code = main([*options, "--device", "spec"])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


def test_a_new_token_is_kept_for_its_owner_alone(tmp_path):
    path = tmp_path / "folder" / "token"
    token = make_token(path, warn=pytest.fail)
    assert re.fullmatch(r"[\w-]{43}", token)
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_token(path, warn=pytest.fail) == read_token(path, warn=pytest.fail) == token
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_a_full_disk_leaves_no_part_of_a_token(tmp_path):
    path = tmp_path / "token"
    with (
        full_disk(),
        pytest.raises(DeviceError, match=rf"^cannot write the token file {path}: File too large$"),
    ):
        make_token(path)
    assert list(tmp_path.iterdir()) == []
    assert len(make_token(path)) == 43


@pytest.mark.parametrize(
    "token", ["7psoNYSeoazWMl7qhd9Qw-", "cf875e606de79241ee35a076c279c2af", "+" * 22, "x" * 4000]
)
def test_tokens_of_128_bits_will_do(token):
    check_token(token, source="the token")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has 0 bits, it must have at least 128"),
        (b" \n", "has 0 bits, it must have at least 128"),
        (b"a" * 31, "has 124 bits, it must have at least 128"),
        (b"x" * 21, "has 126 bits, it must have at least 128"),
        ("ä".encode() * 30, "must be one word of ASCII characters"),
        (b"\xff" * 30, "must be one word of ASCII characters"),
        (b"x" * 30 + b" " + b"x" * 30, "must be one word of ASCII characters"),
        (b"x" * 30 + b"\r\nHost: elsewhere", "must be one word of ASCII characters"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path, capsys, content, reason):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match=rf"^the token in {path} {reason}$"):
        read_token(path)
    assert started(capsys, "--token-file", str(path)) == (
        2,
        f"e2train: the token in {path} {reason}{REMEDY}\n",
    )
    assert path.read_bytes() == content


def test_a_token_file_that_is_none_is_one_line(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for path, line in {
        tmp_path: f"cannot read the token file {tmp_path}: Is a directory{REMEDY}",
        file / "token": f"cannot write the token file {file / 'token'}: File exists",
        "~no-such-user/token": "the token file ~no-such-user/token cannot be found: Could not determine home "
        "directory.",
    }.items():
        assert started(capsys, "--token-file", str(path)) == (2, f"e2train: {line}\n")


def test_a_token_file_that_others_can_read_draws_a_warning(tmp_path, capsys):
    path = tmp_path / "token"
    token = make_token(path)
    warning = f"others than its owner have access to the token file {path}; chmod 600 it"
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.warns(UserWarning, match=f"^{warning}$"):
            assert read_token(path) == token
    code, output = started(capsys, "--token-file", str(path), "--bind", "no.such.host.invalid.")
    assert (code, output.splitlines()[0]) == (2, f"e2train: {warning}")


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--port", "65536", "0 to 65535"),
        ("--port", "-1", "0 to 65535"),
        ("--port", "http", "0 to 65535"),
        ("--max-mb", "-256", "1 to 1048576"),
        ("--max-mb", "0", "1 to 1048576"),
        ("--max-mb", "1e3", "1 to 1048576"),
    ],
)
def test_an_impossible_number_is_one_line(capsys, option, value, wanted):
    assert started(capsys, option, value) == (
        2,
        f"e2train: argument {option}: must be a whole number from {wanted}, not {value}; "
        "see e2train board agent --help\n",
    )


def test_an_address_that_is_no_text_is_one_line(tmp_path, capsys):
    """A byte that is no UTF-8 comes from the command line as half a character."""
    code, output = started(capsys, "--token-file", str(tmp_path / "token"), "--bind", "\udcff", "--port", "0")
    assert code == 2
    assert re.fullmatch(r"e2train: cannot serve on \\udcff:0: [^\n]+\n", output), output


@pytest.mark.parametrize("bind", ["localhost.invalid.", "a..b", "256.0.0.1", "192.0.2.1"])
def test_an_impossible_address_is_one_line(tmp_path, capsys, bind):
    code, output = started(capsys, "--token-file", str(tmp_path / "token"), "--bind", bind, "--port", "0")
    assert code == 2
    assert re.fullmatch(rf"e2train: cannot serve on {bind}:0: [^\n]+\n", output), output

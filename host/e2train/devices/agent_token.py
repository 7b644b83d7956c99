# SPDX-License-Identifier: Apache-2.0
"""The file with the token that a PC and the agent on a board share."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from e2train.devices.protocol import DeviceError

__all__ = ["check_token", "default_token_file", "make_token", "read_token"]

_LEAST_BITS = 128
_MOST_BYTES = 4096
_OTHERS = 0o077  # rights of everybody but the owner


def default_token_file() -> str:
    """Where a token is looked for, and where an agent leaves its own."""
    return "~/.config/e2train/agent-token"


def check_token(token: str, *, source: str) -> None:
    """Refuse a token that no HTTP header can carry, or that is short enough to be guessed.

    >>> check_token("secret", source="the token")
    Traceback (most recent call last):
    ...
    e2train.devices.protocol.DeviceError: the token has 36 bits, it must have at least 128
    """
    if not re.fullmatch(r"[!-~]*", token):
        raise DeviceError(f"{source} must be one word of ASCII characters")
    bits = len(token) * (4 if re.fullmatch(r"[0-9a-fA-F]*", token) else 6)  # hexadecimal or base64
    if bits < _LEAST_BITS:
        raise DeviceError(f"{source} has {bits} bits, it must have at least {_LEAST_BITS}")


def read_token(path: Path, *, warn: Callable[[str], object] = warnings.warn) -> str:
    """The token in a file.

    Raises: DeviceError when there is no such file, or nothing in it that can be a token.
    """
    try:
        with _expanded(path).open("rb") as file:
            content, mode = file.read(_MOST_BYTES), os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DeviceError(f"cannot read the token file {path}: {_reason(error)}") from error
    token = content.decode("ascii", "replace").strip()
    check_token(token, source=f"the token in {path}")
    if mode & _OTHERS:
        warn(f"others than its owner have access to the token file {path}; chmod 600 it")
    return token


def make_token(path: Path, *, warn: Callable[[str], object] = warnings.warn) -> str:
    """The token in a file; a new one where there is none, in a file that only its owner can read.

    Raises: DeviceError when it cannot be read or written; no part of a token is left then.
    """
    file = _expanded(path)
    if os.path.exists(file):  # pathlib's raises where a folder above cannot be entered
        try:
            return read_token(file, warn=warn)
        except DeviceError as error:
            raise DeviceError(f"{error}; name another file, which is created if missing") from error
    token = secrets.token_urlsafe(32)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(file, token + "\n")
    except OSError as error:
        raise DeviceError(f"cannot write the token file {path}: {_reason(error)}") from error
    return token


def _write_atomically(path: Path, text: str) -> None:
    """A file that is there as a whole or not at all, for its owner alone."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DeviceError(f"the token file {path} cannot be found: {error}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

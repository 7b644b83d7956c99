# SPDX-License-Identifier: Apache-2.0
"""The folders of a checkout that are no Python packages; an installed package holds them beside this file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["source_folder"]

_INSTALLED = Path(__file__).resolve().parent
_CHECKOUT = _INSTALLED.parents[2]


def source_folder(name: str) -> Path:
    """A folder by its place in the checkout, wherever it is installed; ``setup.py`` lists them.

    >>> (source_folder("hls/include") / "ap_int.h").is_file()
    True
    """
    installed = _INSTALLED / name
    return installed if installed.is_dir() else _CHECKOUT / name

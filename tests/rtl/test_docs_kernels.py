# SPDX-License-Identifier: Apache-2.0
"""Pages that show kernels: the Python beside them runs these kernels natively and as RTL."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import PAGES, blocks, write_sources

WITH_KERNELS = [name for name in PAGES if blocks(name, "cpp")]


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_sources(name, tmp_path)
    found: dict[str, object] = {}
    for block in blocks(name, "python"):
        if block.file is None:  # else a command runs it
            exec(compile(block.text, name, "exec"), found)


def test_there_is_such_a_page() -> None:
    assert WITH_KERNELS == ["check.md", "kernel_on_board.md", "verify.md"]

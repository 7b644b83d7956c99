# SPDX-License-Identifier: Apache-2.0
"""A fixture that checks kernels: ``pytest_plugins = ["e2hls.checking.pytest_plugin"]`` in a conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2hls.checking.kernel import CheckReport, check

__all__ = ["hls_check"]


@pytest.fixture
def hls_check() -> Callable[..., CheckReport]:
    """``hls_check("my.cpp")``, with the options of ``e2hls.check``: a difference fails the test."""

    def run(source: str | Path, **options: Any) -> CheckReport:
        report = check(Path(source), **options)
        if not report.exact:
            pytest.fail("\n".join((f"{source}: {report.verdict}", *report.lines)), pytrace=False)
        return report

    return run

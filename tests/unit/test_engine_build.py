# SPDX-License-Identifier: Apache-2.0
"""Every build of RTL is scheduled for the clock of its board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import e2hls
import pytest
from e2hls.base.rtl_design import RtlDesign, RtlOptions, RtlReport
from e2train.cli.app import main
from e2train.cli.verify import verify_target
from e2train.config import EngineConfig, load_config
from e2train.devices.build import engine_rtl

OPTIONS = {
    "pynq_z2": RtlOptions(period_ns=10.0, family="xc7"),
    "zcu104": RtlOptions(period_ns=5.333333, family="xcup"),
    "kv260": RtlOptions(period_ns=5.333333, family="xcup"),
}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, RtlOptions]]:
    """What was asked to be built, in the place of the flow."""
    asked = []

    def build_rtl(kernel: e2hls.Kernel, options: RtlOptions, *, watch: object = None) -> RtlDesign:
        asked.append((kernel.name, options))
        return RtlDesign(kernel.name, Path(), (), (), RtlReport(ports=(), processes=(), rams=()))

    monkeypatch.setattr(e2hls, "build_rtl", build_rtl)
    return asked


def hls_build(config: EngineConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["e2train", "hls", "build", "--board", config.name])
        with pytest.raises(SystemExit, match="0"):
            main()


def bench(config: EngineConfig) -> None:
    verify_target("engine", config)


@pytest.mark.parametrize("build", [engine_rtl, hls_build, bench])
@pytest.mark.parametrize("board", OPTIONS)
def test_the_period_of_the_board_reaches_the_schedule(
    built: list[tuple[str, RtlOptions]], board: str, build: Callable[[EngineConfig], object]
) -> None:
    build(load_config(board))
    assert built == [("engine", OPTIONS[board])]

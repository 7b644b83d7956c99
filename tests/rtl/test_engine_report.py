# SPDX-License-Identifier: Apache-2.0
"""What the engine's report says of the boards."""

from __future__ import annotations

import pytest
from e2hls.report import report
from e2train.cli.kernel_report import part_budget
from e2train.config import load_config
from e2train.devices.build import engine_rtl


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("board", ["pynq_z2", "zcu104", "kv260"])
def test_engine_keeps_the_clock_by_the_estimate(board):
    config = load_config(board)
    result = report(engine_rtl(config), part_budget(config, copies=config.engines))
    assert result.deep_paths == ()
    assert result.looped_cells == 0
    assert result.fits

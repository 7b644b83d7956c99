# SPDX-License-Identifier: Apache-2.0
"""Random kernels: RTL under random stalls equals the native build (by hand: random_programs.py --count N)."""

from __future__ import annotations

import pytest
from random_programs import check

_FEW = 4
_MANY = 40


@pytest.mark.parametrize("seed", range(_FEW))
def test_random_kernel(seed, tmp_path):
    assert check(seed, tmp_path) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(_FEW, _MANY))
def test_many_random_kernels(seed, tmp_path):
    assert check(seed, tmp_path) == "equal"

# SPDX-License-Identifier: Apache-2.0
"""Random kernels: RTL under random stalls equals the native build (by hand: random_programs.py --count N)."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_programs import check, make

_FEW = 4
_MANY = 40


@pytest.mark.parametrize(
    "index", [*range(_FEW), *(pytest.param(index, marks=pytest.mark.slow) for index in range(_FEW, _MANY))]
)
def test_rtl_of_a_random_kernel_equals_native(
    index: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = 1000 * int(request.config.getoption("--seed", default=0)) + index
    print(f"python tests/rtl/random_programs.py --count 1 --seed {seed}")
    assert check(seed, tmp_path) == "equal"


def test_the_generator_covers_what_it_claims() -> None:
    text = "\n".join("\n".join(make(seed).lines) for seed in range(_MANY))
    for construct in (
        "static ap_int",
        "if (",
        "} else {",
        "for (",
        "x_in.read()",
        "y_out.write(",
        "[ap_uint<8>(",
        "const ap_uint<8> at",
        "UNROLL factor=",
        "HLS PIPELINE\n",
        "cyclic factor=",
        "block factor=",
        " / (ap_int<",
        " % (ap_int<",
        "AP_RND_CONV",
        "AP_SAT_ZERO",
    ):
        assert construct in text, construct

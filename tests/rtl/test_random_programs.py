# SPDX-License-Identifier: Apache-2.0
"""Random kernels: RTL under random stalls equals the native build (by hand: random_programs.py --count N)."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_kernels import random_kernel
from random_programs import BATCH, DIFFERENT, EQUAL, check

_FEW = 8
_MANY = 1000


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, _FEW),
        (2027, 1),  # whose words may not overtake a read that nothing depends on
        *(pytest.param(at, BATCH, marks=pytest.mark.slow) for at in range(_FEW, _FEW + _MANY, BATCH)),
    ],
)
def test_rtl_of_random_kernels_equals_native(
    first: int, count: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first += 10_000 * int(request.config.getoption("--seed", default=0))
    print(f"python tests/rtl/random_programs.py --count {count} --seed {first}")
    results = check(range(first, first + count), tmp_path)
    assert {seed: result for seed, result in results.items() if DIFFERENT in result} == {}
    refused = {seed: result for seed, result in results.items() if result != EQUAL}
    assert len(results) == count
    assert len(refused) <= count // 8, refused  # where a loop asks for an interval that it cannot have


def test_the_generator_covers_what_it_claims() -> None:
    text = "\n".join("\n".join(random_kernel(seed).lines) for seed in range(400))
    for construct in (
        "static ap_int",
        "  ap_uint<",
        "if (",
        "} else {",
        "for (",
        "while (left",
        "break;",
        "continue;",
        "switch (",
        "x_in.read()",
        "while (!x_in.read_nb(",
        "y_out.write(",
        "hls::stream<ap_int<21>> kept",
        "[ap_uint<8>(",
        "const ap_uint<8> at",
        "][",
        "UNROLL factor=",
        "HLS UNROLL\n",
        "HLS PIPELINE\n",
        "HLS PIPELINE II=1\n",
        "HLS DATAFLOW",
        "> middle;",
        "> middle[",
        "buffer[place",
        "cyclic factor=",
        "block factor=",
        " complete",
        " dim=2",
        "ARRAY_RESHAPE",
        "static const ap_int<8> t",
        "] = {};",
        " / (ap_int<",
        " % (ap_int<",
        "AP_RND_CONV",
        "AP_SAT_ZERO",
        "static ap_fixed<",
        "static ap_ufixed<",
        ").range(",
        "[0] = ",
    ):
        assert construct in text, construct

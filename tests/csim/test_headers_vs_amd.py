# SPDX-License-Identifier: Apache-2.0
"""The stand-in headers against AMD's own, which lie in the hls4ml wheel: same source, same output."""

import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from amd_headers import JUDGE, compile_with_amd, find_amd_headers
from e2hls.base.clang import INCLUDE_DIR, run_clang, system_library
from e2train.config import config_header, load_config
from e2train.devices.build import KERNELS
from e2train.numerics.frames import run_transfer
from engine_transfers import transfers


@pytest.fixture(scope="module")
def amd_headers() -> Path:
    return find_amd_headers()


def _compile_with_own(source: Path, out: Path, *options: str) -> None:
    compiled = out.with_suffix(".o")
    flags = ("-std=c++20", "-O0", "-w", "-fno-sanitize=undefined", *system_library(), f"-I{INCLUDE_DIR}")
    run_clang([*flags, *options, "-c", source, "-o", compiled])
    subprocess.run(["g++", compiled, "-o", out], check=True)


def _narrow_pairs(widths: Iterable[int], others: Iterable[int]) -> list[str]:
    types, second = (
        [f"ap_{sign}int<{width}>" for width in each for sign in ("", "u")] for each in (widths, others)
    )
    return [f"NUMBERS({a}, {b})" for a in types for b in second]


QUICK = [
    *_narrow_pairs((1, 3), (1, 2, 3)),
    "NUMBERS(ap_uint<8>, ap_int<8>)",
    "NUMBERS(ap_int<8>, ap_uint<13>)",
    "NUMBERS(ap_int<20>, ap_uint<40>)",
    "NUMBERS(ap_int<32>, ap_uint<32>)",
    "NUMBERS(ap_int<33>, ap_int<16>)",
    "NUMBERS(ap_uint<63>, ap_int<64>)",
    "NUMBERS(ap_uint<64>, ap_int<64>)",
    "NUMBERS(ap_int<65>, ap_uint<31>)",
    "NUMBERS(ap_uint<100>, ap_int<100>)",
    "ALONE(ap_int<1>)",
    "ALONE(ap_uint<5>)",
    "ALONE(ap_int<64>)",
    "ALONE(ap_uint<100>)",
    "NATIVES(ap_int<5>)",
    "NATIVES(ap_uint<64>)",
    "REFERENCES(ap_int<3>, ap_uint<4>)",
    "REFERENCES(ap_uint<66>, ap_int<9>)",
]
SWEEP = {
    **{f"numbers of {w} bits": _narrow_pairs((w,), range(1, 7)) for w in range(1, 7)},
    "wide numbers": _narrow_pairs((7, 16, 31, 32, 33, 63, 64, 80), (8, 17, 32, 64, 65, 128)),
    **{
        f"references into {a}": [f"REFERENCES({a}, {b})" for b in ("ap_uint<1>", "ap_int<4>", "ap_uint<65>")]
        for a in ("ap_int<1>", "ap_uint<5>", "ap_int<8>", "ap_uint<32>", "ap_int<64>", "ap_int<70>")
    },
    **{
        f"single {a}": [f"ALONE({a})", f"NATIVES({a})"]
        for w in (1, 2, 8, 31, 32, 33, 65, 128)
        for a in (f"ap_int<{w}>", f"ap_uint<{w}>")
    },
}


@pytest.mark.parametrize(
    "cases",
    [pytest.param(QUICK, id="quick")]
    + [pytest.param(cases, id=name, marks=pytest.mark.slow) for name, cases in SWEEP.items()],
)
def test_integers_as_amd_computes_them(cases: list[str], tmp_path: Path, amd_headers: Path) -> None:
    text = "".join(f"{case};\n" for case in cases)
    assert _equal_lines("integers.cpp", text, tmp_path, amd_headers) > 20 * len(cases)


FORMATS = """\
typedef ap_fixed<5, 2> S52;
typedef ap_fixed<5, 3, AP_RND_CONV, AP_SAT> S53;
typedef ap_fixed<6, -1> S6;
typedef ap_fixed<5, 0> S50;
typedef ap_fixed<40, 21> S40;
typedef ap_ufixed<4, 2> U42;
typedef ap_ufixed<4, 6> U46;
typedef ap_ufixed<5, 0> U50;
typedef ap_ufixed<33, 9, AP_RND, AP_SAT> U33;
typedef ap_ufixed<70, 9> U70;
"""
FIXED = {
    "quick": ["PAIR(S52, U42)", "ALONE(S52)", "CONVERTED(S52, true, 4, 3)", "CONVERTED(S6, false, 3, 0)"],
    "ranges": ["RANGES(S52)"],
    "ranges of wide numbers": ["RANGES(S40)", "RANGES(U70)"],
    "no integer bits": ["ALONE(S50)", "ALONE(U50)"],
    "alone": ["ALONE(S6)", "ALONE(S53)", "ALONE(S40)", "ALONE(U33)"],
    "both signed": ["PAIR(S52, S53)", "PAIR(S40, S50)"],
    "operators": ["PAIR(U42, S53)", "PAIR(S53, U46)", "PAIR(S40, U33)", "PAIR(U33, S52)"],
    "narrower": ["CONVERTED(S52, false, 3, 1)", "CONVERTED(U42, true, 3, 2)", "CONVERTED(S6, true, 3, 0)"],
    "wider": ["CONVERTED(U50, false, 7, 3)", "CONVERTED(S52, true, 12, 5)", "CONVERTED(S52, true, 3, 6)"],
    "wide": ["CONVERTED(S40, true, 12, 6)", "CONVERTED(U33, false, 8, 3)"],
}
QUICK_FIXED = ("quick", "ranges", "no integer bits")


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(cases, id=name, marks=() if name in QUICK_FIXED else pytest.mark.slow)
        for name, cases in FIXED.items()
    ],
)
def test_fixed_point_as_amd_computes_it(cases: list[str], tmp_path: Path, amd_headers: Path) -> None:
    text = FORMATS + "".join(f"{case};\n" for case in cases)
    assert _equal_lines("fixed.cpp", text, tmp_path, amd_headers) > 20 * len(cases)


def _equal_lines(source: str, cases: str, folder: Path, amd_headers: Path) -> int:
    """How many lines both programs print; they must be the same."""
    (folder / "cases.inc").write_text(cases)
    with ThreadPoolExecutor() as both:
        amd = both.submit(compile_with_amd, JUDGE / source, folder / "amd", amd_headers, f"-I{folder}")
        own = both.submit(_compile_with_own, JUDGE / source, folder / "own", f"-I{folder}")
        amd.result(), own.result()
    want, got = _run(folder / "amd"), _run(folder / "own")
    wrong = [line.rsplit(" ", 1)[0] for line, other in zip(want, got, strict=True) if line != other]
    assert not wrong, "\n".join([*wrong, *_difference(folder, *wrong[0].split("|"))])
    return len(want)


def _run(program: Path, *arguments: str) -> list[str]:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _difference(folder: Path, pair: str, operation: str) -> Iterator[str]:
    """The first operands for which an operation differs, with the limbs of both results, highest first."""
    amd, own = (_run(folder / name, pair, operation) for name in ("amd", "own"))
    for want, got in zip(amd, own, strict=True):
        if want != got:
            yield f"{pair} {operation}: AMD's headers give {want}, these {got}"
            return


@pytest.mark.slow
def test_engine_under_amd_headers_equals_spec(tmp_path, amd_headers, rng, assert_same_bits):
    config = load_config("pynq_z2")
    (tmp_path / "engine_config.hpp").write_text(config_header(config))
    engine = tmp_path / "engine"
    options = (f"-I{JUDGE}", f"-I{KERNELS}", f"-I{tmp_path}", "-idirafter", str(INCLUDE_DIR))
    compile_with_amd(JUDGE / "engine_main.cpp", engine, amd_headers, *options)
    for case, words in transfers(rng, config, random=5):
        done = subprocess.run([engine], input=words.tobytes(), capture_output=True, check=True)
        got = np.frombuffer(done.stdout, np.uint64)
        assert_same_bits(got, run_transfer(words, config), case=case, words=words)

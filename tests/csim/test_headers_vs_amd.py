# SPDX-License-Identifier: Apache-2.0
"""The stand-in headers against AMD's own, which lie in the hls4ml wheel: same source, same output."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from e2hls.clang import INCLUDE_DIR, run_clang, system_library
from e2train.config import config_header, load_config
from e2train.devices.build import KERNELS
from e2train.numerics.engine import run_transfer
from engine_transfers import transfers

JUDGE = Path(__file__).parent / "amd"


@pytest.fixture(scope="module")
def amd_headers() -> Path:
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no hls4ml, whose wheel has AMD's ap_int headers: pip install 'e2train[dev]'")
    if shutil.which("g++") is None:
        pytest.skip("no g++ on PATH")
    return Path(spec.submodule_search_locations[0]) / "templates" / "vivado" / "ap_types"


def _compile_with_amd(source: Path, out: Path, headers: Path, *options: str) -> None:
    done = subprocess.run(
        ["g++", "-std=c++14", "-O0", "-w", f"-I{headers}", *options, source, "-o", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]


def test_integers_as_amd_computes_them(tmp_path, amd_headers):
    source = JUDGE / "integers.cpp"
    _compile_with_amd(source, tmp_path / "amd", amd_headers)
    run_clang(
        [
            "-std=c++20",
            "-O0",
            "-w",
            "-fno-sanitize=undefined",
            *system_library(),
            f"-I{INCLUDE_DIR}",
            "-c",
            source,
            "-o",
            tmp_path / "own.o",
        ]
    )
    subprocess.run(["g++", tmp_path / "own.o", "-o", tmp_path / "own"], check=True)
    amd, own = (
        subprocess.run([tmp_path / name], capture_output=True, text=True, check=True).stdout.split("\n")
        for name in ("amd", "own")
    )
    assert len(own) == len(amd) > 30_000
    pair = ""
    for line, want in zip(own, amd, strict=True):
        pair = want if want.startswith("[") else pair
        assert line == want, f"{pair}: got {line!r}, AMD's headers give {want!r}"


def test_engine_under_amd_headers_equals_spec(tmp_path, amd_headers, rng, assert_same_bits):
    config = load_config("pynq_z2")
    (tmp_path / "engine_config.hpp").write_text(config_header(config))
    engine = tmp_path / "engine"
    options = (f"-I{JUDGE}", f"-I{KERNELS}", f"-I{tmp_path}", "-idirafter", str(INCLUDE_DIR))
    _compile_with_amd(JUDGE / "engine_main.cpp", engine, amd_headers, *options)
    for case, words in transfers(rng, config, random=5):
        done = subprocess.run([engine], input=words.tobytes(), capture_output=True, check=True)
        got = np.frombuffer(done.stdout, np.uint64)
        assert_same_bits(got, run_transfer(words, config), case=case, words=words)

# SPDX-License-Identifier: Apache-2.0
"""AMD's own headers, which lie in the hls4ml wheel, as the judge of the stand-ins."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["JUDGE", "compile_with_amd", "find_amd_headers"]

JUDGE = Path(__file__).parent / "csim" / "amd"


def find_amd_headers() -> Path:
    """Where AMD's headers are; skips the test where they are not, or no g++ is."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no hls4ml, whose wheel has AMD's ap_int headers: pip install 'e2train[dev]'")
    if shutil.which("g++") is None:
        pytest.skip("no g++ on PATH")
    return Path(spec.submodule_search_locations[0]) / "templates" / "vivado" / "ap_types"


def compile_with_amd(source: Path, out: Path, headers: Path, *options: str) -> None:
    """Compile a program against AMD's headers."""
    done = subprocess.run(
        ["g++", "-std=c++14", "-O0", "-w", "-DNDEBUG", f"-I{headers}", *options, source, "-o", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]

# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a seed of their own, and comparisons that leave a case to run again."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Modules of cocotb, which only a simulator can import; fixtures, which hold no doctest.
collect_ignore_glob = ["*_bench.py", "no_bench.py", "conftest.py", "*/conftest.py"]
ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "crashers"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="base of every test's seed (default: %(default)s)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long modules without an engine beside the first with one: else both workers wait for its build."""

    def turn(item: pytest.Item) -> int:
        name = item.path.stem
        first = name.startswith("test_agent") or name == "test_board_in_use"
        return {"test_e2hls_report": 0, "test_e2hls_rtl": 2}.get(name, 1 if first else 3)

    items.sort(key=turn)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Seed of one test, from its name: adding a test moves no other test's draws."""
    base = request.config.getoption("--seed", default=0)
    request.node.add_report_section("setup", "seed", f"--seed {base} repeats this")
    return int.from_bytes(hashlib.sha256(f"{base}:{request.node.nodeid}".encode()).digest()[:8], "little")


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Random numbers of this test alone."""
    return np.random.default_rng(seed)


@pytest.fixture
def assert_same_bits(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare two arrays bit for bit; see ``compare`` inside."""

    def compare(got: np.ndarray, want: np.ndarray, *, case: str, **inputs: np.ndarray) -> None:
        """Fail at the first differing element, keeping inputs, got and want for a re-run."""
        got, want = np.asarray(got), np.asarray(want)
        assert (got.dtype, got.shape) == (want.dtype, want.shape), (
            f"{case}: got {got.dtype}{got.shape}, want {want.dtype}{want.shape}"
        )
        wrong = np.argwhere(got != want)
        if wrong.size:
            kept = _keep(request, got=got, want=want, **inputs)
            at = tuple(wrong[0].tolist())
            raise AssertionError(
                f"{case}: {len(wrong)} of {want.size} differ, first at {at}: got {got[at]}, want {want[at]}; "
                f"run {kept}/rerun.sh"
            )

    return compare


@pytest.fixture
def equals_spec(
    assert_same_bits: Callable[..., None], rng: np.random.Generator
) -> Callable[[Any, Any], None]:
    """Compare what a resident device and the spec make of a case; see ``resident_checks.compare``."""
    from resident_checks import compare  # what it needs, other tests do not

    return lambda device, case: compare(device, case, rng, assert_same_bits)


@pytest.fixture
def equals_spec_together(
    assert_same_bits: Callable[..., None], rng: np.random.Generator
) -> Callable[[Any, int], Any]:
    """Compare operations that overlap on a device with the spec; see ``resident_checks.compare_together``."""
    from resident_checks import compare_together

    return lambda device, samples: compare_together(device, samples, rng, assert_same_bits)


def _keep(request: pytest.FixtureRequest, **arrays: np.ndarray) -> Path:
    nodeid, base = request.node.nodeid, request.config.getoption("--seed", default=0)
    digest = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
    folder = KEPT / f"{request.node.originalname}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "case.npz", **arrays)
    rerun = folder / "rerun.sh"
    rerun.write_text(f"#!/bin/sh\ncd '{ROOT}' && .venv/bin/pytest -n0 --seed {base} '{nodeid}'\n")
    rerun.chmod(0o755)
    return folder.relative_to(ROOT)

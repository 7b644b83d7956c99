# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of resident steps run, and tell apart what they time."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from e2train.train import deterministic

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the folder of scripts, by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    with deterministic(1):  # torch's threads are as before afterwards
        yield importlib.import_module


def test_a_resident_step_is_timed_by_kind_of_operation(scripts):
    bench = scripts("bench_emulator")
    row = bench.measure(name="resnet8", batch=4, repeats=1, warm_up=1, threads=1)
    ways = row["ways"]
    assert list(ways) == ["plain", "resident, 8-bit gradients", "resident, 16-bit gradients", "offloaded"]
    kinds = {"forward", "grad_input", "grad_weight", "affine", "reduce", "transfers", "host"}
    for way, figures in ways.items():
        assert figures["ratio"] == pytest.approx(figures["s"] / ways["plain"]["s"], rel=0.1)
        assert set(figures["s_by_kind"]) == (kinds if way.startswith("resident") else {"host"})
        assert sum(figures["s_by_kind"].values()) == pytest.approx(figures["s"], abs=1e-3)


def test_drops_and_skips_are_timed_against_a_whole_training(scripts):
    bench = scripts("bench_savings")
    row = bench.measure(name="resnet8", batch=16, steps=6, warm_up=1, drop=0.5, skip=0.4, gradient_bits=8)
    assert row["executed_steps"] == sum(
        not bench.Smd(probability=0.5, seed=0).drops(step) for step in range(6)
    )
    assert row["skipped_share"] == pytest.approx(0.4, abs=0.15)
    assert row["ratio"] == pytest.approx(row["saving_s_per_step"] / row["whole_s_per_step"], rel=0.02)


@pytest.mark.parametrize("words", [(), ("--on-board", "--gates")], ids=["remote", "on board"])
def test_the_hosts_own_time_of_a_step_is_that_of_as_many_frames(scripts, monkeypatch, capsys, words):
    bench = scripts("bench_host_step")
    options = ("--board", "pynq_z2", "--model", "digits", "--batch", "8", "--steps", "1", "--json", *words)
    monkeypatch.setattr("sys.argv", ["bench_host_step.py", *options, "--limit", "1e-6"])
    assert bench.main() == 1
    row = json.loads(capsys.readouterr().out)
    assert row["frames"] > 50
    assert min(row["host_s"], row["first_step_s"]) > 0
    assert 0 < row["compute_s"] < 0.1

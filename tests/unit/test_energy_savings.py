# SPDX-License-Identifier: Apache-2.0
"""Modelled energy: worked by hand, against the ledger of real runs, and split into factors that multiply."""

import re
from dataclasses import asdict, replace
from functools import cache
from math import prod
from pathlib import Path

import pytest
from e2train.config import load_config
from e2train.devices import Counters
from e2train.energy import EnergyError, Work, load_costs, modelled
from e2train.nn import GATES, build_model
from e2train.runtime import LedgerRow, works
from e2train.train import PRESETS, read_run, run_training
from e2train.train.savings import TECHNIQUES, full_training, savings

CONFIG = PRESETS["digits"].changed(
    execution="offload",
    steps=24,
    batch=16,
    seed=3,
    swa_first=0.5,
    skip=0.6,
    gate_weight=100.0,
    test_images=20,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs with other settings: configuration, summary and ledger; each is trained once."""

    @cache
    def trained(**options):
        config, out = CONFIG.changed(**options), tmp_path_factory.mktemp("run")
        return config, run_training(config, out=out), read_run(out).ledger

    return trained


def test_a_work_is_priced_as_by_hand():
    table = load_costs()
    work = Work(
        layer="conv",
        direction="forward",
        macs=1000,
        a_bits=8,
        b_bits=8,
        a_stored_bits=8,
        b_stored_bits=8,
        a_reads_per_mac=1 / 8,
        b_reads_per_mac=1.0,
        a_values=64,
        b_values=16,
        results=32,
    )
    priced = modelled([work], table)
    assert priced.arithmetic_j == pytest.approx(1000 * (0.2 + 0.1) * 1e-12, rel=1e-3)  # Horowitz' figures
    assert priced.sram_j == pytest.approx(1000 * 9 / 64 * 20e-12)
    assert priced.dram_j == pytest.approx((64 * 8 + 16 * 8 + 32 * 32) / 64 * 1950e-12)
    assert priced.total_j == priced.arithmetic_j + priced.sram_j + priced.dram_j


@pytest.mark.parametrize(
    ("mode", "multiplied", "stored", "reads", "result_bits"),
    [
        ("forward", (8, 8), (8, 8), (1 / 16, 1.0), 32),
        ("grad_input", (16, 8), (16, 8), (1 / 8, 1.0), 32),
        ("grad_weight", (8, 16), (8, 16), (1 / 8, 1 / 16), 64),
        ("grad_msb", (4, 10), (8, 16), (1 / 16, 1 / 16), 32),
    ],
)
def test_widths_and_reads_are_those_of_the_engine(mode, multiplied, stored, reads, result_bits):
    row = LedgerRow(name="conv", mode=mode, a_values=5, b_values=6, results=7, counters=Counters(macs=9))
    (work,) = works([row], config=load_config("pynq_z2"))
    assert (work.a_bits, work.b_bits) == multiplied
    assert (work.a_stored_bits, work.b_stored_bits) == stored
    assert (work.a_reads_per_mac, work.b_reads_per_mac) == reads
    assert (work.macs, work.a_values, work.b_values, work.results) == (9, 5, 6, 7)
    assert (work.result_bits, work.on_host) == (result_bits, False)


def test_what_is_expected_of_a_full_training_is_what_its_ledger_says(run):
    """Two independent counts: shapes of the model times the schedule, and calls as they ran."""
    _, _, ledger = run(method="smb-int8")
    expected = full_training("digits", calls=24, samples=24 * 16)
    ran = {(row.name, row.mode): replace(row, saturations=0) for row in ledger.training}
    assert {(row.name, row.mode) for row in expected} == set(ran)
    for row in expected:
        assert replace(ran[row.name, row.mode], counters=Counters(macs=row.counters.macs)) == row


@pytest.mark.parametrize("method", ["smb-fp32", "smb-int8"])
def test_methods_that_save_nothing_have_factors_of_one(run, method):
    _, summary, _ = run(method=method)
    factors = dict(summary.energy_factors)
    widths = factors.pop("widths")
    assert factors == pytest.approx(dict.fromkeys(TECHNIQUES[1:], 1.0), rel=1e-12)
    assert widths == pytest.approx(1.0 if method == "smb-fp32" else summary.energy_of_smb_fp32, rel=1e-12)
    same = summary.energy_of_smb_fp32 if method == "smb-fp32" else summary.energy_of_smb_int8
    assert same == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("psg_mode", ["resolve", "sparsify", "predict"])
def test_factors_multiply_to_the_whole(run, psg_mode):
    config, summary, ledger = run(method="e2train", psg_mode=psg_mode)
    saved = savings(config, ledger, load_costs())
    assert tuple(summary.energy_factors) == TECHNIQUES
    gates = {row.mode for row in ledger.training if row.name == GATES}
    assert gates == {"forward", "grad_input", "grad_weight"}
    assert prod(summary.energy_factors.values()) == pytest.approx(summary.energy_of_smb_fp32, rel=1e-12)
    assert summary.energy_modelled_j == pytest.approx(saved.smb_fp32.total_j * summary.energy_of_smb_fp32)
    assert summary.energy_factors["smd"] == pytest.approx(summary.steps_run / 24, rel=1e-9)
    assert 0.2 < summary.energy_factors["slu"] < 0.95
    assert summary.energy_factors["averaging"] > 1
    assert (summary.energy_factors["psg"] > 1) == (psg_mode == "resolve")


def test_one_technique_alone_leaves_the_other_factors_at_one(run):
    for method, technique in (("smd", "smd"), ("slu", "slu"), ("psg", "psg")):
        _, summary, _ = run(method=method, swa_first=1)
        for name in set(TECHNIQUES[1:]) - {technique}:
            assert summary.energy_factors[name] == pytest.approx(1.0, rel=1e-12), (method, name)
        assert summary.energy_factors[technique] < 1


def test_computation_is_that_of_the_widths(run):
    _, summary, _ = run(method="smb-int8")
    assert summary.computation_of_smb_int8 == 1.0
    assert 64 / 1024 < summary.computation_of_smb_fp32 < 128 / 1024
    _, narrow, _ = run(method="smb-int8", gradient_bits=8)
    assert 192 / 320 < narrow.computation_of_smb_int8 < 192 / 320 * 1.05  # the stem has no grad_input
    assert narrow.energy_factors["widths"] < summary.energy_factors["widths"]
    assert narrow.energy_of_smb_int8 < 1


def test_convolutions_on_the_host_are_float32_in_every_method():
    rows = full_training("mobilenetv2", calls=1, samples=2)
    model, _ = build_model("mobilenetv2")
    depthwise = {name for name, module in model.named_modules() if getattr(module, "groups", 1) > 1}
    assert depthwise
    assert {row.name for row in rows if row.counters.host_macs} == depthwise
    assert all(work.on_host for work in works(rows, config=load_config("pynq_z2")) if work.layer in depthwise)


def costs_file(path: Path, **costs: object) -> Path:
    """A file with the project's table and other costs in it."""
    text = "".join(
        f"{key} = {costs.get(key, value)!r}\n" for key, value in asdict(load_costs()).items() if key != "name"
    )
    path.write_text(f"[t]\n{text}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[t", "is not TOML"),
        ("", "has no table ''; there are: none"),
        ("[t]\ntitle = 'x'\n", "table t: lacks "),
        ("x = " + "[" * 20_000, "costs.toml is nested too deeply; a cost table has numbers and text alone"),
    ],
)
def test_malformed_cost_tables_are_one_line(tmp_path, text, message):
    path = tmp_path / "costs.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EnergyError, match=re.escape(message)):
        load_costs(path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1.0, "-1.0"), (2e12, "2000000000000.0"), (10**400, "a number of 1329 bits"), (float("nan"), "nan")],
    ids=["negative", "large", "401 digits", "nan"],
)
@pytest.mark.parametrize("key", ["sram_pj", "accumulator_bits"])
def test_a_cost_out_of_bounds_is_refused(tmp_path, key, value, shown):
    path = costs_file(tmp_path / "costs.toml", **{key: value})
    wanted = f"{key} must be a number in 0..1e+12, not {shown}"
    if key == "accumulator_bits" and isinstance(value, float):
        wanted = f"accumulator_bits must be of type int, not {shown}"
    with pytest.raises(EnergyError) as raised:
        load_costs(path)
    assert str(raised.value) == f"{path}, table t: {wanted}"


FREE = {key: 0 for key in asdict(load_costs()) if "_pj" in key}


@pytest.mark.parametrize(
    "costs", [{}, {"int_add_pj_per_bit": 1.0}, {"float32_mult_pj": 1.0}, {"dram_pj": 1e-300}]
)
def test_a_table_in_which_a_reference_costs_nothing_is_refused(tmp_path, costs):
    """Reports divide by the energy of the same training in float32, and in int8."""
    path = costs_file(tmp_path / "costs.toml", **FREE | costs)
    with pytest.raises(EnergyError) as raised:
        load_costs(path)
    assert str(raised.value) == (
        f"{path}, table t: float32 or int8 would cost nothing; set sram_pj or dram_pj above 0, or one of "
        "float32_* and one of int_*"
    )


@pytest.mark.parametrize(
    "costs", [{"sram_pj": 1.0}, {"dram_pj": 1e12}, {"float32_add_pj": 1.0, "int_mult_pj_per_bit2": 1.0}]
)
def test_a_table_may_price_a_part_alone(tmp_path, costs):
    table = load_costs(costs_file(tmp_path / "costs.toml", **FREE | costs))
    assert {key: value for key, value in asdict(table).items() if key in costs} == costs

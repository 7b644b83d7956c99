# SPDX-License-Identifier: Apache-2.0
"""Resident training on the engine: the bits of the emulator, cycles of the simulated hardware."""

import json

import pytest
from e2train.train import PRESETS, run_training

RUN = PRESETS["digits"].changed(execution="resident", seed=7)
SHORT = {"steps": 3, "batch": 6, "test_images": 8, "skip": 0.4}
WHOLE = {"steps": 40}
VARIANTS = {
    "e2train": {},
    "resolve, 16-bit gradients": {"psg_mode": "resolve", "gradient_bits": 16},
    "8-bit block gradients": {
        "result_bits": 8,
        "block_gradient_bits": 8,
        "gradient_rounding": "dithered",
    },
}
SLOW_VARIANTS = {
    "smb-int8": {"method": "smb-int8"},
    "sparsify": {"psg_mode": "sparsify"},
    "resolve": {"psg_mode": "resolve"},
    "16-bit gradients": {"gradient_bits": 16},
    "sparsify, 16-bit gradients": {"psg_mode": "sparsify", "gradient_bits": 16},
    "8-bit results": {"result_bits": 8},
}
WORK = ("macs", "host_macs", "elementwise", "dram_bytes", "host_bytes")
EQUAL = ("weights_sha256", "state_sha256", "macs", "saturations", "test_accuracy", "host_bytes_per_step")


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_rtl_trains_to_the_bits_of_the_emulator(tmp_path, options):
    config = RUN.changed(**SHORT, **options)
    want = run_training(config, out=tmp_path / "emulator")
    got = run_training(config.changed(device="rtl"), out=tmp_path / "rtl")
    for key in EQUAL:
        assert getattr(got, key) == getattr(want, key), key
    assert want.cycles is None
    ledgers = [json.loads((tmp_path / device / "ledger.json").read_text()) for device in ("emulator", "rtl")]
    wanted, rows = (
        [row for phase in ("training", "averaging", "test") for row in ledger[phase]] for ledger in ledgers
    )
    assert got.cycles == sum(row["counters"]["cycles"] or 0 for row in rows)
    for row, other in zip(rows, wanted, strict=True):
        counters, zero = row.pop("counters"), other.pop("counters")
        assert row == other
        ran = counters["macs"] + counters["elementwise"] > 0
        assert (counters["cycles"] is not None) == (counters["frames"] > 0) == ran
        assert {key: counters[key] for key in WORK} == {key: zero[key] for key in WORK}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [*VARIANTS.values(), *SLOW_VARIANTS.values()],
                         ids=[*VARIANTS, *SLOW_VARIANTS])  # fmt: skip
def test_devices_train_to_the_same_bits(tmp_path, options):
    config = RUN.changed(**WHOLE, **options)
    want = run_training(config, out=tmp_path / "emulator")
    for device in ("csim", "rtl"):
        got = run_training(config.changed(device=device), out=tmp_path / device)
        for key in EQUAL:
            assert getattr(got, key) == getattr(want, key), (device, key)

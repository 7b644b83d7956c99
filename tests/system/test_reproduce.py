# SPDX-License-Identifier: Apache-2.0
"""A short row of a long table, trained by its script, can be trained again to the bit."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from e2train.train import read_config, run_training

SCRIPT = Path(__file__).parents[2] / "scripts/reproduce.py"
ROWS = ("smb-fp32", "e2train, aggressive")


def write_images(root: Path) -> Path:
    """Random images in the layout of CIFAR-10's archive."""
    rng = np.random.default_rng(1)
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        batch = {"data": rng.integers(0, 256, (6, 3072), np.uint8), "labels": rng.integers(0, 10, 6).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    return root


def test_a_short_row_is_the_same_to_the_bit(tmp_path):
    options = ["--data", str(write_images(tmp_path)), "--steps", "4", "--seeds", "1", "--jobs", "2"]
    command = [
        sys.executable,
        SCRIPT,
        "--table",
        "long-resnet8",
        *options,
        "--out",
        tmp_path,
        "--rows",
        *ROWS,
    ]
    subprocess.run(command, check=True, capture_output=True)
    out = tmp_path / "long-resnet8-4steps"
    fp32, e2train = json.loads((out / "table.json").read_text())
    assert (fp32["row"], e2train["row"]) == ROWS
    assert fp32["energy_of_smb_fp32"] == 1.0  # element-wise passes are counted in both
    (first,) = e2train["runs"]
    again = run_training(read_config(out / "e2train-aggressive-seed0/config.toml"), out=tmp_path / "again")
    assert (again.weights_sha256, again.state_sha256) == (first["weights_sha256"], first["state_sha256"])

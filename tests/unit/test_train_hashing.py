# SPDX-License-Identifier: Apache-2.0
"""Hashes of states: equal exactly when every bit is."""

import pytest
import torch
from e2train.train.hashing import state_sha256


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.tensor([1.0, -0.0]), "n": [1, None]},
        {"w": torch.tensor([1.0, 0.0], dtype=torch.float64), "n": [1, None]},
        {"w": torch.tensor([[1.0, 0.0]]), "n": [1, None]},
        {"w": torch.tensor([1.0, 0.0]), "n": [True, None]},
        {"w": torch.tensor([1.0, 0.0]), "n": [1]},
        {"v": torch.tensor([1.0, 0.0]), "n": [1, None]},
    ],
)
def test_any_difference_shows(other):
    assert state_sha256(other) != state_sha256({"w": torch.tensor([1.0, 0.0]), "n": [1, None]})


def test_order_of_keys_and_memory_layout_do_not_show():
    w = torch.arange(6).reshape(2, 3)
    same = {"b": 2, "w": w.t().contiguous().t()}
    assert state_sha256(same) == state_sha256({"w": w, "b": 2})


def test_what_has_no_canonical_bytes_is_refused():
    with pytest.raises(TypeError, match=r"^state holds a set, which has no canonical bytes$"):
        state_sha256({"a": {1, 2}})

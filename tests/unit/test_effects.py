# SPDX-License-Identifier: Apache-2.0
"""Settings without effect: those that are named have none, and are named where a user chose them."""

import pytest
from e2train.train import METHODS, find_config, run_training
from e2train.train.effects import chosen_keys, unused_note

# Of each setting a value that no digits preset has.
OTHERS = {
    "epochs": 9, "smd": 0.3, "smd_mode": "fewer", "skip": 0.4, "skip_where": "within-stages",
    "gate_weight": 3.0, "stem_updates": 0.4, "sign_scale": "mean", "sign_lr": 0.01,
    "sign_weight_decay": 0.1, "swa_first": 0.2, "execution": "offload",
    "gradient_bits": 16, "result_bits": 8, "input_gradient_bits": 8,
    "block_gradient_bits": 8, "scale_decay": 0.5, "gradient_range": 0.25, "gradient_rounding": "dithered",
    "psg_mode": "sparsify", "psg_x_bits": 3, "psg_g_bits": 6, "psg_beta": 0.2, "deadline_s": 9.0,
}  # fmt: skip
BASES = [
    *({"method": method} for method in METHODS),
    {"method": "slu", "skip": 0.2, "execution": "offload"},
    {"method": "e2train", "skip": 0.0, "smd": 0.0},
    {"method": "psg", "sign_scale": "each", "gradient_bits": 16},
    {"method": "psg", "psg_mode": "resolve"},
]


def unused(config):
    """The settings of ``OTHERS`` that are named as without effect."""
    return {key: value for key, value in OTHERS.items() if unused_note(config, [key])}


@pytest.mark.parametrize("base", BASES, ids=lambda base: ", ".join(map(str, base.values())))
def test_what_is_named_has_no_effect(base, tmp_path):
    config = find_config("digits").changed(steps=4, batch=8, test_images=16, meter="none", **base)
    changed = config
    for key, value in unused(config).items():
        changed = changed.changed(**{key: value, **({} if key != "epochs" else {"steps": config.steps})})
    runs = [
        run_training(each, out=tmp_path / name, watch=lambda row: None)
        for name, each in (("as it is", config), ("changed", changed))
    ]
    for key in (
        "state_sha256",
        "accuracy",
        "energy_of_smb_fp32",
        "energy_of_smb_int8",
        "computation_of_smb_int8",
    ):
        assert getattr(runs[0], key) == getattr(runs[1], key), key
    assert config != changed


@pytest.mark.parametrize(
    ("options", "keys", "note"),
    [
        ({"method": "e2train"}, [*OTHERS], "psg_beta (psg_mode predict); deadline_s (device emulator)"),
        (
            {"method": "smb-fp32", "device": "csim"},
            ["device", "lr", "skip"],
            "device, skip (method smb-fp32)",
        ),
        ({"method": "smb-fp32"}, ["device", "board", "token_file"], "token_file (method smb-fp32)"),
        ({"method": "psg", "device": "agent:pc"}, ["overlay", "deadline_s"], "overlay (device agent:pc)"),
        ({"sign_scale": "each"}, ["sign_lr", "skip"], "sign_lr (sign_scale each)"),
        ({"execution": "offload"}, ["result_bits"], "result_bits (execution offload)"),
        ({"method": "signsgd"}, ["combine"], "combine (ranks 1)"),
        ({"steps": 5, "epochs": 2}, ["steps", "epochs"], "epochs (steps 5)"),
    ],
)
def test_they_are_named_in_one_line(options, keys, note):
    config = find_config("digits").changed(**options)
    assert unused_note(config, keys) == f"without effect: {note}"


def test_those_of_a_file_are_named_where_a_user_wrote_it(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "digits"\nmethod = "psg"\nskip = 0.5\n')
    assert chosen_keys(str(path), ["lr"], ["skip=0.1", "smd=0.5"]) == [
        "preset",
        "method",
        "skip",
        "lr",
        "smd",
    ]
    path.write_text(find_config("digits").to_toml())  # a run has left it
    assert chosen_keys(str(path), ["lr"], []) == ["lr"]

# SPDX-License-Identifier: Apache-2.0
"""Run configurations: round trip through TOML, refusals by their whole text."""

from dataclasses import fields

import pytest
from e2train.nn import MODEL_NAMES, ResidentError, build_model, describe
from e2train.train import METHODS, PRESETS, RunConfig, TrainError, find_config, read_config
from e2train.train.presets import MODELS

KEYS = [field.name for field in fields(RunConfig)]


def test_toml_gives_the_same_back(tmp_path):
    config = PRESETS["digits"].changed(seed=5, lr=0.25, device="csim")
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    assert read_config(path) == config
    assert find_config(str(path)) == config


@pytest.mark.parametrize("data", ["/data/\U0001f600", 'a "quoted" \\ one', "\x7f\x01\n"])
def test_any_path_comes_back(tmp_path, data):
    (tmp_path / "run.toml").write_text(PRESETS["digits"].changed(data=data).to_toml(), encoding="utf-8")
    assert read_config(tmp_path / "run.toml").data == data


def test_a_short_file_takes_the_rest_from_its_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "digits"\nlr = 1\n')
    assert read_config(path) == PRESETS["digits"].changed(lr=1)


def test_whole_numbers_are_settings_as_floats_are(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "digits"\nlr = 1\n')
    as_float = PRESETS["digits"].changed(lr=1.0)
    for whole in (read_config(path), PRESETS["digits"].changed(lr=1)):
        assert (type(whole.lr), whole.to_toml(), whole.hash) == (float, as_float.to_toml(), as_float.hash)


def executions(model):
    """How the presets of a model run."""
    return {PRESETS[preset].execution for preset, name in MODELS.items() if name == model}


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_presets_are_resident_where_their_model_can_stay_on_the_device(name):
    model, image = build_model(name)
    if name == "resnet18":
        with pytest.raises(ResidentError, match=r"^its stem cannot stay on the device: "):
            describe(model, image)
        assert executions(name) == {"offload"}
    else:
        describe(model, image)
        assert executions(name) == {"resident"}


def test_a_run_says_how_it_is_executed(tmp_path):
    """So that its meaning does not depend on what presets have by default."""
    path = tmp_path / "config.toml"
    for execution in ("resident", "offload"):
        path.write_text(PRESETS["digits"].changed(execution=execution).to_toml())
        assert f'execution = "{execution}"' in path.read_text().splitlines()
        assert read_config(path).execution == execution


def test_hash_tells_what_is_trained_and_not_where():
    config = PRESETS["digits"]
    assert config.hash == config.changed(device="csim", board="zcu104").hash
    assert config.hash != config.changed(seed=1).hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mnist"}, f"no preset 'mnist'; there are: {', '.join(PRESETS)}"),
        ({"method": "sgd"}, f"no method 'sgd'; there are: {', '.join(METHODS)}"),
        (
            {"method": "psg", "combine": "vote", "sign_scale": "each"},
            "signs that are voted on have no magnitudes of their own; use sign_scale=mean",
        ),
        (
            {"method": "signsgd", "sign_scale": "each"},
            "method signsgd with sign_scale each moves weights by the full gradient; "
            "use --set sign_scale=none, or smb-int8",
        ),
        ({"smd": 1.0}, "smd must be in 0..0.99, not 1.0"),
        ({"psg_x_bits": 5}, "psg_x_bits must be in 1..4, not 5"),
        ({"gradient_bits": 17}, "gradient_bits must be in 4..16, not 17"),
        ({"gradient_bits": 8, "psg_g_bits": 10}, "psg_g_bits must be at most gradient_bits, 8, not 10"),
        ({"validation": 0.95}, "validation must be in 0..0.9, not 0.95"),
        (
            {"method": "slu", "skip": 0.0},
            "method slu with skip 0 saves nothing; use --set skip=... or smb-int8",
        ),
        ({"skip_where": "here"}, "no skip_where 'here'; there are: anywhere, within-stages"),
        ({"batch": 0}, "batch must be in 1..2147483647, not 0"),
        ({"steps": 10**39}, f"steps must be in 0..2147483647, not {10**39}"),
        ({"threads": 1025}, "threads must be in 1..1024, not 1025"),
        ({"lr": 10**400}, "lr must be at least 0, not inf"),
        ({"lr": float("inf")}, "lr must be at least 0, not inf"),
        ({"deadline_s": float("inf")}, "deadline_s must be in 0.1..1000000.0, not inf"),
        ({"data": "/tmp/\udcff"}, r"data is '/tmp/\udcff', which is no UTF-8; rename the file or folder"),
        ({"seed": -1}, "seed must be in 0..9223372036854775807, not -1"),
        ({"lr": float("nan")}, "lr must be at least 0, not nan"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(TrainError) as error:
        RunConfig(**{"preset": "digits", **options})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "digits"\nspeed = 3\n', f"has unknown 'speed'; the keys are: {', '.join(KEYS)}"),
        ('preset = "digits"\nbatch = 1.5\n', "batch must be of type int, not 1.5"),
        ('preset = "digits"\nseed = true\n', "seed must be of type int, not True"),
        ("lr = 0.1\n", f"preset is missing; there are: {', '.join(PRESETS)}"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(TrainError) as error:
        read_config(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(TrainError, match=r"cannot read .*none.toml: No such file or directory$"):
        find_config(str(tmp_path / "none.toml"))
    (tmp_path / "broken.toml").write_text("preset = ")
    with pytest.raises(TrainError, match=r"broken.toml is not TOML: "):
        find_config(str(tmp_path / "broken.toml"))


def test_epochs_take_the_place_of_steps_unless_both_are_given():
    cifar = PRESETS["cifar10-resnet8"]
    assert cifar.steps == 64_000
    assert [cifar.changed(epochs=5).steps, cifar.set(["epochs=5"]).steps] == [0, 0]
    assert [cifar.changed(epochs=5, steps=9).steps, cifar.changed(lr=0.2).steps] == [9, 64_000]


def test_options_and_assignments_are_taken_together():
    digits = PRESETS["digits"]
    assert digits.set(["epochs=3"], steps=20, seed=None).steps == 20
    assert digits.set(["lr=0.5"], lr=0.5).lr == 0.5
    with pytest.raises(TrainError, match=r"^steps is 20 by its option and 30 by --set; give it once$"):
        digits.set(["steps=30"], steps=20)
    for again in ("lr=0.5", "lr=0.6"):
        with pytest.raises(TrainError, match=rf"^lr is 0.5 and {again[3:]} by --set; give it once$"):
            digits.set(["lr=0.5", "seed=1", again])


def test_a_run_from_before_a_setting_is_read_as_it_was_trained(tmp_path):
    path = tmp_path / "config.toml"
    dithered = PRESETS["cifar10-resnet14"].changed(method="psg")
    assert dithered.gradient_rounding == "dithered"
    lines = dithered.to_toml().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("gradient_rounding")))
    assert read_config(path) == dithered.changed(gradient_rounding="nearest")
    later = ("gradient_rounding", "block_gradient_bits", "input_gradient_bits")
    path.write_text("".join(line for line in lines if not line.startswith(later)))
    assert read_config(path) == dithered.changed(gradient_rounding="nearest", block_gradient_bits=16)
    path.write_text('preset = "cifar10-resnet14"\nmethod = "psg"\n')  # some settings, upon the preset's
    assert read_config(path) == dithered
    partial = PRESETS["cifar10-resnet8"]
    assert partial.stem_updates < 1
    lines = partial.to_toml().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("stem_updates")))
    assert read_config(path) == partial.changed(stem_updates=1.0)

# SPDX-License-Identifier: Apache-2.0
"""Training from trained weights, with layers that stay as they are."""

import json
import warnings

import numpy as np
import pytest
import torch
from e2train.devices import open_device, open_resident
from e2train.nn import ModelError, OffloadContext, ResidentBody, digits_net, freeze, offload, resnet
from e2train.runtime import merged
from e2train.runtime.resident import TRIAL
from e2train.train import PRESETS, TrainError, read_run, read_trained, run_training
from e2train.train.data import digits_split
from e2train.train.data.dataset import DataWarning
from e2train.train.evaluation import read_evaluation
from e2train.train.export import FORMATS, export
from e2train.train.files import write_sealed
from e2train.train.savings import full_training
from e2train.train.trained import find_weights, load_state, load_trained
from e2train.train.use import evaluate_run
from PIL import Image
from torch.nn import functional as F  # noqa: N812

CONFIG = PRESETS["digits"].changed(method="smb-int8", steps=2, batch=8, seed=3, test_images=40)
FROZEN = "stem,blocks.0-1,blocks.3"
NAMES = ("five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run that has learnt digits."""
    out = tmp_path_factory.mktemp("digits")
    config = PRESETS["digits"].changed(
        method="smb-int8", execution="resident", steps=50, batch=32, test_images=40
    )
    run_training(config, out=out)
    return out


@pytest.fixture(scope="module", params=["offload", "resident"])
def adapted(request, digits, tmp_path_factory):
    """A run from these weights in which some layers stayed as they were."""
    out = tmp_path_factory.mktemp("adapted")
    execution = request.param
    config = CONFIG.changed(execution=execution, init=str(digits), freeze=FROZEN, gradient_bits=16)
    return out, run_training(config, out=out)


@pytest.fixture(scope="module")
def other_digits(tmp_path_factory):
    """A folder of faint, noisy digits of five classes."""
    root = tmp_path_factory.mktemp("other")
    images, labels = (values.numpy() for values in digits_split().test.take(np.arange(360)))
    rng = np.random.default_rng(5)
    for index, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
        if label >= 5:
            faint = 60 + 120 * image + rng.normal(0, 12, image.shape)
            folder = root / NAMES[label - 5]
            folder.mkdir(exist_ok=True)
            Image.fromarray(faint.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return root


def is_frozen(name):
    return name.startswith(("stem.", "blocks.0.", "blocks.1.", "blocks.3."))


def own_images(path, first, seed):
    """Noisy stripes, one place for each of three classes from a first number on."""
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 8, 8), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 2] += 180
    np.savez(path, x_train=images, y_train=labels + first)
    return path


@pytest.mark.parametrize("file", ["", "checkpoint.pt"], ids=["run", "checkpoint"])
def test_a_start_from_what_is_known_or_named_otherwise_is_said(tmp_path, file):
    """Else held-out images are known, and classes confused, in silence."""
    data = own_images(tmp_path / "stripes.npz", 0, seed=1)
    own = PRESETS["folder-digits"].changed(
        method="smb-int8", steps=2, batch=8, seed=3, data=str(data), validation=0.2
    )
    first = tmp_path / "first"
    run_training(own, out=first)
    begun = own.changed(init=str(first / file), steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        run_training(begun, out=tmp_path / "same")
    with pytest.warns(DataWarning, match=r"has learnt from images that are held out now.*--seed 3 --set val"):
        run_training(begun.changed(seed=4), out=tmp_path / "seed")
    renamed = own_images(tmp_path / "renamed.npz", 5, seed=2)
    if file:  # which names no classes
        with pytest.warns(DataWarning, match=r"does not name its 3 classes, and its classifier is kept"):
            run_training(begun.changed(data=str(renamed)), out=tmp_path / "renamed")
        return
    with pytest.warns(DataWarning, match=r"has other classes \(0, 1, 2\), or in another order: the class"):
        run_training(begun.changed(data=str(renamed), lr=0.0, steps=1), out=tmp_path / "renamed")
    before, after = (load_trained(tmp_path / run / "model.pt").state for run in ("first", "renamed"))
    assert torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    (classifier,) = [name for name in before if name.startswith("head.") and name.endswith(".weight")]
    assert not torch.equal(before[classifier], after[classifier])
    with pytest.warns(DataWarning, match="^the run has learnt from images in"):
        evaluate_run(first, data=data)


def test_images_kept_for_the_test_are_not_those_of_the_training(tmp_path):
    data = tmp_path / "stripes.npz"
    with np.load(own_images(data, 0, seed=1)) as images:
        x, y = images["x_train"], images["y_train"]
    np.savez(data, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    own = PRESETS["folder-digits"].changed(method="smb-int8", steps=1, batch=8, data=str(data))
    run_training(own, out=tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert evaluate_run(tmp_path / "run", data=data).images == 20


def test_frozen_layers_stay_and_others_move(digits, adapted):
    before, after = (load_trained(run / "model.pt").state for run in (digits, adapted[0]))
    trained = {name for name in before if "sign_quant" not in name and not name.startswith("resident.")}
    moved = {name for name in trained if not torch.equal(before[name], after[name])}
    assert moved == {name for name in trained if not is_frozen(name)}


def test_frozen_layers_have_no_backward_work(adapted):
    ledger = read_run(adapted[0]).ledger
    backward = {(row.name, row.mode) for row in ledger.training if row.mode.startswith("grad_")}
    backward -= {(TRIAL, "grad_input")}
    assert backward == {
        ("blocks.3.branch.3", "grad_input"), ("blocks.3.branch.0", "grad_input"),
        ("blocks.2.branch.3", "grad_input"), ("blocks.2.branch.3", "grad_weight"),
        ("blocks.2.branch.0", "grad_weight"),
    }  # fmt: skip
    assert all(factor == pytest.approx(1) for factor in list(adapted[1].energy_factors.values())[1:4])


def test_references_train_the_same_layers(adapted):
    record = read_run(adapted[0])
    if record.config.resident:
        return
    expected = merged(full_training("digits", calls=2, samples=16, frozen=FROZEN))
    executed = {(row.name, row.mode): row.counters.macs for row in record.ledger.training}
    assert {(row.name, row.mode): row.counters.macs for row in expected} == executed


def test_the_gradient_through_frozen_layers_is_that_of_float(rng):
    torch.manual_seed(1)
    model, images = digits_net(), torch.from_numpy(rng.random((16, 1, 8, 8), np.float32))
    for _ in range(30):
        model(images)  # running statistics that are used in the place of the batch's
    freeze(model, FROZEN)
    twin = digits_net()
    twin.load_state_dict(model.state_dict())
    freeze(twin, FROZEN)
    context = OffloadContext(device=open_resident(), gradient_bits=16)
    twin.resident = ResidentBody(twin, context, image=(1, 8, 8))
    labels = torch.arange(16) % 10
    for _ in range(2):  # the first one finds the scales
        twin.zero_grad()
        F.cross_entropy(twin(images), labels).backward()
    F.cross_entropy(model(images), labels).backward()
    for (name, weight), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None) == is_frozen(name), name
        if weight.grad is not None:
            cosine = torch.cosine_similarity(weight.grad.flatten(), other.grad.flatten(), dim=0)
            assert cosine > 0.9, name  # with batch statistics of its own: 0.2 to 0.4


def test_a_model_that_is_wholly_frozen_trains_its_classifier(digits, tmp_path):
    for execution in ("offload", "resident"):
        config = CONFIG.changed(execution=execution, init=str(digits), freeze="stem,blocks.0-3")
        out = tmp_path / execution
        run_training(config, out=out)
        rows = read_run(out).ledger.training
        assert not [row for row in rows if row.mode.startswith("grad_")]
        before, after = (load_trained(run / "model.pt").state for run in (digits, out))
        assert not torch.equal(before["head.2.weight"], after["head.2.weight"])


def test_frozen_blocks_are_never_skipped(digits, tmp_path):
    config = CONFIG.changed(method="sd", freeze="blocks.1-2", skip=0.2, batch=2, steps=12, init=str(digits))
    rates = run_training(config, out=tmp_path).block_skip_rates
    assert rates[:3] == [0, 0, 0]
    assert rates[3] > 0


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("stem,head", "freeze takes stem, blocks.N and blocks.N-M, not 'head'"),
        ("blocks.2-7", "freeze: blocks.2-7 is not within blocks.0-3"),
        ("blocks.2-1", "freeze: blocks.2-1 is not within blocks.0-3"),
    ],
)
def test_layers_that_are_not_there_are_refused(layers, message):
    with pytest.raises(ModelError) as error:
        freeze(digits_net(), layers)
    assert str(error.value) == message


def test_what_is_frozen_stays_so():
    model = digits_net()
    freeze(model, "stem")
    freeze(model, "blocks.0")
    assert model.frozen == ("stem", "blocks.0")
    assert not model.train().stem[1].training


def test_nothing_is_left_to_skip(tmp_path):
    with pytest.raises(TrainError) as error:
        run_training(CONFIG.changed(method="slu", freeze="blocks.1-3"), out=tmp_path)
    assert str(error.value) == (
        "slu cannot skip 20.0% of the blocks of digits, only up to 0.0%; use a smaller --set skip=..."
    )


def test_a_run_begins_with_the_weights_it_is_given(digits, tmp_path):
    start = find_weights(digits)
    summary = run_training(
        CONFIG.changed(init=str(digits), lr=0.0, execution="resident"), out=tmp_path / "same"
    )
    assert summary.weights_sha256 == load_trained(digits / "model.pt").weights_sha256
    again = find_weights(tmp_path / "same" / "checkpoint.pt")
    assert torch.equal(again["head.2.weight"], start["head.2.weight"])
    config = json.loads(json.dumps(read_run(tmp_path / "same").config.determining))
    assert len(config["init_sha256"]) == 64
    assert "init" not in config


def test_weights_go_from_one_execution_and_method_to_another(digits, tmp_path):
    for method in ("smb-fp32", "e2train"):  # the weights are a resident run's
        options, out = {"method": method, "steps": 1}, tmp_path / method
        accuracy = run_training(
            CONFIG.changed(init=str(digits), lr=0.0, sign_lr=0.0, **options), out=out
        ).accuracy
        assert accuracy > 0.8, options


@pytest.fixture(scope="module", params=["offload", "resident"])
def runs_on_other_digits(request, digits, other_digits, tmp_path_factory):
    """A run from scratch and one from given weights, of as many steps."""
    out = tmp_path_factory.mktemp(request.param)
    config = PRESETS["folder-digits"].changed(
        method="signsgd", execution=request.param, data=str(other_digits), validation=0.5, steps=4, batch=16
    )
    scratch = run_training(config, out=out / "scratch")
    return out, scratch, run_training(config.changed(init=str(digits)), out=out / "adapted")


def test_adaptation_beats_training_from_scratch(runs_on_other_digits):
    out, scratch, adapted = runs_on_other_digits
    assert load_trained(out / "adapted" / "model.pt").state["head.2.weight"].shape == (5, 32)
    assert (adapted.steps_run, scratch.steps_run) == (4, 4)
    assert adapted.accuracy > scratch.accuracy + 0.1


@pytest.mark.parametrize("form", FORMATS)
def test_a_network_with_a_new_classifier_is_exported(runs_on_other_digits, tmp_path, form):
    if form == "qonnx":
        pytest.importorskip("qonnx")
    out, _, _ = runs_on_other_digits
    exported = export(read_trained(out / "adapted"), tmp_path / "exported", form=form)
    assert exported.images == read_evaluation(out / "adapted" / "evaluation.json").images == 90


def test_a_run_from_given_weights_is_resumed_without_them(digits, tmp_path):
    config = CONFIG.changed(init=str(digits))
    whole = run_training(config, out=tmp_path / "whole")
    text = (tmp_path / "whole" / "config.toml").read_text().replace(str(digits), "/gone")
    (tmp_path / "whole" / "config.toml").write_text(text)
    saved = read_run(tmp_path / "whole").config
    (tmp_path / "whole" / "summary.json").unlink()  # as if it had been stopped before its test
    assert run_training(saved, out=tmp_path / "whole", resume=True).state_sha256 == whole.state_sha256


def refusal(config, out):
    with pytest.raises(TrainError) as error:
        run_training(config, out=out)
    return str(error.value)


def test_weights_that_do_not_fit_are_refused(digits, tmp_path):
    out = tmp_path / "run"
    place = tmp_path / "none"
    assert refusal(CONFIG.changed(init=str(place)), out) == (
        f"nothing to start from: {place} is no run with a model.pt or checkpoint.pt, and no such file"
    )
    place.write_bytes(b"no model")
    assert refusal(CONFIG.changed(init=str(place)), out) == (
        f"{place} is damaged or of an earlier version: it has no checksum; start from another run"
    )
    other = CONFIG.changed(init=str(digits), init_sha256="12" * 32)
    assert refusal(other, out).endswith(
        "the settings say 121212121212...; give --init the run whose weights the settings name"
    )
    assert refusal(CONFIG.changed(init_sha256="12" * 32), out) == (
        "init_sha256 names weights, 121212121212..., and init does not say where they are; give --init, or "
        "--set init_sha256= to start without"
    )


def test_another_model_is_refused(digits):
    weights = find_weights(digits)
    with pytest.raises(TrainError) as error:
        load_state(resnet(8), weights, origin="runs/digits")
    assert str(error.value) == (
        "runs/digits is of another model: stem.0.weight is (16, 1, 3, 3), this model's is (16, 3, 3, 3); "
        "take a run of the same model, with images of as many channels"
    )
    deeper = resnet(14, in_channels=1, widths=(16, 32))
    with pytest.raises(
        TrainError, match=r"is of another model: blocks\.2\.branch\.0\.weight is \(32, 16, 3, 3\)"
    ):
        load_state(deeper, weights, origin="runs/digits")


def test_a_trained_model_is_read_only_whole(digits, tmp_path):
    content = (digits / "model.pt").read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    with pytest.raises(TrainError) as error:
        load_trained(path)
    assert str(error.value) == (
        f"{path} is damaged: its checksum does not match; train again, or take another run"
    )
    with pytest.raises(TrainError) as error:
        load_trained(digits / "checkpoint.pt")
    assert str(error.value) == (
        f"{digits}/checkpoint.pt is not a trained model; train again, or take another run"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 0}, "its format is 0, not 1"),
        ({"settings": []}, "settings must be of type dict, not []"),
        ({"names": "0123456789"}, "names must be of type list, not '0123456789'"),
    ],
)
def test_a_trained_model_of_another_version_is_refused(digits, tmp_path, change, reason):
    path = tmp_path / "model.pt"
    write_sealed(path, torch.load(digits / "model.pt", weights_only=True) | change)
    with pytest.raises(TrainError) as error:
        load_trained(path)
    assert str(error.value) == f"{path} is of another version: {reason}; train again, or take another run"


def test_an_offloaded_model_runs_frozen_layers_on_the_device(rng):
    model = digits_net()
    freeze(model, "stem,blocks.0")
    with open_device("emulator") as device:
        context = OffloadContext(device=device)
        offload(model, context)
        model(torch.from_numpy(rng.random((2, 1, 8, 8), np.float32))).sum().backward()
    modes = {row.name: set() for row in context.ledger.snapshot()}
    for row in context.ledger.snapshot():
        modes[row.name].add(row.mode)
    assert modes["blocks.0.branch.3"] == {"forward"}
    assert modes["blocks.1.branch.0"] == {"forward", "grad_weight"}
    assert modes["blocks.1.branch.3"] == {"forward", "grad_weight", "grad_input"}

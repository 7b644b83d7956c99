# SPDX-License-Identifier: Apache-2.0
"""Exported models: the trained integers, and the run's own classes when other tools run them."""

import json
import warnings
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from e2train.cli.app import main
from e2train.devices import open_device, open_resident
from e2train.nn import (
    OffloadContext,
    ResidentBody,
    build_model,
    digits_net,
    freeze,
    offload,
    quantise_weight,
)
from e2train.nn.deploy import conv_scales, deploy
from e2train.nn.onnx_writer import write_onnx
from e2train.train import PRESETS, TrainError, read_trained, run_training
from e2train.train.data import digits_split
from e2train.train.export import FORMATS, export, load_exported
from e2train.train.use import opened
from onnx import numpy_helper


@pytest.fixture(scope="module", params=["offload", "resident", "resident-sd"])
def digits(request, tmp_path_factory):
    """A run that has learnt digits, with gates or random depth."""
    execution, _, method = request.param.partition("-")
    steps = 24 if execution == "offload" else 60
    out = tmp_path_factory.mktemp(request.param)
    config = PRESETS["digits"].changed(
        execution=execution, method=method or "e2train", steps=steps, batch=32, sign_lr=0.006
    )
    return out, run_training(config, out=out)


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def confusion_of(logits):
    """What the logits take digits' test images for."""
    _, labels = digits_split().test.take(np.arange(360))
    found = np.zeros((10, 10), int)
    np.add.at(found, (labels.numpy(), logits.argmax(axis=1)), 1)
    return found.tolist()


def images():
    return digits_split().test.take(np.arange(360))[0]


def test_branches_weigh_less_where_blocks_can_be_skipped_alone(tmp_path):
    """A block that begins a stage always runs; in an evaluation it is as strong as in training."""
    config = PRESETS["digits"].changed(method="sd", steps=6, batch=32, skip_where="within-stages")
    run_training(config, out=tmp_path)
    with opened(read_trained(tmp_path)) as model:
        weighted, plain = conv_scales(model), model.resident.scales()
        assert model.skippable == (1, 3)
    changed = {name for name, of in plain.items() if of.norm != weighted[name].norm}
    assert changed == {"blocks.1.branch.3", "blocks.3.branch.3"}


@pytest.mark.parametrize("form", ["torch", "onnx", "qonnx"])
def test_all_test_images_have_the_classes_of_the_run(digits, run, form):
    out, summary = digits
    if form == "qonnx":
        pytest.importorskip("qonnx")
    assert summary.test_accuracy > 0.5
    code, output, _ = run("export", out, "--format", form)
    path = out / {"torch": "exported.pt", "onnx": "exported.onnx", "qonnx": "exported.qonnx.onnx"}[form]
    assert (code, output) == (0, f"{path}; the same class on all 360 test images\n")


def test_other_programs_get_the_confusion_of_the_run(digits):
    out, _ = digits
    confusion = json.loads((out / "evaluation.json").read_text())["confusion"]
    export(read_trained(out), out / "x.onnx", form="onnx", checked=False)
    session = onnxruntime.InferenceSession((out / "x.onnx").read_bytes())
    assert confusion_of(session.run(None, {"images": images().numpy()})[0]) == confusion
    export(read_trained(out), out / "x.pt", form="torch", checked=False)
    with torch.no_grad():
        logits = load_exported(out / "x.pt")(images())
    assert confusion_of(logits.numpy()) == confusion
    with opened(read_trained(out)) as model, torch.no_grad():
        assert (model(images()) - logits).abs().max() < 1e-5


def test_weights_are_the_trained_integers(digits):
    out, _ = digits
    export(read_trained(out), out / "x.onnx", form="onnx", checked=False)
    model = onnx.load(out / "x.onnx")
    found = [values for values in map(numpy_helper.to_array, model.graph.initializer) if values.ndim == 4]
    state = read_trained(out).state
    trained = [quantise_weight(value)[0].numpy() for name, value in state.items() if value.dim() == 4]
    assert len(found) == len(trained) == 9
    assert {values.dtype for values in found} == {np.dtype(np.int8)}
    stored = sorted(values.tobytes() for values in found)
    assert stored == sorted(values.tobytes() for values in trained)


def test_a_model_says_what_it_takes_and_gives(digits):
    out, summary = digits
    export(read_trained(out), out / "x.onnx", form="onnx", checked=False)
    export(read_trained(out), out / "x.qonnx.onnx", form="qonnx", checked=False)
    model, quant = onnx.load(out / "x.onnx"), onnx.load(out / "x.qonnx.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(metadata["image"])["unit"] == 255
    assert metadata["weights_sha256"] == summary.weights_sha256
    shape = [(dim.dim_param or dim.dim_value) for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 1, 8, 8]
    assert [dim.dim_value for dim in quant.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 8, 8]
    kinds = [node.op_type for node in quant.graph.node]
    resident = summary.host_bytes_per_step is not None
    assert kinds.count("Quant") == 9 + 9 + (9 + 5 if resident else 0)  # weights, inputs; results, sums
    assert not {"QuantizeLinear", "DequantizeLinear"} & {*kinds}
    assert {node.domain for node in quant.graph.node if node.op_type == "Quant"} == {
        "qonnx.custom_op.general"
    }


def test_batch_norms_that_never_moved_are_exported_exactly():
    """Their coefficients have few bits, so that many sums lie half-way between two integers."""
    torch.manual_seed(3)
    model, plain = digits_net(), digits_net()
    freeze(model, "stem,blocks.1")
    context = OffloadContext(device=open_resident("emulator"), gradient_bits=8)
    model.resident = ResidentBody(model, context, image=(1, 8, 8))
    batches = torch.rand((5, 16, 1, 8, 8)).mul(16).round() / 16
    for batch in batches[:-1]:
        model.train()(batch).square().sum().backward()
    with torch.no_grad():
        logits = model.eval()(batches[-1])
        plain.load_state_dict({key: model.state_dict()[key] for key in plain.state_dict()})
        assert torch.equal(deploy(plain.eval(), conv_scales(model))(batches[-1]), logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "resnet18"])
def test_every_kind_of_layer_is_written(name, rng):
    model, image = build_model(name, classes=4, image=(3, 16, 16))
    plain, _ = build_model(name, classes=4, image=image)
    batch = torch.from_numpy(rng.random((2, *image), np.float32))
    with open_device("emulator") as device, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # depthwise convolutions run on the host
        offload(model, device)
        model.train()(batch)
        logits = model.eval()(batch).numpy()
    plain.load_state_dict({key: model.state_dict()[key] for key in plain.state_dict()})
    net = deploy(plain, conv_scales(model))
    with torch.no_grad():
        assert np.abs(net(batch).numpy() - logits).max() < 1e-4 * np.abs(logits).max()
    written = write_onnx(net, image=image, dialect="onnx", metadata={})
    session = onnxruntime.InferenceSession(written.SerializeToString())
    found = session.run(None, {"images": batch.numpy()})[0]
    assert np.abs(found - logits).max() < 0.02 * np.abs(logits).max()  # integers on an edge go either way


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "execution"),
    [
        ("resnet8", "offload"),
        ("resnet8", "resident"),
        ("mobilenetv2", "offload"),
        ("mobilenetv2", "resident"),
        ("resnet18", "offload"),  # resident runs refuse it
    ],
)
def test_every_family_is_exported(tmp_path, rng, model, execution):
    arrays = {"x_train": rng.integers(0, 256, (40, 8, 8, 3), np.uint8), "y_train": np.arange(40) % 4}
    np.savez(tmp_path / "images.npz", **arrays)
    config = PRESETS[f"folder-{model}"].changed(data=str(tmp_path / "images.npz"), execution=execution)
    run_training(config.changed(method="smb-int8", steps=2, batch=8), out=tmp_path / "run")
    trained = read_trained(tmp_path / "run")
    for form in FORMATS:
        if form != "qonnx" or find_spec("qonnx"):
            assert export(trained, tmp_path / "exported", form=form).images == 8


def test_a_float_run_has_no_integers(tmp_path):
    run_training(PRESETS["digits"].changed(method="smb-fp32", steps=1, test_images=8), out=tmp_path)
    with pytest.raises(TrainError) as error:
        export(read_trained(tmp_path), tmp_path / "x.onnx", form="onnx")
    assert str(error.value) == (
        "nothing to export: the model computes in float32: there are no integers; train with a method that "
        "uses the device, such as smb-int8"
    )


def test_a_model_with_other_classes_is_not_written(digits, monkeypatch, run, tmp_path):
    monkeypatch.setattr(
        "e2train.train.export._runner", lambda net, trained, form, size: lambda x: -net(x).numpy()
    )
    code, _, output = run("export", digits[0], "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert (code, output) == (
        2,
        "e2train: onnx: 360 of 360 test images have another class than in the run's evaluation; nothing was "
        "written; --unchecked writes it all the same\n",
    )
    assert not (tmp_path / "x.onnx").exists()
    path = tmp_path / "x.onnx"
    code, output, _ = run("export", digits[0], "--format", "onnx", "--out", path, "--unchecked")
    assert (code, output) == (0, f"{path}; not checked\n")


def test_other_formats_and_damaged_files_are_refused(digits, run, tmp_path):
    code, _, output = run("export", digits[0], "--format", "tflite")
    assert (code, output) == (2, "e2train: no format 'tflite'; there are: torch, onnx, qonnx\n")
    path = tmp_path / "x.pt"
    export(read_trained(digits[0]), path, form="torch", checked=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainError) as error:
        load_exported(path)
    assert str(error.value) == (
        f"{path} is damaged or of an earlier version: it has no checksum; export it again"
    )
    with pytest.raises(TrainError) as error:
        load_exported(digits[0] / "model.pt")
    assert str(error.value).endswith("is no exported model of the format torch; export it again")

# SPDX-License-Identifier: Apache-2.0
"""Trained models in use: evaluated on their test images and on others, and asked for classes."""

import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from e2train.cli.app import main
from e2train.train import PRESETS, DataError, TrainError, predict, read_run, read_trained, run_training
from e2train.train.data import labelled_images
from e2train.train.data.dataset import DataWarning, ImageFormat
from e2train.train.evaluation import Evaluation, classify, read_evaluation
from e2train.train.export import FORMATS, load_exported
from e2train.train.trained import TrainedModel
from e2train.train.use import images_to_test, opened
from PIL import Image
from report_pages import charts

CLASSES = ("ant", "bee", "cat", "dog")
KNOWN = "it knows ant, bee, cat, dog: leave out or rename what it does not"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 200 images in four classes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(7)
    for number, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(50):
            pixels = rng.normal(40 + 55 * number, 12, (9, 9, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return out, run_training(trained_config(images), out=out)


def trained_config(images):
    return PRESETS["folder-digits"].changed(
        data=str(images), method="signsgd", execution="resident", steps=20, batch=16
    )


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_an_evaluation_is_that_of_the_training(trained, run):
    out, summary = trained
    before = (out / "evaluation.json").read_text()
    assert summary.accuracy > 0.9
    code, output, _ = run("evaluate", out)
    assert code == 0
    assert (out / "evaluation.json").read_text() == before
    evaluation = read_evaluation(out / "evaluation.json")
    assert (evaluation.accuracy, evaluation.images) == (summary.accuracy, 40)
    assert output.splitlines()[0] == f"accuracy {summary.accuracy:.2%} of 40 images; tested: validation"
    assert output.splitlines()[1] == f"ant  {evaluation.by_class[0]:7.2%} of 10"
    assert output.splitlines()[-1] == f"report {out}/report.html"


def test_a_folder_that_cannot_take_the_results_is_known_before_the_test(trained, tmp_path, run, monkeypatch):
    monkeypatch.setattr("e2train.train.use.classify", None)
    out = shutil.copytree(trained[0], tmp_path / "run")
    (out / ".lock").mkdir()  # as root may write everywhere
    hint = f"give {out}/model.pt to test it without a report"
    assert run("evaluate", out)[::2] == (2, f"e2train: cannot write to {out}: Is a directory; {hint}\n")
    (out / ".lock").rmdir()
    (out / "summary.json").unlink()
    assert run("evaluate", out)[::2] == (2, f"e2train: {out} holds no finished run: no summary.json\n")


def test_a_model_of_another_run_is_not_tested(trained, images, tmp_path, run, monkeypatch):
    out = tmp_path / "other"
    run_training(trained_config(images).changed(steps=1, seed=1), out=out)
    shutil.copy(out / "model.pt", tmp_path / "model.pt")
    shutil.copy(trained[0] / "model.pt", out / "model.pt")
    with monkeypatch.context() as patch:
        patch.setattr("e2train.train.use.classify", None)
        assert run("evaluate", out)[::2] == (
            2,
            f"e2train: {out}/model.pt is of another run: its weights are not those of summary.json; give the "
            "whole folder of one run, or the file by itself\n",
        )
    shutil.copy(tmp_path / "model.pt", out / "model.pt")
    foreign = json.loads((trained[0] / "evaluation.json").read_text())
    for content in (foreign, {key: value for key, value in foreign.items() if key != "weights_sha256"}):
        (out / "evaluation.json").write_text(json.dumps(content))
        with pytest.raises(TrainError) as error:
            read_run(out)
        assert str(error.value) == (
            f"{out}/evaluation.json is of another run: it contradicts summary.json; write it again with "
            "e2train evaluate, or give the whole folder of one run"
        )
    assert run("evaluate", out)[0] == 0
    assert read_run(out).evaluation.accuracy == read_run(out).summary.accuracy


def test_the_report_shows_the_confusion(trained):
    page = (trained[0] / "report.html").read_text()
    part = page[page.index("<h2>Classes: ") : page.index("<h2>Layers: ")]
    assert "of 40 images right; tested: validation." in part
    assert charts(part) == [part.partition("</h2>")[0].removeprefix("<h2>")]
    rows = re.findall(r"<tr><td>(\w+)</td><td>(\d+)</td>", part)
    assert rows == [(name, "10") for name in CLASSES]


def test_other_images_are_evaluated(trained, images, tmp_path, run):
    bees = tmp_path / "some"
    (bees / "bee").mkdir(parents=True)
    for index in range(3):
        (bees / "bee" / f"{index}.png").write_bytes((images / "bee" / f"{index}.png").read_bytes())
    model = tmp_path / "model.pt"  # by itself: nothing is written
    model.write_bytes((trained[0] / "model.pt").read_bytes())
    code, output, _ = run("evaluate", model, "--data", bees, "--json")
    found = json.loads(output)
    assert (code, found["tested"], sum(found["confusion"][1])) == (0, str(bees), 3)
    assert [sum(row) for row in found["confusion"]] == [0, 3, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "some"]


def test_classes_of_images_are_told(trained, images, run):
    out, _ = trained
    chosen = [images / name / "3.png" for name in CLASSES]
    code, output, _ = run("predict", out, *chosen)
    lines = [line.split("  ") for line in output.splitlines()]
    assert (code, [line[:2] for line in lines]) == (0, [[str(path), path.parent.name] for path in chosen])
    found = json.loads(run("predict", out, chosen[0], "--json")[1])
    assert (found["image"], found["name"]) == (str(chosen[0]), "ant")
    assert 0.5 < found["probability"] <= 1


def test_images_that_are_cut_are_counted(tmp_path, trained, images):
    square, oblong = images / "ant" / "0.png", tmp_path / "oblong.png"
    Image.open(square).resize((40, 30)).save(oblong)
    model = read_trained(trained[0])
    with pytest.warns(DataWarning, match=r"^1 of 2 images are not square: "):
        predict(model, [square, oblong])


@pytest.mark.parametrize("form", FORMATS)
def test_other_tools_take_the_images_for_the_same_classes(trained, images, tmp_path, run, form):
    if form == "qonnx":
        pytest.importorskip("qonnx")
    model, path = tmp_path / "model.pt", tmp_path / f"exported{FORMATS[form]}"
    model.write_bytes((trained[0] / "model.pt").read_bytes())
    output = run("export", model, "--format", form, "--data", images)
    assert output == (0, f"{path}; the same class on all 200 test images\n", "")
    of = read_trained(model)
    batch, labels = labelled_images(images, of.format, of.names).take(np.arange(5, 200, 25))
    assert logits_of(path, form, batch).argmax(axis=1).tolist() == labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("run/model.pt", "is a file of the run in that folder"),
        ("run/config.toml", "is a file of the run in that folder"),
        ("copy.pt", "is there and is no earlier export"),
        ("notes.txt", "is there and is no earlier export"),
    ],
)
def test_an_export_replaces_no_other_file(trained, images, tmp_path, run, name, reason):
    shutil.copytree(trained[0], tmp_path / "run")
    shutil.copy(trained[0] / "model.pt", tmp_path / "copy.pt")
    (tmp_path / "notes.txt").write_text("mine")
    path, model = tmp_path / name, trained[0] / "model.pt"
    before = path.read_bytes()
    code, _, error = run("export", model, "--format", "torch", "--unchecked", "--out", path)
    assert (code, error) == (2, f"e2train: {path} {reason}; choose another file with --out\n")
    assert path.read_bytes() == before


def test_an_export_replaces_an_earlier_one(trained, tmp_path, run):
    for name in ("mine.pt", "mine.pt", "mine.onnx", "mine.onnx"):
        form = "torch" if name == "mine.pt" else "onnx"
        path = tmp_path / name
        output = run("export", trained[0], "--format", form, "--unchecked", "--out", path)
        assert output[:2] == (0, f"{path}; not checked\n")


def logits_of(path, form, batch):
    """What the tool of a format makes of a file."""
    if form == "torch":
        with torch.no_grad():
            return load_exported(path)(batch).numpy()
    if form == "onnx":
        return onnxruntime.InferenceSession(path).run(None, {"images": batch.numpy()})[0]
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(str(path)).transform(InferShapes())
    return np.concatenate([execute_onnx(wrapped, {"images": each[None]})["logits"] for each in batch.numpy()])


def test_offloaded_models_are_used_on_other_devices(tmp_path, images, run):
    config = PRESETS["digits"].changed(execution="offload", steps=1, batch=8, test_images=8)
    run_training(config, out=tmp_path)
    digits = read_trained(tmp_path)
    path, grey = images / "ant" / "0.png", tmp_path / "grey.png"
    Image.open(path).convert("L").save(grey)
    assert digits.names == tuple("0123456789")
    emulated = predict(digits, [grey])
    with pytest.warns(DataWarning, match=r"^1 of 1 images have colour channels; "):
        specified = predict(digits, [path], device="spec")
    assert [found.probability for found in emulated] == [found.probability for found in specified]
    lost = "1 of 1 images have colour channels; the model takes the brightness"
    assert run("predict", tmp_path, path)[::2] == (0, f"e2train: {lost}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "{run}", "/none.png"],
         "/none.png is no image that can be read: No such file or directory"),
        (["predict", "/none", "/none.png"], "no trained model /none; give the folder of a finished run"),
        (["evaluate", "{run}", "--data", "/none"],
         "no folder /none: give --data a folder with CLASS/*.png, or with train/CLASS/*.png and "
         "val/CLASS/*.png"),
        (["evaluate", "{run}", "--device", "agent"],
         "device agent needs the address of a board: agent:HOST or agent:HOST:PORT"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(trained, run, arguments, message):
    output = run(*(word.format(run=trained[0]) for word in arguments))
    assert output == (2, "", f"e2train: {message}\n")


def test_images_of_other_classes_are_refused(trained, tmp_path, run):
    (tmp_path / "eel").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "eel" / "0.png")
    message = f"{tmp_path} has the class eel, which the run does not know; {KNOWN}"
    assert run("evaluate", trained[0], "--data", tmp_path) == (2, "", f"e2train: {message}\n")


def imagenet(names):
    """A model of images in folders, as ImageNet is kept."""
    form = ImageFormat(channels=3, size=8)
    config = PRESETS["imagenet-resnet18"]
    return TrainedModel(config=config, format=form, names=names, state={}, weights_sha256="")


def test_classes_of_an_imagenet_go_by_their_names(tmp_path):
    for part in ("train", "val"):
        for name in ("bee", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / name / "0.png")
    images, _ = images_to_test(imagenet(CLASSES), tmp_path)
    assert images.take(np.arange(2))[1].tolist() == [1, 3]
    with pytest.raises(DataError) as error:
        images_to_test(imagenet(("ant", "bee")), tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has the class dog, which the run does not know; it knows ant, bee: leave out or rename "
        "what it does not"
    )


@pytest.mark.parametrize("preset", ["digits", "imagenet-resnet18", "folder-resnet18"])
def test_images_are_turned_as_their_cameras_noted(tmp_path, monkeypatch, preset):
    half, exif = np.zeros((8, 8, 3), np.uint8), Image.Exif()
    half[:4] = 200
    exif[0x0112] = 6  # to be turned clockwise
    paths = [tmp_path / part / name / "0.png" for part in ("train", "val") for name in CLASSES]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.fromarray(half).save(path, exif=exif)
    seen = []

    def model(images):
        seen.append(images)
        return torch.zeros(len(images), len(CLASSES))

    monkeypatch.setattr("e2train.train.use.opened", lambda trained, device: nullcontext(model))
    trained = replace(imagenet(CLASSES), config=PRESETS[preset].changed(data="."))
    predict(trained, paths[:1])
    tested, _ = images_to_test(trained, tmp_path)
    for image in (seen[0][0, 0], tested.take(np.array([0]))[0][0, 0]):
        halves = image > image.mean()
        assert halves[:, image.shape[1] // 2 :].all()
        assert not halves[:, : image.shape[1] // 2].any()


def test_images_that_have_changed_are_not_tested(tmp_path, images, run):
    """Others would be held out, some of which the run has learnt from."""
    shutil.copytree(images, tmp_path / "images")
    run_training(trained_config(tmp_path / "images").changed(steps=1), out=tmp_path / "run")
    (tmp_path / "images/ant/0.png").unlink()
    code, out, error = run("evaluate", tmp_path / "run")
    assert (code, out) == (2, "")
    assert error == (
        f"e2train: {tmp_path / 'images'} holds other images than the run has learnt from, maybe those that "
        "it would be tested on; give images to test with --data\n"
    )


def test_an_unfinished_run_has_no_model(tmp_path):
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(TrainError) as error:
        read_trained(tmp_path)
    message = f"no trained model {tmp_path}/model.pt; the run is not finished: go on with --resume"
    assert str(error.value) == message


def test_accuracy_is_that_of_the_diagonal():
    found = Evaluation(tested="test", names=["a", "b", "c"], confusion=[[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert (found.accuracy, found.images, found.by_class) == (7 / 8, 8, [0.75, 1.0, None])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ({"tested": "test", "names": ["a"]}, "'confusion'"),
        ({"tested": "test", "names": ["a", "b"], "confusion": [[1, 2]]},
         "the confusion of 2 classes is not 2 rows of 2 numbers"),
        ({"tested": "test", "names": ["a"], "confusion": [[-1]]},
         "a count of the confusion is no number in 0..4294967296"),
        ({"tested": "test", "names": ["a"], "confusion": [[0]]}, "nothing was tested"),
        ({"tested": "test", "names": [1], "confusion": [[1]]}, "a name of a class is no text"),
        ({"tested": "test", "names": ["a"], "confusion": [[1]], "weights_sha256": 1},
         "weights_sha256 is no text"),
    ],
)  # fmt: skip
def test_a_damaged_evaluation_is_refused(tmp_path, content, reason):
    path = tmp_path / "evaluation.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(TrainError) as error:
        read_evaluation(path)
    assert str(error.value).startswith(f"{path} is damaged: {reason}")


def test_a_model_whose_state_does_not_fit_is_refused(trained, images):
    model = read_trained(trained[0])
    del model.state["head.2.bias"]
    with pytest.raises(TrainError, match=r"^the trained model does not fit its settings: .*head\.2\.bias"):
        predict(model, [images / "ant" / "0.png"])


def test_a_file_that_is_no_image_is_refused(trained, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(
        DataError, match=r"text\.png is no image that can be read: cannot identify image file"
    ):
        predict(read_trained(trained[0]), [tmp_path / "text.png"])


def test_images_that_a_training_refuses_are_refused_to_be_used(trained, tmp_path, run):
    wide, clear = tmp_path / "wide" / "0.png", tmp_path / "clear" / "0.png"
    for path, image in (
        (wide, Image.fromarray(np.full((9, 9), 40000, np.uint16))),
        (clear, Image.new("RGBA", (9, 9))),
    ):
        for name in CLASSES:
            (path.parent / "all" / name).mkdir(parents=True)
            image.save(path.parent / "all" / name / "0.png")
        image.save(path)
    for path, text in (
        (wide, "has pixels of more than 8 bits (mode I;16); convert it to 8 bits"),
        (clear, "has transparent pixels; put it on a background first"),
    ):
        assert run("predict", trained[0], path)[::2] == (2, f"e2train: {path} {text}\n")
        code, _, error = run("evaluate", trained[0], "--data", path.parent / "all")
        assert (code, error) == (2, f"e2train: {path.parent}/all/ant/0.png {text}\n")


def test_images_are_tested_from_all_over_the_set(trained, images, tmp_path):
    config = trained_config(images).changed(steps=1, test_images=4, validation=0.5)
    run_training(config, out=tmp_path / "run")
    confusion = np.array(read_evaluation(tmp_path / "run" / "evaluation.json").confusion)
    assert confusion.sum(axis=1).tolist() == [1, 1, 1, 1]


def test_no_graph_is_kept_of_what_is_tested(trained, images):
    seen = []
    model = read_trained(trained[0])
    with opened(model) as net:
        net.register_forward_pre_hook(lambda module, given: seen.append(torch.is_grad_enabled()))
        classify(net, labelled_images(images, model.format, model.names), classes=4, count=8)
    assert seen == [False]

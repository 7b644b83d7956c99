# SPDX-License-Identifier: Apache-2.0
"""Images of one's own: folders and .npz files, read, split and normalised, or refused in one line."""

import html
import json
import os
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from e2train.nn import MODEL_NAMES, Group
from e2train.runtime import Ledger
from e2train.train import PRESETS, DataError, Session, TrainError, read_config, run_training
from e2train.train.data.dataset import DataWarning, ImageFormat
from e2train.train.data.own_data import labelled_images
from e2train.train.resources import load_split, settled
from own_images import CLASSES, LAYOUT, refusal, split_of, write_images
from PIL import Image

KNOWN = "it knows ant, bee, cat, dog: leave out or rename what it does not"


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_there_is_a_preset_for_every_model():
    own = {name: config for name, config in PRESETS.items() if name.startswith("folder-")}
    assert list(own) == [f"folder-{model}" for model in MODEL_NAMES]


def test_a_folder_of_classes_is_split_and_normalised(tmp_path, rng):
    write_images(tmp_path, count=10, rng=rng)
    split = split_of(tmp_path)
    assert (split.names, split.validation) == (CLASSES, 0.2)
    assert (len(split.train), len(split.test)) == (32, 8)
    assert (split.format.channels, split.format.size) == (3, 10)  # the shorter side
    images, labels = split.train.take(np.arange(32))
    assert images.shape == (32, 3, 10, 10)
    assert np.bincount(labels).tolist() == [8, 8, 8, 8]
    assert np.bincount(split.test.take(np.arange(8))[1]).tolist() == [2, 2, 2, 2]
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-3  # by the training part
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    assert split.test.take(np.arange(8))[0].mean().abs() > 1e-3


def test_what_is_held_out_depends_on_the_seed_alone(tmp_path, rng):
    write_images(tmp_path, count=10, rng=rng)

    def held_out(**options):
        test = split_of(tmp_path, **options).test
        return test.indices.tolist()

    assert held_out() == held_out(size=8) != held_out(seed=2)
    assert len(held_out(validation=0.5)) == 20


def test_size_and_channels_are_found_or_chosen(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(50, 60), mode="L")
    found = split_of(tmp_path).format
    assert (found.channels, found.size) == (1, 32)  # at most the model's
    chosen = split_of(tmp_path, channels=3, size=48)
    assert chosen.train.take(np.arange(2))[0].shape == (2, 3, 48, 48)


def test_parts_of_a_folder_are_kept_apart(tmp_path, rng):
    write_images(tmp_path / "train", count=3, rng=rng)
    write_images(tmp_path / "val", count=2, rng=rng)
    split = split_of(tmp_path)
    assert (len(split.train), len(split.test), split.validation) == (12, 8, 0.0)
    (tmp_path / "val" / "eel").mkdir()
    assert refusal(tmp_path) == f"{tmp_path}: train and val have different classes, such as eel"


def test_an_image_is_turned_as_its_camera_noted(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(half).save(tmp_path / "ant" / "0.png", exif=exif)
    pixels = split_of(tmp_path).train.whole.pixels(np.array([0]))[0, 0]
    assert (pixels[:, :4].max(), pixels[:, 4:].min()) == (0, 200)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: None, "no folder {root}: " + LAYOUT),
        (lambda root: root.write_text("x"), "{root} is neither a folder nor .npz: " + LAYOUT),
        (lambda root: root.mkdir(), "no folders of classes in {root}: " + LAYOUT),
        (lambda root: (root / "ant").mkdir(parents=True),
         "no images (.bmp, .jfif, .jpe, .jpeg, .jpg, .png, .webp) in the class folders of {root}"),
    ],
)  # fmt: skip
def test_a_folder_that_is_none_is_refused(tmp_path, change, message):
    root = tmp_path / "data"
    change(root)
    assert refusal(root) == message.format(root=root)


@pytest.mark.parametrize("classes", [("under_$10", "from_$10_to_$20"), ("a^{b", r"\frac")], ids=str)
def test_names_of_classes_are_no_formulas(tmp_path, rng, classes):
    write_images(tmp_path / "images", count=4, rng=rng, classes=classes)
    config = PRESETS["folder-digits"].changed(
        data=str(tmp_path / "images"), method="smb-fp32", steps=1, batch=4, test_images=2, meter="none"
    )
    run_training(config, out=tmp_path / "run")
    page = html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert all(name in page for name in classes)


def test_a_class_whose_name_is_no_utf_8_is_refused(tmp_path, rng):
    write_images(tmp_path, count=2, rng=rng, classes=("ant", os.fsdecode(b"\xe9")))
    assert refusal(tmp_path) == f"the class '\\udce9' in {tmp_path} is no UTF-8; rename its folder"


def test_a_class_has_a_name_of_one_line(tmp_path, rng):
    write_images(tmp_path, count=2, rng=rng, classes=("ant", "b\ne"))
    assert refusal(tmp_path) == f"{tmp_path} has the class 'b\\ne'; give it a name of one line"


def test_images_that_cannot_be_trained_on_are_refused(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng)
    (tmp_path / "eel").mkdir()
    assert refusal(tmp_path) == f"no images (.bmp, .jfif, .jpe, .jpeg, .jpg, .png, .webp) in {tmp_path}/eel"
    (tmp_path / "eel").rmdir()
    whole = "validation 0.01 holds out 0 of 20 images, or a whole class; use another share, or more images"
    assert refusal(tmp_path, validation=0.01) == whole
    first = tmp_path / "ant" / "0.png"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(first)
    assert refusal(tmp_path) == f"{first} has pixels of more than 8 bits (mode I;16); convert it to 8 bits"
    first.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert refusal(tmp_path).startswith(f"{first} is no image that can be read: ")


def test_transparent_pixels_are_refused_and_opaque_ones_are_not(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    first = tmp_path / "ant" / "0.png"
    pixels = np.full((8, 8, 4), 255, np.uint8)
    Image.fromarray(pixels).save(first)
    assert len(split_of(tmp_path).train) == 16
    pixels[3, 3, 3] = 254
    Image.fromarray(pixels).save(first)
    text = f"{first} has transparent pixels; put it on a background first"
    assert refusal(tmp_path) == text
    assert refusal(tmp_path, channels=3, size=8) == text  # headers need not be scanned
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P").save(first, transparency=0)
    assert refusal(tmp_path) == text


def test_images_that_would_not_be_read_are_refused(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    (tmp_path / "ant" / "labels.txt").write_text("none")
    (tmp_path / "ant" / "drafts").mkdir()
    (tmp_path / "ant" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX" / "ant").mkdir(parents=True)
    split = split_of(tmp_path)
    assert (split.names, len(split.train) + len(split.test)) == (CLASSES, 20)
    nested = tmp_path / "ant" / "drafts" / "9.png"
    nested.write_bytes((tmp_path / "ant" / "0.png").read_bytes())
    assert (
        refusal(tmp_path) == f"{nested.parent} is a folder of images in the folder of a class; move them up"
    )
    nested.unlink()
    deeper = tmp_path / "ant" / "drafts" / "old"
    deeper.mkdir()
    (deeper / "9.gif").write_bytes(b"GIF89a")
    assert (
        refusal(tmp_path) == f"{nested.parent} is a folder of images in the folder of a class; move them up"
    )
    (deeper / "9.gif").unlink()
    kinds = ".bmp, .jfif, .jpe, .jpeg, .jpg, .png, .webp"
    for name in ("9.tif", "9.HEIC", "9.gif", "9.ico", "9.j2k", "9.pcx", "9.eps"):
        other = tmp_path / "bee" / name
        other.write_bytes(b"image")
        assert refusal(tmp_path) == f"{other} is of a kind that is not read ({kinds} are); convert it"
        other.unlink()
    for name in ("features.h5", "clip.mpg", "notes.ps", "data.fit"):  # endings that Pillow has a name for
        (tmp_path / "bee" / name).write_bytes(b"no image")
    assert len(split_of(tmp_path).train) == 16


def test_jpegs_are_read_by_whatever_name(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    for index, ending in enumerate(("jpg", "JPEG", "jpe", "jfif")):
        Image.new("RGB", (8, 8)).save(tmp_path / "ant" / f"{index}.{ending}", "JPEG")
    split = split_of(tmp_path)
    assert len(split.train) + len(split.test) == 24


@pytest.mark.parametrize("name", ["9.webp", "9.png"])
def test_animations_are_refused(tmp_path, rng, name):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 99, 200)]
    path = tmp_path / "ant" / name
    frames[0].save(path, save_all=True, append_images=frames[1:])
    text = f"{path} is an animation of 3 images; save each that is to be read as its own file"
    assert refusal(tmp_path) == text
    assert refusal(tmp_path, channels=3, size=8) == text


def test_a_camera_may_put_a_preview_behind_its_image(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    image, preview = Image.new("RGB", (8, 8)), Image.new("RGB", (4, 4))
    image.save(tmp_path / "ant" / "9.jpg", "MPO", save_all=True, append_images=[preview])
    split = split_of(tmp_path)
    assert len(split.train) + len(split.test) == 21


def test_colours_of_more_than_8_bits_are_refused(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    first = tmp_path / "ant" / "0.png"

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(8 * 6) for _ in range(8))
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))
    first.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    assert refusal(tmp_path) == f"{first} has pixels of more than 8 bits (mode RGB); convert it to 8 bits"


def test_a_warning_says_that_images_are_cut(tmp_path, rng):
    write_images(tmp_path / "some", count=3, rng=rng, size=(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_of(tmp_path / "some", validation=0.4)
    Image.new("RGB", (9, 8)).save(tmp_path / "some" / "ant" / "0.png")
    used = "not square: the middle square of each is used; crop or pad them for another part"
    for options in ({}, {"channels": 3, "size": 8}):
        with pytest.warns(DataWarning, match=rf"^1 of 12 images are {used}$"):
            split_of(tmp_path / "some", validation=0.4, **options)
    with pytest.warns(DataWarning, match=rf"^1 of 12 images are {used}$"):
        labelled_images(tmp_path / "some", ImageFormat(channels=3, size=8), CLASSES)
    arrays = {"x_train": np.zeros((8, 6, 9), np.uint8), "y_train": np.arange(8) % 2}
    with pytest.warns(DataWarning, match=rf"^images of 9 x 6 pixels are {used}$"):
        split_of(save_npz(tmp_path / "data.npz", **arrays), validation=0.4)


def test_a_warning_says_that_colours_are_lost(tmp_path, rng):
    write_images(tmp_path / "train", count=5, rng=rng, size=(8, 8), mode="L")
    write_images(tmp_path / "val", count=2, rng=rng, size=(8, 8), mode="L")
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "ant" / "0.png")
    lost = "images have colour channels; the model takes the brightness$"
    with pytest.warns(DataWarning, match=f"^1 of 8 {lost}"):
        form = split_of(tmp_path).format
    assert form.channels == 1
    with pytest.warns(DataWarning, match=f"^1 of 8 {lost}"):
        labelled_images(tmp_path, form, CLASSES)
    arrays = {"x_train": np.zeros((8, 6, 6, 3), np.uint8), "y_train": np.arange(8) % 2}
    with pytest.warns(DataWarning, match=f"^8 of 8 {lost}"):
        split_of(save_npz(tmp_path / "data.npz", **arrays), validation=0.4, channels=1)


def test_one_class_is_not_enough(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, classes=("ant",))
    assert refusal(tmp_path) == f"{tmp_path} has 1 class, ant; at least 2 are needed: {LAYOUT}"


def test_no_damage_to_an_image_is_a_traceback(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng, size=(8, 8))
    path = tmp_path / "ant" / "0.png"
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged[: rng.integers(len(whole))] if rng.random() < 0.3 else damaged)
        with suppress(DataError):
            split_of(tmp_path)


def test_images_to_test_are_numbered_as_the_run_knows_them(tmp_path, rng):
    write_images(tmp_path / "all", count=5, rng=rng)
    form = split_of(tmp_path / "all").format
    write_images(tmp_path / "some", count=1, rng=rng, classes=("bee", "dog"))
    assert labelled_images(tmp_path / "some", form, CLASSES).take(np.arange(2))[1].tolist() == [1, 3]
    write_images(tmp_path / "other", count=1, rng=rng, classes=("bee", "eel"))
    with pytest.raises(DataError) as error:
        labelled_images(tmp_path / "other", form, CLASSES)
    message = f"{tmp_path}/other has the class eel, which the run does not know; {KNOWN}"
    assert str(error.value) == message


def test_images_are_told_apart_by_what_is_in_them(tmp_path):
    """Not by names and sizes of files alone, which are equal here."""
    found = []
    for part, colours in (("one", (0, 255)), ("other", (255, 0))):
        for name, colour in zip(("ant", "bee"), colours, strict=True):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(5):
                image = np.full((8, 8, 3), colour, np.uint8)
                Image.fromarray(image).save(tmp_path / part / name / f"{index}.bmp")
        sizes = {path.stat().st_size for path in (tmp_path / part).glob("*/*")}
        found.append((sizes, split_of(tmp_path / part).sha256))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_settings_take_what_the_data_has(tmp_path, rng):
    write_images(tmp_path / "data", count=5, rng=rng, mode="L")
    config = PRESETS["folder-digits"].changed(data=str(tmp_path / "data"))
    known = settled(config, load_split(config))
    assert (known.image_size, known.channels, known.validation) == (8, 1, 0.2)
    assert known.image == (1, 8, 8)
    assert settled(known, load_split(known)) == known
    next((tmp_path / "data").glob("*/0.png")).unlink()
    found = load_split(known)
    with pytest.raises(TrainError) as error:
        settled(known, found)
    assert str(error.value) == (
        f"{tmp_path / 'data'} holds images with SHA-256 {found.sha256[:12]}..., the settings name those with "
        f"{known.data_sha256[:12]}...; give --set data_sha256= to train on these"
    )
    again = settled(known.set(["data_sha256="]), found)
    assert again.data_sha256 == found.sha256 != known.data_sha256


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("digits", {"image_size": 16}, "image_size is a setting of folder-MODEL presets, not of digits"),
        ("digits", {"augment": "mirror-shift"},
         "augment is a setting of folder-MODEL presets, not of digits"),
        ("folder-resnet8", {"image_size": 4}, "image_size must be 0 or in 8..1024, not 4"),
        ("folder-resnet8", {"channels": 2}, "channels must be 0, 1 or 3, not 2"),
        ("folder-resnet8", {"augment": "flip"}, "no augment 'flip'; there are: none, mirror-shift"),
    ],
)  # fmt: skip
def test_settings_of_images_are_checked(preset, options, message):
    with pytest.raises(TrainError) as error:
        PRESETS[preset].changed(**options)
    assert str(error.value) == message


def test_settings_of_images_are_no_part_of_other_runs():
    assert not {"image_size", "channels", "augment"} & {*PRESETS["digits"].determining}
    assert {"image_size", "channels", "augment"} <= {*PRESETS["folder-digits"].determining}


def test_a_folder_is_trained_on(tmp_path, rng):
    write_images(tmp_path / "data", count=10, rng=rng)
    config = PRESETS["folder-digits"].changed(
        data=str(tmp_path / "data"), method="smb-int8", steps=2, batch=8, execution="resident"
    )
    summary = run_training(config, out=tmp_path / "run")
    assert summary.test_accuracy is None
    assert summary.validation_accuracy is not None
    assert read_config(tmp_path / "run" / "config.toml").image == (3, 8, 8)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps_run"] == 2


def test_a_last_batch_of_one_image_is_refused(tmp_path, rng):
    write_images(tmp_path / "data", count=5, rng=rng)
    config = PRESETS["folder-digits"].changed(data=str(tmp_path / "data"), batch=5, steps=1)
    with pytest.raises(DataError) as error:
        run_training(config, out=tmp_path / "run")
    assert str(error.value) == "the last batch of an epoch has 1 of 16 images; use another --batch"


def test_ranks_need_two_images_each_in_the_last_batch(tmp_path, rng):
    write_images(tmp_path, count=5, rng=rng)
    config = PRESETS["folder-digits"].changed(data=str(tmp_path), batch=13, method="smb-fp32")
    group = Group()
    group.size = 2
    with pytest.raises(DataError) as error:
        Session.start(config, None, Ledger(), group)
    assert str(error.value) == (
        "the last batch of an epoch has 3 of 16 images for 2 ranks, two are needed for each; "
        "use another --batch"
    )

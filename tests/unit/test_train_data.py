# SPDX-License-Identifier: Apache-2.0
"""Data: a fixed stratified split, and batches that depend on (seed, step) alone."""

import contextlib
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from e2train.train.data import Batches, DataError, cifar_split, digits_split, folder_split, hold_out
from e2train.train.data.cifar import read_batch
from e2train.train.data.dataset import mirror_and_shift
from PIL import Image

NO_ROWS = "data must be uint8 rows of 3072; is it of another data set?"


@pytest.fixture(scope="module")
def split():
    return digits_split()


def test_split_is_stratified_and_disjoint(split):
    assert (len(split.train), len(split.test)) == (1437, 360)
    assert np.bincount(split.test.labels).tolist() == [36] * 10
    seen = {image.tobytes() for image in split.train.images}
    assert not any(image.tobytes() in seen for image in split.test.images)
    assert (split.train.images.min(), split.train.images.max()) == (0, 1)


def test_an_epoch_shows_every_image_once(split):
    batches = Batches(split.train, batch=32, seed=3)
    shown = torch.cat([batches.load(step)[0] for step in range(batches.per_epoch)])
    assert batches.per_epoch == 45
    assert sorted(image.numpy().tobytes() for image in shown) == sorted(
        image.tobytes() for image in split.train.images
    )


def test_a_step_has_its_batch_whatever_came_before(split):
    walked = Batches(split.train, batch=32, seed=3)
    for step in range(100):
        images, labels = walked.load(step)
    jumped_images, jumped_labels = Batches(split.train, batch=32, seed=3).load(99)
    assert torch.equal(images, jumped_images)
    assert torch.equal(labels, jumped_labels)
    assert not torch.equal(images, Batches(split.train, batch=32, seed=4).load(99)[0])


def test_augmentation_is_keyed_by_seed_epoch_and_image():
    images = torch.arange(4 * 64, dtype=torch.float32).view(4, 1, 8, 8)
    indices = np.array([5, 9, 2, 7])
    whole = mirror_and_shift(images, indices, epoch=3, seed=1)
    alone = mirror_and_shift(images[2:3], indices[2:3], epoch=3, seed=1)
    assert torch.equal(whole[2:3], alone)
    others = (mirror_and_shift(images, indices, epoch=e, seed=s) for e, s in ((4, 1), (3, 2)))
    assert not any(torch.equal(whole, other) for other in others)


def test_augmentation_mirrors_and_shifts():
    image = torch.rand(1, 3, 32, 32)
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
    allowed = {
        side[:, :, y : y + 32, x : x + 32].numpy().tobytes()
        for y in range(9)
        for x in range(9)
        for side in (padded, padded.flip(3))
    }
    drawn = {
        mirror_and_shift(image, np.array([0]), epoch=epoch, seed=0).numpy().tobytes() for epoch in range(200)
    }
    assert drawn <= allowed
    assert len(drawn) > 100


def test_half_of_the_images_are_mirrored_and_all_places_are_alike():
    ramp = np.arange(16, dtype=np.float32)
    marked = torch.from_numpy(np.add.outer(100 * ramp, ramp) + 1)[None, None].expand(20_000, -1, -1, -1)
    out = mirror_and_shift(marked, np.arange(20_000), epoch=2, seed=5)[:, 0].numpy()
    mirrored = out[:, 8, 8] < out[:, 8, 7]
    centre = np.where(mirrored, out[:, 8, 7], out[:, 8, 8]).astype(int) - 1  # which pixel came to (8, 8)
    drawn = np.stack([mirrored, centre // 100 - 4, centre % 100 - 4])
    table = np.zeros((2, 9, 9))
    np.add.at(table, tuple(drawn.astype(int)), 1)
    for axes, degrees in (((1, 2), 1), ((0, 2), 8), ((0, 1), 8), ((), 161)):
        counts = table.sum(axis=axes).ravel()
        chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi_squared < degrees + 4 * np.sqrt(2 * degrees)


def keys(data):
    return {image.numpy().tobytes() for image in data.take(np.arange(len(data)))[0]}


def test_a_share_is_held_out_by_seed_alone(split):
    parts = hold_out(split, 0.1, seed=3)
    assert (len(parts.train), len(parts.test), parts.classes) == (1293, 144, 10)
    whole, held_out = keys(split.train), keys(parts.test)
    assert keys(parts.train) == whole - held_out
    assert held_out < whole
    assert keys(hold_out(split, 0.1, seed=3).test) == held_out
    assert keys(hold_out(split, 0.1, seed=4).test) != held_out
    image, label = parts.test.take(np.array([100]))
    at = [other.tobytes() for other in split.train.images].index(image.numpy().tobytes())
    assert label.item() == split.train.labels[at]


@pytest.mark.parametrize(("share", "count"), [(0.0001, 0), (0.9999, 1437)])
def test_a_share_that_leaves_nothing_is_refused(split, share, count):
    with pytest.raises(DataError) as error:
        hold_out(split, share, seed=0)
    wanted = f"validation {share} holds out {count} of 1437 training images; use another share"
    assert str(error.value) == wanted


def write_cifar(root: Path, classes: int, *, rows: int = 6, **change: object) -> Path:
    """A small data set in the layout of the archive."""
    rng = np.random.default_rng(1)
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
    for name in names:
        labels = b"labels" if classes == 10 else b"fine_labels"
        batch = {
            b"data": rng.integers(0, 256, (rows, 3072), np.uint8),
            labels: rng.integers(0, classes, rows).tolist(),
            b"batch_label": name.encode(),
        }
        batch |= {key.encode(): value for key, value in change.items()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


@pytest.mark.parametrize(("classes", "train"), [(10, 30), (100, 6)])
def test_cifar_is_read_from_the_archives_layout(tmp_path, classes, train):
    folder = write_cifar(tmp_path, classes)
    for root in (tmp_path, folder):
        split = cifar_split(root, classes=classes)
        assert (len(split.train), len(split.test), split.classes, split.augment) == (train, 6, classes, True)
        images, labels = split.train.take(np.array([0, 3]))
        assert (images.shape, images.dtype, labels.dtype) == ((2, 3, 32, 32), torch.float32, torch.int64)


@pytest.mark.parametrize("written", [str, str.encode])
def test_classes_have_the_archives_names(tmp_path, written):
    folder = write_cifar(tmp_path, 10)
    assert cifar_split(tmp_path, classes=10).names == tuple("0123456789")
    names = ["airplane", *"abcdefghi"]
    (folder / "batches.meta").write_bytes(
        pickle.dumps({"label_names": list(map(written, names))}, protocol=2)
    )
    assert cifar_split(tmp_path, classes=10).names == tuple(names)


@pytest.mark.parametrize("names", [["a"] * 9, "airplanes ", ["a"] * 9 + [1]])
def test_names_of_another_kind_are_refused(tmp_path, names):
    folder = write_cifar(tmp_path, 10)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    with pytest.raises(DataError, match=r"batches\.meta: label_names must be a list of 10 names$"):
        cifar_split(tmp_path, classes=10)


def test_classes_of_one_name_are_refused(tmp_path):
    folder = write_cifar(tmp_path, 10)
    names = pickle.dumps({"label_names": [*"abcdefgh", "cat", "cat"]}, protocol=2)
    (folder / "batches.meta").write_bytes(names)
    with pytest.raises(DataError) as error:
        cifar_split(tmp_path, classes=10)
    text = f"{folder}/batches.meta has two classes named 'cat'; give each a name of its own"
    assert str(error.value) == text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_arrays_of_every_protocol_are_read(tmp_path, protocol, order):
    whole = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    data = whole[::-1] if order == "strided" else np.array(whole, order=order)
    rates = np.array([0.5, -2.0], ">f4")
    batch = {
        b"data": data,
        "labels": [3, 300, -1, 1 << 40],
        "rates": rates,
        "names": ("a", b"\xff", None, True),
    }
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    read = read_batch(path)
    assert list(read) == ["data", "labels", "rates", "names"]
    assert (read["data"].dtype, read["rates"].dtype.kind) == (np.uint8, "f")
    assert np.array_equal(read["data"], data)
    assert np.array_equal(read["rates"], rates)
    assert (read["labels"], read["names"]) == (batch["labels"], batch["names"])


def today(batch: dict) -> bytes:
    """As NumPy 2 names its modules, which NumPy 1.26 does not."""
    content = pickle.dumps(batch, protocol=5).replace(
        b"\x8c\x12numpy.core.numeric", b"\x8c\x13numpy._core.numeric"
    )
    return content[:2] + b"\x95" + (len(content) - 11).to_bytes(8, "little") + content[11:]


def python_2(data: bytes) -> bytes:
    """A batch as Python 2 wrote the archive: its texts and bytes are the same."""
    head = b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    array = (
        b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    )
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    return head + array + state + b"T" + len(data).to_bytes(4, "little") + data + b"tbU\x06labels]K\x05au."


def test_files_of_todays_numpy_are_read(tmp_path):
    data = np.arange(3072).astype(np.uint8).reshape(1, 3072)
    path = tmp_path / "batch"
    path.write_bytes(today({b"data": data}))
    assert b"numpy._core.numeric" in path.read_bytes()
    assert np.array_equal(read_batch(path)["data"], data)


def test_files_of_python_2_are_read(tmp_path):
    data = np.arange(3072).astype(np.uint8).reshape(1, 3072)
    path = tmp_path / "batch"
    path.write_bytes(python_2(data.tobytes()))
    read = read_batch(path)
    assert np.array_equal(read["data"], data)
    assert read["labels"] == [5]


def test_cifar_channels_come_first_and_are_centred(tmp_path):
    data = np.repeat(np.array([[125, 123, 114]], np.uint8), 1024, axis=1).repeat(6, axis=0)
    write_cifar(tmp_path, 10, data=data)
    images, _ = cifar_split(tmp_path, classes=10).test.take(np.arange(6))
    assert images.abs().max() < 0.01


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


class Huge:
    def __reduce__(self):
        return np.ndarray, ((1 << 40,),)


@pytest.mark.parametrize("payload", [Evil(), Huge(), np.array([Evil()], object), slice(3)], ids=type)
def test_a_batch_that_would_run_something_is_refused(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": payload}, protocol=2))
    with pytest.raises(DataError, match=r"is not a CIFAR batch: "):
        read_batch(path)
    assert not (tmp_path / "pwned").exists()


DEEP_KEY = b"\x80\x02}K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
ARRAY = b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(%bcnumpy\ndtype\n\x8c\x02u1\x85R%b\x8c\x01CtR."
COPIES = b"\x80\x02]c_codecs\nencode\nq\x00X%bX\x06\x00\x00\x00latin1\x86q\x01" % (
    (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20)
)
ATTACKS = {
    "a nested tuple as a key": (DEEP_KEY, "a key or name is of type tuple, not a text"),
    "a number as a key": (pickle.dumps({10**5000: 1}), "a key or name is of type int, not a text"),
    "a memo of 2 GB": (b"\x80\x02]r\xff\xff\xff\x7f.", "it holds a list"),
    "a number of 5,000 digits": (b"I" + b"9" * 5000 + b"\n.", "Exceeds the limit (4300 digits) for"),
    "an entry that is not there": (b"\x80\x02h\x07.", "it refers to entry 7 of its memo, which is empty"),
    "copies without end": (COPIES + b"Rh\x00h\x01" * 5 + b".", "it copies the same bytes again and again"),
    "too many parts": (b"]" * 2000, "it has more than 1000 parts"),
    "an array of 1 TB": (
        ARRAY % (b"C\x01x", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"),
        "an array has an impossible shape",
    ),
    "an array of a longer shape": (
        ARRAY % (b"C\x01x", b"K\x02\x85"),
        "an array has 1 bytes, which do not fit",
    ),
    "an array of objects": (ARRAY % (b"]", b"K\x00\x85"), "an array is made of a list"),
    "an order of arrays": (
        ARRAY.replace(b"\x01C", b"\x01K") % (b"C\x01x", b"K\x01\x85"),
        "it has 'K' instead of one of CF",
    ),
    "a call of data": (b"\x80\x02X\x01\x00\x00\x00a)R.", "it calls a str"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", "it sets items of a list"),
    "a class": (
        b"\x80\x02c__main__\nEvil\n)\x81.",
        "it names __main__.Evil, which a CIFAR batch does not need",
    ),
    "an instance": (b"\x80\x02])\x81.", "it uses NEWOBJ, which a CIFAR batch does not need"),
    "bytes of another file": (b"\x80\x05\x97.", "it uses NEXT_BUFFER, which a CIFAR batch does not need"),
}


@pytest.mark.parametrize(("content", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_batch_that_would_take_for_ever_is_one_line(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr("e2train.train.data.plain_pickle._MOST_OPCODES", 1000)
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_batch(path)
    assert str(error.value).startswith(f"{path} is not a CIFAR batch: {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("attack", ["a memo of 2 GB", "copies without end"])
def test_memory_is_that_of_the_file(tmp_path, attack):
    path = tmp_path / "batch"
    path.write_bytes(ATTACKS[attack][0])
    tracemalloc.start()
    with pytest.raises(DataError):
        read_batch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(ATTACKS[attack][0]) + (1 << 20)


def test_no_damage_is_a_traceback(tmp_path, rng):
    """Cut, flipped and spliced files are read, or refused as what they are."""
    whole = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8)[:, ::2], "labels": [1, 300]}, protocol=2)
    whole = whole.replace(bytes(1536), bytes(16))
    path = tmp_path / "batch"
    refused = []
    for _ in range(400):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.2 else whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            read_batch(path)
            continue
        refused.append(content)
    assert len(refused) > 100


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({})[:3]])
def test_a_broken_batch_is_one_line(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_batch(path)
    assert str(error.value).startswith(f"{path} is not a CIFAR batch: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data": np.zeros((6, 3000), np.uint8)},
            "data must be uint8 rows of 3072; is it of another data set?",
        ),
        ({"data": np.zeros((6, 3072))}, "data must be uint8 rows of 3072; is it of another data set?"),
        ({"labels": [1, 2]}, "labels must be a list of 6 classes"),
        ({"labels": [0, 1, 2, 3, 4, 10]}, "labels must be numbers in 0..9"),
    ],
)
def test_a_batch_of_the_wrong_shape_is_refused(tmp_path, change, message):
    folder = write_cifar(tmp_path, 10, **change)
    with pytest.raises(DataError) as error:
        cifar_split(tmp_path, classes=10)
    assert str(error.value) == f"{folder / 'data_batch_1'}: {message}"


def test_a_missing_file_is_named(tmp_path):
    (write_cifar(tmp_path, 100) / "test").unlink()
    with pytest.raises(DataError) as error:
        cifar_split(tmp_path, classes=100)
    assert str(error.value) == f"cannot read {tmp_path}/cifar-100-python/test: No such file or directory"


def test_images_in_folders(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for name, colour in (("ant", 0), ("bee", 255)):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                image = np.full((20, 30, 3), colour, np.uint8)
                Image.fromarray(image).save(tmp_path / part / name / f"{index}.png")
    split = folder_split(tmp_path, size=16)
    assert (len(split.train), len(split.test), split.classes) == (6, 4, 2)
    images, labels = split.test.take(np.array([0, 3]))
    assert images.shape == (2, 3, 16, 16)
    assert labels.tolist() == [0, 1]
    assert images[0].max() < 0 < images[1].min()
    Image.fromarray(image).resize((60, 40)).save(tmp_path / "val" / "bee" / "1.png")
    assert folder_split(tmp_path, size=16).sha256 != split.sha256
    (tmp_path / "val" / "bee" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bee/0.png is no image that can be read"):
        split.test.take(np.array([2]))


def test_folders_must_have_the_same_classes(tmp_path):
    for name in ("train/ant", "train/bee", "val/ant"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"train and val have different classes \(2 and 1\)$"):
        folder_split(tmp_path, size=16)

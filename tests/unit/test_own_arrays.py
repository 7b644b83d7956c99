# SPDX-License-Identifier: Apache-2.0
"""Images of one's own in an .npz file: read, or refused in one line."""

import io
import re
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from e2train.train import DataError
from e2train.train.data.dataset import DataWarning
from own_images import refusal, split_of


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("layout", ["grey", "channels last", "channels first"])
def test_arrays_are_read(tmp_path, rng, layout):
    grey = rng.integers(0, 256, (20, 8, 8), np.uint8)
    images = {"grey": grey, "channels last": grey[..., None], "channels first": grey[:, None]}[layout]
    path = save_npz(tmp_path / "mine.npz", x_train=images, y_train=np.arange(20)[:, None] % 2 * 7 + 3)
    split = split_of(path)
    assert (split.names, split.format.shape, len(split.train)) == (("3", "10"), (1, 8, 8), 16)
    indices = split.train.indices
    pixels = split.train.whole.pixels(indices)
    assert split.train.take(np.arange(16))[1].tolist() == (indices % 2).tolist()
    assert (pixels[:, 0] == grey[indices]).all()


def test_arrays_are_cut_to_squares(tmp_path):
    images = np.zeros((10, 8, 12, 3), np.uint8)
    images[:, :, 2:10] = (10, 20, 30)
    path = save_npz(tmp_path / "mine.npz", x_train=images, y_train=np.arange(10) % 2)
    split = split_of(path)
    pixels = split.train.whole.pixels(np.array([0]))
    assert pixels.shape == (1, 3, 8, 8)
    assert (pixels == np.array([10, 20, 30]).reshape(1, 3, 1, 1)).all()


def test_arrays_for_the_test_are_kept_apart(tmp_path, rng):
    images = rng.integers(0, 256, (6, 8, 8, 3), np.uint8)
    path = save_npz(
        tmp_path / "mine.npz",
        x_train=images, y_train=[5, 6, 7, 5, 6, 7], x_test=images[:2], y_test=np.array([7, 5], np.uint8),
    )  # fmt: skip
    split = split_of(path)
    assert (len(split.train), len(split.test), split.validation) == (6, 2, 0.0)
    pixels, labels = split.test.take(np.arange(2))
    assert labels.tolist() == [2, 0]
    assert (pixels == split.train.take(np.arange(2))[0]).all()


X, Y = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": X}, "has no y_train; it must hold x_train, y_train, and for a test x_test, y_test"),
        ({"x_train": X, "y_train": Y, "x_test": X},
         "has no y_test; it must hold x_train, y_train, and for a test x_test, y_test"),
        ({"x_train": X, "y_train": Y[:3]}, ": x_train has 4 images, y_train 3 classes"),
        ({"x_train": X.astype(np.float32), "y_train": Y},
         ": x_train holds float32, it must hold integers (images uint8)"),
        ({"x_train": X.astype(np.int16), "y_train": Y}, ": x_train holds int16, it must hold uint8"),
        ({"x_train": X[..., None, None], "y_train": Y},
         ": x_train has the shape (4, 8, 8, 1, 1), it must be (N, H, W), (N, H, W, C) or (N, C, H, W) "
         "with 1 or 3 channels"),
        ({"x_train": X, "y_train": np.eye(4, dtype=int)},
         ": y_train has the shape (4, 4), it must be (N,) or (N, 1)"),
        ({"x_train": X, "y_train": Y.astype(np.uint64) * np.uint64(2**64 - 1)},
         ": y_train has the class 18446744073709551615, it must be at most 9223372036854775807"),
        ({"x_train": X[:0], "y_train": Y[:0]},
         ": x_train has the shape (0, 8, 8): empty, or more than 8 GiB"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
         ": y_test has the class 2, which y_train does not have"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :6], "y_test": Y},
         ": images of x_train and x_test have 8 x 8 and 8 x 6 pixels; make them alike"),
        ({"x_train": np.array([{}]), "y_train": Y},
         ": x_train holds object, it must hold integers (images uint8)"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(tmp_path, arrays, message):
    path = save_npz(tmp_path / "mine.npz", **arrays)
    separator = "" if message.startswith(":") else " "
    assert refusal(path) == f"{path}{separator}{message}"


def test_a_warning_says_which_arrays_are_left_out(tmp_path):
    path = save_npz(tmp_path / "mine.npz", x_train=X, y_train=Y, x_val=X, y_val=Y, notes=Y)
    text = f"{path}: x_val, y_val left out; x_train, y_train, x_test, y_test are read"
    with pytest.warns(DataWarning, match=f"^{re.escape(text)}$"):
        split_of(path, validation=0.5)


def test_an_array_larger_than_its_file_is_not_allocated(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (1 << 20, 32, 32), "fortran_order": False, "descr": "|u1"}
    )
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    assert refusal(path) == f"{path}: x_train is not (1048576, 32, 32) of uint8: the file is damaged"


def test_no_damage_to_an_archive_is_a_traceback(tmp_path, rng):
    path = save_npz(tmp_path / "mine.npz", x_train=X, y_train=Y)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole))] if rng.random() < 0.3 else damaged)
        with suppress(DataError):
            split_of(path)

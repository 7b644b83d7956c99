# SPDX-License-Identifier: Apache-2.0
"""Images of one's own that are not read: refused where they are surely meant to be, else named."""

import re
import warnings

import pytest
from e2train.train.data.dataset import DataWarning
from own_images import refusal, split_of, write_images


def test_a_link_to_nothing_is_no_class(tmp_path, rng):
    write_images(tmp_path / "train", count=2, rng=rng)
    for folder in (tmp_path / "train", tmp_path):
        link = folder / "val"
        link.symlink_to("/none")
        assert refusal(tmp_path) == f"{link} is a link to /none, which is not there; fix or remove it"
        link.unlink()


@pytest.mark.parametrize("name", ["valid", "Validation"])
def test_images_for_the_test_by_another_name_are_refused(tmp_path, rng, name):
    write_images(tmp_path / "train", count=5, rng=rng)
    write_images(tmp_path / name, count=2, rng=rng)
    assert refusal(tmp_path) == f"{tmp_path} has {name} beside train; rename it to val to test on it"


def test_a_warning_says_which_images_are_left_out(tmp_path, rng):
    write_images(tmp_path / "train", count=5, rng=rng, size=(8, 8))
    write_images(tmp_path / "val", count=2, rng=rng, size=(8, 8))
    (tmp_path / "notes").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_of(tmp_path)
    for name in ("test", "valid"):
        write_images(tmp_path / name, count=1, rng=rng)
    for folder in (tmp_path, tmp_path / "train"):
        (folder / "0.png").write_bytes(b"")
    with pytest.warns(DataWarning) as seen:
        split_of(tmp_path)
    itself = "itself holds images (1), left out; those in folders of classes are read"
    assert [str(warning.message) for warning in seen] == [
        f"{tmp_path}: images in test, valid are left out; those in train and val are read",
        f"{tmp_path} {itself}",
        f"{tmp_path}/train {itself}",
    ]


def test_a_warning_says_that_images_for_the_test_are_not_used(tmp_path, rng):
    write_images(tmp_path / "train", count=5, rng=rng)
    write_images(tmp_path / "val", count=2, rng=rng)
    text = (
        f"{tmp_path} has images for the test, which are not used: validation 0.2 holds out training images; "
        "--set validation=0 tests the others"
    )
    with pytest.warns(DataWarning, match=f"^{re.escape(text)}$"):
        assert split_of(tmp_path, validation=0.2).validation == 0.2

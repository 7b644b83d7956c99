# SPDX-License-Identifier: Apache-2.0
"""Data: a fixed stratified split, and batches that depend on (seed, step) alone."""

import numpy as np
import pytest
import torch
from e2train.train.data import Batches, digits_split


@pytest.fixture(scope="module")
def split():
    return digits_split()


def test_split_is_stratified_and_disjoint(split):
    assert (len(split.train), len(split.test)) == (1437, 360)
    assert np.bincount(split.test.labels).tolist() == [36] * 10
    seen = {image.tobytes() for image in split.train.images}
    assert not any(image.tobytes() in seen for image in split.test.images)
    assert (split.train.images.min(), split.train.images.max()) == (0, 1)


def test_an_epoch_shows_every_picture_once(split):
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

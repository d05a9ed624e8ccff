"""The wrongly named images that a run keeps for reports."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.data import Split
from cnnbench.experiment.result_files import KEPT_BYTES, KEPT_MISTAKES, KEPT_SIDE, write_mistakes
from cnnbench.runs.contents import read_mistakes
from cnnbench.storage.arrays import write_npz


def kept(folder, images, wrong):
    labels = np.zeros(len(images), dtype=np.int64)
    write_mistakes(folder, labels, np.where(wrong, 1, labels), Split(images, torch.from_numpy(labels)))
    return read_mistakes(folder)


def numbered(count, *shape):
    """Images that hold their own number, modulo 251, in every pixel."""
    numbers = (torch.arange(count) % 251).to(torch.uint8)
    return numbers.view(-1, *(1 for _ in shape)).expand(count, *shape).contiguous()


def test_each_kept_image_is_the_mistake_that_its_index_says(tmp_path):
    wrong = np.zeros(500, dtype=bool)
    wrong[::5] = True
    found = kept(tmp_path, numbered(500, 1, 28, 28), wrong)
    assert sorted(found) == list(range(0, 500, 5))
    for index, image in found.items():
        assert image.shape == (1, 28, 28)
        assert (image == index % 251).all()


@given(st.integers(0, 2**32), st.floats(0.02, 0.9), st.floats(0.02, 0.9))
def test_two_runs_keep_the_same_of_the_mistakes_they_share(tmp_path_factory, seed, first, second):
    rng = np.random.default_rng(seed)
    images = numbered(2000, 1, 4, 4)
    wrong = [rng.random(2000) < share for share in (first, second)]
    found = [set(kept(tmp_path_factory.mktemp("run"), images, one)) for one in wrong]
    both = set(np.flatnonzero(wrong[0] & wrong[1]).tolist())
    for one, other in (found, found[::-1]):
        # What one keeps of the common mistakes, the other keeps as well, unless its own come first and fill its share.
        assert one & both <= other or len(other) == KEPT_MISTAKES
    if both:
        assert found[0] & found[1]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 224, 160), (3, 64, 64), (3, 1000, 3)])
def test_the_file_stays_small_however_large_the_images(tmp_path, shape):
    found = kept(tmp_path, numbered(300, *shape), np.ones(300, dtype=bool))
    assert 0 < len(found) <= KEPT_MISTAKES
    assert sum(image.nbytes for image in found.values()) <= KEPT_BYTES
    for index, image in found.items():
        assert max(image.shape[1:]) <= KEPT_SIDE
        assert (image == index % 251).all()


def test_signals_are_kept_as_they_are(tmp_path):
    signals = torch.randn(20, 2, 100)
    found = kept(tmp_path, signals, np.ones(20, dtype=bool))
    assert all(np.array_equal(found[index], signals[index].numpy()) for index in range(20))


def test_a_run_without_mistakes_keeps_none(tmp_path):
    assert kept(tmp_path, numbered(10, 1, 8, 8), np.zeros(10, dtype=bool)) == {}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"indices": np.arange(3)}, "lacks images"),
        ({"indices": np.arange(2), "images": np.zeros((3, 1, 8, 8), np.uint8)}, "an index for each"),
        ({"indices": np.arange(3.0), "images": np.zeros((3, 1, 8, 8), np.uint8)}, "an index for each"),
        ({"indices": np.arange(3), "images": np.zeros((3, 1, 8, 8))}, "not images or signals"),
        ({"indices": np.arange(1), "images": np.zeros((1, 1, 9999, 1), np.uint8)}, "not images or signals"),
        ({"indices": np.arange(1), "images": np.full((1, 1, 9), np.nan, np.float32)}, "not images or signals"),
        ({"indices": np.arange(1), "images": np.zeros((1, 0, 8, 8), np.uint8)}, "an image is empty"),
        ({"indices": np.array([-1]), "images": np.zeros((1, 1, 8, 8), np.uint8)}, "an index negative"),
    ],
)
def test_what_a_run_would_not_keep_is_refused_by_name(tmp_path, arrays, words):
    write_npz(tmp_path / "mistakes.npz", **arrays)
    with pytest.raises(ValueError, match=words) as caught:
        read_mistakes(tmp_path)
    assert str(tmp_path / "mistakes.npz") in str(caught.value)

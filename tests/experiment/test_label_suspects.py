"""Images with a wrong label are among the first suspects, and the same ones each time."""

from dataclasses import replace

import pytest
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.data import Split, load_source
from cnnbench.data.folds import assign_folds
from cnnbench.experiment.data_check import FOLDS, RECIPE, find_label_suspects


@pytest.fixture(scope="module")
def digits():
    """The digits with six wrong labels in train and two in test."""
    source = load_source("digits", root="", download=False)
    train, test = source.train[torch.arange(1437)], source.test[torch.arange(100)]
    train.labels[:600:100] = (train.labels[:600:100] + 3) % 10
    test.labels[::50] = (test.labels[::50] + 3) % 10
    return replace(source, train=train, test=test)


def test_wrong_labels_are_the_first_suspects(digits):
    suspects = find_label_suspects(compose_config([*RECIPE, "trainer.batch_size=64"]), digits, epochs=4)
    wrong = {("train", place) for place in range(0, 600, 100)} | {("test", 0), ("test", 50)}
    assert len(wrong & {(one.split, one.index) for one in suspects[:16]}) >= 7
    assert all(one.probability > one.own_probability for one in suspects[:8])


def test_the_suspects_are_the_same_each_time(digits):
    few = replace(digits, train=digits.train[torch.arange(200)], test=digits.test[torch.arange(20)])
    first, second = (find_label_suspects(compose_config(RECIPE), few, epochs=1) for _ in range(2))
    assert first
    assert first == second


def make_split(images):
    labels = torch.arange(len(images)) % 4
    return Split(images.view(-1, 1, 1, 1), labels, marks=torch.stack((images.long(),) * 3, 1))


def test_folds_are_stratified_and_keep_copies_together():
    split = make_split(torch.arange(100, dtype=torch.uint8))
    folds = assign_folds(split, FOLDS, seed=0, purpose="label_folds")
    counts = [folds[split.labels == label].bincount(minlength=FOLDS).tolist() for label in range(4)]
    assert all(max(one) - min(one) <= 1 for one in counts)
    assert torch.equal(folds, assign_folds(split, FOLDS, seed=0, purpose="label_folds"))
    copied = make_split(torch.cat((torch.arange(60), torch.arange(40))).to(torch.uint8))  # each copy in its class
    folds = assign_folds(copied, FOLDS, seed=0, purpose="label_folds")
    assert torch.equal(folds[60:], folds[:40])


def test_without_cleanlab_the_error_says_how_to_install_it(monkeypatch, digits):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--labels needs the package cleanlab: pip install 'cnnbench\[check\]'"):
        find_label_suspects(compose_config([]), digits)

"""Each source of randomness draws from its own seed, and from no other."""

import pytest
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.config.seeds import Seeds
from cnnbench.experiment.factories import make_augmentation, make_batches, make_model
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.run import run_job
from conftest import assert_same_tensors

# All sources at work: weights, order, shifted images, a validation split, dropout.
SMALL = [
    "model=mlp", "model.width=0.1", "model.dropout=0.5", "augment=light", "data.train_limit=150", "trainer.epochs=1",
    "trainer.batch_size=32",
]  # fmt: skip


def train(path, *overrides):
    path.mkdir()
    run_job(compose_config([*SMALL, *overrides]), path, [], draw=lambda pictures, wait=True: None)
    return path


def test_one_seed_equals_the_same_seed_of_each_source_and_another_of_dropout_changes_the_weights(tmp_path):
    one = train(tmp_path / "one", "seed=5")
    each = train(tmp_path / "each", "seed=3", *(f"seeds.{source}=5" for source in Seeds._fields))
    assert_same_tensors(one, each, "last")
    other = train(tmp_path / "other", "seed=5", "seeds.dropout=3")
    with pytest.raises(AssertionError):
        assert_same_tensors(one, other, "last")


def draw_all(config):
    """What is drawn before the first step: initial weights, order, augmented images, and split."""
    dataset = load_dataset(config)
    device = torch.device("cpu")
    batches = make_batches(dataset.train, dataset=dataset, config=config, device=device, shuffle=True)
    augmentation = make_augmentation(config, dataset.info, device)
    # The same images whatever the split is.
    images, labels, indices = torch.arange(64 * 10).reshape(10, 1, 8, 8).byte(), torch.zeros(10), torch.arange(10)
    return {
        "init": torch.cat([value.flatten() for value in make_model(config, dataset.info).parameters()]),
        "order": torch.cat([labels for _, labels in batches.iterate_epoch(0)]),
        "augment": augmentation(images, labels.long(), indices, 0)[0],
        "split": dataset.val.images,
    }


@pytest.mark.parametrize("source", ["init", "order", "augment", "split"])
def test_the_seed_of_a_source_changes_what_that_source_draws_alone(source):
    before, after = (draw_all(compose_config([*SMALL, *more])) for more in ([], [f"seeds.{source}=5"]))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # Another split has other labels in the order of training, which the order's seed does not decide.
    assert changed == {source} | ({"order"} if source == "split" else set())

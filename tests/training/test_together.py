"""Runs trained by one step: the numbers of each run alone but for rounding, the same bits beside any others."""

import pytest
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.runs.folder import RunFolder
from cnnbench.training.together import train_together

FEW = ["data.train_limit=100", "data.val_fraction=0", "trainer.batch_size=32", "optimizer.lr=0.01"]


def start(folder, overrides, seed):
    config = compose_config([*FEW, *overrides, f"seed={seed}"])
    run = RunFolder.create(folder / f"{len(list(folder.iterdir()))}")
    run.checkpoints.mkdir()
    state, fit = prepare_training(config, run, build_parts(config), test=False)
    generator = fit()
    return state, next(generator), generator


def train_epoch(tmp_path, overrides, seeds):
    started = [start(tmp_path, overrides, seed) for seed in seeds]
    trained = list(train_together([request for _, request, _ in started]))
    return [state for state, _, _ in started], trained


def list_tensors(state):
    averages = state.stepper.average.model.state_dict() if state.stepper.average else {}
    moments = [state.stepper.optimizer.state[value] for value in state.model.parameters()]
    named = {f"{number}.{name}": value for number, each in enumerate(moments) for name, value in each.items()}
    return {**state.model.state_dict(), **{f"ema.{name}": value for name, value in averages.items()}, **named}


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp", "optimizer=sgd", "model.dropout=0.5", "augment=light", "trainer.clip_norm=0.5"],
        ["model=lenet5", "optimizer=sgd", "trainer.ema=0.9", "data.class_weights=balanced", "scheduler=cosine"],
        ["model=lenet5", "optimizer=adamw", "optimizer.weight_decay=0.1", "trainer.label_smoothing=0.1"],
        ["model=resnet_mini", "model.width=0.25", "optimizer=sgd", "trainer.channels_last=false"],
        ["model=conv_autoencoder", "model.norm=none", "optimizer=sgd", "model.width=0.25"],
        ["model=lenet5", "trainer.precision=bf16", "optimizer=sgd", "augment.mixup=0.4"],
    ],
    ids=" ".join,
)
def test_a_run_beside_others_has_the_numbers_of_the_run_alone_and_bits_that_do_not_depend_on_them(overrides, tmp_path):
    alone_state, request, _ = start(tmp_path, overrides, 1)
    alone = request.run()
    (one,), (trained,) = train_epoch(tmp_path, overrides, [1])
    (_, beside, *_), (_, again, *_) = train_epoch(tmp_path, overrides, [0, 1, 5])
    assert trained == again
    bits, same = list_tensors(one), list_tensors(beside)
    assert bits.keys() == same.keys()
    assert [name for name, value in bits.items() if not torch.equal(value, same[name])] == []
    rough = 0.02 if "trainer.precision=bf16" in overrides else 1e-3 if "optimizer=adamw" in overrides else 1e-4
    assert trained["loss"] == pytest.approx(alone["loss"], rel=rough)
    for name, value in list_tensors(alone_state).items():
        torch.testing.assert_close(bits[name], value, rtol=rough, atol=rough, msg=name)

"""A recorded step, as far as a CPU can run it: a "recording" there calls the step again on the recorded inputs."""

import pytest
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, make_settings
from cnnbench.experiment.factories import make_batches
from cnnbench.runs.folder import RunFolder
from cnnbench.training.epoch import TrainingPass
from cnnbench.training.graph import WARM_UP, StepGraph, check_graph, make_capturable
from cnnbench.training.trainer import Splits, build_state

COMMON = ["model=mlp", "data.train_limit=500", "data.val_fraction=0", "trainer.label_smoothing=0.1"]
COMMON += ["scheduler=one_cycle", "optimizer.lr=0.01", "trainer.clip_norm=1"]


def call_again(step):
    outputs = []

    def replay():
        outputs[:] = step()

    return replay, outputs


def train(path, overrides, graph, *, tensor_lr=True):
    given = [*COMMON, *overrides]
    config = compose_config(given)
    parts = build_parts(config)
    batches = make_batches(parts.dataset.train, dataset=parts.dataset, config=config, device=parts.device, shuffle=True)
    optimizer, settings = parts.optimizer, make_settings(config, parts.dataset)
    state = build_state(
        RunFolder(path), parts.model, Splits(batches, None, None), settings, optimizer=optimizer, record={}
    )
    state.stepper.graph = graph
    if tensor_lr:
        make_capturable(optimizer)
    for group in optimizer.param_groups:
        group |= {"capturable": False} if "capturable" in group else {}  # which torch refuses on a CPU
    trained = []
    for epoch in range(2):
        result = TrainingPass(state, epoch, batches, settings, parts.schedule, advance=lambda *_: None).run()
        trained.append((result, state.progress.losses))
        state.progress = state.progress.start_next()
    return trained, parts.model.state_dict()


@pytest.mark.parametrize(
    "overrides", [[], ["optimizer=sgd", "augment.mixup=0.2"], ["trainer.accumulate=2", "optimizer=adamw"]], ids=" ".join
)
def test_a_recorded_step_reads_each_steps_batch_and_learning_rate(overrides, tmp_path):
    recorded = []

    def record(step):
        recorded.append(step)
        return call_again(step)

    full = 128 if "trainer.accumulate=2" in overrides else 64
    graph = StepGraph(full, record=record, warm_up=lambda step: step())
    plain, weights = train(tmp_path, overrides, None)
    replayed, others = train(tmp_path, overrides, graph)
    assert len(recorded) == 1
    assert graph._eager_steps == WARM_UP
    for (result, losses), (other, their_losses) in zip(plain, replayed, strict=True):
        assert result == other
        assert torch.equal(losses, their_losses)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_learning_rate_in_a_tensor_gives_the_same_steps_but_for_rounding(tmp_path):
    (_, weights), (_, others) = train(tmp_path, [], None), train(tmp_path, [], None, tensor_lr=False)
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=1e-5)


def test_a_step_that_cannot_be_recorded_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.graph=true needs trainer\.device=cuda; on cpu"):
        build_parts(compose_config(["trainer.graph=true", "trainer.device=cpu"]), shapes_only=True)
    with pytest.raises(ValueError, match=r"trainer\.graph=true needs trainer\.precision=fp32 or bf16, not fp16"):
        check_graph(torch.device("cuda"), "fp16", compiled=False)
    with pytest.raises(ValueError, match=r"trainer\.graph=true and trainer\.compile=true cannot be combined"):
        check_graph(torch.device("cuda"), "bf16", compiled=True)
    with pytest.raises(ValueError, match=r"trainer\.graph=true and trainer\.devices=2 cannot be combined"):
        check_graph(torch.device("cuda"), "bf16", compiled=False, devices=2)

"""A recorded step, as far as a CPU can run it: a "recording" there calls the step again on the recorded inputs."""

from contextlib import nullcontext

import pytest
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, make_batches
from cnnbench.training.graph import WARM_UP, StepGraph, check_graph, make_capturable
from cnnbench.training.loop import Progress, Stepper, train_one_epoch
from cnnbench.training.tasks import CLASSIFICATION


def call_again(step):
    outputs = []

    def replay():
        outputs[:] = step()

    return replay, outputs


def train(overrides, graph, *, tensor_lr=True):
    given = ["model=mlp", "data.train_limit=500", "data.val_fraction=0", "scheduler=one_cycle", *overrides]
    config = compose_config(given)
    parts = build_parts(config)
    batches = make_batches(parts.dataset.train, dataset=parts.dataset, config=config, device=parts.device, shuffle=True)
    accumulate = config.trainer.accumulate
    if tensor_lr:
        make_capturable(parts.optimizer)
    for group in parts.optimizer.param_groups:
        group |= {"capturable": False} if "capturable" in group else {}  # which torch refuses on a CPU
    step = Stepper(
        CLASSIFICATION,
        parts.model,
        list(parts.model.parameters()),
        parts.optimizer,
        nullcontext,
        torch.amp.GradScaler("cpu", enabled=False),
        label_smoothing=0.1,
        clip_norm=1.0,
        accumulate=accumulate,
        graph=graph,
    )
    trained = []
    for epoch in range(2):
        progress = Progress.start(batches, CLASSIFICATION, accumulate)
        result = train_one_epoch(
            step,
            batches,
            progress,
            epoch=epoch,
            noise_seed=0,
            lr=0.01,
            schedule=parts.schedule,
            advance=lambda *_: None,
        )
        trained.append((result, progress.losses))
    return trained, parts.model.state_dict()


@pytest.mark.parametrize(
    "overrides", [[], ["optimizer=sgd", "augment.mixup=0.2"], ["trainer.accumulate=2", "optimizer=adamw"]], ids=" ".join
)
def test_a_recorded_step_reads_each_steps_batch_and_learning_rate(overrides):
    recorded = []

    def record(step):
        recorded.append(step)
        return call_again(step)

    full = 128 if "trainer.accumulate=2" in overrides else 64
    graph = StepGraph(full, record=record, warm_up=lambda step: step())
    plain, weights = train(overrides, None)
    replayed, others = train(overrides, graph)
    assert len(recorded) == 1
    assert graph._eager_steps == WARM_UP
    for (result, losses), (other, their_losses) in zip(plain, replayed, strict=True):
        assert result == other
        assert torch.equal(losses, their_losses)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_learning_rate_in_a_tensor_gives_the_same_steps_but_for_rounding():
    (_, weights), (_, others) = train([], None), train([], None, tensor_lr=False)
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

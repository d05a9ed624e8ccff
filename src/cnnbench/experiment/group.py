"""Train runs together that differ only in their seeds. Each has its own folder; only the steps are shared."""

import contextlib
import contextvars
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.config.schema import Config
from cnnbench.data import Dataset
from cnnbench.training.epoch import TrainingPass
from cnnbench.training.stack import HEIGHTS, check_stackable
from cnnbench.training.together import save_all, train_together

MOST_WEIGHTS_ON_CPU = 30_000  # of a network that trains faster together; benchmarks/README.md has the measurements
# It yields what `fit` yields, and returns the summary of the run.
RunGenerator = Generator[TrainingPass, dict[str, float] | None, dict[str, Any]]


@dataclass
class Member:
    """A run of a group."""

    generator: RunGenerator  # what `start_job` returns
    summary: dict[str, Any] = field(default_factory=dict)  # its result, once it has finished
    request: TrainingPass | None = None  # the epoch to train next; None if the run has ended
    error: BaseException | None = None  # what ended it, unless it has finished
    # The runs take turns in one process, and the context tells which of them logs a message.
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def advance(self, send: Callable[[Any], TrainingPass], value: Any) -> None:
        """Let the run continue to its next epoch, or to its end."""
        try:
            self.request = self._context.run(send, value)
        except StopIteration as end:
            self.request, self.summary = None, end.value
        except BaseException as error:
            self.request, self.error = None, error


def check_together(config: Config, model: nn.Module, dataset: Dataset, device: torch.device) -> None:
    """Check that a run can be trained together with others.

    Raises:
        ValueError: a setting, the data or the network do not allow it; the message names the obstacle.
    """
    trainer = config.trainer
    obstacles = {
        f"trainer.device={device.type}": device.type not in HEIGHTS,
        "trainer.precision=fp16": trainer.precision == "fp16",
        "trainer.compile=true": trainer.compile,
        "trainer.graph=true": trainer.graph,
        f"trainer.devices={trainer.devices}": trainer.devices > 1,
        f"trainer.accumulate={trainer.accumulate}": trainer.accumulate > 1,
        f"model.freeze=[{','.join(config.model.freeze)}]": bool(config.model.freeze),
        # Other optimizers, such as Muon, do more than compute each value by itself, so stacking would change them.
        f"optimizer={config.optimizer.name}": config.optimizer.name not in ("sgd", "adam", "adamw"),
        f"sweep.folds={config.data.folds}": config.data.held_out is not None,  # folds may differ in size
        "logger=wandb": "wandb" in config.logger.options,
        "data that are read batch by batch": not isinstance(dataset.train.stored, Tensor),
    }
    for obstacle, found in obstacles.items():
        if found:
            raise ValueError(f"sweep.together=true cannot be combined with {obstacle}: leave one of them out")
    weights = sum(value.numel() for value in model.parameters())
    has_convolutions = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in model.modules())
    if device.type == "cpu" and (has_convolutions or weights > MOST_WEIGHTS_ON_CPU):
        raise ValueError(
            f"sweep.together=true: on the CPU, model={config.model.name} ({weights:,} weights) trains more slowly "
            f"together with others. Only networks with up to {MOST_WEIGHTS_ON_CPU:,} weights and no convolutions gain "
            "there: use trainer.device=cuda, or leave it out"
        )
    try:
        check_stackable(model, dataset.info.input_shape)
    except ValueError as error:
        raise ValueError(f"sweep.together=true: model={config.model.name} cannot be trained so: {error}") from None


def run_group(runs: Sequence[RunGenerator]) -> list[Member]:
    """Run several runs that differ only in their seeds; those at the same step are trained by one shared step.

    A run that fails, or that stops early, does not affect the others. All are returned as they ended, in their order.
    """
    members = [Member(run) for run in runs]
    for member in members:
        member.advance(member.generator.send, None)
    while (end := _find_interrupt(members)) is None and (waiting := [one for one in members if one.request]):
        # Runs that are behind first: an earlier process may have been killed while it saved the runs one by one.
        first = min(_get_position(one.request) for one in waiting)
        _train([one for one in waiting if _get_position(one.request) == first])
    if end is not None:
        _end([one for one in members if one.request], end)
    return members


def _train(members: Sequence[Member]) -> None:
    """Train an epoch of each run, and let each validate and save."""
    results = train_together([one.request for one in members if one.request])
    done = 0
    try:
        for member, result in zip(members, results, strict=True):
            member.advance(member.generator.throw if isinstance(result, Exception) else member.generator.send, result)
            done += 1
            if _find_interrupt(members) is not None:
                break
    except BaseException as error:  # raised by a shared step, so all runs end
        if isinstance(error, Exception):
            for member in members:
                member.advance(member.generator.throw, error)
        else:
            _end(members, error)
        return
    save_all(one.request for one in members[done:] if one.request)  # those that an interrupt left without their turn


def _end(members: Sequence[Member], error: BaseException) -> None:
    """Save runs between two steps, and end each with an error of this kind."""
    with contextlib.suppress(OSError):  # earlier checkpoints are intact
        save_all(one.request for one in members if one.request)
    for member in members:
        member.advance(member.generator.throw, type(error)())


def _find_interrupt(members: Sequence[Member]) -> BaseException | None:
    return next((one.error for one in members if one.error and not isinstance(one.error, Exception)), None)


def _get_position(request: TrainingPass | None) -> tuple[int, int]:
    assert request is not None
    return request.state.history.epochs, request.state.progress.steps

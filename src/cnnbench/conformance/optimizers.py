"""What every optimizer, and every schedule of the learning rate, must do."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.config.trainer import OptimizerConfig, SchedulerConfig
from cnnbench.conformance.checking import check, require
from cnnbench.reproducibility import make_generator, seed_initialisation
from cnnbench.training.checkpoint import collect_optimizer_tensors, load_optimizer
from cnnbench.training.graph import set_lr
from cnnbench.training.optim import Schedule, build_optimizer, build_schedule
from cnnbench.training.torch_optimizers import Optimizer

STEPS = 30
LENGTHS = ((1, 1), (2, 3), (30, 10))  # epochs, and steps an epoch; a single step is where schedules divide by zero


@dataclass(frozen=True)
class OptimizerPart:
    """A registered optimizer, with the options of its YAML file."""

    name: str
    config: OptimizerConfig

    def build(self, model: nn.Module) -> Optimizer:
        """The optimizer of a model."""
        own = self.config
        return build_optimizer(
            self.name,
            model,
            lr=own.lr,
            weight_decay=own.weight_decay,
            decay_bias_and_norm=own.decay_bias_and_norm,
            options=own.options,
        )

    def take_steps(self, model: nn.Module, optimizer: Optimizer, count: int, *, rate: float = 1.0) -> list[float]:
        """Train a network of `make_network`; the losses before each step."""
        random = make_generator(0, "conformance")
        inputs, targets = torch.randn(32, 8, generator=random), torch.randn(32, 4, generator=random)
        losses = []
        for _ in range(count):
            set_lr(optimizer, self.config.lr * rate)
            optimizer.zero_grad()
            loss = (model[:3](inputs) - targets).square().mean()  # type: ignore[index]
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


def make_network() -> nn.Sequential:
    """Two layers that are trained, and a third that gets no gradient."""
    with seed_initialisation(0):
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4), nn.Linear(4, 4))


def _collect(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in model.parameters()]


def _is_same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@check("optimizer", "its steps lower the loss")
def _check_loss(part: OptimizerPart) -> None:
    """That of a small regression, with the learning rate of its YAML file."""
    model = make_network()
    first, *_, last = part.take_steps(model, part.build(model), STEPS)
    course = f"from {first:.4g} to {last:.4g} in {STEPS} steps"
    require(last < first, f"with optimizer.lr={part.config.lr:g}, the loss goes {course}")


@check("optimizer", "it follows the learning rate, and changes no weight without a gradient")
def _check_rate(part: OptimizerPart) -> None:
    """A schedule sets `lr` of each of its `param_groups` before a step."""
    model = make_network()
    optimizer, before = part.build(model), _collect(model)
    part.take_steps(model, optimizer, 2, rate=0.0)
    require(_is_same(before, _collect(model)), 'with group["lr"] = 0, a step changes weights: read it at each step')
    part.take_steps(model, optimizer, 1)
    require(_is_same(before[-2:], _collect(model)[-2:]), "a step changes a weight that has no gradient")


@check("optimizer", "a resumed run takes the same steps, to the bit")
def _check_resume(part: OptimizerPart) -> None:
    """All that one step leaves for the next is in `state`, as tensors, which checkpoints hold."""
    model = make_network()
    optimizer = part.build(model)
    part.take_steps(model, optimizer, 3)
    resumed = copy.deepcopy(model)
    other = part.build(resumed)
    # Cloned, as from a file: otherwise the two optimizers would share counters.
    saved = {name: value.clone() for name, value in collect_optimizer_tensors(optimizer, model).items()}
    load_optimizer(other, resumed, saved)
    part.take_steps(model, optimizer, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        part.take_steps(resumed, other, 2)
    same = _is_same(_collect(model), _collect(resumed))
    require(same, "after a resume, its steps differ: keep what they need as tensors in `state`, by parameter")


@dataclass(frozen=True)
class SchedulePart:
    """A registered schedule, with the options of its YAML file."""

    name: str
    config: SchedulerConfig

    def build(self, epochs: int, steps: int) -> Schedule:
        """The schedule of a run, without warm-up."""
        return build_schedule(self.name, epochs=epochs, steps_per_epoch=steps, options=self.config.options)


@check("scheduler", "its factors are numbers from 0, however long the run")
def _check_factors(part: SchedulePart) -> None:
    factors: list[float] = []
    for epochs, steps in LENGTHS:
        schedule = part.build(epochs, steps)
        factors = [schedule(step) for step in range(epochs * steps)]
        for step, factor in enumerate(factors):
            is_number = isinstance(factor, float | int) and math.isfinite(factor) and factor >= 0
            require(is_number, f"step {step} of {epochs * steps} has the factor {factor!r}: must be a number from 0")
    require(any(factors), "all its factors are 0")


@check("scheduler", "a factor is a function of the step alone")
def _check_steps(part: SchedulePart) -> None:
    """A resumed run needs the later steps only."""
    epochs, steps = LENGTHS[-1]
    first, second = part.build(epochs, steps), part.build(epochs, steps)
    forward = [first(step) for step in range(epochs * steps)]
    backward = [second(step) for step in reversed(range(epochs * steps))]
    require(forward == backward[::-1], "its factors depend on the steps that were computed before")

"""Optimizers, and learning-rate schedules as pure functions of the step."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from cnnbench import registry
from cnnbench.config.keys import Count, Options, key
from cnnbench.registry import register
from cnnbench.training.muon import Muon
from cnnbench.training.parts import assign_parts
from cnnbench.training.torch_optimizers import SGD, Adam, Groups, Optimizer

Schedule = Callable[[int], float]


def build_optimizer(
    name: str,
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_bias_and_norm: bool,
    rates: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """A registered optimizer over those parameters of a model that are trained.

    Args:
        rates: factors of the learning rate by the names of parts, see `parts.assign_parts`. A group of parameters has
            its `part` and its `rate`, which `set_lr` multiplies.
        decay_bias_and_norm: whether weight decay also applies to parameters of one dimension, which are the biases and
            the weights of norms.

    Raises:
        ValueError: an unknown name, a wrong option, or a rate that changes nothing.
    """
    alike = decay_bias_and_norm or weight_decay == 0
    groups = _group_parameters(model, rates or {}, weight_decay, alike=alike)
    device = groups[0]["params"][0].device.type if groups else "cpu"
    # One fused kernel: on a small network the loop over parameters costs as much as the arithmetic.
    fused = device in ("cpu", "cuda")
    return registry.build("optimizer", name, options=options, groups=groups, lr=lr, fused=fused)


def _group_parameters(model: nn.Module, rates: Mapping[str, float], weight_decay: float, *, alike: bool) -> Groups:
    """The trained parameters by their part in `rates`, if any, and by whether they decay; with `alike`, all do."""
    parts = assign_parts(model, rates, "optimizer.rates")
    # As few groups as possible, because each step launches kernels per group.
    groups: dict[tuple[str | None, bool], dict[str, Any]] = {}
    last_matrix = {}
    for place, (name, parameter) in enumerate(model.named_parameters()):
        if not parameter.requires_grad:
            continue
        part, decays = parts.get(name), parameter.ndim > 1 or alike
        group = groups.setdefault((part, decays), {"params": [], "weight_decay": weight_decay if decays else 0.0})
        group["params"].append(parameter)
        if part is not None:
            group |= {"part": part, "rate": rates[part]}
        if parameter.ndim > 1:
            last_matrix[part, decays] = place
    for part in rates.keys() - {part for part, _ in groups}:
        raise ValueError(
            f"optimizer.rates: {part!r} sets no rate, because its parameters are frozen, or a longer name covers them"
        )
    # The group with the network's last matrix follows all others with matrices, because Muon must find it.
    return [groups[group] for group in sorted(groups, key=lambda group: last_matrix.get(group, math.inf))]


class SGDOptions(Options):
    """Options in `configs/optimizer/sgd.yaml`."""

    momentum: float = key("Share of the last step's direction that is kept", ge=0, lt=1)
    nesterov: bool = key("Whether to use Nesterov's form of momentum")

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0")
        return self


class AdamOptions(Options):
    """Options in `configs/optimizer/adam.yaml` and `adamw.yaml`."""

    betas: list[Annotated[float, Field(ge=0, lt=1)]] = key(
        "Decay rates of the averages of the gradient and of its square", length=2
    )
    eps: float = key("Added to the denominator, for numerical stability", ge=0)


@register("optimizer", "sgd")
def sgd(groups: Groups, lr: float, fused: bool, options: SGDOptions) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return SGD(groups, lr, fused=fused, momentum=options.momentum, nesterov=options.nesterov)


@register("optimizer", "adam")
def adam(groups: Groups, lr: float, fused: bool, options: AdamOptions) -> Optimizer:
    """Adam (arXiv:1412.6980); weight decay is added to the gradient."""
    return Adam(groups, lr, fused=fused, betas=options.betas, eps=options.eps)


@register("optimizer", "adamw")
def adamw(groups: Groups, lr: float, fused: bool, options: AdamOptions) -> Optimizer:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    return Adam(groups, lr, fused=fused, betas=options.betas, eps=options.eps, decoupled=True)


class MuonOptions(AdamOptions):
    """Options in `configs/optimizer/muon.yaml`; those of Adam are for the parameters that Muon leaves to it."""

    momentum: float = key("Share of the last step's direction that is kept", ge=0, lt=1)
    iterations: int = key("Newton-Schulz iterations that make a direction orthogonal", ge=1, le=20)


@register("optimizer", "muon")
def muon(groups: Groups, lr: float, fused: bool, options: MuonOptions) -> Optimizer:
    """Muon for hidden matrices; AdamW for biases, norms and the last matrix, whose rows are the classes."""
    # A set finds a tensor by its identity, where a list would compare values.
    hidden = set([p for group in groups for p in group["params"] if p.ndim > 1][:-1])
    matrices = _filter_groups(groups, lambda parameter: parameter in hidden)
    rest = _filter_groups(groups, lambda parameter: parameter not in hidden)
    others = Adam(rest, lr, fused=fused, betas=options.betas, eps=options.eps, decoupled=True)
    return Muon(matrices, others, lr, options.momentum, options.iterations) if matrices else others


def _filter_groups(groups: Groups, wanted: Callable[[nn.Parameter], bool]) -> Groups:
    filtered = [{**group, "params": [p for p in group["params"] if wanted(p)]} for group in groups]
    return [group for group in filtered if group["params"]]


def build_schedule(
    name: str,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> Schedule:
    """A function from the step (0 for the first) to a factor of the base learning rate.

    Args:
        warmup_epochs: over these first epochs the factor rises linearly from 1/steps to 1; the named schedule then
            covers the remaining steps.

    Raises:
        ValueError: an unknown name or a wrong option.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    total = max(epochs * steps_per_epoch - warmup, 1)
    after: Schedule = registry.build(
        "scheduler", name, options=options, total_steps=total, steps_per_epoch=steps_per_epoch
    )
    return lambda step: (step + 1) / warmup if step < warmup else after(step - warmup)


class CosineOptions(Options):
    """Options in `configs/scheduler/cosine.yaml`."""

    final: float = key("Last factor of the base learning rate", ge=0, le=1)


class StepOptions(Options):
    """Options in `configs/scheduler/step.yaml`."""

    step_epochs: Count = key("Epochs between two changes of the learning rate")
    gamma: float = key("Factor of the learning rate at each change", ge=0, le=1)


class OneCycleOptions(Options):
    """Options in `configs/scheduler/one_cycle.yaml`."""

    peak_at: float = key("Share of all steps at which the learning rate peaks", gt=0, lt=1)
    initial: float = key("First factor of the base learning rate", ge=0, le=1)
    final: float = key("Last factor of the base learning rate", ge=0, le=1)
    anneal: Literal["linear", "cosine"] = key("Shape of the rise and of the fall")


@register("scheduler", "constant")
def constant(total_steps: int, steps_per_epoch: int) -> Schedule:
    """The base learning rate throughout."""
    return lambda step: 1.0


@register("scheduler", "cosine")
def cosine(total_steps: int, steps_per_epoch: int, options: CosineOptions) -> Schedule:
    """Half a cosine from 1 down to `final` (arXiv:1608.03983, without restarts)."""
    final = options.final
    return lambda step: final + (1 - final) * (1 + math.cos(math.pi * step / total_steps)) / 2


@register("scheduler", "step")
def step_decay(total_steps: int, steps_per_epoch: int, options: StepOptions) -> Schedule:
    """Multiplied by `gamma` every `step_epochs` epochs."""
    return lambda step: options.gamma ** (step // (options.step_epochs * steps_per_epoch))


@register("scheduler", "one_cycle")
def one_cycle(total_steps: int, steps_per_epoch: int, options: OneCycleOptions) -> Schedule:
    """Up from `initial` to 1 at the share `peak_at` of all steps, then down to `final` (arXiv:1708.07120)."""
    initial, final, linear = options.initial, options.final, options.anneal == "linear"
    peak, last = options.peak_at * total_steps - 1, total_steps - 1

    def anneal(x: float) -> float:
        return x if linear else (1 - math.cos(math.pi * x)) / 2

    def compute_factor(step: int) -> float:
        if step <= peak:
            return initial + (1 - initial) * anneal(step / peak if peak > 0 else 1.0)
        return 1 + (final - 1) * anneal((step - peak) / (last - peak))

    return compute_factor

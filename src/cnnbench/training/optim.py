"""Optimizers, and learning-rate schedules as pure functions of the step."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cnnbench import registry
from cnnbench.registry import register

Schedule = Callable[[int], float]


def build_optimizer(
    name: str,
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_bias_and_norm: bool,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """A registered optimizer over a model's parameters.

    Args:
        decay_bias_and_norm: whether weight decay applies to parameters of one dimension too; biases and
            normalisation weights are the only ones of that kind.

    Raises:
        ValueError: an unknown name or option.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    # One group where all are treated alike: each group is a call of its own in every step.
    alike = decay_bias_and_norm or weight_decay == 0
    groups = [
        {"params": [p for p in trained if p.ndim > 1 or alike], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1 and not alike], "weight_decay": 0.0},
    ]
    device = next((p.device.type for p in trained), "cpu")
    # One fused kernel for all parameters: on a small network's CPU step the loop over parameters costs as much
    # as the arithmetic.
    fused = device in ("cpu", "cuda")
    return registry.build(
        "optimizer", name, options=options, groups=[g for g in groups if g["params"]], lr=lr, fused=fused
    )


@register("optimizer", "sgd")
def sgd(groups: list[dict[str, Any]], lr: float, fused: bool, momentum: float, nesterov: bool) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum."""
    _check_momentum("optimizer.momentum", momentum)
    if nesterov and momentum == 0:
        raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0")
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused)


@register("optimizer", "adam")
def adam(groups: list[dict[str, Any]], lr: float, fused: bool, betas: list[float], eps: float) -> torch.optim.Adam:
    """Adam (arXiv:1412.6980); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, lr=lr, betas=_checked_betas(betas), eps=eps, fused=fused)


@register("optimizer", "adamw")
def adamw(groups: list[dict[str, Any]], lr: float, fused: bool, betas: list[float], eps: float) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    return torch.optim.AdamW(groups, lr=lr, betas=_checked_betas(betas), eps=eps, fused=fused)


def _checked_betas(betas: list[float]) -> tuple[float, float]:
    if len(betas) != 2:
        raise ValueError(f"optimizer.betas={betas}: accepted are two numbers")
    for beta in betas:
        _check_momentum("optimizer.betas", beta)
    return betas[0], betas[1]


def _check_momentum(key: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{key}={value}: accepted is a number from 0 up to, not including, 1")


def build_schedule(
    name: str,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> Schedule:
    """A function from the step (0 for the first batch) to a factor of the base learning rate.

    Args:
        warmup_epochs: over these first epochs the factor rises linearly from 1/steps to 1; the named schedule
            then covers the steps that remain.

    Raises:
        ValueError: an unknown name or option, or a value out of range.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    total = epochs * steps_per_epoch - warmup
    after: Schedule = registry.build(
        "scheduler", name, options=options, total_steps=max(total, 1), steps_per_epoch=steps_per_epoch
    )
    return lambda step: (step + 1) / warmup if step < warmup else after(step - warmup)


@register("scheduler", "constant")
def constant(total_steps: int, steps_per_epoch: int) -> Schedule:
    """The base learning rate throughout."""
    return lambda step: 1.0


@register("scheduler", "cosine")
def cosine(total_steps: int, steps_per_epoch: int, final: float) -> Schedule:
    """Half a cosine from 1 down to `final` (arXiv:1608.03983, without restarts)."""
    _check_factor("scheduler.final", final)
    return lambda step: final + (1 - final) * (1 + math.cos(math.pi * step / total_steps)) / 2


@register("scheduler", "step")
def step_decay(total_steps: int, steps_per_epoch: int, step_epochs: int, gamma: float) -> Schedule:
    """Multiplied by `gamma` every `step_epochs` epochs."""
    if step_epochs < 1:
        raise ValueError(f"scheduler.step_epochs={step_epochs}: accepted is a whole number from 1")
    _check_factor("scheduler.gamma", gamma)
    return lambda step: gamma ** (step // (step_epochs * steps_per_epoch))


@register("scheduler", "one_cycle")
def one_cycle(
    total_steps: int, steps_per_epoch: int, peak_at: float, initial: float, final: float, anneal: str
) -> Schedule:
    """Up from `initial` to 1 at the share `peak_at` of all steps, then down to `final` (arXiv:1708.07120).

    Args:
        anneal: `linear` or `cosine`, the shape of both flanks.
    """
    shapes = {"linear": lambda x: x, "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2}
    if anneal not in shapes:
        raise ValueError(registry.unknown("scheduler.anneal", anneal, shapes))
    if not 0 < peak_at < 1:
        raise ValueError(f"scheduler.peak_at={peak_at}: accepted is a number between 0 and 1")
    _check_factor("scheduler.initial", initial)
    _check_factor("scheduler.final", final)
    shape = shapes[anneal]
    peak, last = peak_at * total_steps - 1, total_steps - 1

    def factor(step: int) -> float:
        if step <= peak:
            return initial + (1 - initial) * shape(step / peak if peak > 0 else 1.0)
        return 1 + (final - 1) * shape((step - peak) / (last - peak))

    return factor


def _check_factor(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{key}={value}: accepted is a number from 0 to 1")

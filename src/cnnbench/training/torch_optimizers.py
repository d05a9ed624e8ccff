"""Optimizers built on torch's functions; every step gives the same bits as that of the class in `torch.optim`.

Those classes import torch's compiler when they are created, which takes more than a second and 150 MB, and each of
their steps passes through its hooks, which takes as long as the update of a small network.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

Groups = list[dict[str, Any]]  # parameters with their weight decay, as the optimizers of `torch.optim` take them


class Optimizer(Protocol):
    """What training needs of an optimizer. The optimizers of `torch.optim` have it too."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with its `params` and its `lr`."""

    @property
    def state(self) -> MutableMapping[Tensor, Any]:
        """What a step leaves for the next one, by parameter."""

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def step(self) -> Any:
        """Update the parameters by their gradients."""


class _FunctionOptimizer(ABC):
    """The base of the optimizers below.

    Args:
        fused: use one kernel for all parameters, on the CPU or CUDA.
    """

    # Makes torch.amp.GradScaler set `grad_scale` and `found_inf` before a step, instead of waiting for the device.
    _step_supports_amp_scaling = True

    def __init__(self, groups: Groups, lr: float, fused: bool) -> None:
        self.param_groups = [{"lr": lr, **group} for group in groups]
        self.state: MutableMapping[Tensor, Any] = defaultdict(dict)
        self.fused = fused

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient."""
        scaling = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}
        for group in self.param_groups:
            updated = [parameter for parameter in group["params"] if parameter.grad is not None]
            self._update(
                updated,
                [parameter.grad for parameter in updated],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                fused=self.fused,
                **scaling,
            )

    @abstractmethod
    def _update(self, parameters: list[Tensor], gradients: list[Tensor], **settings: Any) -> None:
        """Update the parameters of a group; the settings are those that torch's functions share."""


class SGD(_FunctionOptimizer):
    """Stochastic gradient descent; the arguments are those of `torch.optim.SGD`."""

    def __init__(self, groups: Groups, lr: float, *, fused: bool, momentum: float, nesterov: bool) -> None:
        super().__init__(groups, lr, fused)
        self.momentum, self.nesterov = momentum, nesterov

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], **settings: Any) -> None:
        states = [self.state[parameter] for parameter in parameters] if self.momentum else []
        buffers = [state.get("momentum_buffer") for state in states]
        sgd(
            parameters,
            gradients,
            buffers,
            momentum=self.momentum,
            nesterov=self.nesterov,
            dampening=0.0,
            maximize=False,
            **settings,
        )
        for state, buffer in zip(states, buffers, strict=True):  # the first step makes them
            state["momentum_buffer"] = buffer


class Adam(_FunctionOptimizer):
    """Adam, or AdamW if `decoupled`; the other arguments are those of `torch.optim.Adam`."""

    def __init__(
        self, groups: Groups, lr: float, *, fused: bool, betas: Sequence[float], eps: float, decoupled: bool = False
    ) -> None:
        super().__init__(groups, lr, fused)
        self.betas, self.eps, self.decoupled = betas, eps, decoupled

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], **settings: Any) -> None:
        beta1, beta2 = self.betas
        states = [self.state[parameter] or self._start(parameter) for parameter in parameters]
        adam(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            beta1=beta1,
            beta2=beta2,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            decoupled_weight_decay=self.decoupled,
            **settings,
        )

    def _start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        self.state[parameter] = {
            "step": torch.zeros((), device=parameter.device if self.fused else "cpu"),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        return self.state[parameter]

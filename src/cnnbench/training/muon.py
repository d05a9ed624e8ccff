"""Muon: momentum made orthogonal for hidden weight matrices, AdamW for everything else.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), https://kellerjordan.github.io/posts/muon.
A step changes all directions of a matrix alike, also those that the gradient hardly touches, so that a network needs
fewer images.
"""

import torch
from torch import Tensor

from cnnbench.training.torch_optimizers import Adam, Groups

ITERATION = (3.4445, -4.7750, 2.0315)  # a quintic that takes singular values to about 1 in few iterations
# Of an entry of AdamW's update at a learning rate of 1, so that one rate serves both (arXiv:2502.16982).
MATCHED_RMS = 0.2


class Muon:
    """Muon for matrices and, in the same optimizer, AdamW for the rest.

    Args:
        matrices: groups of parameters of two or more dimensions; a convolution's filters are the rows of a matrix.
        rest: AdamW, over the other parameters; its groups and its state become part of this optimizer's.
    """

    def __init__(self, matrices: Groups, rest: Adam, lr: float, momentum: float, iterations: int) -> None:
        self.rest = rest
        self.matrices = [{"lr": lr, "momentum": momentum, "iterations": iterations, **group} for group in matrices]
        self.param_groups = [*self.matrices, *rest.param_groups]
        self.state = rest.state  # shared, so that a checkpoint holds both

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights by their gradients."""
        for group in self.matrices:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].mul_(momentum).add_(parameter.grad)
                direction = parameter.grad.add(average, alpha=momentum)  # Nesterov's form
                update = orthogonalize(direction.flatten(1), group["iterations"])
                update.mul_(MATCHED_RMS * max(update.shape) ** 0.5)
                # The learning rate may be a tensor on the device, and `alpha=` would wait for its value.
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view_as(parameter) * group["lr"])
        self.rest.step()


def orthogonalize(matrix: Tensor, iterations: int) -> Tensor:
    """Approximate the nearest matrix whose singular values are all 1; five iterations give about 0.7 to 1.2.

    Args:
        matrix: (rows, columns); its own singular values below about 1e-3 of its norm stay small.
    """
    a, b, c = ITERATION
    wide = matrix.shape[0] <= matrix.shape[1]  # the smaller side makes the smaller square
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T

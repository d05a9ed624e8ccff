"""Runs of one network with their weights stacked: `torch.func.vmap` maps the network over them."""

import copy
import warnings
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from cnnbench.processes.capacity import MOST_TOGETHER
from cnnbench.reproducibility import seed_model_noise
from cnnbench.storage.text import get_first_line
from cnnbench.training.ema import move_averages
from cnnbench.training.state import State
from cnnbench.training.step import Stepper
from cnnbench.training.tasks import compute_loss, count_correct, split_outputs

# CUDA's libraries choose an algorithm by the size of the whole stack: only one height gives a run the same bits.
# On the CPU they do so for a single run alone.
HEIGHTS = {"cuda": MOST_TOGETHER, "cpu": 2}
ALIGNED = 64  # values; a row that began elsewhere would be rounded differently by a vector unit
Dropped = tuple[torch.Size, float]  # the shape that a dropout layer sees, and the share of it that it drops


class Stack:
    """Runs at the same step, with their weights, optimizer state and averages stacked.

    Args:
        states: of the runs; theirs are the values that the stack starts from, and `scatter` writes them back.
    """

    def __init__(self, states: Sequence[State]) -> None:
        self.states, self.device = states, states[0].device
        self.stepper: Stepper = states[0].stepper  # all runs have its settings
        self._spare = max(0, HEIGHTS[self.device.type] - len(states))
        self._tensors = [_list_tensors(state.model) for state in states]
        names = {value: name for name, value in self._tensors[0].items()}
        groups = self.stepper.optimizer.param_groups
        self._rows = [Rows([names[value] for value in group["params"]], group["params"]) for group in groups]
        self._weights = [nn.Parameter(rows.pack(self._fill(self._tensors))) for rows in self._rows]
        self.optimizer = self._stack_optimizer()
        trained = {name for rows in self._rows for name in rows.names}
        # Buffers, which batch norms update in place, and weights that are not trained: a separate stack each.
        self._others = {
            name: torch.stack(self._fill([one[name].detach() for one in self._tensors]))
            for name in self._tensors[0].keys() - trained
        }
        moved = [name for name, value in sorted(self._others.items()) if value.is_floating_point()]
        self._moved = Rows(moved, [self._tensors[0][name] for name in moved])
        averages = [_list_tensors(one.stepper.average.model) for one in states if one.stepper.average is not None]
        packs = [*self._rows, self._moved] if averages else []
        self._averages = [rows.pack(self._fill(averages)) for rows in packs]
        weights = [one.stepper.class_weights for one in states if one.stepper.class_weights is not None]
        self._class_weights = torch.stack(self._fill(weights)) if weights else None
        self._noise: deque[Tensor] = deque()
        self._network = _take_noise_from(copy.deepcopy(states[0].model).train(), self._noise)
        self._dropped: dict[torch.Size, list[Dropped]] = {}
        self._measure = vmap(
            self._measure_one, in_dims=(0, 0, None if self._class_weights is None else 0, 0, 0), randomness="error"
        )

    def _stack_optimizer(self) -> Any:
        """The optimizer of the stacked weights: what it does to one value does not depend on the others."""
        first = self.stepper.optimizer
        stacked: Any = copy.copy(first)
        stacked.state = defaultdict(dict)
        stacked.param_groups = []
        for group, rows, weights in zip(first.param_groups, self._rows, self._weights, strict=True):
            stacked.param_groups.append({**group, "params": [weights]})
            fields = first.state.get(group["params"][0], {})  # none before the first step
            for field, value in fields.items():
                if isinstance(value, Tensor):
                    is_count = value.dim() == 0 or value.shape != group["params"][0].shape  # Adam's, of its steps
                    owned = [self._get_field(number, field, rows) for number in range(len(self.states))]
                    stacked.state[weights][field] = value.clone() if is_count else rows.pack(self._fill(owned))
        return stacked

    def _get_field(self, number: int, field: str, rows: "Rows") -> dict[str, Tensor]:
        """A field of a run's optimizer state, by the names of the parameters."""
        state, own = self.states[number].stepper.optimizer.state, self._tensors[number]
        return {name: state[own[name]][field] for name in rows.names}

    def step(self, batches: Sequence[tuple[Tensor, Tensor]], keys: Sequence[int], number: int) -> tuple[Tensor, Any]:
        """Update the weights of each run once.

        Args:
            batches: of each run, of one size.
            keys: of each run's noise.
            number: of the step, counted from 0.

        Returns:
            The mean loss of each run, (runs,), and its number of correct predictions, (runs,), or None without classes.
        """
        # Not channels-last: networks with adaptive pooling then gave wrong values. We suspect its strides under `vmap`.
        images, labels = (torch.stack(self._fill(parts)).contiguous() for parts in zip(*batches, strict=True))
        tensors = dict(self._others)
        for rows, weights in zip(self._rows, self._weights, strict=True):
            weights.grad = None
            tensors |= rows.split(weights)
        noise = self._draw_noise(keys, images.shape[1:])
        losses, outputs = self._measure(tensors, noise, self._class_weights, images, labels)
        losses.sum().backward()  # a loss depends on the weights of one run alone, so the sum mixes no gradients
        _clip(self._weights, self.stepper.clip_norm)
        self.optimizer.step()
        if self.stepper.average is not None:
            moved = self._moved.join([self._others[name] for name in self._moved.names], len(images))
            values = [*(each.detach() for each in self._weights), moved]
            move_averages(self._averages, values, self.stepper.average.decay, number)
        count = len(batches)
        counted = vmap(count_correct)(outputs.detach(), labels)[:count] if self.stepper.task.has_classes else None
        return losses.detach()[:count], counted

    def _measure_one(
        self,
        tensors: Mapping[str, Tensor],
        noise: Sequence[Tensor],
        class_weights: Tensor | None,
        images: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The loss of one run, and its outputs."""
        one = self.stepper
        self._noise.extend(noise)
        with one.autocast():
            outputs = functional_call(self._network, dict(tensors), (images,))
            loss = compute_loss(one.task, outputs, images, labels, one.label_smoothing, class_weights)
        main, _ = split_outputs(outputs)
        return loss, main

    def _draw_noise(self, keys: Sequence[int], shape: torch.Size) -> list[Tensor]:
        """What each dropout layer multiplies by, stacked."""
        # Drawn outside of vmap, run by run, so that they are the numbers that each run would draw alone.
        if shape not in self._dropped:
            self._dropped[shape] = _trace_dropout(self.states[0].model, shape)
        dropped, drawn = self._dropped[shape], []
        for key in keys if dropped else ():
            seed_model_noise(key, self.device)
            drawn.append([F.dropout(torch.ones(size, device=self.device), share) for size, share in dropped])
        return [torch.stack(self._fill(layer)) for layer in zip(*drawn, strict=True)]

    @torch.no_grad()
    def scatter(self) -> None:
        """Write the values of the stack into the runs."""
        for number, (state, own) in enumerate(zip(self.states, self._tensors, strict=True)):
            for name, value in self._others.items():
                own[name].copy_(value[number])
            for rows, weights in zip(self._rows, self._weights, strict=True):
                rows.unpack(weights, number, own)
                for field, value in self.optimizer.state[weights].items():
                    if value.shape == weights.shape:
                        parts = {name: torch.empty_like(own[name], requires_grad=False) for name in rows.names}
                        rows.unpack(value, number, parts)
                    else:
                        parts = {name: value.clone() for name in rows.names}
                    for name, part in parts.items():
                        state.stepper.optimizer.state[own[name]][field] = part
            if state.stepper.average is not None:
                averages = _list_tensors(state.stepper.average.model)
                for rows, value in zip([*self._rows, self._moved], self._averages, strict=True):
                    rows.unpack(value, number, averages)
                for name in self._others.keys() - set(self._moved.names):
                    averages[name].copy_(own[name])

    def _fill(self, values: Sequence[Any]) -> list[Any]:
        """One value for each run, and the last one again for each place that is left."""
        return [*values, *[values[-1]] * self._spare]


class Rows:
    """Tensors of each run, laid out one behind the other in its row of a matrix; rows are padded to `ALIGNED`."""

    def __init__(self, names: Sequence[str], like: Sequence[Tensor]) -> None:
        self.names, self._shapes = names, [value.shape for value in like]
        self._sizes = [value.numel() for value in like]
        self._padding = -sum(self._sizes) % ALIGNED
        self._device = like[0].device if like else torch.device("cpu")

    def pack(self, runs: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """A matrix with a row for each run."""
        padding = torch.zeros(self._padding, device=self._device)
        flat = [[run[name].detach().reshape(-1) for name in self.names] for run in runs]
        return torch.stack([torch.cat([*values, padding]) for values in flat])

    def join(self, stacks: Sequence[Tensor], height: int) -> Tensor:
        """The matrix of tensors that are stacked already, each (runs, …)."""
        padding = torch.zeros(height, self._padding, device=self._device)
        return torch.cat([*(value.reshape(height, -1) for value in stacks), padding], 1)

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """Each tensor by its name, (runs, …), as views."""
        parts = matrix.split([*self._sizes, self._padding], 1)
        return {
            name: part.reshape(len(matrix), *shape)
            for name, part, shape in zip(self.names, parts, self._shapes, strict=False)
        }

    def unpack(self, matrix: Tensor, row: int, targets: Mapping[str, Tensor]) -> None:
        """Copy a row into tensors of these names."""
        parts = matrix[row].split([*self._sizes, self._padding])
        for name, part, shape in zip(self.names, parts, self._shapes, strict=False):
            targets[name].copy_(part.view(shape))


def _list_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, not copies of them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _trace_dropout(model: nn.Module, shape: Sequence[int]) -> list[Dropped]:
    """What a network's dropout layers see of a batch of this shape, in the order in which they are called."""
    network, dropped = copy.deepcopy(model).to("meta").train(), []
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_pre_hook(lambda layer, given: dropped.append((given[0].shape, layer.p)))
    network(torch.empty(tuple(shape), device="meta"))
    return dropped


def check_stackable(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Check, by trying it, that a network can be trained with stacked weights.

    Raises:
        ValueError: it cannot; the message is torch's.
    """
    noise: deque[Tensor] = deque()
    network = _take_noise_from(copy.deepcopy(model).to("meta").train(), noise)
    shape = (2, *input_shape)
    dropped = _trace_dropout(model, shape)
    stacked = {name: torch.stack([value, value]) for name, value in _list_tensors(network).items()}

    def run(one: dict[str, Tensor], images: Tensor) -> Any:
        noise.extend(torch.empty(size, device="meta") for size, _ in dropped)
        return functional_call(network, one, (images,))

    try:
        with warnings.catch_warnings():
            # An operation that `vmap` has no rule for, and runs row by row, may be wrong where it is about strides.
            warnings.simplefilter("error", UserWarning)
            vmap(run)(stacked, torch.empty(2, *shape, device="meta"))
    except (RuntimeError, UserWarning) as error:
        raise ValueError(get_first_line(error)) from None


class _GivenNoise(nn.Module):
    """Replaces a dropout layer: multiplies by the next of the given tensors."""

    def __init__(self, noise: deque[Tensor]) -> None:
        super().__init__()
        self._noise = noise

    def forward(self, x: Tensor) -> Tensor:
        return x * self._noise.popleft().to(x.dtype)


def _take_noise_from(network: nn.Module, noise: deque[Tensor]) -> nn.Module:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, _GivenNoise(noise))
    return network


def _clip(weights: Sequence[nn.Parameter], most: float | None) -> None:
    """Clip the gradients of each run by their norm, as `clip_grad_norm_` does those of one."""
    if most is None:
        return
    gradients = [value.grad for value in weights if value.grad is not None]
    norms = torch.stack([each.norm(dim=1) for each in gradients]).norm(dim=0)
    factor = (most / (norms + 1e-6)).clamp(max=1.0)
    for each in gradients:
        each.mul_(factor[:, None])

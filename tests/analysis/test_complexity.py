"""Counts against torch's own FLOP counter, and receptive fields against gradients."""

import itertools

import pytest
import torch
from test_models import AS_PUBLISHED, NAMES, SIGNALS, build, inputs
from torch import nn

from cnnbench.analysis import summarize


@pytest.mark.parametrize("name", ["lenet5", "inception_mini", "mobilenet_mini", "sequence_cnn"])
def test_totals_are_those_of_the_layers(name):
    """That MACs and parameters are those which torch counts is checked for all models in tests/conformance."""
    model = build(name).eval()
    described = summarize(model, inputs(name, 1).shape[1:])
    assert described.flops == 2 * described.macs
    assert described.weight_bytes == 4 * described.parameters
    assert described.dense_parameters == sum(
        p.numel() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()
    )
    assert sum(layer.macs for layer in described.layers) == described.macs
    assert sum(layer.parameters for layer in described.layers) == described.parameters


KINDS = (nn.modules.conv._ConvNd, nn.MaxPool2d, nn.AvgPool2d)


def measured_field(model, image):
    """The pixels that a middle output of the last convolution or pooling depends on, by its gradient."""
    outputs = []
    for module in model.modules():
        if isinstance(module, KINDS):
            module.register_forward_hook(lambda _, __, output: outputs.append(output))
            if hasattr(module, "weight"):
                nn.init.ones_(module.weight)
    image = image.abs().requires_grad_()
    model.eval()(image)
    # After upsampling, some outputs see more than others.
    steps = 4 if any(isinstance(module, nn.modules.conv._ConvTransposeNd) for module in model.modules()) else 1
    sizes = []
    for last, step in itertools.product(outputs, range(steps)):
        middle = tuple(n // 2 + step for n in last.shape[2:])
        (gradient,) = torch.autograd.grad(last[(0, slice(None), *middle)].sum(), image, retain_graph=True)
        rows = gradient.abs().sum([dim for dim in range(image.dim()) if dim != 2]).nonzero().flatten()
        sizes.append(int(rows[-1] - rows[0]) + 1)
    return max(sizes)  # parallel branches: the widest; along a path fields only grow


class Linearised(nn.Module):
    """Nothing between convolutions: a gradient then reaches every pixel of the field."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mlp"} - AS_PUBLISHED))
def test_the_receptive_field_equals_the_one_that_gradients_measure(name, depth, monkeypatch):
    from cnnbench.models import layers

    for activation in layers.ACTIVATIONS:
        monkeypatch.setitem(layers.ACTIVATIONS, activation, Linearised)
    monkeypatch.setattr(nn, "MaxPool2d", nn.AvgPool2d)
    monkeypatch.setattr(nn, "MaxPool1d", nn.AvgPool1d)
    size = 1100 if name in SIGNALS else 128
    model, image = build(name, image_size=size, depth=depth), inputs(name, 1, image_size=size)
    assert set(summarize(model, image.shape[1:]).receptive_field) == {measured_field(model, image)}


def test_known_figures():
    lenet5, mlp = summarize(build("lenet5"), (1, 28, 28)), summarize(build("mlp"), (1, 28, 28))
    assert (lenet5.macs, lenet5.depth, lenet5.receptive_field) == (281_640, 5, (16, 16))
    assert (mlp.macs, mlp.depth, mlp.receptive_field) == (101_632, 2, (28, 28))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(1, 2, 3, dilation=4, padding=4)
        self.flat = nn.Conv2d(1, 2, (1, 7), padding=(0, 3))
        self.second = nn.Conv2d(4, 2, 3, stride=2)

    def forward(self, x):
        return self.second(torch.cat([self.wide(x), self.flat(x)], dim=1))


def test_branches_take_the_widest_field_of_each_axis_and_the_longest_path():
    described = summarize(Branches(), (1, 32, 32))
    assert described.receptive_field == (9 + 2, 9 + 2)
    assert [layer.receptive_field for layer in described.layers] == [(9, 9), (1, 7), (11, 11)]
    assert described.depth == 2


def test_a_summary_leaves_the_model_as_it_was():
    model = build("lenet5", dropout=0.5).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    summarize(model, (1, 28, 28))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_activations_are_the_outputs_of_every_listed_layer():
    model = build("lenet5")
    counted = []
    for module in model.modules():
        if not any(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(lambda _, __, output: counted.append(output[0].numel()))
    described = summarize(model, (1, 28, 28))
    counted.clear()
    model.eval()(torch.randn(1, 1, 28, 28))
    assert described.activation_bytes == 4 * sum(counted)


class Oddities(nn.Module):
    """A tied weight, one used by a function, one that is only used in training, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.unused = nn.Linear(7, 3)
        self.register_buffer("mask", torch.ones(8, 8), persistent=False)

    def forward(self, x):
        x = self.second(self.first(x)) * self.scale * self.mask
        if self.training:
            self.unused(x.flatten(1)[:, :7])
        return nn.functional.conv2d(x, self.first.weight, stride=2)


def test_every_parameter_counts_once_in_the_row_that_reads_it():
    described = summarize(Oddities(), (4, 8, 8))
    rows = {layer.name: layer for layer in described.layers}
    counts = {name: layer.parameters for name, layer in rows.items()}
    assert counts == {"first": 144, "second": 0, "(model)": 4, "unused": 24}
    assert described.parameters == 144 + 4 + 24
    assert rows["unused"].output_shape == ()
    assert (rows["(model)"].macs, rows["(model)"].window.stride) == (3 * 3 * 4 * 36, (2, 2))
    assert described.activation_bytes == 4 * (4 * 64 + 4 * 64 + 4 * 9)


def test_a_row_shows_how_its_window_is_set():
    model = nn.Sequential(
        nn.Conv2d(4, 8, (3, 5), (2, 1), (0, 2), (1, 2), groups=4),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 4, padding="same", dilation=2),
    )
    first, pool, last = (layer.window for layer in summarize(model, (4, 32, 32)).layers)
    assert (first.kernel, first.stride, first.padding, first.dilation, first.groups) == (
        (3, 5), (2, 1), (0, 2), (1, 2), 4,
    )  # fmt: skip
    assert (pool.kernel, pool.stride, pool.padding, pool.groups) == ((3, 3), (2, 2), (1, 1), 1)
    assert (last.kernel, last.padding) == ((4, 4), (3, 3))

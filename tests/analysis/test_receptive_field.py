"""Receptive fields against measured ones: an output sees a position if it notices when that position is lit up."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from cnnbench.analysis import summarize

SPATIAL = {2: [2], 3: [2, 3]}  # dimensions of a batch of signals (C, L) and of images (C, H, W)


def measured_field(model, shape, around=45):
    """The largest field among outputs in the middle, per axis; None where one of them reaches the input's border.

    Each position of an axis is lit up in turn, and the outputs that notice are noted: in a network of positive
    weights without biases, whose paths cannot cancel, these are the outputs with a gradient there.
    """
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.ones_(parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
    sizes = []
    for axis, length in enumerate(shape[1:], 2):
        lit = torch.eye(length, dtype=torch.float64).reshape(
            [length, 1, *(length if a == axis else 1 for a in SPATIAL[len(shape)])]
        )
        with torch.no_grad():
            outputs = model(lit.expand(length, *shape).contiguous())
        others = [dim for dim in range(1, outputs.dim()) if dim != axis]
        noticed = outputs.abs().sum(others) > 0  # (position of the input, output)
        middle = noticed.shape[1] // 2
        noticed = noticed[:, max(0, middle - around) : middle + around]
        if noticed[0].any() or noticed[-1].any():
            return None
        spans = [column.nonzero().flatten() for column in noticed.T if column.any()]
        sizes.append(max((int(seen[-1] - seen[0]) + 1 for seen in spans), default=0))
    return tuple(sizes)


def find_field(model, shape):
    """The field of the model's output, by a layer that changes nothing and has a row."""
    return summarize(nn.Sequential(model, nn.ReLU()), shape).layers[-1].receptive_field


class Branches(nn.Module):
    """A sum of modules with outputs of one size."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


class Call(nn.Module):
    """A function as a module, so that it has a row."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def same_size(kernel, dilation, lean):
    """A convolution that keeps the size; `lean` positions of its padding stand before the first, the rest behind."""
    total = dilation * (kernel - 1)
    before = lean % (total + 1)
    return nn.Sequential(
        nn.ConstantPad1d((before, total - before), 0.0), nn.Conv1d(1, 1, kernel, dilation=dilation, bias=False)
    )


kernels, strides, small = st.integers(1, 4), st.integers(1, 3), st.integers(0, 3)
leaves = st.one_of(
    st.builds(lambda k, s, d, p: nn.Conv1d(1, 1, k, s, p, d, bias=False), kernels, strides, strides, small),
    st.builds(lambda k, s: nn.AvgPool1d(k, s, padding=k // 2), kernels, strides),
    st.builds(lambda k, s, d: nn.ConvTranspose1d(1, 1, k, s, dilation=d, bias=False), kernels, strides, strides),
    st.builds(lambda f: nn.Upsample(scale_factor=f), strides),
    st.builds(lambda f: nn.Upsample(scale_factor=f, mode="linear"), strides),
    st.builds(lambda a, b: nn.ConstantPad1d((a - 2, b - 2), 0.0), small, small),
    st.builds(lambda a, s: Call(lambda x: x[..., a::s]), small, strides),
    st.builds(
        lambda *options: Branches(*(same_size(*one) for one in options)),
        *[st.tuples(kernels, strides, st.integers(0, 9))] * 2,
    ),
)


@given(st.lists(leaves, min_size=1, max_size=4))
def test_random_networks_have_the_field_that_is_measured(layers):
    model = nn.Sequential(*layers)
    measured = measured_field(model, (1, 700))
    assume(measured not in (None, (0,)))
    assert find_field(model, (1, 700)) == measured


AXES = [
    nn.Conv2d(1, 2, (1, 7), padding=(0, 3)),
    nn.Conv2d(1, 2, (3, 2), (1, 2), dilation=(2, 3)),
    nn.Conv2d(1, 2, 4, padding="same"),
    nn.ConvTranspose2d(1, 2, (4, 3), (2, 1), 1),
    nn.AvgPool2d((2, 3), (3, 1)),
    nn.ZeroPad2d((1, 2, -3, 0)),
    nn.ReplicationPad2d(2),
    nn.Upsample(scale_factor=(2, 3), mode="bilinear"),
    nn.Upsample(scale_factor=2, mode="bicubic"),
    nn.Upsample(size=(90, 50)),
    nn.Upsample(size=(90, 50), mode="bilinear", align_corners=True),
    nn.Upsample(size=(70, 50), mode="area"),
    nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)),
    nn.PixelUnshuffle(2),
    nn.AdaptiveAvgPool2d((48, 60)),
    Call(lambda x: x[:, :, 1::2, ::3]),
    Call(lambda x: x.permute(0, 3, 1, 2).reshape(len(x), 120, 120).unsqueeze(1).transpose(2, 3)),
]


@pytest.mark.parametrize("layer", AXES, ids=str)
def test_each_axis_has_its_own_field(layer):
    model = nn.Sequential(nn.Conv2d(1, 1, (3, 1)), nn.ZeroPad2d((0, 0, 1, 1)), layer)
    if not isinstance(layer, nn.Sequential | nn.PixelUnshuffle):
        model.append(nn.Conv2d(2 if any(True for _ in layer.parameters()) else 1, 1, (2, 3), padding=2))
    assert find_field(model, (1, 120, 120)) == measured_field(model, (1, 120, 120), around=9)


def test_a_stack_has_the_closed_form():
    options = [(7, 2, 1), (3, 2, 1), (3, 1, 2), (5, 3, 1), (3, 1, 4)]
    size, jump = 1, 1
    layers = []
    for kernel, stride, dilation in options:
        layers.append(nn.Conv2d(1, 1, kernel, stride, dilation=dilation, padding=3))
        size, jump = size + dilation * (kernel - 1) * jump, jump * stride
    described = summarize(nn.Sequential(*layers), (1, 200, 200))
    assert described.receptive_field == (size, size)
    assert described.layers[-1].jump == (jump, jump)


def test_branches_that_lean_apart_see_their_union():
    model = Branches(same_size(5, 1, 4), same_size(5, 1, 0))
    assert find_field(model, (1, 120)) == measured_field(model, (1, 120)) == (9,)


def test_upsampling_divides_the_jump():
    described = summarize(
        nn.Sequential(nn.Conv1d(1, 1, 3, 2), nn.ConvTranspose1d(1, 1, 4, 4), nn.MaxPool1d(2)), (1, 40)
    )
    assert [layer.jump for layer in described.layers] == [(2,), (0.5,), (1,)]
    assert described.receptive_field == (3,)


HEADS = [
    (nn.AdaptiveAvgPool2d(1), (30, 20)),
    (nn.AdaptiveMaxPool2d((1, None)), (30, 3)),
    (nn.AdaptiveAvgPool2d((28, 18)), (3, 3)),
    (Call(lambda x: x.mean((2, 3))), (30, 20)),
    (Call(lambda x: x.mean(-2, keepdim=True)), (30, 3)),
    (Call(lambda x: x.mean(1)), (3, 3)),
    (Call(lambda x: x.amax(dim=3)), (3, 20)),
    (Call(lambda x: torch.maximum(x, x)), (3, 3)),
    (nn.Sequential(nn.Flatten(), nn.Linear(8 * 28 * 18, 5)), (30, 20)),
    (nn.Linear(18, 5), (3, 20)),
    (Call(lambda x: x.permute(0, 2, 3, 1) @ torch.ones(8, 5, device=x.device)), (3, 3)),
    (Call(lambda x: torch.ones(7, 28, device=x.device) @ x), (30, 3)),
    (Call(lambda x: x.flatten(2).transpose(1, 2) @ x.flatten(2)), (30, 20)),
    (Call(lambda x: F.scaled_dot_product_attention(x, x, x)), (30, 20)),
    (Call(lambda x: torch.einsum("nchw,nchv->nchwv", x, x)), (30, 20)),
    (Call(lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))), (30, 20)),
]


@pytest.mark.parametrize(("head", "field"), HEADS)
def test_what_looks_along_whole_axes_sees_them_whole(head, field):
    described = summarize(nn.Sequential(nn.Conv2d(1, 8, 3), head), (1, 30, 20))
    assert described.layers[-1].receptive_field == field
    assert described.receptive_field == (3, 3), "the last window is the convolution's"


@pytest.mark.parametrize(
    "one_left",
    [
        Call(lambda x: x[..., -1]),
        Call(lambda x: x[..., 5:6].flatten(1)),
        nn.Sequential(nn.AvgPool1d(28, ceil_mode=True), nn.Flatten()),
    ],
)
def test_a_dense_layer_behind_a_single_position_sees_what_that_sees(one_left):
    layers = summarize(nn.Sequential(nn.Conv1d(1, 8, 3), one_left, nn.Linear(8, 5)), (1, 30)).layers
    assert layers[-1].receptive_field == ((30,) if isinstance(one_left, nn.Sequential) else (3,))


def test_windows_after_squeeze_and_excitation_see_everything_and_windows_of_a_head_do_not_count():
    excited = Call(lambda x: x * F.adaptive_avg_pool2d(x, 1))
    assert summarize(nn.Sequential(nn.Conv2d(1, 4, 3), excited, nn.Conv2d(4, 4, 3)), (1, 30, 30)).receptive_field == (
        30,
        30,
    )
    head = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 9, 1), nn.Flatten())
    assert summarize(head, (1, 30, 30)).receptive_field == (3, 3)


def test_the_field_of_parallel_branches_does_not_depend_on_which_runs_last():
    wide, narrow = nn.Conv2d(1, 2, 7, padding=3), nn.Conv2d(1, 2, 1)
    for branches in ((wide, narrow), (narrow, wide)):
        model = nn.Sequential(Branches(*branches), nn.Flatten(), nn.Linear(2 * 20 * 20, 3))
        assert summarize(model, (1, 20, 20)).receptive_field == (7, 7)


def test_a_patch_embedding_with_attention():
    attention = nn.MultiheadAttention(12, 3, batch_first=True)

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.attention = nn.Conv2d(1, 12, 4, 4), attention
            self.token = nn.Parameter(torch.zeros(1, 1, 12))
            self.head = nn.Linear(12, 3)

        def forward(self, x):
            tokens = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], 1)
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0][:, 0])

    described = summarize(Transformer(), (1, 20, 20))
    rows = {layer.name: layer for layer in described.layers}
    tokens = 26
    assert rows["attention"].macs == tokens * 12 * 12 * 4 + 2 * tokens * tokens * 12
    assert rows["attention"].parameters == 12 * 12 * 4 + 12 * 4
    assert rows["(model)"].parameters == 12
    assert rows["attention"].receptive_field == (20, 20)
    assert described.receptive_field == (4, 4)
    assert described.depth == 4
    assert sum(layer.parameters for layer in described.layers) == described.parameters


def test_signals_have_fields_of_one_number():
    model = nn.Sequential(nn.Conv1d(2, 4, 5), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 46, 3))
    described = summarize(model, (2, 100))
    assert described.receptive_field == (5 + 1 + 2 * 2,)
    assert described.layers[-1].receptive_field == (100,)
    assert described.layers[0].window.kernel == (5,)
    assert described.macs == 96 * 4 * 2 * 5 + 46 * 4 * 4 * 3 + 4 * 46 * 3


def test_transposed_convolutions_cost_their_inputs():
    described = summarize(nn.ConvTranspose2d(3, 8, 4, 2, groups=1), (3, 10, 10))
    assert described.macs == 3 * 10 * 10 * 8 * 4 * 4
    assert described.layers[0].output_shape == (8, 22, 22)
    assert math.prod(described.layers[0].jump) == 0.25

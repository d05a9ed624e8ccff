"""Networks one by one, and the counts that COURSE.md fixes; tests/conformance has what all models must do."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnnbench import registry
from cnnbench.cli.choices import list_groups
from cnnbench.cli.compose import compose_config
from cnnbench.models import NetworkSpec, build_model
from cnnbench.models.blocks import Style, make_conv_block
from cnnbench.models.given import give_module
from cnnbench.models.layers import LocalResponseNorm
from cnnbench.models.shapes import compute_output_shape

NAMES = registry.list_names("model")
SIGNALS = {"sequence_cnn"}  # takes signals alone; mlp takes both
RECONSTRUCTS = {"conv_autoencoder"}
AS_PUBLISHED = {"torchvision"}  # networks without width, depth, activation and dropout of ours


def build(name, in_channels=1, image_size=28, num_classes=10, options=None, *, dimensions=None, **arguments):
    """A model as its yaml has it, but for what the test says."""
    config = default_model(name)
    drawing = {word: arguments.pop(word) for word in ("init", "init_std", "seed") if word in arguments}
    shared = {"activation": config.activation, "dropout": config.dropout, **arguments}
    dimensions = dimensions or (1 if name in SIGNALS else 2)
    sides = (image_size,) * dimensions if isinstance(image_size, int) else image_size
    spec = NetworkSpec(in_channels, sides, num_classes, **shared)
    return build_model(name, spec, options={**config.options, **(options or {})}, **drawing)


@functools.cache
def default_model(name):
    return compose_config([f"model={name}"]).model


def inputs(name, number=2, in_channels=1, image_size=28):
    return torch.randn(number, in_channels, *[image_size] * (1 if name in SIGNALS else 2))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_every_model_has_a_yaml_and_every_yaml_a_model():
    assert list_groups()["model"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_builds_its_model_and_has_a_recipe_that_composes(name):
    assert default_model(name).name == name
    build(name)
    data = "waves" if name in SIGNALS else "mnist"
    with_recipe = compose_config([f"model={name}", f"data={data}", "recipe=true"])
    assert with_recipe.trainer.epochs <= 5
    assert with_recipe.model.options == default_model(name).options


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("mlp", {}, 101_770),
        ("mlp", {"width": 2}, 784 * 256 + 256 + 256 * 10 + 10),
        ("mlp", {"depth": 3}, 101_770 + 2 * (128 * 128 + 128)),
        ("lenet5", {}, 44_426),
        ("lenet5", {"width": 2}, 175_242),
        ("lenet5", {"depth": 2}, 73_408),
        ("lenet5_1998", {}, 61_706),
        ("lenet5_1998", {"image_size": 32}, 61_706),
    ],
)
def test_parameters_equal_the_closed_forms(name, arguments, count):
    assert parameters(build(name, **arguments)) == count


def test_lenet5_equals_the_course_network_written_by_hand():
    model = build("lenet5")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    images = torch.randn(4, 1, 28, 28)
    x = torch.max_pool2d(convs[0](images).relu(), 2)
    x = torch.max_pool2d(convs[1](x).relu(), 2).reshape(4, 256)
    expected = dense[2](dense[1](dense[0](x).relu()).relu())
    torch.testing.assert_close(model(images), expected)


def test_lenet5_1998_pools_by_averaging_and_extends_small_images():
    model = build("lenet5_1998", activation="tanh")
    kinds = {type(m) for m in model.modules()}
    assert {nn.AvgPool2d, nn.Tanh} <= kinds
    assert not kinds & {nn.ReLU, nn.MaxPool2d}
    images = torch.randn(2, 1, 28, 28)
    assert model.features.extension(images).shape == (2, 1, 32, 32)
    torch.testing.assert_close(model.features.extension(images)[:, :, 2:30, 2:30], images)


def test_dropout_stands_after_every_hidden_dense_layer():
    model = build("lenet5", depth=2, dropout=0.3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3] * 4


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet", {}, r"unknown model 'lenet'. Did you mean 'lenet5'\?"),
        (
            "lenet5",
            {"image_size": 15},
            r"data of 1×15×15 are too small .* layer pool2 .* cannot take the 16×1×1 .*data.image_size",
        ),
        ("mlp", {"activation": "rellu"}, "unknown model.activation 'rellu'. Did you mean 'relu'"),
        ("mlp", {"options": {"kernel": 3}}, "unknown key of model=mlp 'kernel'"),
        ("vgg_mini", {"options": {"kernel_size": 8}}, "model.kernel_size=8: must be a whole number from 1 to 7"),
        ("vgg_mini", {"options": {"padding": "valid"}}, r"data of 1×28×28 are too small .* layer stage3.1.conv .*2×2"),
        ("vgg_mini", {"options": {"padding": "causal"}}, "model.padding=causal: must be one of same, valid"),
        ("vgg_mini", {"options": {"groups": 3}}, "groups=3 does not divide a convolution's 16 input and 16 output"),
        ("vgg_mini", {"options": {"norm": "bach"}}, "model.norm=bach: must be one of none, batch.* Did you mean batch"),
        ("vgg_mini", {"options": {"pool": "mean"}}, "model.pool=mean: must be one of max, avg, stride, none"),
        ("vgg_mini", {"options": {"head": "gap"}}, "model.head=gap: must be one of dense, global_average"),
        ("vgg_mini", {"options": {"conv": "separable"}}, "model.conv=separable: .* Did you mean depthwise_separable"),
        ("vgg_mini", {"options": {"conv": "asymmetric", "groups": 2}}, "model.groups=2 needs model.conv=standard"),
        ("vgg_mini", {"options": {"stages": []}}, r"model.stages=\[\]: must be a list of at least one stage"),
        ("vgg_mini", {"options": {"stages": 3}}, "model.stages"),
        ("vgg_mini", {"init": "he"}, "unknown model.init 'he'.*kaiming"),
        ("resnet_mini", {"options": {"block": "wide"}}, "model.block=wide: must be one of basic, bottleneck"),
        ("resnet_mini", {"options": {"blocks": 0}}, "model.blocks=0: must be a whole number from 1"),
        (
            "dilated_cnn",
            {"options": {"dilations": [1, 0]}},
            r"model.dilations=\[1,0\]: must be a list of at least one whole number from 1",
        ),
        ("conv_autoencoder", {"image_size": 1}, "data of 16×1×1|data of 1×1×1"),
        ("lenet5", {"dimensions": 1}, "model=lenet5 takes images.*Models that take signals: mlp, sequence_cnn"),
        ("sequence_cnn", {"dimensions": 2}, "model=sequence_cnn takes signals.*data=waves"),
        ("sequence_cnn", {"options": {"padding": "valid"}}, "model.padding=valid: must be one of causal, same"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(name, **arguments)


def test_16_pixels_are_enough_for_lenet5():
    assert build("lenet5", image_size=16)(torch.randn(1, 1, 16, 16)).shape == (1, 10)


@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group", "lrn", "none"])
@pytest.mark.parametrize("pool", ["max", "avg", "stride", "none"])
@pytest.mark.parametrize("conv", ["standard", "depthwise_separable", "asymmetric"])
@pytest.mark.parametrize("head", ["dense", "global_average"])
def test_every_norm_pool_conv_and_head_go_together(norm, pool, conv, head):
    options = {"norm": norm, "pool": pool, "conv": conv, "head": head}
    model = build("vgg_mini", 3, 16, options=options, activation="leaky_relu")
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@given(
    kernel_size=st.integers(1, 7),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 4),
    padding=st.sampled_from(["same", "valid"]),
    size=st.integers(24, 40),
)
def test_a_convolution_has_the_size_of_the_formula(kernel_size, stride, dilation, padding, size):
    layer = Style("relu", padding=padding).make_conv(1, 2, kernel_size, stride=stride, dilation=dilation)
    valid = (size - dilation * (kernel_size - 1) - 1) // stride + 1
    expected = -(-size // stride) if padding == "same" else valid
    if expected >= 1:
        assert layer(torch.zeros(1, 1, size, size)).shape == (1, 2, expected, expected)


@given(kernel_size=st.integers(1, 7), dilation=st.integers(1, 4))
def test_a_causal_convolution_never_sees_a_later_sample(kernel_size, dilation):
    layer = Style("relu", padding="causal", dimensions=1).make_conv(1, 1, kernel_size, dilation=dilation)
    nn.init.ones_(layer.conv.weight if isinstance(layer, nn.Sequential) else layer.weight)
    signal = torch.zeros(1, 1, 30, requires_grad=True)
    output = layer(signal)
    assert output.shape == signal.shape
    output[0, 0, 15].backward()
    seen = signal.grad[0, 0].nonzero().flatten().tolist()
    assert seen == [15 - dilation * step for step in reversed(range(kernel_size)) if 15 - dilation * step >= 0]


def test_sequence_cnn_is_causal_up_to_its_last_sample():
    model = build("sequence_cnn", image_size=64).eval()
    signal = torch.randn(1, 1, 64, requires_grad=True)
    features = model.features(signal)
    features[0, :, 40].sum().backward()
    assert signal.grad[0, 0, 41:].abs().sum() == 0
    assert signal.grad[0, 0, 40] != 0


def test_same_padding_equals_torch_for_odd_and_even_kernels():
    for kernel_size in range(1, 8):
        ours = Style("relu").make_conv(2, 3, kernel_size, dilation=2)
        theirs = nn.Conv2d(2, 3, kernel_size, dilation=2, padding="same")
        theirs.load_state_dict({key.removeprefix("conv."): value for key, value in ours.state_dict().items()})
        images = torch.randn(2, 2, 20, 20)
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_plain_network_has_the_parameters_of_the_residual_one(block, preactivation, depth):
    options = {"block": block, "preactivation": preactivation}
    residual, plain = (
        build("resnet_mini", depth=depth, options={**options, "residual": residual}) for residual in (True, False)
    )
    assert [p.shape for p in residual.parameters()] == [p.shape for p in plain.parameters()]
    images = torch.randn(2, 1, 28, 28)
    plain.load_state_dict(residual.state_dict())
    assert not torch.allclose(residual.eval()(images), plain.eval()(images))


def test_resnet_20_has_the_parameters_of_the_paper():
    # arXiv:1512.03385, table 6: 0.27 million; shortcuts without parameters, batch norm, no bias before it.
    model = build("resnet_mini", 3, 32, options={"blocks": 3})
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(model) == convolutions + norms + 64 * 10 + 10 == 269_722


def test_depthwise_separable_costs_what_the_paper_says():
    # arXiv:1704.04861, equation 5: 1 / out_channels + 1 / kernel_size²
    separable = make_conv_block(32, 64, 3, Style("relu", conv="depthwise_separable"))
    standard = make_conv_block(32, 64, 3, Style("relu"))
    weights = [sum(p.numel() for p in block.parameters() if p.dim() > 1) for block in (separable, standard)]
    assert weights[0] / weights[1] == pytest.approx(1 / 64 + 1 / 9)


def test_asymmetric_convolutions_have_two_thirds_of_the_weights():
    asymmetric = make_conv_block(32, 32, 3, Style("relu", conv="asymmetric"))
    standard = make_conv_block(32, 32, 3, Style("relu"))
    weights = [sum(p.numel() for p in block.parameters() if p.dim() > 1) for block in (asymmetric, standard)]
    assert 3 * weights[0] == 2 * weights[1]


@pytest.mark.parametrize("option", ["asymmetric", "stacked"])
def test_inception_factorised_has_fewer_weights_and_the_same_shape(option):
    plain, factorised = build("inception_mini"), build("inception_mini", options={option: True})
    assert parameters(factorised) < parameters(plain)


def test_dilations_cost_no_parameters_and_the_hybrid_schedule_repeats_1_2_5():
    assert parameters(build("dilated_cnn")) == parameters(build("dilated_cnn", options={"dilations": [1, 1, 1, 1]}))
    hybrid = build("dilated_cnn", options={"hybrid": True})
    rates = [m.dilation[0] for m in hybrid.modules() if isinstance(m, nn.Conv2d)]
    assert rates == [1, 1, 2, 5, 1]


def test_all_conv_pools_by_stride_alone():
    kinds = {type(m) for m in build("all_conv").modules()}
    assert not kinds & {nn.MaxPool2d, nn.AvgPool2d, nn.Linear}


@pytest.mark.parametrize("shape", [(2, 24, 9, 7), (2, 3, 5, 5), (3, 8, 30)])
def test_local_response_norm_equals_torchs(shape):
    x = 30 * torch.randn(shape)
    torch.testing.assert_close(LocalResponseNorm()(x), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)(x))


def test_alexnet_has_its_marks():
    model = build("alexnet_mini")
    assert sum(isinstance(m, LocalResponseNorm) for m in model.modules()) == 2
    assert {(m.kernel_size, m.stride) for m in model.modules() if isinstance(m, nn.MaxPool2d)} == {(3, 2)}
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("size", range(4, 34))
def test_the_autoencoder_gives_back_images_of_any_size(size):
    assert build("conv_autoencoder", image_size=size).eval()(torch.zeros(1, 1, size, size)).shape == (1, 1, size, size)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("kaiming", lambda weight: (2 / weight[0].numel()) ** 0.5),
        ("xavier", lambda weight: (2 / (weight[0].numel() + weight.shape[0] * weight[0, 0].numel())) ** 0.5),
        ("normal", lambda weight: 0.03),
    ],
)
def test_initialisations_have_the_spread_of_their_formula(init, expected):
    model = build("vgg_mini", width=4, init=init, init_std=0.03)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 10_000:
            assert float(module.weight.detach().std()) == pytest.approx(expected(module.weight), rel=0.1)
            assert module.bias is None or not module.bias.any()


def test_the_default_initialisation_is_torchs():
    torch.manual_seed(3)
    model = build("lenet5", seed=3)
    weight = model.features.stage1[0].conv.weight
    assert weight.abs().max() <= 1 / 5 < weight.abs().max() * 1.1  # uniform within 1 / sqrt(fan_in)


def test_output_shape_leaves_a_model_as_it_was():
    model = build("vgg_mini").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert compute_output_shape(model.features, (1, 28, 28)) == (64, 3, 3)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIGNALS])
def test_a_square_given_by_both_sides_is_the_square_given_by_one(name):
    square = build(name, image_size=28).state_dict()
    again = build(name, image_size=(28, 28)).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in square.items())


def test_a_size_that_a_model_cannot_take_is_said():
    with pytest.raises(ValueError, match=r"data of 1×28×4 are too small for this network: .*1×28"):
        build("lenet5", image_size=(28, 4))
    with pytest.raises(ValueError, match=r"model.arch=vit_b_16 takes square images, such as data.image_size=64"):
        build("torchvision", image_size=(32, 64), options={"arch": "vit_b_16"})
    extended = build("lenet5_1998", image_size=(28, 40))
    assert extended.eval()(torch.zeros(1, 1, 28, 40)).shape == (1, 10)
    assert extended.features.extension.padding == (0, 0, 2, 2), "the side of 40 pixels is long enough"


@pytest.mark.parametrize("message", ["", "\n\n", "no\nmore"])
def test_a_layer_that_refuses_without_a_word_is_named(message):
    class Refusing(nn.Identity):
        def forward(self, x):
            raise RuntimeError(message)

    said = "no" if message.strip() else "RuntimeError"
    with pytest.raises(ValueError, match=rf"layer 0 \(Refusing\(\)\) cannot take .*reach it. {said}. Larger images"):
        compute_output_shape(nn.Sequential(Refusing()), (1, 4, 4))


@pytest.mark.parametrize("given", [{"depth": 2}, {"width": 0.5}, {"activation": "gelu"}, {"dropout": 0.1}])
def test_settings_that_a_network_does_not_use_are_refused_in_one_sentence(given):
    spec = NetworkSpec(1, (8, 8), 10, **given)
    options = {
        "module": {"class_name": "Own", "source_sha256": None, "state_sha256": "0"},
        "torchvision": {"arch": "resnet18", "args": {}},
    }
    said = set()
    for name, own in options.items():
        with (
            give_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
            pytest.raises(ValueError, match="because the network does not use it") as refused,
        ):
            build_model(name, spec, options=own)
        said.add(str(refused.value).partition(". Set")[0])
    with pytest.raises(ValueError, match=rf"^model.{next(iter(given))}=") as refused:
        spec.require_defaults(*given)
    assert said == {str(refused.value)}

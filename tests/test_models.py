"""Every registered model, and the counts that COURSE.md fixes."""

import pytest
import torch
from torch import nn

from cnnbench import registry
from cnnbench.cli.choices import groups
from cnnbench.cli.compose import single
from cnnbench.models import build_model

NAMES = registry.names("model")


def build(name, in_channels=1, image_size=28, num_classes=10, **arguments):
    return build_model(name, in_channels=in_channels, image_size=image_size, num_classes=num_classes, **arguments)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_every_model_has_a_yaml_and_every_yaml_a_model():
    assert groups()["model"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_builds_its_model(name):
    config = single([f"model={name}"]).model
    assert config.name == name
    build(name, activation=config.activation, options=config.options)


@pytest.mark.parametrize(("width", "depth"), [(0.5, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("image_size", [28, 32, 64])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_logits_have_their_shape_and_every_parameter_gets_a_gradient(name, in_channels, image_size, width, depth):
    model = build(name, in_channels, image_size, num_classes=7, width=width, depth=depth, dropout=0.1)
    logits = model(torch.randn(3, in_channels, image_size, image_size))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_eval_gives_the_same_output_twice(name):
    model = build(name, dropout=0.5).eval()
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_runs(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert build(name)(torch.randn(2, 1, 28, 28)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_torch_export_works(name):
    model = build(name).eval()
    images = torch.randn(2, 1, 28, 28)
    exported = torch.export.export(model, (images,))
    torch.testing.assert_close(exported.module()(images), model(images))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_a_function_of_the_seed_alone(name):
    torch.manual_seed(1)
    first = build(name, seed=5).state_dict()
    torch.manual_seed(2)
    second, other = build(name, seed=5).state_dict(), build(name, seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


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
    assert model.extend(images).shape == (2, 1, 32, 32)
    torch.testing.assert_close(model.extend(images)[:, :, 2:30, 2:30], images)


def test_dropout_stands_after_every_hidden_dense_layer():
    model = build("lenet5", depth=2, dropout=0.3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3] * 4


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet", {}, r"unknown model 'lenet'. Did you mean 'lenet5'\?"),
        ("lenet5", {"image_size": 15}, "data.image_size=15 is too small for lenet5.*Accepted is 16 or more"),
        ("mlp", {"activation": "rellu"}, "unknown model.activation 'rellu'. Did you mean 'relu'"),
        ("mlp", {"options": {"kernel": 3}}, "unknown model.mlp option 'kernel'"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(name, **arguments)


def test_16_pixels_are_enough_for_lenet5():
    assert build("lenet5", image_size=16)(torch.randn(1, 1, 16, 16)).shape == (1, 10)

"""torchvision's classifiers: their published counts, what they cost by torch's own counter, what they refuse."""

import functools
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.analysis import summarize
from cnnbench.cli import compose
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.run import run_job
from cnnbench.models import NetworkSpec, build_model

COUNTS = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
    "mobilenet_v2": 3_504_872,
    "googlenet": 13_004_888,
    "inception_v3": 27_161_264,
    "vit_b_16": 86_567_656,
    "swin_t": 28_288_354,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "convnext_tiny": 28_589_128,
    "regnet_y_400mf": 4_344_144,
    "shufflenet_v2_x1_0": 2_278_604,
    "mobilenet_v3_large": 5_483_032,
    "squeezenet1_0": 1_248_424,
    "mnasnet1_0": 4_383_312,
    "maxvit_t": 30_919_624,
}


def build(arch, in_channels=3, image_size=224, num_classes=1000, args=None, device="meta", **shared):
    spec = NetworkSpec(in_channels, (image_size, image_size), num_classes, **shared)
    return build_model("torchvision", spec, options={"arch": arch, "args": args or {}}, device=device)


@functools.cache
def describe(arch):
    """The summary of a network at ImageNet's size; some take seconds."""
    return summarize(build(arch), (3, 224, 224))


@pytest.mark.parametrize("arch", COUNTS)
def test_parameters_are_those_published_and_macs_are_half_of_torchs_flops(arch):
    model, described = build(arch).eval(), describe(arch)
    assert described.parameters == COUNTS[arch]
    assert sum(layer.parameters for layer in described.layers) == COUNTS[arch]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert described.macs == sum(layer.macs for layer in described.layers)
    assert described.macs == counter.get_total_flops() // 2


def test_auxiliary_heads_can_be_left_out():
    assert summarize(build("googlenet", args={"aux_logits": False}), (3, 224, 224)).parameters == 6_624_904


def chain(*windows):
    """The field of windows (kernel, stride) after one another, by Araujo et al., equation 2."""
    size, jump = 1, 1
    for kernel, stride in windows:
        size, jump = size + (kernel - 1) * jump, jump * stride
    return size


def residual(blocks, block):
    """A ResNet's longest path; `block` gives the windows of a block from its stride."""
    strides = [2 if stage > 0 and number == 0 else 1 for stage, n in enumerate(blocks) for number in range(n)]
    return chain((7, 2), (3, 2), *(window for stride in strides for window in block(stride)))


def bottleneck(stride):
    return [(1, 1), (3, stride), (1, 1)]


VGG16 = [w for convolutions in (2, 2, 3, 3, 3) for w in [(3, 1)] * convolutions + [(2, 2)]]
FIELDS = {
    "alexnet": (195, chain((11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2))),
    "vgg16": (212, chain(*VGG16)),
    "resnet18": (435, residual((2, 2, 2, 2), lambda stride: [(3, stride), (3, 1)])),
    # Araujo et al. give 483 and 1507 for networks whose blocks stride in their 1×1; torchvision's do in their 3×3.
    "resnet50": (427, residual((3, 4, 6, 3), bottleneck)),
    "resnet152": (1451, residual((3, 8, 36, 3), bottleneck)),
    "inception_v3": (1311, 1311),
    "vit_b_16": (16, 16),
}


@pytest.mark.parametrize("arch", FIELDS)
def test_receptive_fields_are_those_of_the_literature(arch):
    known, formula = FIELDS[arch]
    assert describe(arch).receptive_field == (known, known) == (formula, formula)


def test_strides_in_the_1x1_give_the_figures_of_araujo():
    assert residual((3, 4, 6, 3), lambda stride: [(1, stride), (3, 1), (1, 1)]) == 483
    assert residual((3, 8, 36, 3), lambda stride: [(1, stride), (3, 1), (1, 1)]) == 1507


def test_depth_counts_what_gives_the_networks_their_names():
    depths = {"alexnet": 8, "vgg16": 16, "resnet18": 18, "resnet50": 50, "resnet152": 152, "googlenet": 22}
    assert {arch: describe(arch).depth for arch in depths} == depths


@pytest.mark.parametrize("in_channels", [1, 4])
def test_the_first_convolution_reads_the_datas_channels_and_keeps_its_settings(in_channels):
    before = build("resnet18", 3, 32, 10, device="cpu").conv1
    model = build("resnet18", in_channels, 32, 10, device="cpu").eval()
    first = model.conv1
    assert first.weight.shape == (64, in_channels, 7, 7)
    assert (first.stride, first.padding, first.bias) == (before.stride, before.padding, before.bias)
    assert float(first.weight.detach().std()) == pytest.approx(float(before.weight.detach().std()), rel=0.05)
    assert len(first.weight.unique()) > first.weight.numel() / 2
    assert model(torch.randn(1, in_channels, 32, 32)).shape == (1, 10)
    assert sum(int(m.num_batches_tracked) for m in model.modules() if isinstance(m, nn.BatchNorm2d)) == 0


@pytest.mark.parametrize(("arch", "heads"), [("googlenet", 2), ("inception_v3", 1)])
def test_auxiliary_heads_speak_while_training_only(arch, heads):
    size = 299 if arch == "inception_v3" else 32
    model, images = build(arch, 1, size, 10).to("meta"), torch.empty(2, 1, size, size, device="meta")
    outputs = model.train()(images)
    assert isinstance(outputs, tuple)
    assert [part.shape for part in outputs] == [(2, 10)] * (1 + heads)
    assert model.eval()(images).shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "resnet52"}, r"unknown model.arch 'resnet52'. Did you mean 'resnet152'\? Valid: alexnet, "),
        ({"arch": "fcn_resnet50"}, "unknown model.arch 'fcn_resnet50'"),
        ({"width": 2}, r"model.width=2: must be 1, .*model.args=\{dropout: 0.3\}"),
        ({"depth": 2}, "model.depth=2: must be 1"),
        ({"activation": "gelu"}, "model.activation=gelu: must be relu"),
        ({"dropout": 0.3}, "model.dropout=0.3: must be 0"),
        ({"args": {"kernel": 3}}, r"model.arch=resnet18 cannot be built with \{'kernel': 3\}: .*argument 'kernel'"),
        (
            {"args": {"weights": "DEFAULT"}},
            "model.args.weights=DEFAULT: not accepted, because model.weights=torchvision loads them",
        ),
        (
            {"args": {"pretrained": True}},
            "model.args.pretrained=True: not accepted, because model.weights=torchvision loads them",
        ),
        ({"args": {"num_classes": 5}}, "model.args.num_classes=5: not accepted, because it follows from the data"),
        (
            {"arch": "alexnet", "image_size": 28, "in_channels": 1},
            r"alexnet cannot take images of 28×28 pixels and 1 channel\(s\): .*layer features.5 .*192×2×2",
        ),
        ({"arch": "vit_b_16", "image_size": 28}, r"vit_b_16 cannot be built with \{'image_size': 28\}: .*indivisible"),
    ],
)
def test_what_cannot_be_built_says_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**{"arch": "resnet18", **arguments})


def test_images_too_small_for_a_head_that_only_trains_are_refused_before_training():
    overrides = ["model=torchvision", "model.arch=inception_v3", "data.image_size=224", "data.train_limit=20"]
    config = compose.compose_config(overrides)
    with pytest.raises(ValueError, match=r"1×224×224 are too small .* layer AuxLogits.conv1.conv .*aux_logits: false"):
        build_parts(config, shapes_only=True)
    assert build_parts(compose.compose_config([*overrides, "model.args={aux_logits: false}"]), shapes_only=True)


def test_transformers_get_the_size_of_the_images():
    assert build("vit_b_32", 3, 64, 10).image_size == 64
    assert build("vit_b_32", 3, 64, 10, args={"image_size": 64}).image_size == 64


@pytest.mark.parametrize("override", ["model.args={aux_logits: false}", "+model.args.aux_logits=false"])
def test_arguments_can_be_given_on_the_command_line(override):
    config = compose.compose_config(["model=torchvision", "model.arch=googlenet", override])
    assert config.model.options == {"arch": "googlenet", "args": {"aux_logits": False}}


def test_a_sweep_over_arguments_has_them_as_its_axis():
    asked = compose.compose_request(["model=torchvision", "model.args={groups: 1},{groups: 2}"], multirun=True)
    assert [job.config.model.options["args"] for job in asked.jobs] == [{"groups": 1}, {"groups": 2}]
    assert asked.axes == ["model.args"]


def test_a_torchvision_network_with_heads_for_training_trains_and_is_measured_again(tmp_path):
    overrides = ["model=torchvision", "model.arch=googlenet", "data.image_size=32"]
    config = compose.compose_config([*overrides, "trainer.epochs=1", "data.train_limit=60", "data.val_fraction=0"])
    (tmp_path / "run").mkdir()
    summary = run_job(config, tmp_path / "run", overrides)
    _, metrics = evaluate_run(tmp_path / "run", device="cpu")
    assert metrics["loss"] == pytest.approx(summary["test/loss"])


def test_torchvision_is_imported_only_for_its_networks():
    code = "import sys, cnnbench.models; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

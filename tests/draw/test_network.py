"""The page's own evaluation of networks, in a real browser, beside torch's."""

import base64
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from draw_check import DRAWN, FEW, TOLERANCE, answer, open_page
from test_models import build
from torch import nn

from cnnbench.analysis.attribution import compute_occlusion
from cnnbench.cli.compose import compose_config
from cnnbench.data.loader import make_permutation, normalize
from cnnbench.draw.layers import MissingKernel
from cnnbench.draw.program import compile_network, compile_run, read_script
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import prepare_measurement
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.experiment.run import run_job
from cnnbench.models import collect_activations
from cnnbench.models.layers import ACTIVATIONS
from cnnbench.runs.calibration import Temperature, write_temperature
from cnnbench.training.checkpoint import collect_model_tensors

OCCLUDE = """
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const network = new Network(JSON.parse(arguments[0]), decode(arguments[1]).buffer);
return [...network.occlude(decode(arguments[2]), 3, 8, 3).map];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver (.ci/run does so)")
    from screenshot import start_browser

    driver = start_browser(800)
    open_page(driver, tmp_path_factory.mktemp("page"))
    yield driver
    complaints = driver.get_log("browser")
    driver.quit()
    assert complaints == []


@pytest.fixture(scope="module")
def run(tmp_path_factory, mnist_root):
    """LeNet-5 after one short epoch of MNIST, in bf16, with averaged weights and a temperature."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ["data=mnist", f"data.root={mnist_root}", "data.download=false", "data.train_limit=3000"]
    overrides += [
        "trainer.epochs=1",
        "trainer.device=cpu",
        "trainer.precision=bf16",
        "trainer.ema=0.9",
        "optimizer.lr=0.01",
    ]
    run_job(compose_config(overrides), folder, overrides)
    write_temperature(folder, Temperature(1.7, 300))
    return folder


def draw_images(shape, number=3):
    """Images uint8 that differ as a whole, where noise alone would look the same to a network that averages."""
    coarse = torch.rand(number, shape[0], 4, 4) * torch.linspace(0.2, 1, number)[:, None, None, None]
    return (255 * nn.functional.interpolate(coarse, shape[1:], mode="bilinear")).byte()


def randomise(network, shape=(1, 28, 28)):
    """Give norms scales and shifts that differ from channel to channel, and statistics, as after training."""
    for module in network.modules():
        if getattr(module, "weight", None) is not None and module.weight.dim() == 1:
            module.weight.data.uniform_(0.5, 1.5).mul_(torch.randn(len(module.weight)).sign())
            module.bias.data.normal_(0, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
    with torch.no_grad():
        network.train()(draw_images(shape, 8) / 128 - 0.5)
    return network.eval()


def check(browser, network, shape=(1, 28, 28), *, permute_pixels=False):
    """The page's logits are torch's, but for the rounding of float32."""
    network = network.to(memory_format=torch.channels_last)  # as most runs store it
    images = draw_images(shape)
    mean, std = torch.rand(shape[0]), torch.rand(shape[0]) + 0.2
    given = images
    if permute_pixels:
        given = images.flatten(2)[:, :, make_permutation(shape[1] * shape[2])].view(images.shape)
    with torch.no_grad():
        logits = network(normalize(given, mean, std)).double()
    classes = [str(number) for number in range(logits.shape[1])]
    constants = {"mean": mean.tolist(), "std": std.tolist(), "permute_pixels": permute_pixels}
    program = compile_network(network, shape, classes, **constants)
    found = answer(browser, program, images.numpy())
    tolerance = 1e-5 * float(logits.abs().max())
    assert logits.std(0).min() > 20 * tolerance, "each class's logits differ from image to image"
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.probabilities, logits.softmax(1), rtol=0, atol=TOLERANCE)


def test_the_page_predicts_500_digits_as_torch_does_calibrated_and_with_bf16_and_averaged_weights(browser, run):
    ready = prepare_measurement(run, DataChoice(), device="cpu")
    ready.trained.config.trainer.precision = "fp32"  # the page computes in float32
    split = ready.found.split[torch.arange(FEW)]
    logits = np.concatenate([some for some, _ in ready.iterate_logits(split)])
    expected = (torch.from_numpy(logits).double() / 1.7).softmax(1).numpy()
    found = answer(browser, compile_run(ready.trained), split.images.numpy())
    assert (found.probabilities.argmax(1) == expected.argmax(1)).all()
    assert np.abs(found.probabilities - expected).max() <= TOLERANCE
    assert (expected.argmax(1) == split.labels.numpy()).mean() > 0.8, "a network that has learned"


@pytest.mark.parametrize("name", DRAWN)
def test_every_family_is_computed_as_by_torch(browser, name):
    check(browser, randomise(build(name, init="kaiming")))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet_mini", {"block": "bottleneck", "preactivation": True}),
        ("resnet_mini", {"norm": "group", "blocks": 1}),
        ("vgg_mini", {"norm": "instance", "conv": "depthwise_separable", "head": "global_average"}),
        ("alexnet_mini", {"norm": "layer", "pool": "stride"}),
        ("inception_mini", {"asymmetric": True, "pool": "avg"}),
        ("mobilenet_mini", {"kernel_size": 4}),
    ],
)
def test_options_change_the_layers_and_not_the_agreement(browser, name, arguments):
    check(browser, randomise(build(name, 3, (24, 32), options=arguments), (3, 24, 32)), (3, 24, 32))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_torchs(browser, name):
    check(browser, build("lenet5", activation=name, init="normal", init_std=0.3).eval())


def test_permuted_pixels_are_permuted_in_the_page(browser):
    check(browser, build("mlp", 3, (8, 10)).eval(), (3, 8, 10), permute_pixels=True)


class Unusual(nn.Module):
    """What none of our families uses: channel shuffle, broadcasting, adaptive pooling, writing into an input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=2, dilation=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.gate = nn.Linear(6, 6)
        self.shift = nn.Parameter(torch.randn(6, 1, 1))
        self.classes = nn.Linear(2 * 6 * 3 * 2, 4, bias=False)

    def forward(self, images):
        x = self.norm(self.conv(images)).relu_()
        x = x.view(len(x), 2, 3, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        x = x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None] - self.shift / 2
        x = torch.cat((nn.functional.adaptive_avg_pool2d(x, (3, 2)), nn.functional.adaptive_max_pool2d(x, (3, 2))), 1)
        return self.classes(nn.functional.hardtanh(x).flip(1).flatten(1))


def test_operations_of_other_networks_are_evaluated_too(browser):
    check(browser, randomise(Unusual(), (1, 11, 9)), (1, 11, 9))


def test_an_operation_without_a_kernel_is_named():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Upsample(scale_factor=2, mode="bicubic"), nn.Flatten())
    with pytest.raises(
        MissingKernel, match=r"its layer 1 uses aten::upsample_bicubic2d, which has no kernel"
    ) as caught:
        compile_network(model, (1, 8, 8), ["a"])
    assert (caught.value.operation, caught.value.module) == ("aten::upsample_bicubic2d", "1")


def test_overwritten_views_are_refused():
    class Overwriting(nn.Module):
        def forward(self, images):
            x = images * 2
            x.flatten(1).relu_()
            return x.flatten(1)

    with pytest.raises(MissingKernel, match="overwrites"):
        compile_network(Overwriting(), (1, 2, 2), ["a"])


@pytest.mark.parametrize("name", ["lenet5", "resnet_mini"])
def test_layers_have_the_names_shapes_and_fields_that_torch_gives(name):
    model = randomise(build(name))
    program = compile_network(model, (1, 28, 28), list("0123456789"))
    layers = program.description["layers"]
    blocks = collect_activations(model, torch.zeros(1, 1, 28, 28))
    shown = {layer["name"]: layer for layer in layers if layer["show"]}
    for block in [block for block in blocks if block.startswith("features") and "pool" not in block]:
        assert shown[block]["shape"] == list(blocks[block].shape[1:])
    assert not [layer for layer in layers if layer["kind"] == "affine"], "batch norms are folded"
    if name == "lenet5":
        assert [*shown] == [
            *("features.stage1.0", "features.pool1", "features.stage2.0", "features.pool2"),
            *("head.hidden1.1", "head.hidden2.1", "head.classes"),
        ]
        axis = {"size": 5, "stride": 1, "start": 0}
        assert shown["features.stage1.0"]["receptive_field"] == {"rows": axis, "columns": axis}
        assert shown["features.pool2"]["receptive_field"]["rows"] == {"size": 16, "stride": 4, "start": 0}
        assert shown["head.classes"]["receptive_field"] is None


def test_occlusion_is_that_of_explain(browser):
    model = build("lenet5").eval()
    images = torch.randint(0, 256, (1, 1, 28, 28), dtype=torch.uint8)
    given = normalize(images, torch.tensor([0.3]), torch.tensor([0.2]))
    softmax = nn.Sequential(model, nn.Softmax(1))
    expected = compute_occlusion(softmax, given, torch.tensor([3]), (8, 8), (3, 3))[0]
    program = compile_network(model, (1, 28, 28), list("0123456789"), mean=[0.3], std=[0.2])
    coded = [base64.b64encode(data).decode() for data in (program.weights, images.numpy().tobytes())]
    found = np.array(browser.execute_script(OCCLUDE, program.as_json(), *coded)).reshape(28, 28)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found).max() > 1e-4


def test_no_class_name_ends_the_script_that_holds_it(tmp_path):
    hostile = ["</script><script>window.pwned = 1</script>", "<!--<script>", "\u2028\ud800"]
    program = compile_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2), hostile)
    assert "<" not in program.as_json()
    assert json.loads(program.as_json())["classes"] == hostile
    assert "</script" not in read_script()


def test_unsupported_runs_are_refused_with_the_reason(run):
    trained = load_trained(run)
    info = trained.info
    with pytest.raises(ValueError, match=r"images of 65×28 pixels: draw takes up to 64 a side \(data.image_size\)"):
        compile_run(replace(trained, info=replace(info, image_size=(65, 28))))
    with pytest.raises(ValueError, match=r"was trained on signals \(mnist\): draw takes runs of images"):
        compile_run(replace(trained, info=replace(info, image_size=28, dimensions=1)))
    with pytest.raises(ValueError, match="2 channels: draw takes grey or colour images"):
        compile_run(replace(trained, info=replace(info, in_channels=2)))
    with pytest.raises(ValueError, match="one of torchvision's networks"):
        compile_run(replace(trained, config=compose_config(["model=torchvision"])))
    config, tensors = compose_config(["model=conv_autoencoder"]), collect_model_tensors(build("conv_autoencoder"))
    with pytest.raises(ValueError, match=r"is a reconstruction run \(conv_autoencoder\): it has no classes"):
        compile_run(replace(trained, config=config, tensors=tensors))

"""Intermediates by name, for every registered model and for networks of torchvision."""

import pytest
import torch
from test_models import NAMES, build, inputs

from cnnbench.models import NetworkSpec, build_model, collect_activations

PUBLISHED = ["vgg11", "resnet18", "densenet121", "inception_v3", "regnet_y_400mf", "swin_t", "vit_b_16", "maxvit_t"]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_gives_its_intermediates_by_the_names_of_its_modules(name):
    model, images = build(name).eval(), inputs(name).requires_grad_()
    found = collect_activations(model, images)
    *names, last = found
    assert last == "output"
    assert torch.equal(found["output"], model(images))
    assert len(names) >= 3
    assert set(names) <= dict(model.named_modules()).keys()
    assert {len(tensor) for tensor in found.values()} == {len(images)}
    # None is missing from the path to the output, as Grad-CAM needs.
    gradients = torch.autograd.grad(found["output"].sum(), [found[one] for one in names])
    assert [gradient.shape for gradient in gradients] == [found[one].shape for one in names]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("arch", PUBLISHED)
def test_torchvision_networks_give_theirs(arch):
    size = {"inception_v3": 96}.get(arch, 224)
    spec, options = NetworkSpec(3, (size, size), 10), {"arch": arch, "args": {}}
    model = build_model("torchvision", spec, options=options, device="meta").eval()  # shapes only, which is quick
    found = collect_activations(model, torch.empty(2, 3, size, size, device="meta"))
    assert found["output"].shape == (2, 10)
    assert sum(tensor.dim() == 4 for tensor in found.values()) >= 1


def test_signals_have_intermediates_too():
    model = build("mlp", 2, 40, dimensions=1).eval()
    assert [*collect_activations(model, torch.randn(3, 2, 40))] == ["flatten", "hidden.0", "hidden.1", "head", "output"]


def test_an_activation_is_what_its_module_computes_from_the_one_before():
    model, images = build("lenet5").eval(), inputs("lenet5")
    found = collect_activations(model, images)
    assert [*found][:4] == ["features.stage1.0", "features.pool1", "features.stage2.0", "features.pool2"]
    assert torch.equal(found["features.stage2.0"], model.features.stage2(found["features.pool1"]))


def test_layers_that_write_into_their_input_do_not_change_what_was_kept():
    model = build("torchvision", 3, 32, options={"arch": "vgg11", "args": {}}).eval()
    images = torch.randn(1, 3, 32, 32)
    found = collect_activations(model, images)
    assert torch.equal(found["features.0"], model.features[0](images))
    assert torch.equal(found["features.1"], found["features.0"].relu())  # in place

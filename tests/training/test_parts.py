"""Parts of a network that are frozen, or have a learning rate of their own: what a step does to each."""

import copy
import functools

import pytest
import torch
from torch import nn

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.config.declared import read_part_options
from cnnbench.models import NetworkSpec, build_model
from cnnbench.training.graph import set_lr
from cnnbench.training.optim import build_optimizer
from cnnbench.training.parts import assign_parts, freeze_parts, set_training_mode

IMAGES, LABELS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
OPTIONS = {
    "sgd": {"momentum": 0.9, "nesterov": False},
    **{name: {"betas": [0.9, 0.99], "eps": 1e-8} for name in ("adam", "adamw")},
    "muon": {"momentum": 0.9, "iterations": 3, "betas": [0.9, 0.99], "eps": 1e-8},
}


@functools.cache
def read_options(name) -> dict:
    return compose_config([f"model={name}", *(["model.padding=same"] if name == "lenet5" else [])]).model.options


def build(name="lenet5", **options) -> nn.Module:
    return build_model(name, NetworkSpec(1, (8, 8), 3, dropout=0.3), options={**read_options(name), **options})


def train(model, steps=1, lr=0.05, weight_decay=0.1, name="adamw", rates=None):
    optimizer = build_optimizer(
        name, model, lr=lr, weight_decay=weight_decay, decay_bias_and_norm=True, rates=rates, options=OPTIONS[name]
    )
    for number in range(steps):
        torch.manual_seed(number)
        optimizer.zero_grad()
        set_lr(optimizer, lr)
        nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
        optimizer.step()
    return optimizer


def test_a_frozen_part_keeps_every_bit_and_has_no_gradient_and_no_optimizer_state():
    model = build(norm="batch")
    freeze_parts(model, ["features"])
    before = copy.deepcopy(model.state_dict())
    model.eval()
    set_training_mode(model)
    assert model.head.training
    assert not any(module.training for module in model.features.modules())
    seen = {}
    model.features.register_forward_hook(lambda module, inputs, output: seen.update(features=output))
    optimizer = train(model, steps=3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("features."), name
    assert all(parameter.grad is None for parameter in model.features.parameters())
    assert {*optimizer.state} == {*model.head.parameters()}
    assert not seen["features"].requires_grad, "nothing is kept for a backward pass"


def test_a_part_within_a_trained_module_is_frozen_alone():
    model = build(norm="batch")
    freeze_parts(model, ["*norm*", "head.classes.bias"])
    set_training_mode(model)
    before = copy.deepcopy(model.state_dict())
    train(model)
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if ".norm." in name or name == "head.classes.bias"}


@pytest.mark.parametrize("name", registry.list_names("optimizer"))
def test_a_rate_multiplies_the_first_update_of_its_part_alone(name):
    assert read_part_options("optimizer", name) is not None
    models = [build() for _ in range(3)]
    for model, rates in zip(models[1:], ({}, {"features": 0.1, "features.stage2": 0.5}), strict=True):
        train(model, weight_decay=0.0, name=name, rates=rates, lr=0.01)
    start, plain, own = (dict(model.named_parameters()) for model in models)
    for path, value in start.items():
        rate = 0.5 if "stage2" in path else 0.1 if path.startswith("features") else 1.0
        moved = own[path] - value
        torch.testing.assert_close(moved, rate * (plain[path] - value), rtol=1e-3, atol=1e-7, msg=path)
        assert float(moved.detach().abs().max()) > 0
    assert torch.equal(own["head.classes.weight"], plain["head.classes.weight"])


def test_muon_leaves_the_last_matrix_to_adamw_whatever_the_parts():
    model = build()
    optimizer = train(model, name="muon", rates={"head": 2.0, "head.classes.bias": 3.0})
    by_muon = {parameter for group in optimizer.matrices for parameter in group["params"]}
    assert model.head.classes.weight not in by_muon
    assert {p for p in model.parameters() if p.ndim > 1} == {*by_muon, model.head.classes.weight}


def test_the_longest_name_counts_in_any_order():
    model = build()
    for names in (["features", "features.stage1", "*bias"], ["*bias", "features.stage1", "features"]):
        found = assign_parts(model, names, "model.freeze")
        assert found["features.stage1.0.conv.bias"] == "features.stage1"
        assert found["features.stage2.0.conv.bias"] == "features"
        assert found["head.classes.bias"] == "*bias"
        assert "head.classes.weight" not in found


def test_features_of_a_network_without_them_are_all_parts_but_the_last():
    model = build("mlp")
    freeze_parts(model, ["features"])
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["featurs"], r"model.freeze: the network has no part 'featurs'. Did you mean 'features'\? It consists of "),
        (["features.pool1"], "model.freeze: 'features.pool1' has no parameters"),
        (["*"], r"model.freeze=\[\*\] covers the whole network, so that nothing is left to train"),
    ],
)
def test_names_that_freeze_nothing_or_everything_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        freeze_parts(build(), names)


def test_a_rate_that_changes_nothing_is_refused():
    model = build()
    freeze_parts(model, ["features"])
    with pytest.raises(ValueError, match=r"optimizer.rates: 'features.stage1' sets no rate, because its parameters"):
        train(model, rates={"features.stage1": 0.5})

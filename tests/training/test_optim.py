"""Schedules against torch's own, step by step; optimizers against one written out by hand."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from cnnbench.training.muon import orthogonalize
from cnnbench.training.optim import build_optimizer, build_schedule
from cnnbench.training.torch_optimizers import Adam

ONE_CYCLE = {"peak_at": 0.3, "initial": 0.04, "final": 0.001, "anneal": "cosine"}


def torch_factors(make, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("cosine", {"final": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=60, eta_min=0.1)),
        ("step", {"step_epochs": 2, "gamma": 0.5}, lambda o: lr_scheduler.StepLR(o, step_size=24, gamma=0.5)),
        (
            "one_cycle",
            ONE_CYCLE,
            lambda o: lr_scheduler.OneCycleLR(
                o, 1.0, total_steps=60, pct_start=0.3, div_factor=25, final_div_factor=40, cycle_momentum=False
            ),
        ),
        (
            "one_cycle",
            ONE_CYCLE | {"anneal": "linear"},
            lambda o: lr_scheduler.OneCycleLR(
                o,
                1.0,
                total_steps=60,
                pct_start=0.3,
                div_factor=25,
                final_div_factor=40,
                cycle_momentum=False,
                anneal_strategy="linear",
            ),
        ),
    ],
)
def test_schedules_equal_torchs(name, options, make):
    schedule = build_schedule(name, epochs=5, steps_per_epoch=12, options=options)
    torch.testing.assert_close([schedule(step) for step in range(60)], torch_factors(make, 60))


def test_warm_up_rises_linearly_and_then_the_schedule_covers_the_rest():
    schedule = build_schedule("cosine", epochs=3, steps_per_epoch=10, warmup_epochs=1, options={"final": 0.0})
    assert [schedule(step) for step in range(10)] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert schedule(10) == 1
    assert schedule(20) == pytest.approx(0.5)
    assert schedule(29) == pytest.approx((1 + math.cos(math.pi * 19 / 20)) / 2)


@given(
    st.sampled_from(
        [
            ("constant", {}),
            ("cosine", {"final": 0.0}),
            ("step", {"step_epochs": 1, "gamma": 0.1}),
            ("one_cycle", ONE_CYCLE),
        ]
    ),
    st.integers(1, 6),
    st.integers(1, 9),
    st.floats(0, 1),
)
def test_a_factor_is_finite_and_between_0_and_1_at_every_step(named, epochs, steps_per_epoch, warmup):
    name, options = named
    schedule = build_schedule(
        name, epochs=epochs, steps_per_epoch=steps_per_epoch, warmup_epochs=warmup * epochs, options=options
    )
    assert all(0 <= schedule(step) <= 1 for step in range(epochs * steps_per_epoch))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "unknown scheduler 'cosin'. Did you mean 'cosine'"),
        ("cosine", {"final": 2.0}, "scheduler.final=2: must be a number from 0 to 1"),
        ("step", {"step_epochs": 0, "gamma": 0.1}, "scheduler.step_epochs=0: must be a whole number from 1"),
        ("step", {"step_epochs": 1, "gamma": 3}, "scheduler.gamma=3: must be"),
        ("one_cycle", ONE_CYCLE | {"peak_at": 1.0}, "scheduler.peak_at=1: must be"),
        (
            "one_cycle",
            ONE_CYCLE | {"anneal": "cos"},
            "scheduler.anneal=cos: must be one of linear, cosine. Did you",
        ),
        ("one_cycle", ONE_CYCLE | {"initial": -1}, "scheduler.initial=-1: must be"),
        ("one_cycle", {}, "scheduler.peak_at is missing: it must be a number above 0 and below 1"),
    ],
)
def test_a_wrong_schedule_says_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_schedule(name, epochs=2, steps_per_epoch=2, options=options)


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("decay_all", [True, False])
def test_weight_decay_spares_biases_and_norms_unless_asked(decay_all):
    model = network()
    optimizer = build_optimizer(
        "sgd",
        model,
        lr=0.1,
        weight_decay=0.5,
        decay_bias_and_norm=decay_all,
        options={"momentum": 0.0, "nesterov": False},
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decays = decay_all or parameter.ndim > 1
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if decays else 1.0))


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("sgd", {"momentum": 0.0, "nesterov": False}, partial(torch.optim.SGD, momentum=0)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, partial(torch.optim.SGD, momentum=0.9, nesterov=True)),
        ("adam", {"betas": [0.8, 0.9], "eps": 1e-6}, partial(torch.optim.Adam, betas=(0.8, 0.9), eps=1e-6)),
        ("adamw", {"betas": [0.8, 0.9], "eps": 1e-6}, partial(torch.optim.AdamW, betas=(0.8, 0.9), eps=1e-6)),
    ],
)
def test_optimizers_take_the_steps_of_torchs_to_the_bit(name, options, reference):
    ours, theirs = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = build_optimizer(name, ours, lr=0.1, weight_decay=0.01, decay_bias_and_norm=True, options=options)
    plain = reference(theirs.parameters(), lr=0.1, weight_decay=0.01, fused=True)
    for step in range(4):
        images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((ours, mine), (theirs, plain)):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(left, right)


MUON = {"momentum": 0.9, "iterations": 5, "betas": [0.8, 0.9], "eps": 1e-6}


def test_muon_moves_hidden_matrices_as_torchs_muon_does_and_the_rest_as_adamw():
    ours, theirs = (nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 9), nn.Linear(9, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = build_optimizer("muon", ours, lr=0.01, weight_decay=0.1, decay_bias_and_norm=True, options=MUON)
    hidden = [theirs[0].weight, theirs[2].weight]
    rest = [p for p in theirs.parameters() if not any(p is matrix for matrix in hidden)]
    plain = [
        torch.optim.Muon(hidden, 0.01, 0.1, momentum=0.9, ns_steps=5, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, 0.01, (0.8, 0.9), 1e-6, weight_decay=0.1),
    ]
    for step in range(4):
        images = torch.randn(40, 8, generator=torch.Generator().manual_seed(step))
        for model, optimizers in ((ours, [mine]), (theirs, plain)):
            model.zero_grad()
            (model(images) - images[:, :3]).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0.002)  # torch's rounds to bfloat16


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (6, 6)])
def test_orthogonalizing_keeps_the_singular_vectors_and_makes_the_values_nearly_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ orthogonalize(matrix, 6) @ right.T
    torch.testing.assert_close(values, values.diagonal().diag(), rtol=0, atol=1e-6)
    assert values.diagonal().min() > 0.6
    assert values.diagonal().max() < 1.3


def test_muon_takes_filters_as_rows_and_leaves_a_network_of_one_matrix_to_adamw():
    conv, last = nn.Conv2d(2, 4, 3, bias=False), nn.Linear(4, 2, bias=False)
    optimizer = build_optimizer(
        "muon", nn.Sequential(conv, last), lr=1.0, weight_decay=0, decay_bias_and_norm=False, options=MUON
    )
    before = conv.weight.detach().clone()
    for parameter in (conv.weight, last.weight):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    moved = (before - conv.weight.detach()).flatten(1)
    torch.testing.assert_close(moved, 0.2 * 18**0.5 * orthogonalize(conv.weight.grad.flatten(1), 5))
    alone = build_optimizer("muon", last, lr=1.0, weight_decay=0, decay_bias_and_norm=False, options=MUON)
    assert isinstance(alone, Adam)
    assert alone.decoupled


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sdg", {}, "unknown optimizer 'sdg'. Did you mean 'sgd'"),
        ("sgd", {"momentum": 1.0, "nesterov": False}, "optimizer.momentum=1: must be a number from 0 and below 1"),
        ("sgd", {"momentum": 0.0, "nesterov": True}, "optimizer.nesterov=true needs optimizer.momentum above 0"),
        ("adam", {"betas": [0.9], "eps": 1e-8}, r"optimizer.betas=.0.9.: must be a list of 2"),
        (
            "adamw",
            {"betas": [0.9, 1.0], "eps": 1e-8},
            "optimizer.betas=.0.9,1.: must be a list of 2, each a number from",
        ),
    ],
)
def test_a_wrong_optimizer_says_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(name, network(), lr=0.1, weight_decay=0, decay_bias_and_norm=False, options=options)

"""The learning-rate range test: its steps, its rule, and `cnnbench find-lr`."""

import json

import numpy as np
import pytest

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.cli.find_lr import find_lr
from cnnbench.cli.options import FindLrOptions
from cnnbench.experiment.preview import run_range_test
from cnnbench.training.lr_range import judge_losses

RATES = np.geomspace(1e-6, 10, 141)  # 20 steps a decade
TINY = ("model=mlp", "model.width=0.25", "data.train_limit=300", "trainer.device=cpu")


def draw_curve(fall_at, least, noise=0.0):
    """Losses that fall around a rate by half, and rise beyond another."""
    logs = np.log10(RATES)
    falling = 2.3 - 1.15 / (1 + np.exp(-8 * (logs - np.log10(fall_at))))
    rising = np.maximum(0, logs - np.log10(least)) ** 2 * 4
    return falling + rising + np.random.default_rng(0).normal(0, noise, len(RATES))


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_rule_finds_where_a_known_curve_falls_and_where_it_is_least(noise):
    found = judge_losses(RATES, draw_curve(1e-3, 1e-1, noise)).suggestion
    assert np.log10(found.steepest) == pytest.approx(-3, abs=0.15)
    assert -2.5 <= np.log10(found.least) <= -0.9  # the bottom is flat
    assert (found.low, found.high) == pytest.approx(sorted((found.steepest, found.least / 4)), rel=0.05)
    assert found.low <= found.rate <= found.high


@pytest.mark.parametrize("losses", [np.full(141, 2.3), 2.3 + 0.2 * np.sin(np.arange(141)), np.linspace(2.3, 9, 141)])
def test_a_loss_that_never_falls_gives_no_suggestion(losses):
    assert judge_losses(RATES, losses).suggestion is None


def test_a_loss_that_is_no_number_ends_what_is_judged():
    losses = draw_curve(1e-3, 1e-1)
    losses[130] = np.nan
    found = judge_losses(RATES, losses)
    assert len(found.rates) == len(found.smoothed) == 130
    assert np.isfinite(found.smoothed).all()


def test_the_steps_are_the_same_each_time_and_stop_when_the_loss_diverges():
    config = compose_config([*TINY, "optimizer=sgd", "model.dropout=0.3", "trainer.accumulate=2"])
    first, second = (run_range_test(config, np.geomspace(1e-4, 1e4, 60)) for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True)
    assert 20 < len(first) < 60


def test_several_devices_are_refused():
    with pytest.raises(ValueError, match=r"trainer\.devices=2: find-lr computes on one device: must be 1"):
        run_range_test(compose_config(["trainer.devices=2"]), RATES)


@pytest.mark.parametrize("optimizer", [name for name in registry.list_names("optimizer") if name != "sgd"])
def test_every_optimizer_gets_a_suggestion_inside_its_range(optimizer):
    config = compose_config([*TINY, f"optimizer={optimizer}"])
    found = judge_losses(RATES, run_range_test(config, RATES)).suggestion
    assert 1e-5 < found.low <= found.rate <= found.high < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (FindLrOptions(overrides=["resume=latest"]), "resume=latest is for runs that continue"),
        (FindLrOptions(overrides=["data.folds=3"]), "data.folds=3 needs data.fold"),
        (FindLrOptions(overrides=["data.fold=2"]), "data.fold=2 needs data.folds"),
    ],
)
def test_a_command_that_would_mean_something_else_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        find_lr(options)


def test_each_test_has_its_own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        find_lr(FindLrOptions([*TINY, "optimizer=adam"], steps=60))
    folders = list((tmp_path / "outputs/find-lr/mlp_digits_adam").iterdir())
    assert len(folders) == 2
    assert len({(folder / "lr_range.csv").read_bytes() for folder in folders}) == 1


def test_the_command_writes_its_files_and_nothing_else(cnnbench, tmp_path):
    ended = cnnbench("find-lr", *TINY, "--out", "found")
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "found",
        "lr_range.csv",
        "lr_range.json",
        "lr_range.png",
    ]
    said = json.loads((tmp_path / "found/lr_range.json").read_text())
    assert f"optimizer.lr={said['suggestion']['rate']:g}" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "found"
    never = cnnbench("find-lr", *TINY, "--from", "1e-12", "--to", "1e-9", "--steps", "20", "--out", "never")
    assert never.returncode == 1
    assert "the loss never falls between learning rates of 1e-12 and 1e-09" in never.stderr
    for wrong, words in (
        ("model=mpl", "Did you mean"),
        ("sweep.folds=3", "one config"),
        ("--to=1e-7", "must be above"),
    ):
        refused = cnnbench("find-lr", *TINY, wrong)
        assert refused.returncode == 2, refused.stderr
        assert words in refused.stderr

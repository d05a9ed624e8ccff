"""A run on several devices: the weights of one process but for rounding, whatever is set, and whoever is killed."""

import os
import signal
from datetime import timedelta
from functools import partial
from multiprocessing import active_children

import pytest
import torch
from test_resume import Interrupted, signals  # noqa: F401

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.experiment.ranks import RankHangs, RankLost
from cnnbench.experiment.resume import apply_overrides
from cnnbench.experiment.run import run_job
from cnnbench.processes.cores import count_processors
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.processes.signals import Terminated
from cnnbench.processes.worker import Inbox, Worker
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RunFolder
from cnnbench.training import checkpoint, ranks
from cnnbench.training.epoch import train_alone
from cnnbench.training.ranks import join_ranks, leave_ranks, open_store
from conftest import wait_until

CPU = torch.device("cpu")
# 23 steps an epoch, the last of which has fewer images; by plain descent, which rounding does not drive apart.
TINY = ["trainer.epochs=1", "data.train_limit=113", "trainer.batch_size=5", "optimizer=sgd", "optimizer.lr=0.05"]
NORMS = ["trainer.batch_size=112", "data.val_fraction=0", "trainer.channels_last=false"]
SETTINGS = [
    ["model=lenet5"],
    ["model=lenet5", "trainer.batch_size=8", "trainer.accumulate=3", "data.class_weights=balanced"],
    ["model=mlp", "data.sampler=balanced", "trainer.ema=0.9", "trainer.clip_norm=0.5", "trainer.batch_size=16"],
    ["model=mlp", "augment.mixup=0.4", "augment.cutmix=1", "augment.rotate=10", "trainer.label_smoothing=0.1"],
    # The last batch is of one image, so one part of it is empty; many steps of a network with batch norms amplify
    # what rounding does, and channels-last convolutions round more.
    [*NORMS, "model=resnet_mini", "model.width=0.25"],
    [*NORMS, "model=conv_autoencoder", "model.norm=batch"],
    # Frozen batch norms keep their statistics on every rank.
    [*NORMS, "model=lenet5", "model.norm=batch", "model.freeze=features.stage1", "optimizer.rates={head: 0.5}"],
    [*NORMS, "model=inception_mini", "model.width=0.25", "model.norm=none"],
]
pytestmark = pytest.mark.skipif(count_processors() < 2, reason="needs two cores")


def record_seed(log, *_):
    with log.open("a") as file:
        file.write(f"{torch.initial_seed()}\n")


def train_each(settings, folder, rank):
    for number, given in enumerate(settings):
        path = folder / f"{number}-{rank.count}"
        path.mkdir(exist_ok=True)
        (path / "checkpoints").mkdir(exist_ok=True)
        config = compose_config([*TINY, *given])
        state, train = prepare_training(config, RunFolder(path), build_parts(config), test=False, rank=rank)
        hook = state.model.register_forward_pre_hook(partial(record_seed, path / f"noise-{rank.number}"))
        if (training := train()) is not None:  # of rank 0
            train_alone(training)
        hook.remove()


def train_as_second(connection, settings, folder, port):
    Inbox(connection)
    torch.set_num_threads(1)
    join_ranks(Rank(1, 2), CPU, port=port)
    train_each(settings, folder, Rank(1, 2))
    leave_ranks()


def assert_close(first, second, atol=1e-5):
    (left, _), (right, _) = (checkpoint.load(path / "checkpoints", "last") for path in (first, second))
    assert left.keys() == right.keys()
    for key, value in left.items():
        if not key.startswith("rng."):
            torch.testing.assert_close(value, right[key], rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def test_two_ranks_train_the_weights_of_one_process(tmp_path):
    store, port = open_store()
    worker = Worker.start(train_as_second, SETTINGS, tmp_path, port)
    try:
        train_each(SETTINGS, tmp_path, ALONE)
        join_ranks(Rank(0, 2), CPU, port=port, store=store)
        train_each(SETTINGS, tmp_path, Rank(0, 2))
    finally:
        worker.close()
        leave_ranks()
    for number in range(len(SETTINGS)):
        assert_close(tmp_path / f"{number}-1", tmp_path / f"{number}-2")
        first, second = ((tmp_path / f"{number}-2/noise-{rank}").read_text().split() for rank in (0, 1))
        assert not set(first) & set(second), "ranks draw the same noise"


def test_a_run_goes_on_with_any_number_of_devices_after_a_signal_and_after_a_kill(
    tmp_path,
    monkeypatch,
    signals,  # noqa: F811
):
    given = ["model=lenet5", *TINY, "trainer.epochs=4"]

    def run(path, devices=1, resume=False, on_epoch=lambda row: None):
        path.mkdir(exist_ok=True)
        config = compose_config([*given, f"trainer.devices={devices}"])
        return run_job(config, path, given, resume=resume, on_epoch=on_epoch, draw=lambda pictures, wait=True: None)

    def interrupt(at, **options):
        with monkeypatch.context() as patch:
            Interrupted(patch, at)
            with pytest.raises(Terminated):
                run(cut, **options)
        assert RunFolder(cut).read_status()["state"] == INTERRUPTED

    def kill_other_rank(row):
        if row["epoch"] == 3:
            (other,) = active_children()
            other.kill()

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = run(whole)
    interrupt(9, devices=2)
    interrupt(30, resume=True)
    with pytest.raises(RankLost, match=r"rank 1 of 2 \(from 0\) ended: its process was ended by SIGKILL"):
        run(cut, devices=2, resume=True, on_epoch=kill_other_rank)
    status = RunFolder(cut).read_status()
    assert status["state"] == FAILED
    assert "rank 1 of 2" in status["message"]
    assert not active_children()
    resumed = run(cut, resume=True)
    assert RunFolder(cut).read_status()["state"] == FINISHED
    assert_close(whole, cut)
    assert resumed["test/loss"] == pytest.approx(summary["test/loss"], abs=1e-5)


def test_a_rank_that_hangs_ends_the_run_which_can_be_resumed(tmp_path, monkeypatch):
    def stop_other_rank(row):
        (other,) = active_children()
        os.kill(other.pid, signal.SIGSTOP)

    monkeypatch.setattr(ranks, "WAITS_FOR_OTHERS", timedelta(seconds=10))
    config = compose_config(["model=lenet5", *TINY, "trainer.epochs=2", "trainer.devices=2"])
    with pytest.raises(RankHangs, match=r"rank 1 of 2 \(from 0\) hangs: .*Resume with: cnnbench train resume="):
        run_job(config, tmp_path, [], on_epoch=stop_other_rank)
    assert RunFolder(tmp_path).read_status()["state"] == FAILED
    assert not active_children()
    assert len(RunFolder(tmp_path).read_metrics()) == 1
    run_job(apply_overrides(RunFolder(tmp_path).read_config(), ["trainer.devices=1"]), tmp_path, [], resume=True)


def test_ctrl_c_ends_all_ranks_of_a_command_once_the_run_is_saved(begin, tmp_path):
    begun = begin("train", "trainer.devices=2", "trainer.epochs=1000", "model=mlp", "hydra.run.dir=run")
    wait_until((tmp_path / "run/metrics.csv").exists, begun)
    os.killpg(RunFolder(tmp_path / "run").read_status()["pid"], signal.SIGINT)
    done = begun.result()
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert RunFolder(tmp_path / "run").read_status()["state"] == INTERRUPTED


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=64"], r"trainer\.devices=64: this machine has \d+ cores? to use\. It must be from 1 to"),
        (["trainer.devices=0"], r"trainer\.devices=0: must be a whole number from 1 to 64"),
    ],
)
def test_devices_that_are_not_there_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_parts(compose_config(["trainer.device=cpu", *overrides]), shapes_only=True)

"""Interrupted anywhere and resumed, a run equals one that never was: to the bit, with every feature it can have."""

import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import to_dict
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.factories import make_batches
from cnnbench.experiment.resume import apply_overrides, compute_fingerprint
from cnnbench.experiment.run import run_job
from cnnbench.processes import signals as interruptions
from cnnbench.processes.signals import Terminated
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.history import History
from cnnbench.training import checkpoint, trainer
from cnnbench.training.progress import Diverged, Progress
from cnnbench.training.state import State
from cnnbench.training.step import Stepper
from cnnbench.training.tasks import CLASSIFICATION
from conftest import assert_same_tensors, wait_until, without_times

TINY = ["trainer.epochs=3", "data.train_limit=200", "trainer.batch_size=24", "model=mlp"]
HALVES = ["trainer.batch_size=12", "trainer.accumulate=2"]
FEATURES = [
    [],
    ["model=lenet5", "model.dropout=0.5", "augment.mixup=0.4", "augment.rotate=10", "scheduler=one_cycle", *HALVES],
    ["model=resnet_mini", "model.width=0.25", "trainer.ema=0.9", "trainer.precision=bf16", "optimizer=sgd"],
    ["trainer.ema=0.99", "trainer.patience=1", "optimizer.lr=0.05", "trainer.epochs=6", "trainer.keep=2"],
    ["optimizer=adamw", "optimizer.weight_decay=0.1", "trainer.clip_norm=1", "data.sampler=balanced"],
    ["optimizer=muon", "optimizer.weight_decay=0.1", "scheduler=cosine"],
]


@pytest.fixture
def signals():
    """The handlers of the command line, for the time of a test."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    before = [signal.getsignal(number) for number in numbers]
    interruptions.listen()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Interrupted:
    """Sends this process a real signal the n-th time that training asks whether one came."""

    def __init__(self, monkeypatch, at, number=signal.SIGTERM):
        self.calls, asked = 0, interruptions.is_requested

        def is_requested():
            self.calls += 1
            if self.calls == at:
                signal.raise_signal(number)
            return asked()

        monkeypatch.setattr(interruptions, "is_requested", is_requested)


def run(path, *overrides, resume=False):
    path.mkdir(exist_ok=True)
    return run_job(compose_config([*TINY, *overrides]), path, list(overrides), resume=resume)


def assert_same_run(first, second):
    for name in ("last", "best"):
        assert_same_tensors(first, second, name)
    assert without_times(first) == without_times(second)
    left, right = read_predictions(first), read_predictions(second)
    assert all(np.array_equal(left[key], right[key]) for key in left)
    one, other = (RunFolder(path).read_summary() for path in (first, second))
    times = {"train_seconds", "images_per_second"}
    assert {key: one[key] for key in one.keys() - times} == {key: other[key] for key in other.keys() - times}


def interrupt_until_finished(monkeypatch, run, cut, overrides):
    """Run and resume, interrupted after one to nine steps each time; returns how often it was."""
    place, stops = random.Random(str(overrides)), 0
    while not cut.exists() or RunFolder(cut).read_status()["state"] != "finished":
        assert stops < 60, "it comes no further"
        with monkeypatch.context() as patch:
            Interrupted(patch, at=place.randint(1, 9))
            try:
                run(cut, *overrides, resume=cut.exists())
            except Terminated:
                stops += 1
                torch.manual_seed(stops)  # a new process would know nothing of the old one's generators
                assert RunFolder(cut).read_status()["state"] == "interrupted"
                assert f"train resume={cut}" in RunFolder(cut).read_status()["message"]
    return stops


@pytest.mark.parametrize("overrides", FEATURES, ids=lambda overrides: " ".join(overrides) or "plain")
def test_a_run_interrupted_again_and_again_equals_one_that_never_was(overrides, tmp_path, monkeypatch, signals):
    run(tmp_path / "whole", *overrides)
    cut = tmp_path / "cut"
    assert interrupt_until_finished(monkeypatch, run, cut, overrides) >= 3
    assert_same_run(tmp_path / "whole", cut)
    kept = [sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in ("whole", "cut")]
    assert kept[0] == kept[1]


def test_a_run_whose_images_are_decoded_by_other_numbers_of_workers_resumes_to_the_bit(tmp_path, monkeypatch, signals):
    random_pixels = np.random.default_rng(0)
    for number in range(200):
        path = tmp_path / f"images/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_pixels.integers(0, 256, (16, 16), np.uint8)).save(path)
    data = ["data=image_folder", f"data.path={tmp_path / 'images'}", "data.memory_limit=1kB", "data.cache=null"]
    data += ["model=lenet5", "trainer.batch_size=8", "data.train_limit=null", "augment=light", "augment.mixup=1"]
    run(tmp_path / "whole", *data, "data.workers=0")
    with monkeypatch.context() as patch:
        Interrupted(patch, at=4)
        with pytest.raises(Terminated):
            run(tmp_path / "cut", *data, "data.workers=2")
    run(tmp_path / "cut", *data, "data.workers=1", resume=True)
    assert_same_tensors(tmp_path / "whole", tmp_path / "cut")


def test_the_noise_of_a_model_that_draws_between_steps_goes_on_where_it_was(tmp_path, monkeypatch, signals):
    """Dropout in evaluation too: its draws follow the generator that the last step of the epoch left."""

    class Noisy(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.layer = nn.Linear(features, 10)

        def forward(self, images):
            return self.layer(nn.functional.dropout(images.flatten(1), 0.5, training=True))

    def noisy(spec):
        return Noisy(math.prod(spec.input_shape))

    name = "noisy_in_evaluation"
    monkeypatch.setitem(registry._parts, ("model", name), registry._Part(noisy, {}, None))
    overrides = ["trainer.epochs=2"]

    def go(path, resume=False):
        path.mkdir(exist_ok=True)
        config = compose_config([*TINY, *overrides])
        config.model.name = name
        return run_job(config, path, [], resume=resume)

    go(tmp_path / "whole")
    steps = -(-200 * 9 // 10 // 24)  # of an epoch
    with monkeypatch.context() as patch:
        Interrupted(patch, at=steps)
        with pytest.raises(Terminated):
            go(tmp_path / "cut")
    assert checkpoint.load(tmp_path / "cut/checkpoints", "last")[1]["step"] == steps
    torch.manual_seed(1)  # a new process knows nothing of the old one's generator
    go(tmp_path / "cut", resume=True)
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "cut")


def make_state(folder):
    """The state of a run with a linear model and the scaler of fp16, which the CPU has only for tests."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    stepper = Stepper(CLASSIFICATION, model, list(model.parameters()), optimizer, nullcontext, scaler, 0.0, None)
    progress = Progress([1] * 3, torch.zeros(3), None)
    folder.checkpoints.mkdir(exist_ok=True)
    return State(folder, model, stepper, torch.device("cpu"), {}, 0, History(folder, "val/loss"), progress)


def test_a_loss_that_is_not_finite_is_never_saved_also_where_the_weights_are(tmp_path):
    state = make_state(RunFolder(tmp_path))
    state.save()
    state.progress.losses[0], state.progress.steps = math.inf, 1
    with pytest.raises(Diverged, match="the loss became inf at epoch 1, step 1"):
        state.save()
    assert checkpoint.load(tmp_path / "checkpoints", "last")[1]["step"] == 0


def test_the_scale_of_fp16_is_kept_and_restored(tmp_path):
    folder = RunFolder(tmp_path)
    first, second = make_state(folder), make_state(folder)
    for _ in range(3):
        first.stepper([(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))], 1)
    assert first.stepper.scaler.get_scale() == 16
    first.save()
    second.restore()
    assert second.stepper.scaler.get_scale() == 16
    assert second.stepper.scaler.state_dict() == first.stepper.scaler.state_dict()


def test_ema_is_the_average_that_its_formula_says(tmp_path):
    from cnnbench.training.ema import WeightAverage

    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.9)
    expected = model.weight.detach().double().clone()
    for step in range(300):
        with torch.no_grad():
            model.weight += 0.1 * (step % 7)
            model.num_batches_tracked += 1
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    torch.testing.assert_close(average.model.weight.double(), expected, rtol=1e-5, atol=1e-5)
    assert average.model.num_batches_tracked == 300
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_what_is_tested_is_the_average_where_there_is_one(tmp_path):
    run(tmp_path / "a", "trainer.ema=0.9", "data.val_fraction=0")
    (last, _), (best, record) = (checkpoint.load(tmp_path / "a/checkpoints", name) for name in ("last", "best"))
    assert record["epoch"] == 3
    for name in best:
        assert torch.equal(best[name], last[name.replace("model.", "ema.")])
        assert not torch.equal(best[name], last[name])


def test_a_damaged_last_checkpoint_is_said_loudly_and_the_one_before_is_used(tmp_path, monkeypatch, signals):
    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        Interrupted(patch, at=20)
        with pytest.raises(Terminated):
            run(tmp_path / "cut")
    last = checkpoint.locate(tmp_path / "cut/checkpoints", "last")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    run(tmp_path / "cut", resume=True)
    assert f"DAMAGED CHECKPOINT: {last}" in (tmp_path / "cut/train.log").read_text()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("average", ["null", "0.5"])
def test_damaged_best_weights_are_found_in_another_checkpoint_of_their_epoch_or_said_to_be_lost(
    average, tmp_path, monkeypatch, signals
):
    overrides = ["optimizer.lr=0.1", "trainer.epochs=6", "trainer.keep=6", f"trainer.ema={average}"]
    run(tmp_path / "whole", *overrides)
    best = checkpoint.load(tmp_path / "whole/checkpoints", "best")[1]["epoch"]
    assert best < 6, "a recipe of which the last epoch is not the best"
    for name, lost in (("kept", False), ("lost", True)):
        with monkeypatch.context() as patch:
            Interrupted(patch, at=9 * 6)  # in the last epoch's validation
            with pytest.raises(Terminated):
                run(tmp_path / name, *overrides)
        folder = tmp_path / name / "checkpoints"
        checkpoint.locate(folder, "best").write_bytes(b"damaged")
        if lost:
            checkpoint.locate(folder, f"epoch_{best:04d}").unlink()
            with pytest.raises(ValueError, match=rf"weights of the best epoch, {best}, are lost: .*best.*damaged"):
                run(tmp_path / name, *overrides, resume=True)
        else:
            run(tmp_path / name, *overrides, resume=True)
            found, expected = (read_predictions(tmp_path / each)["probabilities"] for each in (name, "whole"))
            assert np.array_equal(found, expected)


def test_weights_of_another_run_are_refused(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        run(tmp_path / name, f"seed={seed}", "trainer.epochs=1")
    for path in (tmp_path / "a/checkpoints").iterdir():
        (tmp_path / "b/checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="the checkpoint belongs to another run: config differs in seed"):
        run(tmp_path / "b", "seed=1", "trainer.epochs=2", resume=True)


def test_the_time_of_an_epoch_is_that_of_all_its_parts(tmp_path, monkeypatch, signals):
    with monkeypatch.context() as patch:
        Interrupted(patch, at=4)
        with pytest.raises(Terminated):
            run(tmp_path / "cut")
    folder = tmp_path / "cut/checkpoints"
    tensors, record = checkpoint.load(folder, "last")
    assert 0 < record["seconds"] < 1000
    checkpoint.save(folder, "last", tensors=tensors, record=record | {"seconds": 1000.0})
    run(tmp_path / "cut", resume=True)
    assert [row["seconds"] > 1000 for row in RunFolder(tmp_path / "cut").read_metrics()] == [True, False, False]


def test_weights_that_diverged_never_take_the_place_of_good_ones(tmp_path):
    with pytest.raises(Diverged):
        run(tmp_path / "a", "optimizer=sgd", "optimizer.lr=1e20", "trainer.checkpoint_minutes=1e-9")
    tensors, record = checkpoint.load(tmp_path / "a/checkpoints", "last")
    assert 0 < record["step"] < 8
    assert tensors["epoch.losses"][: record["step"]].isfinite().all()


@pytest.mark.parametrize(("minutes", "saves"), [(1e-9, 3 * (8 + 1 + 1)), (1000, 3)])
def test_the_clock_asks_for_checkpoints_within_an_epoch(minutes, saves, tmp_path, monkeypatch):
    written, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *args, **rest: (written.append(args[1]), save(*args, **rest)))
    run(tmp_path / "a", f"trainer.checkpoint_minutes={minutes}")
    # In each epoch after its eight steps, after its batch of validation, and at its end.
    assert written.count("last") == saves


def test_more_epochs_equal_a_run_that_was_to_have_them(tmp_path):
    run(tmp_path / "long", "trainer.epochs=5")
    run(tmp_path / "more")
    folder = RunFolder(tmp_path / "more")
    config = apply_overrides(folder.read_config(), ["trainer.epochs=5"])
    run_job(config, folder.path, ["trainer.epochs=5"], resume=True)
    assert folder.read_config()["trainer"]["epochs"] == 5
    assert_same_run(tmp_path / "long", tmp_path / "more")


@pytest.mark.parametrize(
    ("own", "override", "message"),
    [
        ([], "seed=1", "seed=1: a resumed run keeps every setting that its result depends on"),
        ([], "trainer.batch_size=8", "a resumed run keeps every setting"),
        ([], "trainer.epoch=9", "Did you mean trainer.epochs?"),
        ([], "trainer.epochs=2", "trainer.epochs=2: with resume it must be 3, the run's own, or more"),
        (["scheduler=one_cycle"], "trainer.epochs=4", "scheduler=one_cycle spans all epochs"),
        (["scheduler=cosine"], "trainer.epochs=4", "scheduler=cosine spans all epochs"),
        ([], "trainer.epochs=many", "trainer.epochs=many: must be a whole number"),
        ([], "data.workers=2", "Resume can change only: name, tags, "),
        ([], "trainer.device=tpu", "trainer.device=tpu: must be auto"),
        ([], "trainer.keep=[", "the value cannot be read"),
    ],
)
def test_overrides_that_would_make_another_run_are_refused(own, override, message):
    plain = to_dict(compose_config([*TINY, *own]))
    with pytest.raises(ValueError, match=re.escape(message)):
        apply_overrides(plain, [override])


@pytest.mark.parametrize("scheduler", ["constant", "step"])
def test_harmless_overrides_are_accepted(scheduler):
    own = compose_config([*TINY, f"scheduler={scheduler}"])
    config = apply_overrides(
        to_dict(own), ["trainer.epochs=9", "trainer.device=cpu", "trainer.keep=2", "data.root=elsewhere"]
    )
    assert (config.trainer.epochs, config.trainer.device, config.trainer.keep) == (9, "cpu", 2)
    assert compute_fingerprint(to_dict(config)) == compute_fingerprint(to_dict(own))


@given(st.data())
def test_batches_from_the_middle_of_an_epoch_are_those_of_the_whole(data):
    from cnnbench.data import Augmentation, Batches, Split

    n = data.draw(st.integers(1, 60))
    size = data.draw(st.integers(1, 17))
    channels = data.draw(st.sampled_from([1, 3]))
    noise = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, channels, 90, 90), dtype=torch.uint8, generator=noise)
    split = Split(images, torch.randint(0, 5, (n,), generator=noise))
    knobs = data.draw(st.sampled_from([None, {"rotate": 20.0}, {"mixup": 1.0}, {"cutmix": 1.0, "flip": 0.5}]))
    augmentation = None
    if knobs:
        from cnnbench.config.data import AugmentConfig

        every = {key: value for key, value in AugmentConfig().model_dump().items() if key != "name"} | knobs
        augmentation = Augmentation(seed=1, num_classes=5, device=torch.device("cpu"), **every)
    batches = Batches(
        split, size, mean=(0.5,) * channels, std=(0.5,) * channels, shuffle_seed=3, augmentation=augmentation
    )
    whole = list(batches.iterate_epoch(2))
    start = data.draw(st.integers(0, len(whole)))
    rest = list(batches.iterate_epoch(2, start))
    assert len(rest) == len(whole) - start
    for (images, labels), (others, other_labels) in zip(whole[start:], rest, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def started(tmp_path, *overrides, name="run"):
    command = [sys.executable, "-m", "cnnbench", "train", *overrides, *([f"hydra.run.dir={name}"] if name else [])]
    return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


LONG = ["model=mlp", "trainer.epochs=4000"]


def test_usr1_saves_in_the_middle_of_an_epoch_and_the_run_goes_on(begin, tmp_path):
    begun = begin("train", "model=mlp", "trainer.epochs=40", "hydra.run.dir=run")
    wait_until((tmp_path / "run/metrics.csv").exists, begun)
    os.kill(RunFolder(tmp_path / "run").read_status()["pid"], signal.SIGUSR1)
    done = begun.result()
    assert done.returncode == 0
    assert "saved after epoch" in done.stderr
    assert RunFolder(tmp_path / "run").read_status()["state"] == "finished"


def test_a_second_interrupt_quits_at_once_and_leaves_nothing_half_written(tmp_path):
    # One step of this takes many seconds: what ends it early is the second signal alone.
    slow = ["model=vgg_mini", "data.image_size=48", "trainer.batch_size=1293", "model.width=2", "trainer.device=cpu"]
    with started(tmp_path, *slow) as process:
        wait_for(tmp_path / "run/data.json", process)  # the last file before the first step
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        # Two signals within one operation of torch would be one. A signal before the first step ends the run at once.
        told = any("finishing this step" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert told
    assert process.returncode == 130
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert not list((tmp_path / "run/checkpoints").iterdir()), "the step is not finished, and nothing is saved"


def test_two_processes_never_train_in_one_folder_and_a_killed_one_leaves_no_lock(tmp_path, cnnbench):
    with started(tmp_path, *LONG) as process:
        wait_for(tmp_path / "run/checkpoints/last.safetensors", process)
        second = cnnbench("train", "resume=run")
        assert second.returncode == 2
        assert "is in use by another process" in second.stderr
        process.kill()
    assert RunFolder(tmp_path / "run").read_status()["state"] == "running"
    half = tmp_path / "run/checkpoints/.last.safetensors.abc.tmp"
    half.write_bytes(b"half")
    with started(tmp_path, "resume=run", name="") as process:
        while half.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.terminate()
        process.communicate()
    assert process.returncode == 143
    assert RunFolder(tmp_path / "run").read_status()["state"] == "interrupted"


def test_every_step_has_the_batch_and_the_learning_rate_of_its_place_in_the_run(tmp_path, monkeypatch):
    overrides = ["scheduler=one_cycle", "trainer.epochs=3"]
    seen, take = [], Stepper.__call__

    def noted(stepper, served, count):
        ((images, labels),) = served
        seen.append((stepper.optimizer.param_groups[0]["lr"], labels.tolist()))
        return take(stepper, [(images, labels)], count)

    monkeypatch.setattr(Stepper, "__call__", noted)
    run(tmp_path / "a", *overrides)
    config = compose_config([*TINY, *overrides])
    parts = build_parts(config)
    batches = make_batches(parts.dataset.train, dataset=parts.dataset, config=config, device=parts.device, shuffle=True)
    expected = [labels.tolist() for epoch in range(3) for _, labels in batches.iterate_epoch(epoch)]
    assert expected[:8] != expected[8:16] != expected[16:]
    assert [labels for _, labels in seen] == expected
    assert [lr for lr, _ in seen] == [config.optimizer.lr * parts.schedule(step) for step in range(24)]
    assert len({lr for lr, _ in seen}) > 20


def test_a_signal_in_the_last_evaluation_ends_it_after_the_batch_and_the_run_resumes(tmp_path, monkeypatch, signals):
    overrides = ["trainer.eval_batch_size=20"]
    run(tmp_path / "whole", *overrides)
    real, batches = trainer.evaluate, []

    def evaluate(model, split, *, between=lambda: None, **options):
        def after_a_batch():
            if options.get("keep_probabilities"):  # of the test images
                batches.append(1)
                signal.raise_signal(signal.SIGTERM)
            between()

        return real(model, split, between=after_a_batch, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", evaluate)
        with pytest.raises(Terminated):
            run(tmp_path / "cut", *overrides)
    assert len(batches) == 1
    run(tmp_path / "cut", *overrides, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")

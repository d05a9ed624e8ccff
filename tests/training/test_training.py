"""The trainer on real digits: the same bits twice, resume, best epoch, early stopping, divergence."""

import copy
import dataclasses
import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.experiment.build import build_parts, choose_threads
from cnnbench.experiment.factories import make_batches
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.resume import compute_fingerprint
from cnnbench.experiment.run import run_job
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.history import History
from cnnbench.training import checkpoint
from cnnbench.training.evaluation import evaluate
from cnnbench.training.progress import Diverged, Progress
from cnnbench.training.step import Stepper
from cnnbench.training.tasks import CLASSIFICATION, RECONSTRUCTION, compute_loss
from cnnbench.training.trainer import Pruned
from conftest import assert_same_tensors, without_times

SMALL = ["trainer.epochs=2", "data.train_limit=300", "model=mlp"]


def run(path, *overrides, **options):
    config = compose_config([*SMALL, *overrides])
    path.mkdir(exist_ok=True)
    return run_job(config, path, list(overrides), **options)


def record_of(path, name="best"):
    return checkpoint.load(path / "checkpoints", name)[1]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=lenet5", "model.dropout=0.5", "optimizer=sgd", "scheduler=one_cycle", "trainer.channels_last=false"),
        ("model=lenet5_1998", "optimizer=adamw", "trainer.precision=bf16", "trainer.clip_norm=1"),
    ],
)
def test_the_same_command_gives_the_same_bits_twice(overrides, tmp_path):
    torch.manual_seed(1)
    run(tmp_path / "a", *overrides)
    torch.manual_seed(2)
    run(tmp_path / "b", *overrides)
    for name in ("best", "last"):
        assert_same_tensors(tmp_path / "a", tmp_path / "b", name)
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")
    first, second = (read_predictions(tmp_path / name) for name in "ab")
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("network", "batch", "cores", "threads"),
    [
        ("mlp", 64, 8, 1),
        ("lenet5", 64, 8, 1),
        ("lenet5", 1000, 8, 1),
        ("resnet_mini", 64, 8, 2),
        ("resnet_mini", 64, 1, 1),
    ],
)
def test_threads_follow_the_work_of_a_batch_and_the_cores(network, batch, cores, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setattr("cnnbench.processes.cores.count_processors", lambda: cores)
    config = compose_config([f"model={network}", f"trainer.batch_size={batch}", "data.image_size=20"])
    assert choose_threads(config, build_parts(config, shapes_only=True).complexity) == threads
    config.trainer.threads = 3
    assert choose_threads(config, build_parts(config, shapes_only=True).complexity) == 3
    other = compose_config([f"model={network}", f"trainer.batch_size={batch}"])
    assert compute_fingerprint(to_dict(config)) != compute_fingerprint(to_dict(other))


def test_a_run_goes_on_and_is_measured_with_its_own_number_of_threads(tmp_path):
    try:
        run(tmp_path / "a", "trainer.threads=2")
        torch.set_num_threads(1)
        run_job(compose_config([*SMALL, "trainer.threads=2", "trainer.epochs=3"]), tmp_path / "a", [], resume=True)
        assert torch.get_num_threads() == RunFolder(tmp_path / "a").read_threads() == 2
        torch.set_num_threads(1)
        evaluate_run(tmp_path / "a")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_another_seed_gives_other_weights(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", "seed=1")
    with pytest.raises(AssertionError):
        assert_same_tensors(tmp_path / "a", tmp_path / "b")


class Stopped(BaseException):
    pass


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=lenet5", "model.dropout=0.5", "scheduler=one_cycle", "optimizer=sgd", "optimizer.momentum=0.9"),
        ("optimizer=adamw", "trainer.patience=9", "scheduler=cosine", "scheduler.warmup_epochs=1"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(overrides, tmp_path, monkeypatch):
    overrides = ("trainer.epochs=4", *overrides)
    run(tmp_path / "whole", *overrides)
    write = History.write

    def stop_after_two_epochs(self):
        write(self)
        if self.epochs == 2:
            raise Stopped

    monkeypatch.setattr(History, "write", stop_after_two_epochs)
    with pytest.raises(Stopped):
        run(tmp_path / "cut", *overrides)
    monkeypatch.undo()
    assert RunFolder(tmp_path / "cut").read_status()["state"] == "interrupted"
    run(tmp_path / "cut", *overrides, resume=True)
    assert RunFolder(tmp_path / "cut").read_status()["state"] == "finished"
    for name in ("best", "last"):
        assert_same_tensors(tmp_path / "whole", tmp_path / "cut", name)
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "cut")


def test_a_run_stopped_before_its_first_checkpoint_resumes_from_the_beginning(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    monkeypatch.setattr("cnnbench.training.state.State.save", lambda _: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        run(tmp_path / "cut")
    monkeypatch.undo()
    run(tmp_path / "cut", resume=True)
    assert_same_tensors(tmp_path / "whole", tmp_path / "cut")


def test_the_best_epoch_is_chosen_on_validation_and_tested_once(tmp_path, monkeypatch):
    summary = run(tmp_path / "a", "trainer.epochs=6", "optimizer.lr=0.01", "trainer.device=cpu")
    rows = RunFolder(tmp_path / "a").read_metrics()
    accuracies = [row["val/accuracy"] for row in rows]
    assert summary["best_epoch"] == 1 + accuracies.index(max(accuracies))
    assert record_of(tmp_path / "a")["epoch"] == summary["best_epoch"]
    _, metrics = evaluate_run(tmp_path / "a", DataChoice(split="val"))
    assert metrics["accuracy"] == max(accuracies)
    _, metrics = evaluate_run(tmp_path / "a", DataChoice(split="test"), device="cpu")
    assert metrics["accuracy"] == summary["test/accuracy"]
    assert metrics["loss"] == summary["test/loss"]


def test_a_loss_is_monitored_downwards(tmp_path):
    summary = run(tmp_path / "a", "trainer.monitor=val/loss", "trainer.epochs=6", "optimizer.lr=0.05")
    losses = [row["val/loss"] for row in RunFolder(tmp_path / "a").read_metrics()]
    assert summary["best_epoch"] == 1 + losses.index(min(losses))


def test_without_validation_the_last_epoch_is_the_result(tmp_path):
    summary = run(tmp_path / "a", "data.val_fraction=0", "trainer.epochs=3")
    assert summary["best_epoch"] == 3
    assert summary["val_images"] == 0
    assert_weights_equal(tmp_path / "a")
    assert {row["val/accuracy"] for row in RunFolder(tmp_path / "a").read_metrics()} == {None}


def assert_weights_equal(folder):
    best, last = (load_file(folder / f"checkpoints/{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(value, last[key]) for key, value in best.items())


def test_early_stopping_waits_for_its_patience(tmp_path):
    summary = run(tmp_path / "a", "trainer.patience=2", "trainer.epochs=60", "optimizer.lr=0.01")
    assert summary["epochs"] < 60
    assert summary["epochs"] == summary["best_epoch"] + 2


@pytest.mark.parametrize("size", [64, 7])
def test_an_infinite_loss_stops_the_run_and_names_epoch_and_step(size, tmp_path):
    with pytest.raises(Diverged, match=r"the loss became (nan|inf) at epoch \d+, step \d+"):
        run(tmp_path / "a", "optimizer=sgd", "optimizer.lr=1e20", f"trainer.batch_size={size}")
    status = RunFolder(tmp_path / "a").read_status()
    assert status["state"] == "failed"
    assert "the loss became" in status["message"]
    assert not (tmp_path / "a/summary.json").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lenet5", "optimizer.momentum=0.9", "trainer.ema=0.9"),
        ("data.class_weights=balanced", "trainer.label_smoothing=0.1", "trainer.clip_norm=0.5", "scheduler=one_cycle"),
        ("augment.mixup=0.4", "data.class_weights=balanced", "data.sampler=balanced"),
        ("model=conv_autoencoder", "model.norm=none"),
    ],
    ids=["plain", "weighted", "mixed", "reconstruction"],
)
def test_accumulated_batches_make_the_step_of_the_batch_that_they_are_together(overrides, tmp_path):
    # 270 images: three steps of 80, and one of 20 and 10.
    given = ("trainer.device=cpu", "optimizer=sgd", "optimizer.lr=0.1", *overrides)  # where fp32 is fp32
    run(tmp_path / "large", "trainer.batch_size=80", *given)
    run(tmp_path / "parts", "trainer.batch_size=20", "trainer.accumulate=4", *given)
    large, parts = (load_file(tmp_path / name / "checkpoints/last.safetensors") for name in ("large", "parts"))
    assert large.keys() == parts.keys()
    for key, value in large.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=1e-6, msg=key)
    rows = [RunFolder(tmp_path / name).read_metrics() for name in ("large", "parts")]
    assert [row["step"] for row in rows[1]] == [4, 8]
    for one, other in zip(*rows, strict=True):
        assert other["lr"] == one["lr"]
        assert other["train/loss"] == pytest.approx(one["train/loss"], abs=1e-6)


ONE_STEP = ("optimizer=sgd", "trainer.batch_size=2000", "trainer.epochs=3")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("optimizer.lr=1e30",), r"the loss of \d+ of 30 validation images after epoch 1 is infinite or not a number"),
        (("optimizer.lr=1e30", "trainer.ema=0.5", "trainer.patience=1"), r"validation images after epoch 1"),
        (("optimizer.lr=1e30", "data.val_fraction=0", "trainer.epochs=1"), r"the loss of \d+ of 360 test images is"),
        (("optimizer.lr=1e39", "data.val_fraction=0"), "a weight became infinite or not a number after epoch 1"),
    ],
    ids=["validation", "average", "test", "weights"],
)
def test_what_is_no_number_outside_of_training_ends_the_run_too(overrides, said, tmp_path):
    with pytest.raises(Diverged, match=said):
        run(tmp_path / "a", *ONE_STEP, *overrides)
    assert RunFolder(tmp_path / "a").read_status()["state"] == "failed"
    assert not (tmp_path / "a/summary.json").exists()


def test_the_named_step_is_the_first_that_is_not_finite():
    losses = torch.tensor([1.0, 2.0, math.nan, math.inf])
    with pytest.raises(Diverged, match="became nan at epoch 5, step 3"):
        Progress([1] * 4, losses, None).check_losses(4)
    Progress([1] * 2, losses[:2], None).check_losses(4)


def test_an_epoch_equals_a_loop_written_by_hand(tmp_path):
    config = compose_config(
        [
            *(*SMALL, "trainer.epochs=1", "trainer.device=cpu", "optimizer=sgd"),
            *("trainer.label_smoothing=0.1", "trainer.clip_norm=0.5"),
        ]
    )
    dataset = load_dataset(config)
    model = copy.deepcopy(build_parts(config).model)
    batches = make_batches(dataset.train, dataset=dataset, config=config, device=torch.device("cpu"), shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    total, hits = 0.0, 0
    for images, labels in batches.iterate_epoch(0):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total += loss.item() * len(labels)
        hits += int((logits.argmax(1) == labels).sum())
    (tmp_path / "a").mkdir()
    run_job(config, tmp_path / "a", [])
    weights = load_file(tmp_path / "a/checkpoints/last.safetensors")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[f"model.{name}"], value, rtol=1e-4, atol=1e-6)
    row = RunFolder(tmp_path / "a").read_metrics()[0]
    assert row["train/loss"] == pytest.approx(total / len(dataset.train), rel=1e-5)
    assert row["train/accuracy"] == hits / len(dataset.train)


def test_an_evaluation_does_not_depend_on_its_batch_size():
    config = compose_config(SMALL)
    parts = build_parts(config)
    found = []
    for size in (1, 7, 1000):
        config.trainer.eval_batch_size = size
        batches = make_batches(parts.dataset.test, dataset=parts.dataset, config=config, device=parts.device)
        found.append(evaluate(parts.model, batches, task=CLASSIFICATION, num_classes=10, keep_probabilities=True))
    first = found[0].classified
    for other in found[1:]:
        np.testing.assert_array_equal(first.confusion, other.classified.confusion)
        assert other.loss == pytest.approx(found[0].loss, rel=1e-5)
        np.testing.assert_allclose(first.probabilities, other.classified.probabilities, atol=1e-5)
    assert first.probabilities.sum(1) == pytest.approx(1, abs=1e-5)


def test_compiled_and_plain_runs_agree(tmp_path):
    for name, flag in (("plain", "false"), ("compiled", "true")):
        run(tmp_path / name, f"trainer.compile={flag}")
    plain, compiled = (load_file(tmp_path / name / "checkpoints/last.safetensors") for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for key in plain:
        torch.testing.assert_close(plain[key], compiled[key], rtol=1e-3, atol=1e-4)


def test_the_run_folder_holds_what_the_design_says(tmp_path):
    summary = run(tmp_path / "a", "tags=[course,first]")
    expected = """config.yaml overrides.yaml env.json status.json train.log metrics.csv summary.json
        data.json confusion_matrix.csv per_class.csv predictions.npz mistakes.npz
        confusion_matrix.png curves.png mistakes.png reliability.png samples.png
        checkpoints/best.safetensors checkpoints/last.safetensors checkpoints/previous.safetensors .lock"""
    files = {str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == set(expected.split())
    folder = RunFolder(tmp_path / "a")
    assert from_dict(folder.read_config()) == from_dict(to_dict(compose_config([*SMALL, "tags=[course,first]"])))
    rows = folder.read_metrics()
    assert list(rows[0])[:5] == ["epoch", "step", "lr", "train/loss", "train/accuracy"]
    assert {"val/loss", "val/accuracy", "val/f1_macro", "seconds", "images_per_second"} <= set(rows[0])
    stored = read_predictions(folder.path)
    assert len(stored["labels"]) == 360
    assert (stored["predictions"] == stored["probabilities"].argmax(1)).all()
    assert (stored["labels"] == stored["predictions"]).mean() == summary["test/accuracy"]
    assert json.loads((tmp_path / "a/summary.json").read_text()) == summary


class _OutOfBounds:
    """A test split that may be counted and not looked at."""

    def __init__(self, split):
        self.length = len(split)

    def __len__(self):
        return self.length

    def __getattr__(self, name):
        raise AssertionError(f"the test split was looked at: {name}")

    def __getitem__(self, index):
        raise AssertionError("the test split was looked at")


def test_a_run_that_does_not_test_never_looks_at_the_test_split(tmp_path, monkeypatch):
    def parts_without_test(config, **options):
        parts = build_parts(config, **options)
        parts.dataset = dataclasses.replace(parts.dataset, test=_OutOfBounds(parts.dataset.test))
        return parts

    monkeypatch.setattr("cnnbench.experiment.run.build_parts", parts_without_test)
    (tmp_path / "a").mkdir()
    seen = []
    summary = run_job(
        compose_config(SMALL), tmp_path / "a", [], test=False, on_epoch=lambda row: seen.append(row["epoch"])
    )
    assert seen == [1, 2]
    assert not [key for key in summary if key.startswith("test")]
    tested = {"predictions.npz", "confusion_matrix.csv", "mistakes.png"}
    assert not tested & {path.name for path in (tmp_path / "a").iterdir()}
    (tmp_path / "b").mkdir()
    with pytest.raises(AssertionError, match="the test split was looked at"):
        run_job(compose_config(SMALL), tmp_path / "b", [])


def test_what_a_hook_raises_ends_the_run_and_a_resumed_run_tells_it_what_lies_behind(tmp_path):
    (tmp_path / "a").mkdir()

    def stop(row):
        raise Pruned(f"after epoch {row['epoch']}")

    with pytest.raises(Pruned):
        run_job(compose_config(SMALL), tmp_path / "a", [], on_epoch=stop)
    assert RunFolder(tmp_path / "a").read_status()["state"] == "pruned"
    seen = []
    run_job(compose_config(SMALL), tmp_path / "a", [], resume=True, on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2]
    run(tmp_path / "b")
    assert_same_tensors(tmp_path / "a", tmp_path / "b", "last")


def test_evaluating_on_other_data_uses_the_runs_own_scaling(tmp_path, mnist_root):
    run(tmp_path / "a", "data.normalize=dataset")
    folder, metrics = evaluate_run(tmp_path / "a", DataChoice(data="mnist", root=mnist_root))
    assert folder == tmp_path / "a/evaluations/mnist_test"
    assert metrics["images"] == 10_000
    assert metrics["accuracy"] > 0.15
    names = {path.name for path in folder.iterdir()}
    pictures = {"confusion_matrix.png", "ranking.png", "reliability.png"}
    tables = {"metrics.json", "confusion_matrix.csv", "per_class.csv", "thresholds.csv"}
    assert names == {"predictions.npz"} | tables | pictures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choice": DataChoice("testing")}, "--split testing: the run has no such split"),
        (
            {"choice": DataChoice(data="cifar10")},
            r"cifar10 does not fit the run: it has 10 classes of images with 3 channel\(s\)",
        ),
        (
            {"choice": DataChoice(data="emnist", options={"split": "balanced"})},
            "emnist does not fit the run: it has 47 classes",
        ),
        ({"choice": DataChoice(data="minst")}, "unknown data 'minst'. Did you mean 'mnist'"),
        ({"device": "cuda:99"}, "trainer.device=cuda:99: this machine has no such device"),
    ],
)
def test_an_evaluation_that_cannot_be_says_why(arguments, message, tmp_path):
    run(tmp_path / "a", "trainer.epochs=1")
    with pytest.raises(ValueError, match=message):
        evaluate_run(tmp_path / "a", **arguments)
    assert not (tmp_path / "a/evaluations").exists()


AUTOENCODER = ("model=conv_autoencoder", "optimizer.lr=0.01")


def test_an_autoencoder_learns_to_reconstruct_and_leaves_its_own_files(tmp_path):
    summary = run(tmp_path / "a", *AUTOENCODER, "trainer.epochs=4")
    assert summary["task"] == "reconstruction"
    assert not {"test/accuracy", "test/f1_macro"} & set(summary)
    rows = RunFolder(tmp_path / "a").read_metrics()
    assert not any("accuracy" in key or "f1" in key for key in rows[0])
    assert rows[-1]["val/loss"] < 0.7 * rows[0]["val/loss"]
    assert summary["best_epoch"] == 1 + min(range(4), key=lambda i: rows[i]["val/loss"])
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"reconstructions.png", "reconstruction.npz", "curves.png", "samples.png"} <= names
    assert not {"confusion_matrix.csv", "mistakes.png", "predictions.npz"} & names
    with np.load(tmp_path / "a/reconstruction.npz", allow_pickle=False) as arrays:
        assert arrays["losses"].mean() == pytest.approx(summary["test/loss"], rel=1e-5)
    folder, metrics = evaluate_run(tmp_path / "a")
    assert metrics["loss"] == pytest.approx(summary["test/loss"], rel=1e-6)
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "reconstruction.npz", "reconstructions.png"}


def test_the_reconstruction_error_is_numpys(tmp_path):
    config = compose_config([*SMALL, *AUTOENCODER, "trainer.device=cpu"])
    parts = build_parts(config)
    batches = make_batches(parts.dataset.test, dataset=parts.dataset, config=config, device=parts.device)
    measured = evaluate(parts.model, batches, task=RECONSTRUCTION, num_classes=10, keep_probabilities=True)
    with torch.no_grad():
        images = torch.cat([images for images, _ in batches.iterate_epoch()])
        made = parts.model.eval()(images)
    errors = ((made.numpy().astype(float) - images.numpy()) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(measured.losses, errors, rtol=1e-4)
    assert measured.classified is None


def test_a_reconstruction_run_resumes_to_the_same_bits(tmp_path):
    overrides = (*AUTOENCODER, "model.dropout=0.2", "trainer.epochs=3")
    run(tmp_path / "whole", *overrides)

    def stop(row):
        raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "cut", *overrides, on_epoch=stop)
    run(tmp_path / "cut", *overrides, resume=True)
    assert_same_tensors(tmp_path / "whole", tmp_path / "cut")


def test_auxiliary_heads_add_three_tenths_of_their_loss():
    logits, other = torch.randn(2, 5, 4).unbind(0)
    labels = torch.tensor([0, 1, 2, 3, 0])
    expected = F.cross_entropy(logits, labels) + 0.3 * F.cross_entropy(other, labels)
    found = compute_loss(CLASSIFICATION, (logits, other), torch.empty(0), labels, 0.0)
    torch.testing.assert_close(found, expected)


def test_a_sweep_with_an_autoencoder_compares_the_others_and_says_why(cnnbench, tmp_path):
    done = cnnbench("train", "-m", "trainer.epochs=1", "data.train_limit=200", "model=mlp,conv_autoencoder")
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.rglob("report.md")
    assert "model=mlp" in table.read_text()
    assert "Without classes there is no accuracy to compare" in table.read_text()


def test_the_summary_of_a_run_has_the_totals_of_its_model(tmp_path):
    summary = run(tmp_path / "a", "model=lenet5", "data.image_size=28")
    totals = {"parameters": 44_426, "macs": 281_640, "flops": 563_280, "depth": 5, "receptive_field": 16}
    assert {key: summary[key] for key in totals} == totals
    assert summary["weight_bytes"] == 4 * 44_426
    assert summary["dense_share"] == round(41_854 / 44_426, 6)
    assert summary["activation_bytes"] > 4 * 2 * 6 * 24 * 24


def test_a_last_batch_of_one_is_refused_where_a_norm_needs_more():
    overrides = ["model=resnet_mini", "data.val_fraction=0", "data.train_limit=65", "trainer.epochs=1"]
    small = ["data.image_size=4"]
    build_parts(compose_config(overrides), shapes_only=True)  # 7×7 values a channel are enough
    build_parts(compose_config([*overrides, *small, "trainer.batch_size=63"]), shapes_only=True)
    with pytest.raises(ValueError, match=r"trainer\.batch_size=64 makes a batch of one of the 65 training images"):
        build_parts(compose_config([*overrides, *small]), shapes_only=True)


def test_scaled_gradients_are_summed_before_they_are_unscaled_and_clipped():
    images, labels = torch.randn(7, 3), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    found = []
    for parts in ([7], [3, 3, 1]):
        model = torch.nn.Linear(3, 2)
        torch.nn.init.ones_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        weights = torch.tensor([1.0, 3.0])
        settings = CLASSIFICATION, model, [*model.parameters()], optimizer, nullcontext, scaler
        stepper = Stepper(*settings, label_smoothing=0.0, clip_norm=0.1, class_weights=weights)
        torch.nn.init.zeros_(model.bias)
        with torch.no_grad():
            outputs = model(images)
        loss, correct = stepper(zip(images.split(parts), labels.split(parts), strict=True), 7)
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(outputs, labels, weights))
        assert correct == (outputs.argmax(1) == labels).sum()
        moved = torch.cat([(1 - model.weight).flatten(), -model.bias]).norm()
        assert moved.item() == pytest.approx(0.1, rel=1e-4), "as far as trainer.clip_norm lets it"
        found.append(model.weight.detach().clone())
    torch.testing.assert_close(*found)

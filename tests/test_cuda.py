"""The GPU's side of everything that trains: each model and setting there, the same bits again, the same as on a CPU.

`make cuda` runs these tests on a machine with an NVIDIA GPU; anywhere else they are skipped.
"""

import json
import signal
import sys
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from test_predict import export
from test_resume import FEATURES, assert_same_run, interrupt_until_finished, signals  # noqa: F401
from test_streaming import folder  # noqa: F401
from test_sweep import made

from cnnbench import registry
from cnnbench.cli import main
from cnnbench.cli.compose import compose_config
from cnnbench.data import Batches
from cnnbench.data.keyed_numbers import draw
from cnnbench.experiment.factories import make_augmentation
from cnnbench.experiment.group import run_group
from cnnbench.experiment.lifetime import OutOfMemory
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.ranks import RankLost
from cnnbench.experiment.run import run_job, start_job
from cnnbench.processes import signals as interruptions
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import FAILED, FINISHED, RunFolder
from cnnbench.sweeps.server import JobServer
from cnnbench.sweeps.supervisor import Supervisor
from cnnbench.training import checkpoint
from conftest import ROOT, assert_same_tensors, without_times

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU: PyTorch sees none here", allow_module_level=True)
pytestmark = pytest.mark.cuda
CARD = torch.device("cuda:0")
SHORT = ["trainer.device=cuda", "trainer.epochs=2", "data.train_limit=300", "model=mlp"]
SMALL_ENOUGH = {  # so that a test takes a second: what a model needs besides
    "sequence_cnn": ["data=waves", "data.samples=600"],
    "torchvision": ["data.image_size=32"],
}
PRESETS = sorted(path.stem for path in (ROOT / "configs/augment").glob("*.yaml"))


def leave_undrawn(pictures, wait=True):
    """For runs whose pictures nobody looks at."""


def run(path, *overrides, resume=False, draw=leave_undrawn):
    path.mkdir(exist_ok=True)
    return run_job(compose_config([*SHORT, *overrides]), path, list(overrides), resume=resume, draw=draw)


def entered(monkeypatch, where, *arguments):
    """Exit code of a command that is run in this process, whose share of the memory is limited."""
    monkeypatch.chdir(where)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "train", *arguments])
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ended.value.code


def weights(path, name="last"):
    tensors, _ = checkpoint.load(path / "checkpoints", name)
    return {key: value for key, value in tensors.items() if key.startswith("model.")}


def assert_close(first, second, atol):
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    apart = {key: float((value.double() - right[key].double()).abs().max()) for key, value in left.items()}
    assert max(apart.values()) <= atol, apart


@pytest.mark.parametrize("name", registry.list_names("model"))
def test_every_model_gives_the_same_bits_twice(name, tmp_path):
    overrides = [f"model={name}", *SMALL_ENOUGH.get(name, [])]
    drawn: list = []
    for path in (tmp_path / "a", tmp_path / "b"):
        summary = run(path, *overrides, draw=lambda pictures, wait=True: drawn.extend(pictures))
        assert summary["device"] == "cuda:0"
        assert np.isfinite(summary["test/loss"])
    for picture in drawn[: len(drawn) // 2]:
        picture()
    assert (tmp_path / "a/curves.png").exists()
    for kept in ("last", "best"):
        assert_same_tensors(tmp_path / "a", tmp_path / "b", kept)
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_and_gives_the_same_bits_twice(precision, tmp_path):
    overrides = ["model=lenet5", f"trainer.precision={precision}", "data.train_limit=null", "trainer.epochs=6"]
    for name in "ab":
        assert run(tmp_path / name, *overrides)["test/accuracy"] > 0.85
    assert_same_run(tmp_path / "a", tmp_path / "b")
    scaler = checkpoint.load(tmp_path / "a/checkpoints", "last")[1]["scaler"]
    assert bool(scaler) == (precision == "fp16")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.sampler=balanced"],
        ["data.class_weights=balanced", "trainer.label_smoothing=0.1"],
        ["trainer.accumulate=3", "data.class_weights=balanced"],
        ["trainer.accumulate=4", "trainer.batch_size=10"],
        ["trainer.ema=0.9", "trainer.clip_norm=0.5", "scheduler=one_cycle"],
        ["augment.mixup=0.4", "augment.cutmix=1", "augment.erase=0.5"],
        ["optimizer=adamw", "optimizer.lr=0.0001", "optimizer.weight_decay=0.1"],
        ["optimizer=muon", "optimizer.lr=0.0001", "optimizer.weight_decay=0.1"],
        ["model=conv_autoencoder", "model.norm=none"],
        ["model=lenet5"],
        ["model=sequence_cnn", "model.norm=none", "data=waves", "data.samples=600"],
    ],
    ids=lambda overrides: " ".join(overrides) or "plain",
)
def test_a_run_is_that_of_the_cpu_but_for_rounding(overrides, tmp_path):
    """Some 20 steps of plain descent, which rounding does not drive apart; noise within a network would."""
    given = ["optimizer=sgd", "optimizer.lr=0.05", *overrides]
    on_card, on_cpu = (
        run(tmp_path / device, *given, f"trainer.device={device}", "trainer.deterministic=true")
        for device in ("cuda", "cpu")
    )
    assert_close(tmp_path / "cuda", tmp_path / "cpu", atol=2e-4)
    assert on_card["test/loss"] == pytest.approx(on_cpu["test/loss"], abs=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_augmented_images_are_those_of_the_cpu(preset, tmp_path):
    config = compose_config(
        ["seed=3", f"augment={preset}", "data.image_size=28", "augment.mixup=0.2", "augment.cutmix=1"]
    )
    dataset = load_dataset(config)
    indices = torch.arange(500)
    on_cpu = draw(indices, 3, 1)
    assert all(torch.equal(value.cpu(), on_cpu[key]) for key, value in draw(indices.to(CARD), 3, 1).items())
    served = []
    for device in (torch.device("cpu"), CARD):
        augmentation = make_augmentation(config, dataset.info, device)
        split = dataset.train.to(device)
        batches = Batches(split, 64, mean=(0.0,), std=(1.0,), shuffle_seed=3, augmentation=augmentation)
        served.append([torch.cat(parts).cpu() for parts in zip(*batches.iterate_epoch(1), strict=True)])
    for one, other in zip(*served, strict=True):  # a twentieth of a grey level
        torch.testing.assert_close(one, other, rtol=0, atol=0.05 / 255)
    run(tmp_path / "a", f"augment={preset}")


@pytest.mark.parametrize(
    "overrides",
    [
        *FEATURES,
        ["model=lenet5", "trainer.precision=fp16", "model.dropout=0.5", "trainer.clip_norm=1"],
        ["model=lenet5", "trainer.graph=true", "model.dropout=0.5", "trainer.clip_norm=1", "trainer.ema=0.9"],
    ],
    ids=lambda overrides: " ".join(overrides) or "plain",
)
def test_an_interrupted_run_equals_one_that_never_was(overrides, tmp_path, monkeypatch, signals):  # noqa: F811
    given = ["trainer.epochs=3", "data.train_limit=200", "trainer.batch_size=24", *overrides]
    run(tmp_path / "whole", *given)
    cut = tmp_path / "cut"
    assert interrupt_until_finished(monkeypatch, run, cut, given) >= 2
    assert_same_run(tmp_path / "whole", cut)


def test_another_process_gives_the_same_bits_and_a_folder_for_machines_without_a_gpu(fresh_cnnbench, tmp_path):
    given = ["model=lenet5", "trainer.epochs=3"]
    run(tmp_path / "a", *given)
    done = fresh_cnnbench("train", *SHORT, *given, "hydra.run.dir=b")
    assert done.returncode == 0, done.stderr
    assert "deterministic" not in done.stderr
    assert_same_run(tmp_path / "a", tmp_path / "b")
    without = {"CUDA_VISIBLE_DEVICES": ""}
    done = fresh_cnnbench("evaluate", "b", **without)
    assert done.returncode == 0, done.stderr
    done = fresh_cnnbench("train", "resume=b", "trainer.epochs=4", **without)
    assert done.returncode == 2
    assert "trainer.device=cuda: this machine has no such device. Use one of auto, cpu" in done.stderr
    done = fresh_cnnbench("train", "resume=b", "trainer.epochs=4", "trainer.device=cpu", **without)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in RunFolder(tmp_path / "b").read_metrics()] == [1, 2, 3, 4]


def test_a_run_begun_on_a_cpu_goes_on_and_is_measured_on_the_gpu(tmp_path):
    run(tmp_path / "a", "model=lenet5", "trainer.device=cpu")
    own = RunFolder(tmp_path / "a").read_summary()["test/accuracy"]
    _, measured = evaluate_run(tmp_path / "a", device="cuda")
    assert measured["accuracy"] == pytest.approx(own, abs=2 / 360)
    summary = run(tmp_path / "a", "model=lenet5", "trainer.epochs=3", resume=True)
    assert (summary["device"], summary["epochs"]) == ("cuda:0", 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_is_measured_and_asked_on_both(precision, tmp_path):
    """On the CPU other orders of adding round otherwise: an image between two classes may change its own."""
    given = ["model=lenet5", f"trainer.precision={precision}", "data.train_limit=null"]
    run(tmp_path / "a", *given)
    own, stored = RunFolder(tmp_path / "a").read_summary(), read_predictions(tmp_path / "a")
    tolerance = 1 if precision == "fp32" else 4
    _, there = evaluate_run(tmp_path / "a", device="cuda:0")
    assert (there["accuracy"], there["loss"]) == (own["test/accuracy"], own["test/loss"])
    _, here = evaluate_run(tmp_path / "a", device="cpu")
    assert here["accuracy"] == pytest.approx(own["test/accuracy"], abs=tolerance / own["test_images"])
    export(load_dataset(compose_config([*SHORT, *given])).test.images, tmp_path / "test")
    files = sorted(map(str, (tmp_path / "test").iterdir()))
    for device in ("cuda", "cpu"):
        predictor = Predictor(tmp_path / "a", device=device)
        said = [each.classes[0] for part in predictor.predict(files, workers=0) for each in part]
        assert (np.array(said) != stored["predictions"]).sum() <= (0 if device == "cuda" else tolerance)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_give_the_bits_of_those_in_memory(workers, folder, tmp_path):  # noqa: F811
    data = ["data=image_folder", f"data.path={folder}", "data.image_size=16", "data.cache=null", "augment=light"]
    data += ["model=lenet5", "trainer.batch_size=8", "data.sampler=balanced", "data.test_fraction=0.2"]
    data += ["data.train_limit=null"]
    run(tmp_path / "memory", *data)
    run(tmp_path / "files", *data, "data.memory_limit=1kB", f"data.workers={workers}")
    assert_same_tensors(tmp_path / "memory", tmp_path / "files")
    assert without_times(tmp_path / "memory") == without_times(tmp_path / "files")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=lenet5", "model.dropout=0.5", "trainer.ema=0.9", "trainer.clip_norm=1", "augment=strong"],
        ["model=resnet_mini", "model.width=0.25", "trainer.precision=fp16", "data.class_weights=balanced"],
        ["trainer.accumulate=2", "optimizer=sgd", "scheduler=one_cycle", "augment=standard"],
        ["trainer.accumulate=2", "data.class_weights=balanced", "trainer.precision=bf16", "data.sampler=balanced"],
        ["model=conv_autoencoder", "optimizer=adamw", "optimizer.weight_decay=0.1"],
        ["model=lenet5", "trainer.graph=true", "model.dropout=0.5", "trainer.clip_norm=1"],
    ],
    ids=" ".join,
)
def test_no_step_waits_for_the_gpu(overrides, tmp_path, monkeypatch):
    """But the first, after which the loss is looked at; 1,200 images are gathered in three parts on the way.

    Recording a step waits too, in the first epoch.
    """
    given = ["data.train_limit=1200", "data.image_size=32", "data.val_fraction=0", *overrides]
    steps = -(-1200 // (128 if "trainer.accumulate=2" in overrides else 64))
    after = steps if "trainer.graph=true" in overrides else 0
    asked = interruptions.is_requested
    done: list = []

    def is_requested():
        """Training asks after each step whether a signal came."""
        done.append(None)
        within = len(done) % steps > 0 and after < len(done) < 2 * steps
        torch.cuda.set_sync_debug_mode("error" if within else "default")
        return asked()

    monkeypatch.setattr(interruptions, "is_requested", is_requested)
    try:
        run(tmp_path / "a", *given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(done) >= 2 * steps


@pytest.mark.parametrize("name", ["lenet5", "resnet_mini"])
def test_the_fastest_algorithms_and_either_memory_order_learn_as_well(name, tmp_path):
    for number, more in enumerate((["trainer.deterministic=false"], ["trainer.channels_last=false"])):
        summary = run(tmp_path / str(number), f"model={name}", "data.train_limit=null", "trainer.epochs=6", *more)
        assert summary["test/accuracy"] > 0.85


def test_a_compiled_run_is_the_plain_one_but_for_rounding(tmp_path):
    for name in ("true", "false"):
        run(tmp_path / name, "optimizer=sgd", "optimizer.lr=0.05", f"trainer.compile={name}")
    assert_close(tmp_path / "true", tmp_path / "false", atol=1e-3)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=sgd", "scheduler=one_cycle", "optimizer.lr=0.05"],
        ["model.dropout=0.5", "trainer.clip_norm=0.5", "trainer.ema=0.9", "trainer.label_smoothing=0.1"],
        ["model=lenet5", "optimizer=adamw", "optimizer.weight_decay=0.1", "augment.mixup=0.4"],
        ["model=resnet_mini", "model.width=0.25", "trainer.precision=bf16", "trainer.epochs=1"],
        ["trainer.accumulate=2", "trainer.batch_size=16", "data.class_weights=balanced", "scheduler=cosine"],
    ],
    ids=" ".join,
)
def test_a_replayed_step_is_the_eager_one_but_for_the_learning_rates_rounding(overrides, tmp_path):
    """So few steps that Adam does not drive rounding apart; the last batch of each epoch is smaller, and eager."""
    for name in ("true", "false"):
        run(tmp_path / name, "data.train_limit=250", "trainer.batch_size=32", *overrides, f"trainer.graph={name}")
    assert_close(tmp_path / "true", tmp_path / "false", atol=1e-3)
    run(tmp_path / "again", "data.train_limit=250", "trainer.batch_size=32", *overrides, "trainer.graph=true")
    assert_same_run(tmp_path / "true", tmp_path / "again")


@pytest.fixture
def little_memory():
    """Four hundred megabytes of the GPU's memory."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400e6) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_memory_that_runs_out_is_said_with_what_helps(tmp_path, monkeypatch, capsys, little_memory):
    large = [*SHORT, "model=vgg_mini", "data.image_size=64", "data.train_limit=1000", "trainer.batch_size=900"]
    assert entered(monkeypatch, tmp_path, *large, "hydra.run.dir=large") == 1
    said = capsys.readouterr().err
    assert "not enough memory for trainer.batch_size=900 (training)" in said
    assert "lower them, model.width=1 or data.image_size; trainer.accumulate=N" in said
    assert "CUDA out of memory" in said
    assert "Traceback" not in said
    status = RunFolder(tmp_path / "large").read_status()
    assert status["state"] == FAILED
    assert status["message"].startswith("OutOfMemory: not enough memory for trainer.batch_size=900")
    # What helps does, in the same process: nothing of the failed run holds memory.
    fits = [*large, "trainer.batch_size=30", "trainer.accumulate=30", "trainer.eval_batch_size=30"]
    assert entered(monkeypatch, tmp_path, *fits, "hydra.run.dir=small") == 0


def test_memory_that_runs_out_in_evaluation_is_said_too(tmp_path, little_memory):
    large = ["model=vgg_mini", "data.image_size=168", "trainer.batch_size=10", "trainer.eval_batch_size=1000"]
    with pytest.raises(OutOfMemory, match=r"trainer.eval_batch_size=1000 \(evaluation\): lower them"):
        run(tmp_path / "a", *large, "data.train_limit=50")


def test_a_device_by_its_number(tmp_path, monkeypatch, capsys):
    assert run(tmp_path / "a", "trainer.device=cuda:0", "trainer.epochs=1")["device"] == "cuda:0"
    last = torch.cuda.device_count() - 1
    assert run(tmp_path / "b", f"trainer.device=cuda:{last}", "trainer.epochs=1")["device"] == f"cuda:{last}"
    if last == 0:
        assert_same_run(tmp_path / "a", tmp_path / "b")
    assert entered(monkeypatch, tmp_path, *SHORT, "trainer.device=cuda:7", "hydra.run.dir=c") == 2
    assert "trainer.device=cuda:7: this machine has no such device. Use one of auto, cpu, cuda:0" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "c").exists()


def test_the_jobs_of_a_sweep_are_forked_from_a_process_that_never_began_cuda(tmp_path):
    sweep = made(tmp_path / "sweep", *SHORT, "seed=0,1")
    with JobServer() as server:
        checked = server.check([job.config for job in sweep.jobs])
        assert all(check.problem is None for check in checked), checked
        supervisor = Supervisor(sweep, server, argv=["cnnbench", "train"])
        try:
            assert [supervisor.run(job) for job in sweep.jobs] == [FINISHED] * 2
            assert server.worker is not None
            (worker,) = supervisor._idle
            stat = Path(f"/proc/{worker.process.pid}/stat").read_text()
            mapped = Path(f"/proc/{server.worker.process.pid}/maps").read_text()
            parent = int(stat.rpartition(")")[2].split()[1])
            assert parent == server.worker.process.pid, "a fresh process, for the server had begun CUDA"
        finally:
            supervisor.close()
    assert "nvidia-uvm" not in mapped
    run(tmp_path / "alone", "seed=1")
    assert_same_tensors(tmp_path / "alone", tmp_path / "sweep/1")


def test_jobs_at_once_share_the_gpu_and_keep_their_bits(fresh_cnnbench, tmp_path):
    pytest.importorskip("joblib")
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    done = fresh_cnnbench("train", *SHORT, "model=lenet5", "-m", "seed=0,1", *side_by_side)
    assert done.returncode == 0, done.stderr
    for seed in "01":
        run(tmp_path / seed, "model=lenet5", f"seed={seed}")
        assert_same_tensors(tmp_path / seed, tmp_path / "sweep" / seed)


def test_a_sweep_on_the_gpu_trains_every_job_and_says_which_had_too_little_memory(fresh_cnnbench, tmp_path):
    jobs = ["-m", "model=resnet_mini", "model.width=32,1", "data.image_size=168", "hydra.sweep.dir=sweep"]
    large = ["trainer.batch_size=1300", "data.train_limit=null", "trainer.epochs=1"]
    done = fresh_cnnbench("train", *SHORT, *jobs, *large)
    assert done.returncode == 1, done.stderr
    huge, small = (RunFolder(tmp_path / "sweep" / name).read_status() for name in "01")
    assert (huge["state"], small["state"]) == (FAILED, FINISHED), done.stderr
    assert "not enough memory for trainer.batch_size=1300" in huge["message"]
    assert "lower them, model.width=32" in done.stderr
    assert "Traceback" not in done.stderr
    env = json.loads((tmp_path / "sweep/1/env.json").read_text())
    assert env["gpus"] == [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


two_cards = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@two_cards
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=lenet5"],
        ["model=mlp", "trainer.accumulate=3", "data.class_weights=balanced", "trainer.clip_norm=0.5"],
        ["model=resnet_mini", "model.width=0.25", "optimizer.lr=0.001"],
        ["model=mlp", "trainer.precision=fp16"],
        ["model=lenet5", "trainer.compile=true"],
    ],
    ids=" ".join,
)
def test_two_gpus_train_the_weights_of_one_but_for_rounding(overrides, tmp_path):
    given = ["optimizer=sgd", "optimizer.lr=0.05", "trainer.epochs=1", *overrides]
    for devices in (1, 2):
        run(tmp_path / str(devices), *given, f"trainer.devices={devices}")
    assert_close(tmp_path / "1", tmp_path / "2", atol=1e-3 if "fp16" in str(overrides) else 2e-4)


@two_cards
def test_a_killed_process_of_another_gpu_ends_the_run_which_goes_on_with_one(tmp_path):
    def kill_other_rank(row):
        if row["epoch"] == 2:
            active_children()[0].kill()

    config = compose_config([*SHORT, "trainer.devices=2", "trainer.epochs=50"])
    with pytest.raises(RankLost, match="rank 1 of 2"):
        run_job(config, tmp_path, [], on_epoch=kill_other_rank, draw=leave_undrawn)
    assert RunFolder(tmp_path).read_status()["state"] == FAILED
    assert run(tmp_path, "trainer.epochs=50", resume=True)["epochs"] == 50


def test_seeds_trained_together_have_bits_that_do_not_depend_on_their_companions(tmp_path):
    given = [*SHORT, "model=lenet5", "model.dropout=0.3", "sweep.together=true"]
    for name, seeds in (("three", (0, 1, 5)), ("one", (1,))):
        jobs = []
        for seed in seeds:
            path = tmp_path / name / str(seed)
            path.mkdir(parents=True)
            jobs.append(start_job(compose_config([*given, f"seed={seed}"]), path, [], draw=leave_undrawn))
        assert [member.error for member in run_group(jobs)] == [None] * len(seeds)
    assert_same_run(tmp_path / "three/1", tmp_path / "one/1")

"""Runs that start from other weights: what fits, what is recorded, and what makes another run."""

import io
import json
import re
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from hostile_corpus import CALLS, CANARY
from PIL import Image
from test_resume import Interrupted, assert_same_run, signals  # noqa: F401

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.cli.options import SummaryOptions
from cnnbench.cli.summary import print_summary
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.lifetime import CannotGoOn
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.verification import verify_run
from cnnbench.experiment.resume import apply_overrides, describe_longer_schedule
from cnnbench.experiment.run import run_job
from cnnbench.processes.signals import Terminated
from cnnbench.report.groups import select_settings
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.jobs import hash_config
from cnnbench.training import checkpoint
from conftest import assert_same_tensors

NETWORK = ["model=lenet5", "model.norm=batch", "model.padding=same", "model.dropout=0.2"]
COMMON = [*NETWORK, "data.train_limit=200", "trainer.epochs=1", "optimizer.lr=0.01"]
FINE = ["model.freeze=features.stage1", "optimizer.rates={features: 0.1}", "trainer.ema=0.9", "optimizer=adamw"]
FINE += ["trainer.precision=bf16"]


def train(folder, *overrides, resume=False):
    folder.mkdir(exist_ok=True)
    config = compose_config([*COMMON, *overrides])
    return run_job(config, folder, [], resume=resume, draw=lambda pictures, wait=True: None)


def read_best(folder):
    return checkpoint.load(folder / "checkpoints", "best")[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a run whose weights others start from."""
    root = tmp_path_factory.mktemp("source")
    train(root / "run", "seed=5", "trainer.precision=bf16")
    return root / "run"


@pytest.fixture(scope="module")
def tuned(source):
    """A run that was started from it, of two epochs."""
    train(source.parent / "tuned", f"model.weights={source}", *FINE, "trainer.epochs=2")
    return source.parent / "tuned"


def test_a_run_starts_from_the_weights_and_records_what_fitted(source, tuned):
    record = json.loads((tuned / "weights.json").read_text())
    digest = sha256((source / "checkpoints/best.safetensors").read_bytes()).hexdigest()
    names = [name.removeprefix("model.") for name in read_best(source)]
    assert (record["source"], record["sha256"]) == (str(source), digest)
    assert (sorted(record["fitted"]), record["missing"], record["unexpected"]) == (sorted(names), [], [])
    assert RunFolder(tuned).read_config()["model"]["weights_sha256"] == digest
    before, after = read_best(source), read_best(tuned)  # the average of the weights, too, leaves the frozen ones alone
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith("model.features.stage1."), name
    summary = RunFolder(tuned).read_summary()
    frozen = sum(value.numel() for name, value in before.items() if re.search("stage1.*(weight|bias)$", name))
    assert summary["frozen_parameters"] == frozen
    assert summary["trainable_parameters"] == summary["parameters"] - frozen
    rows = RunFolder(tuned).read_metrics()
    assert [row["lr/features"] for row in rows] == pytest.approx([0.1 * row["lr"] for row in rows])


def test_an_interrupted_run_goes_on_to_the_same_bits_without_the_file(source, tuned, tmp_path, monkeypatch, signals):  # noqa: F811
    shutil.copytree(source, tmp_path / "weights")
    given = [f"model.weights={tmp_path / 'weights'}", *FINE, "trainer.epochs=2"]
    with monkeypatch.context() as patch:
        Interrupted(patch, at=2)
        with pytest.raises(Terminated):
            train(tmp_path / "run", *given)
    config = from_dict(RunFolder(tmp_path / "run").read_config())
    (tmp_path / "weights").rename(tmp_path / "gone")
    run_job(config, tmp_path / "run", [], resume=True, draw=lambda pictures, wait=True: None)
    assert_same_tensors(tmp_path / "run", tuned)
    verdict = verify_run(tmp_path / "run", evaluate_only=False)
    assert (verdict.verdict, "there is no such file or folder" in verdict.reason) == ("agrees", True)


def test_other_content_of_the_same_file_is_another_run(source, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes((source / "checkpoints/best.safetensors").read_bytes())
    given = [f"model.weights={file}"]
    first = to_dict(compose_config([*COMMON, *given]))
    train(tmp_path / "run", *given)
    safetensors.torch.save_file({"head.classes.bias": torch.ones(10)}, file)
    second = to_dict(compose_config([*COMMON, *given]))
    assert hash_config(first) != hash_config(second)
    assert select_settings(first) != select_settings(second)
    longer = apply_overrides(RunFolder(tmp_path / "run").read_config(), ["trainer.epochs=2"])
    with pytest.raises(CannotGoOn, match=r"holds other weights than those of this run: their SHA-256 is \w{12}…, and"):
        run_job(longer, tmp_path / "run", [], resume=True)
    with pytest.raises(ValueError, match="holds other weights"):
        build_parts(from_dict(first))
    with pytest.raises(ValueError, match="holds other weights"):
        compose_config([*COMMON, *given, "model.weights_sha256=0123456789"])


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.safetensors", safetensors.torch.save_file),
        ("a.pt", torch.save),
        ("b.pth", save_legacy),
        ("c.pt", lambda tensors, path: torch.save({"epoch": 3, "state_dict": tensors}, path)),
    ],
)
def test_files_of_any_format_give_the_same_start(name, save, source, tmp_path):
    tensors = {f"module._orig_mod.{key.removeprefix('model.')}": value for key, value in read_best(source).items()}
    save(tensors, tmp_path / name)
    parts = build_parts(compose_config([*COMMON, f"model.weights={tmp_path / name}"]))
    assert len(parts.start.transfer.fitted) == parts.start.transfer.total == len(tensors)
    for key, value in parts.model.state_dict().items():
        assert torch.equal(value, tensors[f"module._orig_mod.{key}"]), key


@pytest.fixture
def photographs(tmp_path):
    """Colour images of two classes."""
    for number in range(20):
        path = tmp_path / "photographs" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return ["data=image_folder", f"data.path={tmp_path / 'photographs'}", "data.cache=null", "data.workers=0"]


def test_other_classes_and_channels_are_named(source, photographs):
    given = ["data.image_size=28", f"model.weights={source}"]
    start = build_parts(compose_config([*COMMON, *photographs, *given])).start
    assert {*start.transfer.other_shape} == {
        "features.stage1.0.conv.weight",
        "head.classes.weight",
        "head.classes.bias",
    }
    channels, classes = start.notes
    assert channels.startswith("features.stage1.0.conv.weight, the first layer, keeps its random values: it reads 1 ")
    assert classes == (
        "head.classes.weight, the classifier, keeps its random values: it is for 10 classes there, and the data have 2"
    )


def test_other_scales_and_test_images_that_the_weights_have_seen_are_named(photographs, tmp_path):
    train(tmp_path / "run", *photographs, "data.test_seed=1", "data.val_fraction=0.2")
    given = [f"model.weights={tmp_path / 'run'}", "data.test_seed=2"]
    given += ["data.normalize=dataset"]
    scale, seen = build_parts(compose_config([*COMMON, *photographs, *given])).start.notes
    assert scale.startswith("their images were scaled by the mean and deviation 0.5, 0.5, 0.5 and 0.5, 0.5, 0.5, and")
    assert re.match(r"[1-4] of the 4 test images are among the images that they were trained on", seen)


def make_bomb():
    """A small file that expands to a large one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    return content.getvalue()


def test_files_that_are_no_weights_or_fit_nothing_are_refused(tmp_path):
    file = tmp_path / "weights"
    file.touch()
    config = compose_config([*COMMON, f"model.weights={file}"])
    config.model.weights_sha256 = None
    dataset = load_dataset(config)
    for content, message in (
        (CALLS["os_system"], "torch cannot read it as a state dict .*: it is damaged, or holds more than tensors"),
        (CALLS["torch_load_from_bytes"], "torch cannot read it as a state dict"),
        (make_bomb(), "torch cannot read it as a state dict .*: [0-9,]+ bytes that expand to 10,000,000"),
        (b"GIF89a" * 100, "neither a safetensors file nor a state dict of torch"),
        (b"", "neither a safetensors file nor a state dict of torch"),
        ({"a": 1}, "holds no state dict: must be tensors by name, and is a dict without them"),
        ([torch.ones(1)], "is a list without them"),
        ({"features.stage1.conv.weight": torch.ones(3)}, "0.conv.weight' is most like 'features.stage1.conv.weight'"),
        ({"head.classes.bias": torch.ones(3)}, "fits: 'head.classes.bias' have other shapes there"),
        ({"head.classes.bias": torch.full((10,), torch.nan)}, "'head.classes.bias' holds values that are infinite"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises(ValueError, match=rf"model.weights={re.escape(str(file))}: .*{message}"):
            build_parts(config, dataset=dataset, shapes_only=True)
    assert not Path(CANARY).exists()


def test_a_name_of_no_file_gets_the_nearest(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    with pytest.raises(
        ValueError, match=r"model.weights=rum: there is no such file or folder: .* Did you mean 'run'\?"
    ):
        compose_config(["model.weights=rum"])
    with pytest.raises(ValueError, match=r"model.weights=.*: '.*' is not a run folder: it has no config.yaml"):
        compose_config([f"model.weights={tmp_path}"])
    with pytest.raises(ValueError, match=r"model.weights=torchvision needs model=torchvision, and the model is lenet5"):
        compose_config(["model.weights=torchvision"])


def test_torchvisions_weights_are_downloaded_if_that_is_allowed(photographs, tmp_path, monkeypatch):
    arch = torchvision.models.squeezenet1_1(num_classes=1000)
    torch.save(arch.state_dict(), tmp_path / "saved")
    digest = sha256((tmp_path / "saved").read_bytes()).hexdigest()
    published = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.value
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    given = [*photographs, "model=torchvision", "model.arch=squeezenet1_1", "model.weights=torchvision"]
    for digits, allowed, message in (
        ("0" * 8, "false", "is missing, and data.download=false: set it to true, or put the file of file://"),
        ("0" * 8, "true", "cannot be downloaded: invalid hash value"),
    ):
        monkeypatch.setattr(published, "url", (tmp_path / "saved").rename(tmp_path / f"s-{digits}.pth").as_uri())
        with pytest.raises(ValueError, match=message):
            build_parts(compose_config([*given, f"data.download={allowed}"]))
        (tmp_path / f"s-{digits}.pth").rename(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / f"s-{digest[:8]}.pth")
    monkeypatch.setattr(published, "url", (tmp_path / f"s-{digest[:8]}.pth").as_uri())
    config = compose_config(given)
    parts = build_parts(config)
    assert config.model.weights_sha256 == digest[:8]
    assert {*parts.start.transfer.other_shape} == {"classifier.1.weight", "classifier.1.bias"}
    assert torch.equal(parts.model.features[0].weight, arch.features[0].weight)
    assert any("they were trained on 224×224 pixels, and the run has 32×32" in note for note in parts.start.notes)


@pytest.mark.parametrize("scheduler", registry.list_names("scheduler"))
def test_more_epochs_say_what_they_do_to_the_schedule(scheduler):
    own = compose_config([f"scheduler={scheduler}", "trainer.epochs=4", "optimizer.lr=0.01"])
    config = own.model_copy(update={"trainer": own.trainer.model_copy(update={"epochs": 12})})
    assert describe_longer_schedule(own, own) == ""
    if scheduler in ("constant", "step"):
        end = {"constant": "stays at 0.01", "step": "goes from 0.01 to 0.001"}[scheduler]
        assert describe_longer_schedule(own, config) == (
            f"trainer.epochs=12 instead of 4: scheduler={scheduler} continues as if the run had begun with 12 epochs; "
            f"in epochs 5 to 12, its learning rate {end}"
        )
    else:
        after = {"cosine": ("1.54e-07", "0.00751"), "one_cycle": ("0", "0.00994")}[scheduler]
        with pytest.raises(
            ValueError, match=f"scheduler={scheduler} spans all epochs.* is {after[0]}, and .* {after[1]}"
        ):
            describe_longer_schedule(own, config)


def test_a_summary_says_how_much_is_trained(capsys):
    print_summary(SummaryOptions(overrides=[*NETWORK, "model.freeze=features"]))
    assert re.search(r"trained +105,214\n +frozen +2,594 \(2.4%\)", capsys.readouterr().out)


def test_the_command_says_what_fitted_and_what_is_frozen(cnnbench, source):
    given = [f"model.weights={source}", "model.freeze=features", "optimizer.rates={head.hidden1: 0.5}", "name=new"]
    done = cnnbench("train", *COMMON, *given)
    assert done.returncode == 0, done.stderr
    assert "2,594 of 107,808 parameters are frozen: features" in done.stderr
    assert "the learning rate of head.hidden1 is 0.5 times that of the rest, 0.01" in done.stderr
    assert done.stderr.count("18 of 18 tensors loaded (SHA-256 ") == 1
    more = cnnbench("train", "resume=latest", "trainer.epochs=2")
    assert "scheduler=constant continues as if the run had begun with 2 epochs" in more.stderr

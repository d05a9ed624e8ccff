"""Nothing is written before all has been checked: a wrong command leaves a run as it was, to the byte."""

import json
import logging
import os
import resource
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm

from cnnbench.cli.compose import compose_config
from cnnbench.cli.options import TrainOptions
from cnnbench.cli.streams import show_log
from cnnbench.cli.train import train
from cnnbench.data.memory import limit_data_of_run, refuse_beyond_memory
from cnnbench.experiment.data_record import read_data
from cnnbench.experiment.lifetime import CannotGoOn, is_out_of_memory
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.resume import apply_overrides
from cnnbench.experiment.run import run_job
from cnnbench.reproducibility import describe_differences
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.runs.reopening import load_config
from cnnbench.storage.atomic import open_folder, write_atomically
from cnnbench.storage.plain_data import write_json, write_yaml
from cnnbench.training import checkpoint

TINY = ["data=image_folder", "data.cache=null", "model=mlp"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photographs(folder: Path, classes: str, count: int = 12) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([label, number]).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with photographs, some that do not fit, and a finished run `run` on the first."""
    folder = tmp_path_factory.mktemp("finished")
    photographs(folder / "d", "ab")
    photographs(folder / "other", "ax")
    photographs(folder / "broken", "ab", 3)
    for path in (folder / "broken").rglob("*.png"):
        path.write_bytes(b"no image")
    config = compose_config([*TINY, f"data.path={folder / 'd'}", "trainer.epochs=1"])
    run_job(config, create_folder(folder / "run"), ["x=y"])
    return folder


@pytest.mark.parametrize(
    "wrong",
    [
        "data.path=nowhere",
        "data.path=other",
        "data.path=broken",
        "data.path=null",
        "data.workers=-3",
        "data.workers=many",
        "data.memory_limit=lots",
        "trainer.device=cuda:99",
        "trainer.device=tpu",
        "trainer.keep=-1",
        "trainer.epochs=0",
        "logger=nowhere",
        "preview=true",
    ],
)
@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_a_wrong_command_leaves_a_run_as_it_was(wrong, state, finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "run", tmp_path / "run")
    RunFolder(tmp_path / "run").set_status(state)
    monkeypatch.chdir(finished)
    before = contents(tmp_path / "run")
    with pytest.raises(
        ValueError,
        match=r"must be|Use one of|Resume can change only|Set a|does not exist|cannot be read|not the data|converted",
    ):
        train(TrainOptions([f"resume={tmp_path / 'run'}", "trainer.epochs=2", wrong]))
    assert contents(tmp_path / "run") == before


def test_a_damaged_checkpoint_of_another_run_or_a_new_run_in_its_folder_change_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    path = tmp_path / "run"
    shutil.copytree(finished / "run", path)
    before = contents(path)
    with pytest.raises(ValueError, match="already holds a run"):
        train(TrainOptions([f"hydra.run.dir={path}", "trainer.epochs=1"]))
    assert contents(path) == before
    shutil.copy(path / "checkpoints/best.safetensors", path / "checkpoints/previous.safetensors")
    (path / "checkpoints/last.safetensors").write_bytes(b"damaged")
    before = contents(path)
    with pytest.raises(CannotGoOn, match="not the data of this run"):
        train(TrainOptions([f"resume={path}", "trainer.epochs=2", "data.path=other"]))
    assert contents(path) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_ends_before_it_has_saved_anything_is_as_it_was(error, finished, tmp_path):
    def end(_):
        raise error

    path = tmp_path / "run"
    shutil.copytree(finished / "run", path)
    before = contents(path)

    config = compose_config([*TINY, f"data.path={finished / 'd'}", "trainer.epochs=2"])

    with pytest.raises(error):
        run_job(config, path, ["trainer.epochs=2"], resume=True, on_epoch=end)
    after = contents(path)
    assert after.pop("train.log").startswith(before.pop("train.log"))
    assert after == before
    (path / "status.json").write_text(json.dumps({"state": "running"}))  # as a killed run has it
    with pytest.raises(error):
        run_job(config, path, ["trainer.epochs=2"], resume=True, on_epoch=end)
    assert RunFolder(path).read_status()["state"] in ("failed", "interrupted")
    assert contents(path)["config.yaml"] == before["config.yaml"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"- 5\n"])
def test_small_files_that_are_lost_stop_no_resume(content, finished, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(finished)
    path = tmp_path / "run"
    shutil.copytree(finished / "run", path)
    for name in ("overrides.yaml", "status.json", "env.json", "metrics.csv"):
        (path / name).unlink()
        if content is not None:
            (path / name).write_bytes(content)
    train(TrainOptions([f"resume={path}", "trainer.epochs=2"]))
    run = RunFolder(path)
    assert run.read_status()["state"] == "finished"
    assert run.read_overrides() == ["trainer.epochs=2"]
    assert len(run.read_metrics()) == run.read_summary()["epochs"] == 2
    assert run.read_threads() == RunFolder(finished / "run").read_threads()
    assert checkpoint.load(run.checkpoints, "last")[1]["epoch"] == 2


def test_a_resume_an_evaluation_and_a_prediction_say_that_bits_may_differ_and_name_the_reason(
    finished, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(finished)
    path = tmp_path / "run"
    shutil.copytree(finished / "run", path)
    record = json.loads((path / "env.json").read_text())
    write_json(path / "env.json", {**record, "torch": "1.0", "cpu_capability": "ABACUS"})
    here = f"torch 1.0, here {record['torch']}; processor features ABACUS, here {record['cpu_capability']}"
    assert here in evaluate_run(path)[1]["notes"][0]
    assert here in Predictor(path).notes[0]
    run_job(apply_overrides(RunFolder(path).read_config(), ["trainer.epochs=2"]), path, [], resume=True)
    assert here in (path / "train.log").read_text()
    assert not evaluate_run(finished / "run")[1]["notes"]
    assert checkpoint.load(path / "checkpoints", "last")[1]["threads"] == RunFolder(path).read_summary()["threads"] == 1


def test_the_gpus_of_a_machine_are_no_difference_to_a_run_on_its_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "this one")
    record = {"gpus": ["another"]}
    assert describe_differences(record, torch.device("cpu")) == []
    assert describe_differences(record, torch.device("cuda:0")) == ["GPUs ['another'], here ['this one']"]


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "status.json", "checkpoints/last.safetensors"])
def test_what_is_no_regular_file_is_refused_at_once(name, finished, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(finished / "run", path)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(ValueError, match=f"{name} is a FIFO, not a file.*Remove it"):
        train(TrainOptions([f"resume={path}", "trainer.epochs=2"]))


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775)]
)
def test_files_have_the_modes_that_the_umask_leaves(mask, file, folder, finished, tmp_path):
    before = os.umask(mask)
    try:
        run_job(
            compose_config([*TINY, f"data.path={finished / 'd'}", "trainer.epochs=1"]),
            create_folder(tmp_path / "x/run"),
            [],
        )
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in (tmp_path / "x").rglob("*")}
    assert {name: oct(mode) for name, mode in modes.items() if mode not in (file, folder)} == {}
    assert modes["x/run/checkpoints/last.safetensors"] == modes["x/run/train.log"] == modes["x/run/.lock"] == file
    assert modes["x/run"] == modes["x/run/checkpoints"] == folder


def changed(source: Path, path: Path, *, image_size: int | None = None, **keys: object) -> Path:
    """A copy of a run as a stranger could send it: other values in its config, another image size in its checkpoint."""
    shutil.copytree(source, path)
    plain = RunFolder(path).read_config()
    for key, value in keys.items():
        section, _, name = key.partition("__")
        plain[section][name] = value
    write_yaml(path / "config.yaml", plain)
    if image_size:
        tensors, record = checkpoint.load(path / "checkpoints", "best")
        record["data"]["image_size"] = image_size
        checkpoint.save(path / "checkpoints", "best", tensors=tensors, record=record)
    return path


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory, finished) -> Path:
    """A run whose weights fit images of any size."""
    path = tmp_path_factory.mktemp("convolutional") / "run"
    overrides = ["data=image_folder", "data.cache=null", "model=all_conv", "model.width=0.1", "trainer.epochs=1"]
    run_job(compose_config([*overrides, "data.image_size=32", f"data.path={finished / 'd'}"]), create_folder(path), [])
    return path


def test_a_run_that_asks_for_more_memory_than_there_is_is_refused_before_it_takes_it(
    convolutional, finished, tmp_path, monkeypatch
):
    total = 2**31
    monkeypatch.setattr("cnnbench.data.memory.measure_memory", lambda: total)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = changed(convolutional, tmp_path / "huge", image_size=2**14)
    image = sorted((finished / "d/a").iterdir())[0]
    for use in (lambda: evaluate_run(huge), lambda: next(Predictor(huge).predict([str(image)] * 3))):
        with pytest.raises(ValueError, match=r"image_size=16384.* needs at least .* GB; the limit is .* GB \(half of"):
            use()
    wide = changed(convolutional, tmp_path / "wide", model__width=1000.0)
    with pytest.raises(
        CannotGoOn, match=r"model.width=1000 and model.depth=1 needs at least .* the limit is .* \(half"
    ):
        train(TrainOptions([f"resume={wide}", "trainer.epochs=2"]))
    with pytest.raises(ValueError, match=r"the checkpoint does not fit the model"):
        evaluate_run(wide)
    many = compose_config(["data=waves", "data.samples=1000000", "data.length=256", "model=mlp"])
    with pytest.raises(ValueError, match=r"data.samples=1000000 with data.length=256 needs at least 4.1 GB"):
        load_dataset(many)
    resized = compose_config(["data.image_size=1024"])
    with pytest.raises(ValueError, match=r"data.image_size=1024 of [\d,]+ images with 1 channel"):
        load_dataset(resized)
    total = 2**18  # for 17 small images are all that there are
    large = changed(convolutional, tmp_path / "large", trainer__batch_size=10**6)
    with pytest.raises(CannotGoOn, match=r"trainer.batch_size=1000000 with image_size=32 needs"):
        train(TrainOptions([f"resume={large}", "trainer.epochs=2"]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000, "kilobytes"


def test_the_data_that_a_run_asks_for_have_a_limit_that_their_owner_can_raise(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnbench.data.memory.measure_memory", lambda: 2**36)
    monkeypatch.setenv("CNNBENCH_MEMORY", "500KB")
    run_job(
        compose_config(["data=waves", "data.length=64", "data.samples=60", "model=mlp", "trainer.epochs=1"]),
        tmp_path,
        [],
    )
    assert evaluate_run(tmp_path)[1]["images"] == 10
    many = changed(tmp_path, tmp_path.with_name("many"), data__samples=10**6, data__length=256)
    for most, said in (("", "4.0"), ("3GB", "3.0")):
        monkeypatch.setenv("CNNBENCH_MEMORY", most)
        said = f"length=256 needs at least 4.1 GB; the limit is {said} GB .CNNBENCH_MEMORY=SIZE"
        with pytest.raises(ValueError, match=said):
            evaluate_run(many)
        with pytest.raises(CannotGoOn, match=said):
            train(TrainOptions([f"resume={many}", "trainer.epochs=2"]))
    with limit_data_of_run():
        monkeypatch.setenv("CNNBENCH_MEMORY", "5GB")
        refuse_beyond_memory(4.1e9, "data.samples")


def test_a_strangers_limit_of_memory_counts_only_below_ones_own(finished, tmp_path):
    own = changed(finished / "run", tmp_path / "own", data__memory_limit="1MB")
    strange = changed(finished / "run", tmp_path / "strange", data__memory_limit="900TB")
    limits = [load_config(RunFolder(path)).data.options["memory_limit"] for path in (own, strange)]
    assert limits == ["1MB", None]


def test_a_message_waits_for_no_lock_of_a_progress_bar(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("cnnbench"), "handlers", [])
    show_log()
    with tqdm.get_lock():
        said = threading.Thread(target=logging.getLogger("cnnbench").info, args=("hello",), daemon=True)
        said.start()
        said.join(5)
        assert not said.is_alive()
    assert capsys.readouterr().err == "hello\n"


@pytest.mark.parametrize("folder", ["checkpoints", "evaluations"])
def test_a_link_put_in_a_folders_place_meanwhile_is_not_followed(finished, folder, tmp_path, monkeypatch):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished / "run", run)
    shutil.copytree(run / "checkpoints", outside)
    for name in ("epoch_0001.safetensors", ".mine.tmp"):
        (outside / name).write_text("mine")
    before = contents(outside)

    def swap(*_: object) -> None:
        if (run / folder).exists():
            (run / folder).rename(run / "aside")
        (run / folder).symlink_to(outside)

    if folder == "checkpoints":
        config = compose_config([*TINY, f"data.path={finished / 'd'}", "trainer.epochs=3", "trainer.keep=1"])
        with pytest.raises(OSError, match=r"checkpoints is a symbolic link now"):
            run_job(config, run, [], resume=True, on_epoch=lambda row: swap() if row["epoch"] == 2 else None)
        with pytest.raises(ValueError, match=r"checkpoints is a symbolic link now"):
            checkpoint.load(run / "checkpoints", "best")
    else:
        monkeypatch.setattr(
            "cnnbench.experiment.measuring.measured_data.read_data", lambda path: (swap(), read_data(path))[1]
        )
        with pytest.raises(ValueError, match=r"evaluations cannot be written .*symbolic link"):
            evaluate_run(run)
    assert contents(outside) == before


def test_errors_within_an_opened_folder_name_the_folder(tmp_path):
    (tmp_path / "taken").mkdir()
    told = pytest.raises(OSError, match=rf"^\[Errno 21\] {tmp_path}/taken could not be written")
    with told, open_folder(tmp_path) as inside, write_atomically(inside / "taken"):
        pass


@pytest.mark.parametrize("said", ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_what_a_gpu_says_when_its_memory_runs_out_is_known(said):
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))

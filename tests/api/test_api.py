"""The Python API: the same runs as the commands, errors as exceptions, and nothing left behind."""

import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from run_builders import write_run
from safetensors.torch import load_file
from torch import nn

import cnnbench as cb
from cnnbench.api import html
from cnnbench.api.overrides import write_overrides
from cnnbench.cli.compose import compose_config, compose_request
from cnnbench.data import Split, load_source
from cnnbench.data.preparation import resize
from cnnbench.data.sets.arrays import convert_images, read_arrays
from cnnbench.runs.contents import read_predictions
from conftest import ROOT, assert_same_tensors, without_times

EPOCH = {"trainer.epochs": 1}
log = logging.getLogger("cnnbench")


class Small(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 81, classes))

    def forward(self, images):
        return self.layers(images)


class Wrapping(Small):
    def forward(self, images):
        return {"logits": self.layers(images)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cb.train(model="mlp", folder=tmp_path_factory.mktemp("api") / "run", **EPOCH)


@pytest.fixture(scope="module")
def digits():
    return load_source("digits", root="", download=False)


def read_process():
    """What belongs to the program and not to a call."""
    return {
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "log": (log.level, log.propagate, list(log.handlers)),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "generator": torch.get_rng_state().tolist(),
        "switches": (torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "hydra": GlobalHydra.instance().hydra,
    }


def test_a_run_is_that_of_the_command_and_leaves_the_process_as_it_was(run, cnnbench, tmp_path):
    torch.set_deterministic_debug_mode("default")  # other tests leave another mode
    before = read_process()
    cb.train(model="mlp", folder=tmp_path / "api", progress=False, **EPOCH)
    assert read_process() == before
    assert cnnbench("train", "model=mlp", "trainer.epochs=1", f"hydra.run.dir={tmp_path}/command").returncode == 0
    for other in (tmp_path / "api", tmp_path / "command"):
        assert_same_tensors(run.folder, other)
        assert without_times(other) == without_times(run.folder)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, cnnbench; assert not {'torch', 'hydra', 'numpy', 'cnnbench.api'} & {*sys.modules}\n"
    code += "cnnbench.compare; assert not {'torch', 'matplotlib'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_the_names_of_the_api():
    public = re.findall(r"import (\w+) as \1\n", (ROOT / "src/cnnbench/api/__init__.py").read_text())
    assert sorted(public) == cb.__all__ == [name for name in dir(cb) if name in cb.__all__]
    assert "from cnnbench.api import *" in (ROOT / "src/cnnbench/__init__.pyi").read_text(), "for type checkers"
    assert all(getattr(cb, name).__doc__ for name in cb.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        cb.tarin  # noqa: B018


def test_a_run_has_its_tables_with_pandas_and_without(run, monkeypatch):
    assert (run.state, run.summary["model"], run.config["trainer"]["epochs"]) == ("finished", "mlp", 1)
    assert run.metrics.loc[0, "epoch"] == 1
    assert list(run.per_class["class"]) == list(run.confusion.index) == run.class_names == [*"0123456789"]
    assert run.per_class["support"].sum() == run.confusion.to_numpy().sum() == 360
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert [row["epoch"] for row in run.metrics] == [1]
    assert run.per_class[0]["class"] == "0"
    assert run.confusion.shape == (10, 10)


def test_predictions_are_those_of_the_test_whatever_holds_the_images(run, digits, tmp_path):
    expected = read_predictions(run.folder)
    images = digits.test.images
    found = run.predict(images, top=2)
    assert [int(one.label) for one in found] == expected["predictions"].tolist()
    np.testing.assert_allclose([one.probability for one in found], expected["probabilities"].max(1), rtol=1e-6)
    assert all(len(one.top) == 2 and one.top[0] == (one.label, one.probability) for one in found)
    grey = images[:3, 0].numpy()
    for number, pixels in enumerate(grey):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    colour = np.stack([grey] * 3, -1)
    three = run.predict(images[:3])
    assert all(run.predict(same) == three for same in (grey, [*grey], grey / 255))
    for other in (colour, [*colour], [Image.fromarray(one) for one in grey]):  # Pillow resizes them, as it does files
        assert [one.label for one in run.predict(other)] == [one.label for one in found[:3]]
    bad, *good = run.predict(tmp_path)[::-1]
    assert [one.label for one in good[::-1]] == [one.label for one in found[:3]]
    assert (bad.label, bad.file, "image" in bad.error) == (None, str(tmp_path / "bad.png"), True)
    assert run.network().training is False


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: cb.train(model="lenet"), "unknown model 'lenet'. Did you mean 'lenet5'"),
        (lambda run: cb.train(**{"trainer.epoch": 1}), "Did you mean 'epochs'"),
        (lambda run: cb.train(seed=[0, 1]), "seed=.*cnnbench.sweep runs each"),
        (lambda run: cb.train("seed=0,1"), "seed=0,1 names several values.*cnnbench.sweep runs each"),
        (lambda run: cb.train("sweep.seeds=1,2"), r"sweep.seeds=1,2 names several values: give one for the whole"),
        (lambda run: cb.train("experiment=mlp_vs_lenet5", data="digits"), "several runs, which cnnbench.sweep runs"),
        (lambda run: cb.train(model=3), "model=3: must be a model's name or a torch module"),
        (lambda run: cb.train(model=Small(classes=7), progress=False), r"Small gives outputs of shape \(2, 7\)"),
        (lambda run: cb.train(model=nn.LazyLinear(10)), "lazy layers"),
        (lambda run: cb.train(model=Small(), **{"model.width": 2}), "model.width=2: must be 1"),
        (lambda run: cb.train(tags=object()), "tags=.*must be None, a truth value, a number"),
        (lambda run: cb.sweep(model=Small()), "model: must be one or more names.*cnnbench.compare"),
        (lambda run: cb.load("nowhere"), "'nowhere' is not a folder"),
        (lambda run: cb.load_sweep(run.folder), "is not the folder of a sweep"),
        (lambda run: cb.compare([]), "at least one run"),
        (lambda run: cb.compare([run, None]), "None is neither a run"),
        (lambda run: cb.compare([run], baseline="mlp"), "--baseline 'mlp' names no group"),
        (lambda run: run.predict([]), "at least one image"),
        (lambda run: run.predict("nowhere.png"), "'nowhere.png' does not exist"),
        (lambda run: run.predict(np.zeros((1, 8, 8)), top=11), "--top 11: must be from 1 to 10"),
        (lambda run: run.evaluate("tset"), "--split tset"),
        (lambda run: run.evaluate(data=(np.zeros((2, 8, 8), np.uint8), ["a", "b"])), "labels have 'a', 'b', which"),
        (lambda run: run.predict(None), "must be paths, images of Pillow or arrays; this is NoneType"),
        (lambda run: run.predict([5]), "one is int"),
        (lambda run: run.predict(Image.new("L", (0, 8))), "0×8: must have pixels"),
        (lambda run: run.predict(np.zeros((1, 8, 8)), top=1.5), "--top 1.5: must be from 1 to 10"),
        (lambda run: run.predict(np.zeros((1, 8, 8)), batch_size=0), "batch_size=0: must be a whole number"),
        (lambda run: run.network(device="gpu"), "device=gpu: this machine has no such device. Use one of auto, cpu"),
        (lambda run: run.network(model=Small()), "must be left out, because the network of this run is mlp"),
        (lambda run: run.evaluate(rot="x"), "unknown option 'rot'. Did you mean 'root'"),
        (lambda run: cb.compare([run], target="x"), "target='x': must be a number"),
        (lambda run: cb.compare([run], baseline=3), "baseline=3: must be text"),
        (lambda run: run.evaluate(abstain="x"), "abstain='x': must be a number"),
        (lambda run: cb.compare([run]).save(3), "3: must be the path of a folder"),
        (lambda run: cb.load_plugins(None), "plug-in None: must be a file"),
        (lambda run: cb.train(5), "override 5: must be text"),
        (lambda run: cb.Sweep(3), "3: must be the path of a folder"),
        (lambda run: cb.load(None), "None: must be the path of a folder"),
        (lambda run: cb.train(folder=b"x"), "b'x': must be the path of a folder"),
        (lambda run: cb.sweep(folder="a${b}"), "folder='a.*must be a path without"),
        (lambda run: cb.train(model=nn.Flatten(0), progress=False), "has no parameters that can be trained"),
        (lambda run: cb.train(model=Wrapping(), progress=False), "Wrapping gives dict for images: must be a tensor"),
        (lambda run: run.resume(seed=1), "seed=1: a resumed run keeps every setting"),
        (lambda run: run.resume(data="waves"), "data=waves: a resumed run keeps every setting"),
        (lambda run: cb.train(name="${x}"), r"name='\$\{x\}': interpolations are not accepted"),
        (lambda run: cb.train(tags=["a", "${seed}"]), r"tags='\$\{seed\}': interpolations are not accepted"),
        (lambda run: run.export("onx"), "unknown format 'onx'. Did you mean 'onnx'"),
        (lambda run: run.export(data="digits"), "data=digits: must be left out"),
    ],
)
def test_an_error_has_the_words_of_the_command(run, call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cb.InvalidRequest, match=message) as caught:
        call(run)
    assert isinstance(caught.value, cb.Error)
    assert list(tmp_path.iterdir()) == []


def test_a_run_stays_open_when_the_program_changes_its_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.folder.parent)
    opened = cb.load(run.folder.name)
    monkeypatch.chdir(tmp_path)
    assert opened.summary == run.summary
    assert opened.evaluate(out="mine", progress=False).folder == Path("mine")
    assert len(cb.compare(opened).groups) == 1


def test_values_arrive_as_they_are():
    settings = {
        "name": "a,b 'c'", "tags": ["x,y", "z"], "trainer.patience": None, "data.permute_pixels": True,
        "optimizer.lr": np.float32(0.5), "data.image_size": (28, 20), "trainer.epochs": np.int64(3),
    }  # fmt: skip
    config = compose_config(write_overrides(["seed=4"], settings))
    assert (config.name, config.tags, config.seed) == ("a,b 'c'", ["x,y", "z"], 4)
    assert (config.data.image_size, config.optimizer.lr, config.trainer.epochs) == ([28, 20], 0.5, 3)
    assert config.data.permute_pixels is True
    swept = {"seed": range(2), "name": ["a,b", "c"], "tags": [["x"], ["y,z"]], "optimizer.lr": [1e-05]}
    jobs = compose_request(write_overrides([], swept, sweeping=True), multirun=True).jobs
    assert {(job.config.seed, job.config.name, *job.config.tags) for job in jobs} == {
        (seed, name, tag) for seed in (0, 1) for name in ("a,b", "c") for tag in ("x", "y,z")
    }
    assert {job.config.optimizer.lr for job in jobs} == {1e-5}


def test_a_module_is_trained_as_a_copy_and_needed_again(run, cnnbench, tmp_path, digits):
    module = Small()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    own = cb.train(model=module, folder=tmp_path / "own", progress=False, **EPOCH)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert own.config["model"]["class_name"].endswith("test_api.Small")
    assert len(own.config["model"]["state_sha256"]) == 64
    again = own.network(model=Small())
    assert not torch.equal(again.layers[0].weight, module.layers[0].weight)
    images = digits.test.images[:5]
    larger = resize(Split(images, torch.zeros(5)), 28, 28).images
    labels = again(larger / 127.5 - 1).argmax(1).tolist()
    assert [int(one.label) for one in own.predict(images, model=Small())] == labels
    assert own.evaluate(model=Small(), progress=False)["accuracy"] == own.summary["test/accuracy"]
    with pytest.raises(cb.InvalidRequest, match=r"was an object of a Python program.*pass it again"):
        own.network()
    with pytest.raises(cb.InvalidRequest, match="Linear cannot take images of 1×28×28"):
        own.predict(images, model=nn.Linear(3, 3))
    with pytest.raises(cb.InvalidRequest, match="pass it again from Python"):
        own.resume(**{"trainer.epochs": 2})
    done = cnnbench("evaluate", str(own.folder))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    file = own.export("state_dict", model=Small(), progress=False)
    assert torch.equal(load_file(file)["layers.0.weight"], again.layers[0].weight)
    with pytest.raises(cb.InvalidRequest, match="pass it again from Python"):
        own.export("state_dict", force=True)
    assert len(own.resume(model=Small(), progress=False, **{"trainer.epochs": 2}).metrics) == 2
    assert len(cb.compare([own, run]).groups) == 2


def test_arrays_give_the_figures_of_the_same_images_in_files(run, tmp_path, digits):
    train, test = ((split.images.numpy(), split.labels.numpy()) for split in (digits.train, digits.test))
    settings = {"folder": tmp_path / "own", "progress": False, "data.image_size": 28, **EPOCH}
    own = cb.train(model="mlp", data=(train, test), **settings)
    assert_same_tensors(own.folder, run.folder)
    assert own.summary["test_set_sha256"] == run.summary["test_set_sha256"]
    assert len(own.config["data"]["sha256"]) == 64
    assert own.evaluate("val", data=(train, test), progress=False)["images"] == 144
    mixed = tuple(np.concatenate([first[:50], second[:70]]) for first, second in zip(train, test, strict=True))
    evaluation = own.evaluate(data=mixed, progress=False)
    assert (evaluation["images"], "the run was" in evaluation.notes[0]) == (70, True), "it has learned from the others"
    assert run.evaluate(data=test, progress=False)["accuracy"] == run.summary["test/accuracy"]
    assert own.export("exported", data=(train, test), out=tmp_path / "own.pt2", progress=False).is_file()
    with pytest.raises(cb.InvalidRequest, match="pass them again from Python"):
        own.evaluate()
    with pytest.raises(cb.InvalidRequest, match="unknown data 'arrays'"):
        cb.train(data="arrays")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 8), np.uint8), "must be N×H×W"),
        (np.zeros((4, 3, 8, 3), np.uint8), "either axis could be"),
        (np.zeros((4, 8, 8, 8), np.uint8), "no axis of at most 4"),
        (np.full((4, 8, 8), 255.0), "must lie in 0…1, and these reach from 255 to 255"),
        (np.full((4, 8, 8), np.nan), "must lie in 0…1"),
        (np.zeros((4, 8, 8), np.int64), "images of int64: must be uint8"),
        (np.zeros((4, 0, 8), np.uint8), "must have pixels"),
    ],
)
def test_other_arrays_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        convert_images(images)


def test_arrays_are_read_by_one_rule(digits):
    grey = digits.test.images
    colour = grey.expand(-1, 3, -1, -1)
    assert torch.equal(convert_images(grey.squeeze(1).float() / 255), grey)
    assert torch.equal(convert_images(colour.permute(0, 2, 3, 1).numpy()), colour)
    data = read_arrays((grey, [f"d{label}" for label in digits.test.labels.tolist()]))
    assert data.class_names == tuple(f"d{number}" for number in range(10))
    assert read_arrays((grey[:3], [10, 9, 10])).class_names == ("9", "10")
    with pytest.raises(ValueError, match="360 images and 2 labels"):
        read_arrays((grey, [0, 1]))
    with pytest.raises(ValueError, match="labels must be whole numbers or text"):
        read_arrays((grey, np.zeros(360)))
    with pytest.raises(ValueError, match="must have the same shape; these have 1×8×8 and 3×8×8"):
        read_arrays(((grey[:2], [0, 1]), (colour[:2], [0, 1])))


class Interrupting(logging.Handler):
    """Sends Ctrl-C after the first epoch."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 1/"):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_a_run_that_resumes_to_the_bits_of_one_in_another_thread(tmp_path):
    options = {"model": "mlp", "progress": False, "trainer.epochs": 2}
    thread = threading.Thread(target=lambda: cb.train(folder=tmp_path / "whole", **options))
    thread.start()
    thread.join()
    handler, before = Interrupting(), signal.getsignal(signal.SIGINT)
    log.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt, match="resume with: cnnbench train resume="):
            cb.train(folder=tmp_path / "cut", **options)
    finally:
        log.removeHandler(handler)
    assert signal.getsignal(signal.SIGINT) is before
    cut = cb.load(tmp_path / "cut")
    assert cut.state == "interrupted"
    with pytest.raises(cb.InvalidRequest, match="the run is not finished"):
        cut.summary  # noqa: B018
    cut.resume(progress=False)
    assert_same_tensors(cut.folder, tmp_path / "whole")


def test_a_failed_run_says_where_it_lies(tmp_path):
    with pytest.raises(cb.RunFailed, match="Diverged: the loss became") as caught:
        cb.train(model="mlp", folder=tmp_path / "run", progress=False, **EPOCH, **{"optimizer.lr": 1e30})
    assert cb.load(caught.value.folder).state == "failed"


def test_a_notebook_gets_pages_that_hold_everything_and_escape_names(run, tmp_path, monkeypatch):
    report = cb.compare([run])
    report.study.groups[0].label = "<script>alert(1)</script>"
    pages = [run._repr_html_(), report._repr_html_(), html.render_message("<b>", "<i>")]
    for page in pages:
        assert page.startswith('<div class="cnnbench">')
        assert "<script" not in page
        assert not re.search(r'(src|href)="(?!data:)', page)
        assert not re.search(r"\bid=", page), "ids of two outputs would meet in one notebook"
    assert pages[0].count("data:image/png") == 3
    assert pages[1].count("data:image/svg+xml") == 2
    assert "&lt;b&gt;" in pages[2]
    (run.folder / "summary.json").rename(tmp_path / "summary.json")
    try:
        assert "is not finished" in run._repr_html_()
    finally:
        (tmp_path / "summary.json").rename(run.folder / "summary.json")


def test_the_code_of_the_pages_runs_from_top_to_bottom(tmp_path, digits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(digits.test.images[0, 0].numpy()).save("digit.png")
    for seed in range(6):
        write_run(tmp_path / f"SWEEP/mlp{seed}", seed, 900 + seed, model__name="mlp")
        write_run(tmp_path / f"SWEEP/lenet5{seed}", seed, 950 - seed)
    for page in ("README.md", "docs/how-to/python.md"):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        Path("script.py").write_text("\n".join(blocks))
        # A script without `if __name__ == "__main__"`, which the processes of its sweep must not run again.
        runpy.run_path("script.py", run_name="__main__")
    assert Path("my-report/report.html").is_file()

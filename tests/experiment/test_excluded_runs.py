"""A run that left images out: its folder is enough to resume and measure it, and a list can be measured against."""

import hashlib
import json
import re
import shutil

import pytest

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.resume import apply_overrides
from cnnbench.experiment.run import run_job
from cnnbench.runs.folder import RunFolder
from conftest import assert_same_tensors

LIST = "split,index\ntrain,3\ntrain,700\ntest,0\ntest,9\n"


def train(folder, file, *overrides):
    folder.mkdir()
    return run_job(compose_config(["model=mlp", "trainer.epochs=1", f"data.exclude={file}", *overrides]), folder, [])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, whose list is gone."""
    root = tmp_path_factory.mktemp("excluded")
    (root / "list.csv").write_text(LIST)
    train(root / "run", root / "list.csv")
    train(root / "whole", root / "list.csv", "trainer.epochs=2")
    (root / "list.csv").unlink()
    return root


def test_a_run_records_what_it_left_out(trained):
    record = json.loads((trained / "run/data.json").read_text())
    digest = hashlib.sha256(LIST.encode()).hexdigest()
    assert record["excluded"] == {"train": 2, "test": 2, "sha256": digest}
    assert record["splits"]["test"]["images"] == 358
    assert (trained / "run/excluded.csv").read_text() == LIST


def test_a_run_is_resumed_without_its_list_to_the_same_bits(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    run_job(apply_overrides(run.read_config(), ["trainer.epochs=2"]), run.path, [], resume=True)
    assert_same_tensors(run.path, trained / "whole")
    assert run.read_config()["data"]["exclude"] == str(trained / "list.csv")
    with pytest.raises(ValueError, match=r"data.exclude=other.csv: a resumed run keeps every setting"):
        apply_overrides(run.read_config(), ["data.exclude=other.csv"])


def test_a_run_is_measured_without_its_list_and_says_what_others_change(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "other.csv").write_text("split,index\ntest,0\ntest,1\ntest,2\ntrain,5\n")
    _, figures = evaluate_run(tmp_path / "run", DataChoice(exclude=str(tmp_path / "other.csv")))
    summary = RunFolder(tmp_path / "run").read_summary()
    assert (figures["images"], figures["accuracy"], figures["notes"]) == (358, summary["test/accuracy"], [])
    without = figures["without_excluded"]
    assert (figures["excluded"], without["images"]) == (2, 356)  # the run was never tested on the first
    (tmp_path / "both.csv").write_text(LIST + "test,1\ntest,2\n")
    again = train(tmp_path / "again", tmp_path / "both.csv")
    assert without["accuracy"] == again["test/accuracy"]
    with pytest.raises(ValueError, match=r"--exclude='.*none.csv' cannot be read"):
        evaluate_run(tmp_path / "run", DataChoice(exclude=str(tmp_path / "none.csv")))


def test_validation_images_are_listed_as_training_images(trained, tmp_path):
    (tmp_path / "list.csv").write_text("split,index\n" + "".join(f"train,{index}\n" for index in range(1437)))
    choice = DataChoice(split="val", exclude=str(tmp_path / "list.csv"))
    with pytest.raises(ValueError, match="the list names all images of the split"):
        evaluate_run(trained / "run", choice)


def test_the_command_shows_both_figures(cnnbench, trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "list.csv").write_text("split,index\ntest,1\n")
    done = cnnbench("evaluate", "run", "--exclude", "list.csv")
    assert done.returncode == 0, done.stderr
    assert re.search(r"images +358 +without the excluded: 357\n", done.stdout), done.stdout

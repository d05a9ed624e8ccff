"""`latest`, folders of several runs, sweeps gone on with from their folder, and seeds added after a look."""

import json
import os
import sys

import pytest

from cnnbench.cli import compose, main
from cnnbench.cli.run_folders import find_folder, find_unfinished
from cnnbench.config.schema import to_dict
from cnnbench.report.reading import read_study
from cnnbench.runs.folder import FINISHED, INTERRUPTED, RUNNING, RunFolder
from cnnbench.storage.plain_data import read_json
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import find_with_other_seeds, plan_jobs

QUICK = ["model=mlp", "trainer.epochs=1", "data.train_limit=100"]


def jobs_of(*overrides):
    return plan_jobs(
        (to_dict(job.config), job.overrides) for job in compose.compose_request(overrides, multirun=True).jobs
    )


def run_at(path, updated, state=FINISHED):
    """A run that said last how it stood at a time, whatever the file system thinks of it."""
    path.mkdir(parents=True)
    RunFolder(path).start({"seed": 0}, [])
    RunFolder(path).set_status(state)
    said = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(said | {"updated": updated}))
    for file in path.iterdir():
        os.utime(file, (0, 0))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entered(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cnnbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_latest_is_what_was_written_last_in_utc_whatever_its_name(here):
    with pytest.raises(ValueError, match="there is no run below outputs/"):
        find_folder("latest")
    run_at(here / "outputs/a/2026-10-25_02-50-00_aaaaaa", "2026-10-25T00:50:00+00:00")
    last = run_at(here / "outputs/a/2026-10-25_02-10-00_bbbbbb", "2026-10-25T01:10:00+00:00")
    assert find_folder("latest").samefile(last)
    (last / "status.json").write_text("")
    os.utime(last / "status.json", (0, 0))
    assert not find_folder("latest").samefile(last), "without a status, its files say when"
    running = run_at(here / "outputs/b/x", "2026-10-24T00:00:00+00:00", RUNNING)
    (running / "metrics.csv").write_text("")
    assert find_folder("latest").samefile(running), "it is being written just now"
    (here / "outputs/mlflow.artifacts/1/artifacts").mkdir(parents=True)
    (here / "outputs/mlflow.artifacts/1/artifacts/config.yaml").write_text("")
    assert find_folder("latest").samefile(running), "a tracker's copy is no run"
    run_at(here / "outputs/claims/mnist-quick/runs/0", "2026-10-26T00:00:00+00:00", RUNNING)
    assert find_folder("latest").samefile(running), "the user did not train a claim's runs"
    assert str(find_folder("other")) == "other"
    (here / "latest").mkdir()
    assert str(find_folder("latest")) == "latest", "what exists is taken literally"


def test_the_latest_of_a_sweep_is_the_sweep_and_of_a_study_the_study(here):
    sweep = SweepFolder.create(here / "outputs/sweep/s", jobs_of(*QUICK, "seed=0,1"), argv=[])
    run = run_at(sweep.path / "1", "2030-01-01T00:00:00+00:00")
    assert find_folder("latest").samefile(sweep.path)
    assert find_folder("latest", run=True).samefile(run)
    run_at(here / "outputs/tune/t/0", "2031-01-01T00:00:00+00:00")
    (here / "outputs/tune/t/study.yaml").write_text("")
    assert find_folder("latest").samefile(sweep.path)
    assert find_folder("latest", study=True).samefile(here / "outputs/tune/t")


def test_of_several_runs_the_unfinished_one_is_resumed(here, monkeypatch, capsys):
    run_at(here / "runs/a", "2026-01-01T00:00:00+00:00")
    assert find_unfinished(here / "runs") is None
    assert entered(monkeypatch, "train", "resume=runs") == 0
    assert "all runs in runs are finished: nothing to resume" in capsys.readouterr().err
    left = run_at(here / "runs/b c", "2026-01-02T00:00:00+00:00", INTERRUPTED)
    assert find_unfinished(here / "runs") == left
    run_at(here / "runs/d", "2026-01-03T00:00:00+00:00", INTERRUPTED)
    assert entered(monkeypatch, "train", "resume=runs") == 2
    told = capsys.readouterr().err
    assert "runs holds 2 unfinished runs. Resume one with:" in told
    assert "cnnbench train 'resume=runs/b c'\n  cnnbench train resume=runs/d" in told
    (here / "empty").mkdir()
    assert find_unfinished(here / "empty") == here / "empty"


def test_a_sweep_resumes_from_its_folder_and_seeds_added_after_a_look_cause_a_warning(here, cnnbench):
    sweep = SweepFolder.create(here / "outputs/sweep/s", jobs_of(*QUICK, "seed=0,1"), argv=["cnnbench"]).path
    went_on = cnnbench("train", "resume=outputs/sweep/s")
    assert went_on.returncode == 0, went_on.stderr
    assert "Fix the number of seeds" not in went_on.stderr
    assert [read_json(sweep / number / "summary.json")["seed"] for number in "01"] == [0, 1]
    assert went_on.stdout.splitlines()[-1] == "outputs/sweep/s"

    parent = sweep.parent
    assert find_with_other_seeds(parent, jobs_of(*QUICK, "sweep.seeds=3")) == sweep
    assert find_with_other_seeds(parent, jobs_of(*QUICK, "seed=5,6")) == sweep
    assert find_with_other_seeds(parent, jobs_of(*QUICK, "seed=0,1")) is None
    assert find_with_other_seeds(parent, jobs_of(*QUICK, "seed=0,1,2", "model.width=2")) is None
    more = cnnbench("train", "-m", *QUICK, "seed=2")
    assert "Fix the number of seeds before you look at any result" in more.stderr
    assert not any("come from" in note.text for note in read_study([sweep]).notes)
    together = read_study([sweep, here / more.stdout.splitlines()[-1]])
    assert any("come from 2 sweeps." in note.text for note in together.notes)

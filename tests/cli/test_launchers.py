"""Hydra's launchers, each with real workers: joblib's processes, submitit's local executor, a local instance of Ray."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf

from cnnbench.cli import choices
from cnnbench.cli.compose import session
from cnnbench.cli.sweep import launchers
from cnnbench.processes.cores import count_cores, limit_cores
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json
from cnnbench.training import checkpoint

JOBS = ["train", "-m", "model=mlp", "trainer.epochs=2", "data.train_limit=200", "seed=0,1"]


def states(folder):
    return [row["state"] for row in read_csv(folder / "results.csv")]


@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        (["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=2", "trainer.devices=2"], "submitit"),
        (["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2"], "ray"),
    ],
)
def test_a_sweep_by_a_launcher_is_the_sweep_with_one_thread_a_job(launcher, package, fresh_cnnbench, tmp_path):
    pytest.importorskip(package)
    done = fresh_cnnbench(*JOBS, *launcher, "hydra.sweep.dir=sweep", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "sweep"
    assert states(tmp_path / "sweep") == ["finished", "finished"]
    runs = [RunFolder(tmp_path / "sweep" / str(number)) for number in range(2)]
    assert [run.read_summary()["seed"] for run in runs] == [0, 1]
    assert {read_json(run.path / "env.json")["torch_threads"] for run in runs} == {1}
    assert "2 of 2 finished" in done.stderr


def test_joblib_loses_a_killed_job_alone_saves_the_others_at_a_signal_and_continues(fresh_cnnbench, tmp_path):
    pytest.importorskip("joblib")
    arguments = [*JOBS[:-1], "seed=0,1,2", "trainer.epochs=40", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    arguments += ["hydra.sweep.dir=sweep", "data.root=data"]
    command = [sys.executable, "-m", "cnnbench", *arguments]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while not all((tmp_path / "sweep" / name / "metrics.csv").exists() for name in "01"):
            assert time.monotonic() < deadline, "two jobs are to run side by side"
            time.sleep(0.02)
        os.kill(json.loads((tmp_path / "sweep/0/status.json").read_text())["pid"], signal.SIGKILL)
        while not (tmp_path / "sweep/2/metrics.csv").exists():
            assert time.monotonic() < deadline, "the next job is to take its place"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)  # to all of them, as `timeout` and Slurm do
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert not list((tmp_path / "sweep").rglob(".*.tmp"))
    before = states(tmp_path / "sweep")
    assert before[0] == "failed"
    assert set(before[1:]) <= {"interrupted", "finished"}
    assert not (tmp_path / "sweep" / launchers.STOP).exists()

    done = fresh_cnnbench(*arguments)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path / "sweep") == ["finished"] * 3
    assert "resumed" in (tmp_path / "sweep/0/train.log").read_text()


def test_a_launcher_whose_package_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(session.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"hydra/launcher=ray needs .* pip install 'cnnbench\[ray\]'"):
        session.find_launcher(["hydra/launcher=ray"])
    assert session.find_launcher(["seed=1"]) == "basic"


def test_every_launcher_has_a_yaml_that_says_how_to_get_it():
    files = {path.stem: path for path in (choices.find_config_dir() / "hydra/launcher").glob("*.yaml")}
    assert files.keys() == session.PACKAGES.keys()
    for name, (package, extra) in session.PACKAGES.items():
        assert f"pip install 'cnnbench[{extra}]'" in files[name].read_text().splitlines()[0]
        assert package in OmegaConf.load(files[name])._target_


@pytest.mark.parametrize(
    ("name", "config", "at_once", "threads"),
    [
        ("joblib", {"n_jobs": -1}, 4, None),
        ("joblib", {"n_jobs": -2}, 3, None),
        ("joblib", {"n_jobs": 2}, 2, None),
        ("joblib", {"n_jobs": 9}, 9, None),
        ("ray", {"ray": {"init": {"num_cpus": 3}, "remote": {"num_cpus": 2}}}, 3, 2),
        ("submitit_slurm", {"array_parallelism": 64, "cpus_per_task": 4}, 64, 4),
    ],
)
def test_what_a_job_may_use_is_what_its_launcher_gives_it(name, config, at_once, threads, monkeypatch):
    monkeypatch.setattr(launchers, "count_cores", lambda: 4)
    node = OmegaConf.create(config)
    assert launchers.count_jobs_at_once(name, node) == at_once
    assert launchers.choose_room(name, node, at_once).threads == threads
    if name == "joblib":
        assert launchers.choose_room(name, node, at_once).cores * min(at_once, 4) <= 4, (
            "never more processes than cores"
        )


@pytest.mark.parametrize(("n_jobs", "threads", "at_once"), [(-1, 2, 2), (-1, 3, 1), (-2, 2, 1), (-1, 9, 1), (3, 2, 3)])
def test_joblib_runs_as_many_jobs_as_the_cores_have_threads_for(n_jobs, threads, at_once, monkeypatch):
    monkeypatch.setattr(launchers, "count_cores", lambda: 4)
    assert launchers.count_jobs_at_once("joblib", OmegaConf.create({"n_jobs": n_jobs}), threads) == at_once


def test_a_job_has_the_same_bits_alone_and_side_by_side(cnnbench, fresh_cnnbench, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ["train", "-m", "model=resnet_mini", "data.image_size=28", *JOBS[3:5], "trainer.epochs=1"]
    weights = []
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    for name, launcher, run in (("alone", ["seed=0"], cnnbench), ("beside", ["seed=0,1", *joblib], fresh_cnnbench)):
        done = run(*sweep, *launcher, f"hydra.sweep.dir={name}", OMP_NUM_THREADS="2")
        assert done.returncode == 0, done.stderr
        assert RunFolder(tmp_path / name / "0").read_threads() == min(2, count_cores()), (
            "585 million multiply-accumulates a batch"
        )
        weights.append(checkpoint.load(tmp_path / name / "0/checkpoints", "last")[0])
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_process_counts_no_more_cores_than_its_limit():
    here = count_cores()
    limit_cores(1)
    try:
        assert count_cores() == 1
    finally:
        limit_cores(None)
    assert count_cores() == here

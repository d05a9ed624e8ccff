"""Jobs of a sweep that differ only in their seeds, in one process."""

import os
import signal
from contextlib import closing
from dataclasses import replace

import pytest
from test_sweep import jobs_of, made

from cnnbench.config.schema import from_dict
from cnnbench.experiment.run import run_job
from cnnbench.processes.capacity import Capacity, Need
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RunFolder
from cnnbench.storage.plain_data import read_yaml
from cnnbench.sweeps.supervisor import Supervisor
from cnnbench.sweeps.together import check_groups, plan_groups
from conftest import assert_same_tensors

TOGETHER = ["model=mlp", "model.width=0.25", "trainer.epochs=1", "data.train_limit=200", "sweep.together=true"]


def test_groups_hold_jobs_that_differ_only_in_their_seed():
    pair = jobs_of(*TOGETHER, "optimizer.lr=0.1,0.2")
    seeds = [{"seed": seed} for seed in range(30)] + [{"seeds": {"order": seed}} for seed in range(1, 11)]
    jobs = [replace(job, config={**job.config, **own}) for own in seeds for job in pair]
    groups = plan_groups(jobs)
    assert [len(group) for group in groups] == [20, 20, 20, 20]
    assert [{job.config["optimizer"]["lr"] for job in group} for group in groups] == [{0.1}, {0.1}, {0.2}, {0.2}]
    apart = [replace(job, config={**job.config, "sweep": {"together": False}}) for job in pair]
    assert plan_groups([*apart, *jobs]) == [*groups, [apart[0]], [apart[1]]]


def test_a_group_too_small_to_be_faster_on_the_cpu_is_refused():
    jobs = jobs_of(*TOGETHER, "seed=0,1,2,3,4,5,6,7")
    check_groups(jobs, {job.name: Need() for job in jobs})
    check_groups(jobs[:2], {job.name: Need(device="cuda:0") for job in jobs})
    with pytest.raises(
        ValueError, match="on the CPU, 7 jobs that differ only in their seeds train more slowly together"
    ):
        check_groups(jobs[:7], {job.name: Need() for job in jobs})


def test_a_killed_and_interrupted_group_resumes_to_the_bits_of_a_job_alone(job_server, tmp_path):
    sweep, capacity = made(tmp_path / "s", *TOGETHER, "trainer.epochs=30", "seed=0,1"), Capacity()
    killed = []

    def is_saved():
        return all(any((tmp_path / "s" / job.name / "checkpoints").glob("last.*")) for job in sweep.jobs)

    def kill():
        if is_saved() and not killed:
            killed.append(RunFolder(tmp_path / "s/1").read_status()["pid"])
            os.kill(killed[0], signal.SIGKILL)

    def stop():
        raise KeyboardInterrupt

    def run(tick=lambda: None):
        with closing(Supervisor(sweep, job_server, argv=["cnnbench"], tick=tick, capacity=capacity)) as supervisor:
            return supervisor.run_all(sweep.jobs)

    assert run(kill) == dict.fromkeys("01", FAILED)
    assert "SIGKILL" in RunFolder(tmp_path / "s/0").read_status()["message"]
    with pytest.raises(KeyboardInterrupt):
        run(stop)
    assert [sweep.read_state(job) for job in sweep.jobs] == [INTERRUPTED] * 2
    assert run() == dict.fromkeys("01", FINISHED)
    assert capacity._peaks == {}, "the memory of a group says nothing about a single job"
    (tmp_path / "alone").mkdir()
    run_job(from_dict(sweep.jobs[1].config), tmp_path / "alone", [], draw=lambda pictures, wait=True: None)
    assert_same_tensors(tmp_path / "s/1", tmp_path / "alone")


def test_the_command_trains_them_together_and_each_run_records_it(cnnbench, tmp_path):
    made(tmp_path / "s", *TOGETHER, "seed=0,1")  # one that goes on is not refused for having few jobs left
    done = cnnbench("train", *TOGETHER, "-m", "seed=0,1", "hydra.sweep.dir=s")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 finished" in done.stderr
    assert read_yaml(tmp_path / "s/1/config.yaml")["sweep"] == {"together": True}

"""Jobs of a sweep at once: when one may start beside others, their bits, and what happens if one of them breaks."""

import dataclasses
import os
import resource
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_sweep import LONG, QUICK, Sabotage, made

from cnnbench.processes.capacity import Capacity, Load, Need
from cnnbench.processes.cores import count_cores
from cnnbench.processes.memory import measure_available, measure_private
from cnnbench.runs.folder import FAILED, FINISHED, RUNNING, RunFolder
from cnnbench.sweeps.supervisor import Supervisor
from cnnbench.sweeps.time_left import RestEstimate


class CountingCapacity(Capacity):
    """Counts the runs that compute whenever it lets one more start: a job can end between two ticks of a supervisor."""

    def __init__(self, most):
        super().__init__(most)
        self.counts = []

    def admits(self, need, loads):
        if admitted := super().admits(need, loads):
            self.counts.append(1 + sum(load.is_computing for load in loads))
        return admitted


@pytest.fixture
def supervise(job_server):
    """Makes a supervisor of several jobs at once, whose processes end with the test."""
    supervisors = []

    def make(sweep, capacity, **given):
        supervisors.append(Supervisor(sweep, job_server, argv=["cnnbench", "train"], capacity=capacity, **given))
        return supervisors[-1]

    yield make
    for supervisor in supervisors:
        supervisor.close()


def test_jobs_at_once_have_the_bits_of_jobs_in_turn(supervise, tmp_path):
    sweeps = [made(tmp_path / name, *QUICK, "seed=0,1,2") for name in ("in_turn", "at_once")]
    for sweep, most in zip(sweeps, (1, 2), strict=True):
        capacity = CountingCapacity(most)
        assert supervise(sweep, capacity).run_all(sweep.jobs) == dict.fromkeys("012", FINISHED)
        assert max(capacity.counts) == most
    for number in "012":
        runs = [sweep.path / number for sweep in sweeps]
        weights, others = (load_file(run / "checkpoints/best.safetensors") for run in runs)
        assert weights.keys() == others.keys()
        assert all(np.array_equal(weights[key], others[key]) for key in weights)
        assert (runs[0] / "predictions.npz").read_bytes() == (runs[1] / "predictions.npz").read_bytes()


def test_a_killed_and_a_hanging_job_do_not_harm_the_one_beside_them(supervise, tmp_path):
    sweep = made(tmp_path / "sweep", *LONG, "trainer.epochs=10,99999,100000")
    quick, hanging, killed = sweep.jobs
    hanging = dataclasses.replace(
        hanging, config=hanging.config | {"trainer": hanging.config["trainer"] | {"timeout_minutes": 0.03}}
    )
    pids = {}

    def harm():
        for job, number in ((hanging, signal.SIGSTOP), (killed, signal.SIGKILL)):
            status = RunFolder(sweep.path / job.name).read_status() if sweep.count_epochs(job) else {}
            if job.name not in pids and status.get("state") == RUNNING:
                pids[job.name] = status["pid"]
                os.kill(status["pid"], number)

    states = supervise(sweep, Capacity(3), tick=harm).run_all([quick, hanging, killed])
    assert states == {quick.name: FINISHED, hanging.name: FAILED, killed.name: FAILED}
    messages = [RunFolder(sweep.path / job.name).read_status()["message"] for job in (hanging, killed)]
    assert "it was not finished after trainer.timeout_minutes=0.03" in messages[0]
    assert "ended by SIGKILL" in messages[1]


def test_a_job_that_runs_out_of_memory_beside_another_continues_alone(supervise, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "model=lenet5", "trainer.epochs=20", "seed=0,1")
    sabotage = Sabotage(sweep, lambda pid: resource.prlimit(pid, resource.RLIMIT_AS, (2**20, 2**20)))
    assert supervise(sweep, Capacity(2), tick=sabotage).run_all(sweep.jobs) == {"0": FINISHED, "1": FINISHED}
    logs = [(sweep.path / number / "train.log").read_text() for number in "01"]
    alone = "not enough memory", "it continues alone when the other jobs have ended", "resumed"
    assert sorted(all(text in log for text in alone) for log in logs) == [False, True], logs


def test_threads_fit_the_cores_and_a_gpu_has_one_job():
    cores, capacity = count_cores(), Capacity()
    one, all_, gpu = Need(1), Need(cores), Need(1, "cuda:0")
    assert capacity.count([one] * (cores + 3)) == cores
    assert capacity.count([one] * cores + [all_]) == cores
    assert capacity.count([all_, all_]) == 1
    assert capacity.count([gpu, gpu]) == 1
    assert Capacity(3).count([gpu] * 9) == 3, "as the user says"
    assert Capacity(3).count([one]) == 1
    capacity.learn(Load(0, gpu))
    assert capacity.admits(gpu, [])
    assert not capacity.admits(gpu, [Load(0, gpu)])
    assert not capacity.admits(one, [Load(0, all_)])
    assert Capacity(2).admits(all_, [Load(0, all_)])
    drawing = [Load(0, one, is_computing=False) for _ in range(2)]
    assert Capacity(1).admits(all_, drawing[:1])
    assert not Capacity(1).admits(all_, drawing), "pictures are drawn more slowly than jobs train"
    assert not capacity.admits(gpu, [Load(0, gpu, is_computing=False)]), "its memory is taken"


def test_a_job_starts_beside_others_once_the_memory_of_the_first_is_known():
    available = measure_available()
    need, larger = Need(0, footprint=1), Need(0, footprint=available)
    first = Load(os.getpid(), need)
    capacity = Capacity()
    capacity.observe(first)
    assert 0 < first.memory == first.peak <= measure_private(os.getpid()) + 2**26
    assert not capacity.admits(need, [first]), "nothing is known before the first has ended an epoch"
    first.has_peaked = True
    capacity.observe(first)
    assert capacity.admits(need, [first])
    assert not capacity.admits(larger, [first]), "it needs more than the first, by what is known before"
    capacity.learn(Load(0, need, peak=available))
    assert not capacity.admits(need, [first])
    assert capacity.admits(larger, []), "alone, whatever it needs"


def test_the_time_left_follows_from_the_work_and_the_speed_so_far(tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "trainer.epochs=4,5,6")
    small, large, last = sweep.jobs
    rest = RestEstimate(sweep, sweep.jobs, {small.name: 10, large.name: 100, last.name: 1000}, at_once=2)
    assert rest.estimate(sweep.jobs, {}) is None
    rest.add_finished(small, 2.0)
    assert rest.estimate([large, last], {}) == pytest.approx(220)
    assert RestEstimate(sweep, [last], {}, at_once=1).estimate([last], {}) is None

"""A sweep: which job lies where, what becomes of jobs that die, hang or are interrupted, and how it goes on."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_chaos import disturb_sweep

from cnnbench.cli import compose
from cnnbench.config.schema import to_dict
from cnnbench.processes.capacity import Capacity
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING, RunFolder
from cnnbench.storage.atomic import lock_folder
from cnnbench.storage.csv_tables import read_csv, write_csv
from cnnbench.storage.plain_data import read_json, write_yaml
from cnnbench.sweeps import jobs as sweeps
from cnnbench.sweeps import supervisor as supervisor_module
from cnnbench.sweeps.folder import ASIDE, SweepFolder, rename_sweep
from cnnbench.sweeps.job_process import JobRoom
from cnnbench.sweeps.jobs import hash_config, hash_request, plan_jobs
from cnnbench.sweeps.progress import SweepProgress
from cnnbench.sweeps.server import JobServer
from cnnbench.sweeps.supervisor import Supervisor
from conftest import find_parent, is_gone, wait_until

QUICK = ["model=mlp", "trainer.epochs=2", "data.train_limit=200"]
LONG = ["model=mlp", "trainer.epochs=100000", "data.train_limit=200"]


def jobs_of(*overrides):
    asked = compose.compose_request(overrides, multirun=True)
    return plan_jobs((to_dict(job.config), job.overrides) for job in asked.jobs)


def made(path, *overrides):
    return SweepFolder.create(path, jobs_of(*overrides), argv=["cnnbench"])


@pytest.fixture
def supervising():
    """Makes supervisors, whose processes end with the test."""
    made = []

    def make(sweep, server, **given):
        made.append(Supervisor(sweep, server, argv=["cnnbench", "train"], **given))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()


def test_a_hash_depends_only_on_what_changes_the_result():
    (job,) = jobs_of(*QUICK)
    (slower,) = jobs_of(
        *QUICK, "trainer.timeout_minutes=5", "data.root=elsewhere", "sweep.jobs=1", "comparison.baseline=x"
    )
    (other,) = jobs_of(*QUICK, "seed=1")
    assert job.hash == slower.hash != other.hash
    assert set(job.config["sweep"]) == {"together"}


@given(st.permutations(range(4)))
def test_the_same_jobs_in_another_order_are_the_same_request(order):
    jobs = [sweeps.SweepJob(str(number), f"hash{number}", [], {}) for number in range(4)]
    assert hash_request(jobs) == hash_request([jobs[number] for number in order])
    assert hash_request(jobs) != hash_request(jobs[:3])


def test_equal_configs_are_one_job():
    assert [job.config["model"]["width"] for job in jobs_of("model.width=1,1.0,2")] == [1.0, 2.0]


def test_jobs_composed_together_are_those_composed_alone():
    axes = ["model=lenet5_1998,lenet5", "model.width=0.5,2", "recipe=true", "augment=standard"]
    jobs = compose.compose_request(axes, multirun=True).jobs
    assert len(jobs) == 4
    for job in jobs:
        assert job.config == compose.compose_config(job.overrides)


@pytest.mark.parametrize(
    ("left", "goes_on"),
    [
        ([], False),
        (["config.yaml"], False),
        (["config.yaml", "status.json", "metrics.csv"], False),
        (["config.yaml", "checkpoints/last.safetensors"], True),
    ],
)
def test_the_files_of_a_killed_job_are_resumed_or_cleared(left, goes_on, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (job,) = sweep.jobs
    run = sweep.path / "0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "train.log").write_text("what happened before\n")
    for name in left:
        (run / name).write_text("{}")
    if "config.yaml" in left:
        write_yaml(run / "config.yaml", job.config)
    assert sweep.prepare(job) == goes_on
    assert (run / "train.log").read_text() == "what happened before\n"
    names = {path.name for path in run.iterdir()} - {".lock", "train.log"}
    assert names == ({"config.yaml", "checkpoints"} if goes_on else set())


def test_the_result_of_another_config_is_set_aside(tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (job,) = sweep.jobs
    run = sweep.path / "0"
    run.mkdir()
    RunFolder(run).start(job.config, job.overrides)
    RunFolder(run).write_summary({})
    RunFolder(run).set_status(FINISHED)
    assert sweep.is_finished(job)
    write_yaml(run / "config.yaml", {**job.config, "seed": 7})
    assert sweep.list_unfinished() == [job]
    assert not sweep.prepare(job)
    assert {path.name for path in run.iterdir()} <= {".lock"}
    (aside,) = (sweep.path / ASIDE).iterdir()
    assert RunFolder(aside).read_config()["seed"] == 7


@pytest.mark.parametrize(
    "left",
    [["config.yaml", "summary.json"], ["notes.txt"], ["config.yaml", "checkpoints/notes"], ["wandb/run.log"]],
)
def test_files_that_may_be_useful_are_set_aside_and_never_removed(left, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (job,) = sweep.jobs
    run = sweep.path / "0"
    for name in left:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("mine")
    if "config.yaml" in left:
        write_yaml(run / "config.yaml", job.config)
    assert not sweep.prepare(job)
    assert {path.name for path in run.iterdir()} == set()
    (aside,) = sweep.list_set_aside()
    assert (sweep.path / aside / left[-1]).read_text() == "mine"


def test_a_file_in_the_place_of_a_job_is_set_aside(tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (sweep.path / "0").write_text("mine")
    assert not sweep.prepare(sweep.jobs[0])
    assert [(sweep.path / aside).read_text() for aside in sweep.list_set_aside()] == ["mine"]


def test_damaged_files_harm_no_other_job_and_intact_checkpoints_are_resumed(supervising, job_server, tmp_path):
    overrides = [*QUICK, "seed=0,1,2,3,4"]
    sweep = made(tmp_path / "sweep", *overrides)
    supervisor = supervising(sweep, job_server)
    for job in sweep.jobs[:4]:
        assert supervisor.run(job) == FINISHED
    (sweep.path / "0/status.json").write_text("")
    (sweep.path / "0/overrides.yaml").write_text("")
    (sweep.path / "1/status.json").write_text('{"state": "finished"')
    for path in (sweep.path / "1/checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    (sweep.path / "2/config.yaml").write_text("")
    (sweep.path / "3/overrides.yaml").unlink()
    (sweep.path / sweeps.JOBS).write_text("")
    assert sweeps.find_sweep(tmp_path, jobs_of(*overrides)) == sweep.path

    again = SweepFolder.open_or_repair(sweep.path, jobs_of(*overrides), argv=["cnnbench"])
    names = {job.config["seed"]: job.name for job in again.jobs}
    assert names == {0: "0", 1: "1", 2: "4", 3: "3", 4: "5"}, "whose config is damaged is not known any more"
    assert [job.config["seed"] for job in again.list_unfinished()] == [0, 1, 2, 4]
    supervisor.sweep = again
    assert [supervisor.run(job) for job in again.list_unfinished()] == [FINISHED] * 4
    assert again.list_unfinished() == []
    assert "resumed" in (sweep.path / "0/train.log").read_text()
    assert "resumed" not in (sweep.path / "1/train.log").read_text()
    aside = {path.partition("/")[2].partition("_")[0]: sweep.path / path for path in again.list_set_aside()}
    assert aside.keys() == {"1", "jobs.json"}
    assert (aside["1"] / "predictions.npz").read_bytes() == (sweep.path / "1/predictions.npz").read_bytes()
    assert (sweep.path / "2/summary.json").exists()


def test_the_latest_sweep_is_the_one_begun_last_whatever_its_name_and_the_clock(tmp_path, monkeypatch):
    jobs = jobs_of(*QUICK)
    for name in ("2026-11-01_01-50-00", "2026-11-01_01-10-00", "2026-10-31_22-00-00"):  # one clock, another zone
        SweepFolder.create(tmp_path / name, jobs, argv=[])
        assert sweeps.find_sweep(tmp_path, jobs) == tmp_path / name

    class SetBack(sweeps.datetime):
        @classmethod
        def now(cls, zone):
            return cls(2020, 1, 1, tzinfo=zone)

    monkeypatch.setattr(sweeps, "datetime", SetBack)
    SweepFolder.create(tmp_path / "2020-01-01", jobs, argv=[])
    assert sweeps.find_sweep(tmp_path, jobs) == tmp_path / "2020-01-01"
    SweepFolder(tmp_path / "2026-10-31_22-00-00").write()
    assert sweeps.find_sweep(tmp_path, jobs) == tmp_path / "2020-01-01", "it is still the one begun last"


def test_a_sweep_is_found_by_its_jobs_and_the_latest_is_taken(tmp_path):
    for name, seeds in (("2026-01-01", "0,1"), ("2026-01-02", "1,0"), ("2026-01-03", "0,1,2")):
        made(tmp_path / name, *QUICK, f"seed={seeds}")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / sweeps.JOBS).write_text("{")
    assert sweeps.find_sweep(tmp_path, jobs_of(*QUICK, "seed=0,1")) == tmp_path / "2026-01-02"
    assert sweeps.find_sweep(tmp_path, jobs_of(*QUICK, "seed=5")) is None


def test_settings_that_may_change_come_from_the_later_command(tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1")
    sweep.adopt(jobs_of(*QUICK, "seed=1,0", "trainer.timeout_minutes=3"), argv=["cnnbench", "again"])
    sweep.write()
    again = SweepFolder(sweep.path)
    assert [(job.name, job.config["seed"]) for job in again.jobs] == [("0", 0), ("1", 1)]
    assert again.jobs[0].config["trainer"]["timeout_minutes"] == 3
    assert again.argv == ["cnnbench", "again"]


def test_a_wrong_command_leaves_a_sweep_unchanged(cnnbench, tmp_path):
    asked = ["data=mnist", "data.download=false", "seed=0,1"]
    sweep = made(tmp_path / "sweep", *asked)
    before = (sweep.path / sweeps.JOBS).read_bytes()
    changed = ["data.root=nowhere", "trainer.timeout_minutes=3", "hydra.sweep.dir=sweep"]
    done = cnnbench("train", "-m", *asked, *changed)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert (sweep.path / sweeps.JOBS).read_bytes() == before
    assert {path.name for path in sweep.path.iterdir()} <= {sweeps.JOBS, ".lock"}


def test_a_job_without_its_summary_is_not_finished(tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (sweep.path / "0").mkdir()
    RunFolder(sweep.path / "0").set_status(FINISHED)
    assert sweep.record_end(sweep.jobs[0], FAILED, "other data") == FAILED
    assert RunFolder(sweep.path / "0").read_status()["message"] == "other data"


class Sabotage:
    """Does something to the process of a job, once the job has finished an epoch."""

    def __init__(self, sweep, do):
        self.sweep, self.do, self.pid = sweep, do, None

    def __call__(self):
        for run in map(RunFolder, self.sweep.path.glob("[0-9]*")):
            if self.pid is None and run.read_status().get("state") == RUNNING and (run.path / "metrics.csv").exists():
                self.pid = run.read_status()["pid"]
                self.do(self.pid)


def test_a_killed_job_fails_the_next_one_runs_and_it_resumes_from_its_checkpoint(supervising, job_server, tmp_path):
    overrides = [*QUICK, "trainer.epochs=25", "seed=0,1"]
    sweep = made(tmp_path / "sweep", *overrides)
    first, second = sweep.jobs
    sabotage = Sabotage(sweep, lambda pid: os.kill(pid, signal.SIGKILL))
    supervisor = supervising(sweep, job_server, tick=sabotage)
    assert [supervisor.run(job) for job in (first, second)] == [FAILED, FINISHED]
    status = RunFolder(sweep.path / "0").read_status()
    assert "ended by SIGKILL: somebody killed it, or the system did because memory ran out" in status["message"]
    assert "the sweep says: failed: its process was ended by SIGKILL" in (sweep.path / "0/train.log").read_text()
    assert sweep.list_unfinished() == [first]

    assert supervisor.run(first) == FINISHED
    assert "resumed" in (sweep.path / "0/train.log").read_text()
    whole = made(tmp_path / "whole", *overrides)
    assert supervising(whole, job_server).run(whole.jobs[0]) == FINISHED
    predictions = [path / "0/predictions.npz" for path in (sweep.path, whole.path)]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


def test_a_hanging_job_is_ended_and_its_log_shows_where_it_hung(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *LONG, "trainer.timeout_minutes=0.05")
    supervisor = supervising(sweep, job_server)
    assert supervisor.run(sweep.jobs[0]) == FAILED
    assert (
        "it was not finished after trainer.timeout_minutes=0.05" in RunFolder(sweep.path / "0").read_status()["message"]
    )
    log = (sweep.path / "0/train.log").read_text()
    assert re.search(r"^Thread 0x.*\n(  File .*\n)*  File .* in run_job$", log, re.MULTILINE)


def test_a_stopped_process_is_ended_too(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *LONG, "trainer.timeout_minutes=0.02")
    stopped = []

    def stop():
        for worker in supervisor._running:
            stopped.append(worker.process.pid)
            os.kill(stopped[0], signal.SIGSTOP)

    supervisor = supervising(sweep, job_server, tick=stop)
    assert supervisor.run(sweep.jobs[0]) == FAILED
    assert "it was not finished after" in RunFolder(sweep.path / "0").read_status()["message"]
    assert is_gone(stopped[0], reaped=True)


def test_an_error_in_a_job_is_in_its_own_folder_with_its_traceback(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "optimizer=sgd", "optimizer.lr=1e20")
    assert supervising(sweep, job_server).run(sweep.jobs[0]) == FAILED
    assert RunFolder(sweep.path / "0").read_status()["message"].startswith("Diverged: the loss became")
    assert "Traceback" in (sweep.path / "0/train.log").read_text()


def test_a_crash_in_native_code_leaves_its_traceback_in_the_jobs_log(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *LONG)
    sabotage = Sabotage(sweep, lambda pid: os.kill(pid, signal.SIGSEGV))
    assert supervising(sweep, job_server, tick=sabotage).run(sweep.jobs[0]) == FAILED
    assert "ended by SIGSEGV" in RunFolder(sweep.path / "0").read_status()["message"]
    assert "Fatal Python error: Segmentation fault" in (sweep.path / "0/train.log").read_text()


def test_a_sweep_that_stops_lets_its_job_save_itself(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *LONG, "seed=0,1")
    stops = Sabotage(sweep, lambda _: None)
    supervisor = supervising(sweep, job_server, tick=stops, stops=lambda: stops.pid is not None)
    assert [supervisor.run(job) for job in sweep.jobs] == [INTERRUPTED, INTERRUPTED]
    assert list((sweep.path / "0/checkpoints").glob("last.*"))
    assert not (sweep.path / "1").exists(), "nothing is begun any more"


def test_a_job_whose_folder_is_in_use_is_skipped(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    (sweep.path / "0").mkdir()
    with RunFolder(sweep.path / "0").lock():
        assert supervising(sweep, job_server).run(sweep.jobs[0]) == RUNNING
        assert not (sweep.path / "0/status.json").exists()


def test_when_the_server_dies_its_jobs_end_and_another_takes_its_place(supervising, tmp_path):
    with JobServer() as server:
        sweep = made(tmp_path / "sweep", *LONG)
        sabotage = Sabotage(sweep, lambda pid: os.kill(server.worker.process.pid, signal.SIGKILL))
        supervisor = supervising(sweep, server, tick=sabotage)
        assert supervisor.run(sweep.jobs[0]) == FAILED
        assert is_gone(sabotage.pid)
        assert (
            "forked from: somebody killed it, or the system did" in RunFolder(sweep.path / "0").read_status()["message"]
        )
        (quick,) = made(tmp_path / "other", *QUICK).jobs
        supervisor.sweep = SweepFolder(tmp_path / "other")
        assert supervisor.run(quick) == FINISHED


def test_jobs_need_no_file_once_the_server_has_checked_them(supervising, job_server, tmp_path, mnist_root):
    root = tmp_path / "root"
    root.symlink_to(mnist_root)
    asked = ["data=mnist", f"data.root={root}", "data.download=false", *QUICK]
    sweep = made(tmp_path / "sweep", *asked, "seed=0,1")
    checked = job_server.check([job.config for job in sweep.jobs])
    assert [found.data[0].partition(":")[0] for found in checked] == ["mnist", "mnist"]
    root.unlink()
    supervisor = supervising(sweep, job_server)
    assert [supervisor.run(job) for job in sweep.jobs] == [FINISHED, FINISHED]


def test_the_server_reports_the_problem_of_each_config(job_server):
    right, wrong = jobs_of("model=lenet5", "data.image_size=28,8")
    checked = job_server.check([right.config, wrong.config])
    assert checked[0].problem is None
    assert "too small for this network" in checked[1].problem


def test_progress_shows_counts_and_the_best_job(tmp_path, capsys):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1,2,3")
    progress = SweepProgress(sweep, sweep.jobs[1:], before=1, axes=["seed"])
    for job, accuracy in zip(sweep.jobs[1:3], (0.5, 0.75), strict=True):
        (sweep.path / job.name).mkdir()
        run = RunFolder(sweep.path / job.name)
        run.start(job.config, job.overrides)
        progress.refresh(at_once=True)
        write_csv(run.metrics_file, [{"epoch": 1, "val/accuracy": accuracy}, {"epoch": 2, "val/accuracy": 0.1}])
        run.write_summary({"best_epoch": 1, "test/accuracy": 0.9})
        run.set_status(FINISHED, "logger mlflow failed (OSError: no)" if job.name == "2" else "")
        progress.refresh(at_once=True)
    (sweep.path / "3").mkdir()
    sweep.record_end(sweep.jobs[3], FAILED, "it broke")
    progress.refresh(at_once=True)
    assert (progress.done, progress.failed, len(progress.waiting)) == (3, 1, 0)
    assert (progress.best.value, progress.label(progress.best.job)) == (0.75, "seed=2")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("job 1: seed=1: val/accuracy 50.00% (2 of 4 finished, 0 failed, 0:")
    assert lines[-2] == "job 2: seed=2: logger mlflow failed (OSError: no)"
    assert lines[-1] == "job 3: seed=3: failed: it broke (3 of 4 finished, 1 failed)"
    counts, best = progress.render().splitlines()
    assert "Sweep of 4 jobs in" in counts
    assert "3 done, 0 running, 1 failed, 0 waiting" in counts
    assert best == "best so far: val/accuracy 75.00%, seed=2"


def test_two_calls_of_a_command_do_not_share_a_folder(cnnbench, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1")
    arguments = ["train", *QUICK, "-m", "seed=0,1", "hydra.sweep.dir=sweep"]
    with lock_folder(sweep.path):
        done = cnnbench(*arguments)
    assert done.returncode == 2
    assert "is in use by another process" in done.stderr
    done = cnnbench(*arguments, "model.width=2")
    assert done.returncode == 2
    assert "sweep holds another sweep: choose another folder" in done.stderr


class InterruptedCapacity(Capacity):
    """Sends this process a real Ctrl-C while the last message of a job has been read and is not yet recorded."""

    def observe(self, load):
        """Do not call `learn` while the job is running."""

    def learn(self, load):
        os.kill(os.getpid(), signal.SIGINT)
        super().learn(load)


def test_ctrl_c_while_the_end_of_a_job_is_recorded_waits_for_no_further_message(
    supervising, job_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor_module, "GRACE", 2)  # seconds; after these, a job counts as killed
    sweep = made(tmp_path / "sweep", *QUICK)
    recorded, record_end = [], sweep.record_end

    def note_end(job, state, message):
        recorded.append((state, message))
        return record_end(job, state, message)

    monkeypatch.setattr(sweep, "record_end", note_end)
    supervisor = supervising(sweep, job_server, capacity=InterruptedCapacity(1))
    handler = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell starts background processes that ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            supervisor.run_all(sweep.jobs)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert recorded == [(FINISHED, "")]


def test_a_sweep_is_interrupted_resumed_and_finished(cnnbench, tmp_path):
    arguments = ["train", "-m", *QUICK, "trainer.epochs=1,50,51", "sweep.jobs=2"]
    command = [sys.executable, "-m", "cnnbench", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        begun, ended = "outputs/*/*/[12]/checkpoints/last.*", "outputs/*/*/0/status.json"
        while len(list(tmp_path.glob(begun))) < 2 or not any(
            FINISHED in file.read_text() for file in tmp_path.glob(ended)
        ):
            assert time.monotonic() < deadline, "no checkpoints of two jobs at once appeared"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=25)  # less than the parent waits for a job that does not answer
    assert process.returncode == 130, errors
    told = errors.splitlines()[-1]
    assert told == "interrupted: 2 of 3 jobs are left: repeat the command to continue"
    before = ("digits: ", "3 jobs in ", "job 0: ")
    assert [line for line in errors.splitlines()[:-1] if not line.startswith(before)] == []
    assert len(printed.splitlines()) == 1, "the folder, and no table"
    sweep = tmp_path / printed.splitlines()[-1]
    states = {row["run"]: row["state"] for row in read_csv(sweep / "results.csv")}
    assert states == {"0": "finished", "1": "interrupted", "2": "interrupted"}, "the table is written all the same"
    first = (sweep / "0/summary.json").stat().st_mtime_ns

    done = cnnbench(*arguments)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, printed.splitlines()[-1]), done.stderr
    assert "continuing: 1 of 3 jobs are finished" in done.stderr
    assert [RunFolder(sweep / str(number)).read_summary()["epochs"] for number in range(3)] == [1, 50, 51]
    assert (sweep / "0/summary.json").stat().st_mtime_ns == first

    finished = cnnbench(*arguments)
    assert finished.returncode == 0
    assert "all 3 jobs are finished; sweep.restart=true runs them again" in finished.stderr
    assert finished.stdout.splitlines()[-1] == printed.splitlines()[-1]


def test_a_restart_renames_the_folder_of_the_earlier_sweep(tmp_path):
    made(tmp_path / "sweep", *QUICK)
    assert rename_sweep(tmp_path / "sweep") == tmp_path / "sweep_before_1"
    made(tmp_path / "sweep", *QUICK)
    assert rename_sweep(tmp_path / "sweep") == tmp_path / "sweep_before_2"
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("inside", [".", "0"])
def test_a_restart_does_not_rename_the_current_folder(inside, cnnbench, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1")
    (sweep.path / "0").mkdir()
    place = ".." if inside == "0" else "."
    arguments = ["train", *QUICK, "-m", "seed=0,1", f"hydra.sweep.dir={place}", "sweep.restart=true"]
    done = cnnbench(*arguments, cwd=sweep.path / inside)
    assert done.returncode == 2
    assert "the current folder lies inside" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert SweepFolder(sweep.path).jobs == sweep.jobs


def test_a_sweep_that_is_being_run_is_not_renamed(cnnbench, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1")
    arguments = ["train", *QUICK, "-m", "seed=0,1", "hydra.sweep.dir=sweep", "sweep.restart=true"]
    with lock_folder(sweep.path):
        done = cnnbench(*arguments)
    assert done.returncode == 2
    assert "is in use by another process" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def swap(written, *names):
    for job, name in zip(written["jobs"], names, strict=False):
        job["name"] = name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda written: swap(written, "../victim"), "'../victim' is not the name of a job"),
        (lambda written: swap(written, "/tmp/victim"), "'/tmp/victim' is not the name of a job"),
        (lambda written: swap(written, 0), "damaged"),
        (lambda written: swap(written, "1", "1"), "its jobs are not those of the request"),
        (lambda written: written["jobs"].pop(), "its jobs are not those of the request"),
        (lambda written: written["jobs"][0]["config"].update(seed=7), "does not match its hash"),
        (lambda written: written["jobs"][0].update(hash="0" * 64), "does not match its hash"),
        (lambda written: written["jobs"][0].update(config=[]), "damaged"),
        (lambda written: written.pop("command"), "it lacks 'command'"),
        (lambda written: written["jobs"][0].pop("overrides"), "overrides"),
    ],
)
def test_a_damaged_or_hostile_list_of_jobs_is_refused(change, why, tmp_path):
    path = made(tmp_path / "sweep", *QUICK, "seed=0,1").path
    written = json.loads((path / sweeps.JOBS).read_text())
    change(written)
    (path / sweeps.JOBS).write_text(json.dumps(written))
    with pytest.raises(ValueError, match=re.escape(why)):
        SweepFolder(path)


def test_a_link_in_the_place_of_a_job_is_refused(cnnbench, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK, "seed=0,1")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/diary.txt").write_text("precious")
    (sweep.path / "0").symlink_to("../victim")
    done = cnnbench("train", *QUICK, "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert "0 is a symbolic link" in done.stderr
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["diary.txt"]


def test_signals_to_all_processes_of_a_sweep_save_its_job_and_end_nothing(begin, tmp_path):
    begun = begin("train", *QUICK, "trainer.epochs=300", "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    wait_until((tmp_path / "sweep/0/checkpoints/last.safetensors").exists, begun)
    job = RunFolder(tmp_path / "sweep/0").read_status()["pid"]
    server = find_parent(job)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        os.kill(server, number)
    os.kill(job, signal.SIGUSR1)
    wait_until(lambda: "saved after epoch" in (tmp_path / "sweep/0/train.log").read_text(), begun)
    assert RunFolder(tmp_path / "sweep/0").read_status()["state"] in (RUNNING, FINISHED)
    os.kill(find_parent(server), signal.SIGKILL)
    assert begun.result().returncode == -signal.SIGKILL
    assert is_gone(server), "the server ends with the sweep"


def test_a_server_leaves_no_file_behind_and_is_not_found_by_another_user(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with JobServer() as killed:
        killed.check([jobs_of(*QUICK)[0].config])
        if os.geteuid() == 0:
            code = (
                "import os, sys; from cnnbench.sweeps.server import JobServer; os.seteuid(65534)\n"
                "try: JobServer(address=sys.stdin.read())._fork(None)\nexcept OSError as error: print(error)"
            )
            other = subprocess.run(
                [sys.executable, "-c", code], input=killed.address, capture_output=True, text=True, check=False
            )
            assert "belongs to another user" in other.stdout, other.stderr
        os.kill(killed.worker.process.pid, signal.SIGKILL)
        assert not [path for path in tmp_path.rglob("*") if "cnnbench" in path.name or path.is_socket()]


def test_nothing_is_lost_or_doubled_when_jobs_and_the_sweep_itself_are_killed(tmp_path):
    assert "4 finished, each once and as in the undisturbed sweep" in disturb_sweep(6, 1, tmp_path, minutes=0.08)


def test_job_processes_of_a_parallel_sweep_have_a_thread_each(supervising, job_server, tmp_path, monkeypatch):
    monkeypatch.setattr(job_server, "room", JobRoom(threads=1, cores=1))
    sweep = made(tmp_path / "sweep", *QUICK)
    assert supervising(sweep, job_server).run(sweep.jobs[0]) == FINISHED
    assert read_json(sweep.path / "0/env.json")["torch_threads"] == 1


def test_a_jobs_record_names_the_command_of_the_sweep(supervising, job_server, tmp_path):
    sweep = made(tmp_path / "sweep", *QUICK)
    assert supervising(sweep, job_server).run(dataclasses.replace(sweep.jobs[0])) == FINISHED
    assert read_json(sweep.path / "0/env.json")["command"] == ["cnnbench", "train"]
    assert hash_config(RunFolder(sweep.path / "0").read_config()) == sweep.jobs[0].hash


# Some of what Windows lacks, taken from every Python process that finds this on its path.
WITHOUT_FORK = """
import os, signal, subprocess
lacking = {
    os: ("fork", "forkpty", "killpg", "O_DIRECTORY", "O_NOFOLLOW"),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "pthread_sigmask", "set_wakeup_fd"),
}
for module, names in lacking.items():
    for name in names:
        vars(module).pop(name, None)
"""


@pytest.fixture
def without_fork(tmp_path):
    """A folder for PYTHONPATH."""
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows/sitecustomize.py").write_text(WITHOUT_FORK)
    return str(tmp_path / "windows")


def test_without_fork_a_sweep_survives_a_kill_and_an_interrupt_and_resumes_to_the_same_bits(
    without_fork, tmp_path, supervising, job_server
):
    overrides = [*QUICK, "trainer.epochs=30", "seed=0,1"]
    command = [sys.executable, "-m", "cnnbench", "train", "-m", *overrides, "hydra.sweep.dir=sweep"]
    environment = os.environ | {"PYTHONPATH": without_fork}
    lost = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    sweep, killed = tmp_path / "sweep", set()
    deadline = time.monotonic() + 200
    while len(killed) < 2:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        for number in {"0", "1"} - killed:
            if (sweep / number / "checkpoints/last.safetensors").exists():
                killed.add(number)
                if number == "0":
                    os.kill(RunFolder(sweep / "0").read_status()["pid"], signal.SIGKILL)
                else:
                    lost.send_signal(signal.SIGINT)
        time.sleep(0.02)
    errors = lost.communicate(timeout=100)[1]
    assert lost.returncode == 130, errors
    assert "2 of 2 jobs are left" in errors
    states = [RunFolder(sweep / number).read_status() for number in "01"]
    assert [status["state"] for status in states] == [FAILED, INTERRUPTED]
    assert "ended by SIGKILL" in states[0]["message"]
    assert "killed" not in states[1]["message"], "it has saved itself"
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert all("resumed" in (sweep / number / "train.log").read_text() for number in "01")
    forked = made(tmp_path / "forked", *overrides)
    assert supervising(forked, job_server).run(forked.jobs[1]) == FINISHED
    assert (forked.path / "1/predictions.npz").read_bytes() == (sweep / "1/predictions.npz").read_bytes()

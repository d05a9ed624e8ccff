"""`sweep.until=decided`: when a sweep ends, whatever the order of its runs, and also after a kill or a failure."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from run_builders import write_run
from test_sweep import jobs_of

from cnnbench.cli import compose
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.sweep.rounds import Rounds
from cnnbench.cli.sweep.session import Session
from cnnbench.cli.sweep.session import finish as finish_sweep
from cnnbench.config.schema import from_dict
from cnnbench.experiment.run import run_job
from cnnbench.metrics.sequential import BETTER, EQUAL, UNDECIDED, decide
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_yaml
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import find_sweep
from cnnbench.sweeps.server import JobServer
from conftest import find_parent

TWO = ["model=lenet5", "trainer.epochs=3", "model.width=1,2", "sweep.until=decided"]
NOISE = (3, -2, 4, 0, -5, 1, 2, -1, 5, -3, 2, 0)  # images right more or less, by seed


def create(path, *overrides):
    """A sweep that adds seeds, without runs."""
    settings = from_dict({"sweep": dict(read_setting(text) for text in overrides if text.startswith("sweep."))}).sweep
    return SweepFolder.create(path, jobs_of(*overrides), argv=["cnnbench"], settings=settings)


def read_setting(text):
    key, _, value = text.removeprefix("sweep.").partition("=")
    return key, value if key == "until" else float(value) if key == "delta" else int(value)


def finish(sweep, job, right, **options):
    """Leave a job's run with so many of 1,000 images right."""
    config = {key: value for key, value in job.config.items() if key != "seed"}
    return write_run(sweep.path / job.name, job.config["seed"], right, **options, **config)


def find_jobs(sweep, width):
    return [job for job in sweep.jobs if job.config["model"]["width"] == width]


def test_a_round_is_every_config_with_one_seed():
    jobs = jobs_of(*TWO, "sweep.max_seeds=3")
    assert [(job.config["seed"], job.config["model"]["width"]) for job in jobs] == [
        (seed, width) for seed in range(3) for width in (1, 2)
    ]


def test_rounds_end_where_the_test_decides_whatever_the_order_in_which_runs_end(tmp_path):
    sweep = create(tmp_path / "sweep", *TWO, "sweep.max_seeds=12", "sweep.delta=0.05")
    rounds, looks = Rounds(sweep), []
    for job in find_jobs(sweep, 1):
        finish(sweep, job, 500)
        assert not rounds.look()
    for number, job in reversed(list(enumerate(find_jobs(sweep, 2)))):
        finish(sweep, job, 500 + NOISE[number])
        looks.append(rounds.look())
    assert looks == [False] * 11 + [True], "no round is looked at before the one before it"
    expected = decide([noise / 1000 for noise in NOISE], delta=0.05)
    assert (rounds.decisions[0].reading.verdict, expected.verdict) == (EQUAL, EQUAL)
    assert rounds.complete == expected.decided_at < 12
    assert (rounds.is_over, rounds.is_decided) == (True, True)
    assert rounds.take_jobs(4) == rounds.list_left() == []
    rounds.settle()
    names = [job.name for job in SweepFolder(sweep.path).jobs]
    assert names == [str(number) for number in range(2 * rounds.complete)]
    assert {path.name for path in sweep.path.iterdir() if path.name.isdecimal()} == set(names)
    assert len(sweep.list_set_aside()) == 24 - len(names), "runs that had started beside the last round"
    assert find_sweep(tmp_path, sweep.jobs[:2], adds_seeds=True) == sweep.path
    assert find_sweep(tmp_path, sweep.jobs) is None, "a sweep of as many fixed seeds is another one"


def test_rounds_end_undecided_at_the_limit_and_a_smaller_one_leaves_those_that_are_complete(tmp_path):
    sweep = create(tmp_path / "sweep", *TWO, "sweep.max_seeds=4")
    for job in sweep.jobs[:6]:
        finish(sweep, job, 500)
    assert not Rounds(sweep).is_over
    sweep.adopt([], argv=[], settings=sweep.settings.model_copy(update={"max_seeds": 2}))
    rounds = Rounds(sweep)
    assert (rounds.complete, rounds.is_over, rounds.is_decided) == (3, True, False)
    assert rounds.describe()[0] == "Not decided after 3 seeds. A larger sweep.max_seeds adds seeds to these."
    rounds.settle()
    assert len(sweep.jobs) == 6
    assert sweep.list_set_aside() == set()


def test_jobs_run_ahead_of_the_next_round_only_to_keep_the_machine_busy(tmp_path):
    rounds = Rounds(create(tmp_path / "sweep", *TWO, "sweep.max_seeds=6"))
    assert [job.config["seed"] for job in rounds.take_jobs(1)] == [0, 0, 1, 1]
    assert rounds.take_jobs(2) == []
    for job in rounds.sweep.jobs[:2]:
        finish(rounds.sweep, job, 500)
    assert rounds.look()
    assert [job.config["seed"] for job in rounds.take_jobs(4)] == [2, 2, 3, 3]


def test_a_config_whose_run_fails_gets_no_more_seeds_and_the_others_continue(tmp_path):
    sweep = create(tmp_path / "sweep", *TWO, "model.width=1,2,3", "sweep.max_seeds=12")
    rounds = Rounds(sweep)
    first, second, third = (find_jobs(sweep, width) for width in (1, 2, 3))
    for number in range(12):
        finish(sweep, first[number], 500 + NOISE[number])
        finish(sweep, second[number], 800)
    finish(sweep, third[0], 500)
    assert not rounds.look() or rounds.complete == 1
    assert rounds.look({third[1].name})
    assert rounds.is_over
    assert not rounds.is_decided
    assert rounds.list_failed() == [third[1]]
    assert not any(job in third for job in rounds.take_jobs(9))
    verdicts = {(one.a, one.b): one.reading.verdict for one in rounds.decisions}
    assert verdicts["model.width=2", "model.width=1"] == BETTER
    assert verdicts["model.width=3", "model.width=1"] == UNDECIDED
    assert "without a result of job 5, its config gets no more seeds" in rounds.describe()[0]
    request = compose.Request([], sweep.path, [], is_sweep=True, hydra=OmegaConf.create(), sweep=sweep.settings)
    with JobServer() as server, pytest.raises(RunFailed, match=r"1 of \d+ runs failed \(5\)"):
        finish_sweep(Session(request, sweep, sweep.jobs, [], server, None, rounds))
    assert "it may need up to 15 more runs" in (sweep.path / "report.md").read_text()
    again = Rounds(SweepFolder(sweep.path))
    assert (again.is_over, again.complete) == (False, 1), "the failed job is tried again"
    assert third[1] in again.list_left()


def test_groups_on_different_test_images_end_after_a_round(tmp_path):
    sweep = create(tmp_path / "sweep", *TWO, "sweep.max_seeds=2")
    for job, test_set in zip(sweep.jobs[:2], "ab", strict=True):
        finish(sweep, job, 500, test_set=test_set * 64)
    rounds = Rounds(sweep)
    assert (rounds.complete, rounds.is_over, rounds.is_decided) == (1, True, False)
    assert "there is no pair of runs on the same test images" in rounds.describe()[1]


class Killer(threading.Thread):
    """Kills the command of a sweep once it has started a job of a certain name."""

    def __init__(self, sweep: Path, job: str) -> None:
        super().__init__(daemon=True)
        self.run_folder = sweep / job

    def run(self) -> None:
        while not (self.run_folder / "status.json").is_file():
            time.sleep(0.002)
        server = find_parent(RunFolder(self.run_folder).read_status()["pid"])
        os.kill(find_parent(server), signal.SIGKILL)


def test_a_killed_sweep_resumes_its_rounds_to_the_verdict_and_the_bits_of_jobs_alone(faults, tmp_path):
    asked = [*TWO, "model.width=0.5", "optimizer.lr=1e-9,0.02", "data.train_limit=500", "sweep.max_seeds=12"]
    sweep = create(tmp_path / "sweep", *asked)
    for job in sweep.jobs[:14]:  # seven seeds, which are too few for a verdict
        finish(sweep, job, 500 + 300 * (job.config["optimizer"]["lr"] > 0.001) + NOISE[job.config["seed"]])
    command = ["train", "-m", *asked, "sweep.jobs=2", "hydra.sweep.dir=sweep"]
    killer = Killer(sweep.path, "14")
    killer.start()
    killed = faults.run(*command, cwd=tmp_path)
    assert (killed.code, killed.left) == (-signal.SIGKILL, []), killed.err

    done = faults.run(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    assert re.search("continuing: 1[4-9] of up to 24 jobs are finished", done.err)
    assert "after seed 7: " in done.err
    assert "sweep adds seeds until it is decided: read its anytime verdict" in done.out
    jobs = SweepFolder(sweep.path).jobs
    record = read_yaml(sweep.path / "sweep.yaml")
    seeds = record["verdict"]["seeds"]
    assert record["sweep"] == {"jobs": 2, "until": "decided", "delta": None, "max_seeds": 12}
    assert f"Decided after {seeds} seeds:\n  optimizer.lr=0.02 is better than optimizer.lr=1e-09" in done.out
    assert [(job.name, job.hash) for job in jobs] == [(job.name, job.hash) for job in sweep.jobs[: 2 * seeds]]
    rows = read_csv(sweep.path / "results.csv")
    assert [row["run"] for row in rows] == [job.name for job in jobs]
    accuracies = [float(row["test/accuracy"]) for row in rows]
    differences = [second - first for first, second in zip(accuracies[::2], accuracies[1::2], strict=True)]
    assert decide(differences).decided_at == seeds > 7
    for job in jobs[14:16]:  # one of them was killed
        alone = RunFolder.create(tmp_path / "alone" / job.name).path
        run_job(from_dict(job.config), alone, [], draw=lambda pictures, wait=True: None)
        assert (alone / "predictions.npz").read_bytes() == (sweep.path / job.name / "predictions.npz").read_bytes()
    assert Rounds(SweepFolder(sweep.path)).list_left() == []

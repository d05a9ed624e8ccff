"""Disturb a sweep, and check that no result is lost or computed twice: `make chaos`.

    python tests/faults/sweep_chaos.py --jobs 60 --kills 3

Small jobs on digits are trained one after the other, undisturbed. Then the same jobs run in a sweep, as many at once as
the machine can (or as `sweep.jobs` says), and a tenth of them is made to fail:

- a third of these diverge (`optimizer.lr=1e20`), and must fail each time, with a traceback in their own log;
- a third are killed with SIGKILL while they run, as the kernel does when memory runs out;
- a third are stopped with SIGSTOP, and must be ended by `trainer.timeout_minutes`.

The command is killed with SIGKILL at random times and repeated, until only the jobs that must fail are left. Then there
must be one finished folder for each config, with weights and predictions equal to the undisturbed ones to the bit. No
finished job may have been repeated, the table must be complete, and no process may outlive a kill.
"""

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cnnbench.cli.compose import compose_request
from cnnbench.experiment.run import run_job
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import hash_config
from faults import list_processes

DIVERGES = "1e20"
MARK = "CNNBENCH_CHAOS"  # in the environment of every process of the sweep
MOST = 12  # repetitions of the command
RESULT = "predictions.npz", "confusion_matrix.csv", "per_class.csv"


def make_command(rates: Sequence[str], folder: Path, minutes: float, more: Sequence[str]) -> list[str]:
    """The sweep of these learning rates, as a command."""
    own = f"trainer.timeout_minutes={minutes}", f"hydra.sweep.dir={folder}"
    return [sys.executable, "-m", "cnnbench", "train", "-m", *list_overrides(rates), *own, *more]


def list_overrides(rates: Sequence[str]) -> list[str]:
    """Two jobs for each learning rate."""
    jobs = ["model=mlp", "optimizer=sgd", "data.train_limit=300", "trainer.epochs=10", "seed=0,1"]
    return [*jobs, f"optimizer.lr={','.join(rates)}"]


def train_undisturbed(rates: Sequence[str], folder: Path) -> None:
    """Train the jobs of these learning rates one after the other, in this process."""
    for number, job in enumerate(compose_request(list_overrides(rates), multirun=True).jobs):
        run_job(job.config, create_folder(folder / str(number)), [], draw=lambda pictures, wait=True: None)


@dataclass
class Chaos:
    """A sweep that is disturbed while it runs.

    Attributes:
        killed, stopped: the jobs that still get SIGKILL and SIGSTOP, once each.
        finished: the time at which the result of each finished job was written.
    """

    folder: Path
    argv: list[str]
    killed: set[str]
    stopped: set[str]
    random: random.Random
    finished: dict[str, int] = field(default_factory=dict)
    calls: int = 0

    def call(self, kill_after: int | None) -> int:
        """Run the command, disturb its jobs, and kill it when `kill_after` more jobs are finished; its exit code."""
        self.calls += 1
        mark = secrets.token_hex(8)
        before = len(self._results())
        process = subprocess.Popen(
            self.argv, env=os.environ | {MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            time.sleep(0.02)
            self._disturb()
            if kill_after is not None and len(self._results()) - before >= kill_after:
                time.sleep(self.random.uniform(0, 0.5))
                process.kill()
                process.wait()
        self._check_processes(mark)
        self._check_results()
        return process.returncode

    def _results(self) -> list[Path]:
        return list(self.folder.glob("*/summary.json"))

    def _disturb(self) -> None:
        for victims, number in ((self.killed, signal.SIGKILL), (self.stopped, signal.SIGSTOP)):
            for job in list(victims):
                with suppress(OSError, ValueError, KeyError):
                    status = json.loads((self.folder / job / "status.json").read_text())
                    if status["state"] == "running" and (self.folder / job / "metrics.csv").exists():
                        os.kill(status["pid"], number)
                        victims.remove(job)

    def _check_processes(self, mark: str) -> None:
        deadline = time.monotonic() + 5
        while left := [pid for pid in list_processes() if mark.encode() in _read_environment(pid)]:
            assert time.monotonic() < deadline, f"processes {left} outlive the sweep"
            time.sleep(0.05)

    def _check_results(self) -> None:
        """Check that finished jobs have not changed."""
        now = {path.parent.name: path.stat().st_mtime_ns for path in self._results()}
        for job, written in self.finished.items():
            assert now.get(job) == written, f"job {job} was finished, and has been lost or run again"
        done = (job for job in now if RunFolder(self.folder / job).read_status()["state"] == "finished")
        self.finished = {job: now[job] for job in done}


def _read_environment(pid: int) -> bytes:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return b""
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def check(folder: Path, reference: Path, diverging: int) -> None:
    """Check that every config has one result, equal to the undisturbed one, and that the table is complete."""
    sweep = SweepFolder(folder)
    known = {hash_config(RunFolder(path.parent).read_config()): path.parent for path in reference.glob("*/config.yaml")}
    found: dict[str, Path] = {}
    for path in folder.glob("*/config.yaml"):
        digest = hash_config(RunFolder(path.parent).read_config())
        assert digest not in found, f"{path.parent} is the config of {found.get(digest)} again"
        found[digest] = path.parent
    assert found.keys() == {job.hash for job in sweep.jobs}
    failed = []
    for job in sweep.jobs:
        run = RunFolder(found[job.hash])
        assert run.path.name == job.name, "a result under a wrong name"
        if job.config["optimizer"]["lr"] == float(DIVERGES):
            assert run.read_status()["state"] == "failed"
            assert "Traceback" in run.log.read_text()
            failed.append(job.name)
            continue
        assert run.read_status()["state"] == "finished"
        for name in RESULT:
            assert (run.path / name).read_bytes() == (known[job.hash] / name).read_bytes(), f"{run.path / name} differs"
        weights, others = (load_file(at / "checkpoints/best.safetensors") for at in (run.path, known[job.hash]))
        assert weights.keys() == others.keys()
        assert all(np.array_equal(weights[key], others[key]) for key in weights), f"the weights of {run.path} differ"
        assert _scores(run) == _scores(RunFolder(known[job.hash]))
    assert len(failed) == diverging
    states = {row["run"]: row["state"] for row in read_csv(folder / "results.csv")}
    assert states == {job.name: "failed" if job.name in failed else "finished" for job in sweep.jobs}


def _scores(run: RunFolder) -> dict[str, Any]:
    return {key: value for key, value in run.read_summary().items() if "second" not in key}


def disturb_sweep(
    jobs: int, kills: int, where: Path, *, seed: int = 0, minutes: float = 0.1, more: Sequence[str] = ()
) -> str:
    """Run the test; returns what happened.

    Args:
        jobs: an even number; a tenth of them, but at least three, is made to fail.
        more: further overrides, such as a launcher.
    """
    randomly = random.Random(seed)
    rates = [f"{0.02 + 0.002 * number:.3f}" for number in range(jobs // 2 - 1)]
    reference, folder = where / "reference", where / "disturbed"
    train_undisturbed(rates, reference)
    each = max(1, round(jobs / 30))
    # Jobs are numbered as the axes are given: the seed first, and for each all rates; the last diverges.
    good = [name for name in map(str, range(jobs)) if int(name) % (len(rates) + 1) != len(rates)]
    victims = randomly.sample(good, 2 * each)
    chaos = Chaos(
        folder,
        make_command([*rates, DIVERGES], folder, minutes, more),
        set(victims[:each]),
        set(victims[each:]),
        randomly,
    )
    for _ in range(kills):
        code = chaos.call(randomly.randint(1, max(1, jobs // (2 * kills))))
        assert code == -signal.SIGKILL, f"it ended with {code} before it could be killed"
    while (code := chaos.call(None)) != 1 or len(chaos.finished) < jobs - 2 or chaos.killed or chaos.stopped:
        assert code == 1, f"exit code {code}"
        assert chaos.calls < MOST, f"{len(chaos.finished)} of {jobs} finished after {MOST} calls"
    check(folder, reference, 2)
    return (
        f"{jobs} jobs: 2 diverged, {each} killed, {each} hung, the parent killed {kills} times; {chaos.calls} calls of "
        f"the command; {len(chaos.finished)} finished, each once and as in the undisturbed sweep to the bit"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="further overrides, such as hydra/launcher=joblib")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as where:
        print(disturb_sweep(options.jobs, options.kills, Path(where), seed=options.seed, more=options.overrides))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""Run the jobs of a sweep, show the comparison of the runs, and name those that failed."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnbench.cli import compose
from cnnbench.cli.compose.session import NO_LAUNCHER
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.report import show_study
from cnnbench.cli.run_folders import shorten
from cnnbench.cli.sweep import launchers
from cnnbench.cli.sweep.rounds import Rounds, run_rounds
from cnnbench.processes.capacity import Capacity
from cnnbench.processes.cores import count_cores
from cnnbench.processes.signals import Terminated
from cnnbench.report.formatting import format_count
from cnnbench.report.study import Study
from cnnbench.report.writing import FileInTheWay, write_report
from cnnbench.runs.folder import RUNNING, SWEEP
from cnnbench.storage.plain_data import write_yaml
from cnnbench.storage.text import make_printable
from cnnbench.sweeps.folder import RECORDED, SweepFolder
from cnnbench.sweeps.jobs import SweepJob
from cnnbench.sweeps.progress import SweepProgress
from cnnbench.sweeps.server import JobCheck, JobServer
from cnnbench.sweeps.supervisor import Supervisor

log = logging.getLogger("cnnbench")


class Display:
    """How a sweep is shown: on the terminal; the Python API shows it in another way.

    Attributes:
        progress: the class that follows the jobs.
    """

    progress = SweepProgress

    def show_result(self, study: Study | None, verdict: Sequence[str]) -> None:
        """Show the comparison of the runs, if there is a report, and the verdict of a sweep that adds seeds."""
        if study is not None:
            show_study(study)
        for line in verdict:
            print(make_printable(line))

    def show_folder(self, path: Path) -> None:
        """Show the folder of the sweep; it is the last line printed."""
        print(shorten(path), flush=True)


@dataclass
class Session:
    """A sweep that this command runs.

    Attributes:
        request: the command, parsed.
        requested: the jobs that the command names.
        left: the requested jobs that are to run now.
        most: the most jobs to run at once; None for as many as the machine has room for.
        rounds: of a sweep that adds seeds until it is decided.
        checks: the check of each job in `left`, by its name; empty until they are checked.
    """

    request: compose.Request
    sweep: SweepFolder
    requested: Sequence[SweepJob]
    left: Sequence[SweepJob]
    server: JobServer
    most: int | None
    rounds: Rounds | None = None
    display: Display = field(default_factory=Display)
    checks: Mapping[str, JobCheck] = field(default_factory=dict)


def list_left(request: compose.Request, sweep: SweepFolder, requested: Sequence[SweepJob]) -> list[SweepJob]:
    """The jobs that have no result. For a claim, a run whose loss became infinite is a result too."""
    left = [job for job in requested if not sweep.is_finished(job)]
    return [job for job in left if not (request.grows and sweep.has_diverged(job))]


def run_jobs(session: Session) -> None:
    """Run the jobs that are left, and show the results of the sweep.

    Raises:
        RunFailed: a job failed; the other jobs have been run.
        KeyboardInterrupt, Terminated: by a signal; the running jobs have saved their state.
    """
    sweep, left, request = session.sweep, session.left, session.request
    _write_record(session)  # before the first job, so that a sweep that is killed can be resumed from its folder
    capacity, needs = Capacity(session.most), {job.name: session.checks[job.name].need for job in left}
    at_once = capacity.count(needs.values())
    config = OmegaConf.select(request.hydra, "hydra.launcher")
    session.server.room = launchers.choose_room(request.launcher, config, at_once)
    beside = f", up to {at_once} at once" if at_once > 1 else ""
    up_to = "up to " if session.rounds else ""
    log.info("%s%s in %s%s", up_to, format_count(len(left), "job"), shorten(sweep.path), beside)
    _warn_of_competition(session, at_once, max(need.threads for need in needs.values()))
    aside = sweep.list_set_aside()  # of earlier commands; what these jobs set aside is reported at the end
    before, macs = len(session.requested) - len(left), {job.name: session.checks[job.name].macs for job in left}
    try:
        follow = session.display.progress
        with follow(sweep, left, before=before, axes=request.axes, at_once=at_once, macs=macs) as progress:
            if session.rounds is not None:
                run_rounds(session.rounds, session.server, progress, capacity=capacity, needs=needs)
            elif request.launcher == NO_LAUNCHER:
                supervisor = Supervisor(
                    sweep, session.server, argv=sweep.argv, tick=progress.refresh, capacity=capacity, needs=needs
                )
                supervisor.run_all(left)
                supervisor.close()
            else:
                launchers.launch(request, left, session.server, progress)
    except (KeyboardInterrupt, Terminated) as error:
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # a second signal skips the report
            _write_report(sweep)
        session.display.show_folder(sweep.path)
        if session.rounds is not None:
            message = f"the sweep is not decided after {session.rounds.complete} seeds"
        else:
            left = list_left(request, sweep, session.requested)
            message = f"{len(left)} of {len(session.requested)} jobs are left"
        raise type(error)(f"{message}: repeat the command to continue") from None
    except OSError as error:  # for example a full disk
        message = f"{error.strerror}: resolve this, then repeat the command to continue"
        raise RunFailed(message, sweep.path) from error
    moved = sorted(sweep.list_set_aside() - aside)
    try:
        finish(session)
    finally:
        if moved:
            log.warning("moved files that no job can continue from to %s", ", ".join(moved))


def _write_record(session: Session, **verdict: Any) -> None:
    """Write `sweep.yaml`: the command and, once a sweep that adds seeds is over, its verdict."""
    sweep, request = session.sweep, session.request
    plain = {"overrides": list(request.overrides), "axes": request.axes, "jobs": [job.overrides for job in sweep.jobs]}
    settings = request.sweep.model_dump(include=RECORDED if session.rounds else {"jobs"})
    write_yaml(sweep.path / SWEEP, plain | {"sweep": settings} | verdict)


def finish(session: Session) -> None:
    """Show the results of the sweep.

    Raises:
        RunFailed: a job failed.
    """
    sweep, rounds = session.sweep, session.rounds
    if rounds is None:
        if not session.request.grows:  # a claim shows its own verdict
            _show_sweep(session)
        _report_failures(sweep, list_left(session.request, sweep, session.requested), len(session.requested))
        return
    if surplus := rounds.settle():
        log.info("job %s had started before the sweep was decided: set aside", ", ".join(surplus))
    _write_record(session, verdict=rounds.to_plain())
    _show_sweep(session, rounds.describe())
    _report_failures(sweep, rounds.list_failed(), len(rounds.seen))


def _warn_of_competition(session: Session, at_once: int, threads: int) -> None:
    key = {NO_LAUNCHER: "sweep.jobs", "joblib": "hydra.launcher.n_jobs"}.get(session.request.launcher)
    cores = count_cores()
    if key is not None and session.most is not None and at_once > 1 and at_once * threads > cores:
        log.warning(
            "%s=%d: each job uses up to %d threads, but there are only %d cores: the jobs will compete for them",
            *(key, session.most, threads, cores),
        )


def _show_sweep(session: Session, verdict: Sequence[str] = ()) -> None:
    """Write the report of the runs so far; show it, the verdict of the sweep and, last, its folder."""
    session.display.show_result(_write_report(session.sweep), verdict)
    session.display.show_folder(session.sweep.path)


def _write_report(sweep: SweepFolder) -> Study | None:
    """Write the report of the runs so far into the sweep's folder; if that fails, log why and return None."""
    try:
        return write_report([sweep.path], sweep.path, strict=False)
    except (FileInTheWay, OSError) as error:  # the runs are not affected
        log.warning("%s. Resolve this, then write the report with: cnnbench report %s", error, shorten(sweep.path))
        return None


def _report_failures(sweep: SweepFolder, unfinished: Sequence[SweepJob], requested: int) -> None:
    if elsewhere := [job for job in unfinished if sweep.read_state(job) == RUNNING]:
        names = ", ".join(job.name for job in elsewhere)
        log.warning("skipped, because another process is using them: %s", names)
    if unfinished:
        names = ", ".join(job.name for job in unfinished)
        raise RunFailed(
            f"{len(unfinished)} of {requested} runs failed ({names}): the status.json of each says why. The same "
            "command tries them again",
            sweep.path,
        )

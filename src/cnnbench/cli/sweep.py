"""A sweep from its command to its table: found again or begun, checked, run, compared."""

import contextlib
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.cli import compose, launchers
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.report import show_study
from cnnbench.cli.run_folders import shorten
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.processes.cores import count_cores
from cnnbench.processes.signals import Terminated
from cnnbench.processes.worker import WorkerEnded
from cnnbench.report.comparing import FIX_SEEDS_FIRST
from cnnbench.report.study import Study
from cnnbench.report.writing import FileInTheWay, write_report
from cnnbench.runs.folder import RUNNING, SWEEP
from cnnbench.runs.reopening import restrict_config
from cnnbench.storage.atomic import InUse, lock_folder
from cnnbench.storage.plain_data import read_yaml, write_yaml
from cnnbench.sweep.folder import SweepFolder, check_can_rename, rename_sweep
from cnnbench.sweep.jobs import SweepJob, find_sweep, find_with_other_seeds, is_sweep, plan_jobs
from cnnbench.sweep.progress import SweepProgress
from cnnbench.sweep.server import JobServer
from cnnbench.sweep.supervisor import Supervisor

log = logging.getLogger("cnnbench")


@dataclass
class _Session:
    """A sweep that this command runs.

    Attributes:
        request: what the command asks for.
        overrides: of the command.
        left: the jobs to run now.
    """

    request: compose.Request
    overrides: Sequence[str]
    sweep: SweepFolder
    left: Sequence[SweepJob]
    server: JobServer
    launcher: str = launchers.IN_PROCESS
    at_once: int = 1


def create_server(overrides: Sequence[str]) -> JobServer:
    """The server of the sweep that a command asks for, not started yet.

    Raises:
        ValueError: a launcher that is unknown, or not installed.
    """
    launchers.find_launcher(overrides)
    return JobServer()


def run_sweep(request: compose.Request, overrides: Sequence[str], server: JobServer) -> None:
    """Run the jobs of a sweep that have no result yet; prints its table and, last, its folder.

    If the same jobs were started before, they continue in that folder.

    Raises:
        ValueError: a job cannot run, or another process runs the sweep; nothing has been written.
        RunFailed: a job failed; the others have been run.
    """
    config = request.hydra.hydra.launcher
    launcher = launchers.find_launcher(overrides)
    launchers.count_jobs_at_once(launcher, config)  # refuses a wrong number before anything else is done
    jobs = plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs)
    if len(jobs) < len(request.jobs):
        log.info("%d jobs requested, %d of them different: each runs once", len(request.jobs), len(jobs))
    path, threads = _find_earlier(request, jobs), None
    if path is None:
        if other := find_with_other_seeds(request.folder.parent, jobs):
            log.warning("%s holds the same configs with other seeds. %s", shorten(other.resolve()), FIX_SEEDS_FIRST)
        threads = _check(jobs, server)
        if is_sweep(request.folder):
            log.info("the earlier sweep is now %s", shorten(rename_sweep(request.folder)))
        path = SweepFolder.create(request.folder, jobs, argv=sys.argv).path
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(lock_folder(path))
        except InUse as error:
            hint = ", or start another sweep with sweep.restart=true" if request.new_folder else ""
            raise InUse(f"{error}{hint}") from None
        sweep = SweepFolder.open_or_repair(path, jobs, argv=sys.argv)
        sweep.adopt(jobs, argv=sys.argv)
        left = sweep.list_unfinished()
        if not left:
            log.info("all %d jobs are finished; sweep.restart=true runs them again", len(jobs))
            _show(sweep)
            return
        if len(left) < len(jobs):
            log.info("continuing: %d of %d jobs are finished", len(jobs) - len(left), len(jobs))
        if threads is None:
            threads = _check(left, server)
        sweep.write()  # now that all of it can run
        at_once = launchers.count_jobs_at_once(launcher, config, threads)
        server.room = launchers.choose_room(launcher, config, at_once)
        if launcher == "joblib" and at_once * threads > count_cores():
            log.warning(
                "hydra.launcher.n_jobs=%d: jobs compute with up to %d threads each, and there are %d cores: "
                "they will compete for cores",
                at_once,
                threads,
                count_cores(),
            )
        _run(_Session(request, overrides, sweep, left, server, launcher, at_once))


def resume_sweep(path: Path, server: JobServer) -> None:
    """Run the unfinished jobs of a sweep, from its folder alone, one at a time.

    Raises:
        ValueError: `jobs.json` is damaged, or a job cannot run.
        RunFailed: a job failed; the others have been run.
    """
    with lock_folder(path):
        sweep = SweepFolder(path)
        plain = read_yaml(path / SWEEP) if (path / SWEEP).is_file() else {}
        left = [replace(job, config=to_dict(restrict_config(from_dict(job.config)))) for job in sweep.list_unfinished()]
        if not left:
            log.info("all %d jobs are finished: nothing to resume", len(sweep.jobs))
            _show(sweep)
            return
        log.info("continuing: %d of %d jobs are finished", len(sweep.jobs) - len(left), len(sweep.jobs))
        if any("hydra/launcher=" in text for text in sweep.argv):
            command = shlex.join(["cnnbench", *sweep.argv[1:]])
            log.info("running one job at a time; to use the launcher again, repeat the first command: %s", command)
        _check(left, server)
        axes, overrides = ([str(text) for text in plain.get(key) or []] for key in ("axes", "overrides"))
        request = compose.Request(jobs=[], folder=path, axes=axes, is_sweep=True, hydra=OmegaConf.create())
        _run(_Session(request, overrides, sweep, left, server))


def _find_earlier(request: compose.Request, jobs: Sequence[SweepJob]) -> Path | None:
    """The folder of an earlier sweep to continue.

    Raises:
        ValueError: the requested folder holds another sweep, or must be renamed and cannot be.
    """
    folder = request.folder
    if request.restart:
        if is_sweep(folder):
            check_can_rename(folder)
        return None
    if request.new_folder:
        found = find_sweep(folder.parent, jobs)
        return found.resolve() if found else None
    if not is_sweep(folder):
        return None
    if find_sweep(folder.parent, jobs, name=folder.name) is None:
        raise ValueError(
            f"{folder} holds another sweep: choose another folder, or start again with sweep.restart=true, which "
            "renames that one"
        )
    return folder.resolve()


def _check(jobs: Sequence[SweepJob], server: JobServer) -> int:
    """Check that every job can run, load their data into the server, and describe the data.

    Returns:
        The most threads that one of them computes with.

    Raises:
        ValueError: one cannot run.
        RunFailed: the server ended meanwhile.
    """
    # The final report needs it: importing takes a second, and the server imports torch meanwhile.
    import cnnbench.report.page  # noqa: F401

    # The seed changes nothing that is checked.
    different = {repr(job.config | {"seed": 0}): job.config for job in jobs}
    try:
        checks = server.check(list(different.values()))
    except WorkerEnded as ended:
        raise RunFailed(f"the process that checks the jobs and decodes their data died: {ended}") from None
    for check in checks:
        if check.problem is not None:
            raise ValueError(check.problem)
    for line in dict.fromkeys(line for check in checks for line in check.data):
        log.info("%s", line)
    return max(check.threads for check in checks)


def _run(session: _Session) -> None:
    sweep, left, request = session.sweep, session.left, session.request
    plain = {"overrides": list(session.overrides), "axes": request.axes, "jobs": [job.overrides for job in sweep.jobs]}
    write_yaml(sweep.path / SWEEP, plain)
    log.info("%d %s in %s", len(left), "job" if len(left) == 1 else "jobs", shorten(sweep.path))
    aside = sweep.list_set_aside()
    before, at_once = len(sweep.jobs) - len(left), min(session.at_once, len(left))
    try:
        with SweepProgress(sweep, left, before=before, axes=request.axes, at_once=at_once) as progress:
            if session.launcher == launchers.IN_PROCESS:
                _run_in_turn(session, progress)
            else:
                launchers.launch(session.launcher, request, left, session.server, progress)
    except (KeyboardInterrupt, Terminated) as error:
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # again: the report can wait
            _write_report(sweep)
        print(shorten(sweep.path), flush=True)
        unfinished = len(sweep.list_unfinished())
        message = f"{unfinished} of {len(sweep.jobs)} jobs are left: repeat the command to continue"
        raise type(error)(message) from None
    _show(sweep)
    if moved := sorted(sweep.list_set_aside() - aside):
        log.warning("moved files that belong to another job to %s", ", ".join(moved))
    _report_failures(sweep)


def _run_in_turn(session: _Session, progress: SweepProgress) -> None:
    supervisor = Supervisor(session.sweep, session.server, argv=session.sweep.argv, tick=progress.refresh)
    for job in session.left:
        supervisor.run(job)
        progress.refresh(at_once=True)
    supervisor.close()


def _report_failures(sweep: SweepFolder) -> None:
    unfinished = sweep.list_unfinished()
    if elsewhere := [job for job in unfinished if sweep.read_state(job) == RUNNING]:
        names = ", ".join(job.name for job in elsewhere)
        log.warning("skipped, because another process is using them: %s", names)
    if unfinished:
        names = ", ".join(job.name for job in unfinished)
        raise RunFailed(
            f"{len(unfinished)} of {len(sweep.jobs)} runs failed ({names}): their status.json and train.log say why, "
            f"and so does {shorten(sweep.path) / 'results.csv'}; the same command tries them again"
        )


def _show(sweep: SweepFolder) -> None:
    """Write the report of the runs so far, print its tables and the folder."""
    if study := _write_report(sweep):
        show_study(study)
    print(shorten(sweep.path), flush=True)


def _write_report(sweep: SweepFolder) -> Study | None:
    try:
        return write_report([sweep.path], sweep.path, strict=False)
    except FileInTheWay as error:  # the runs themselves are fine
        log.warning("%s", error)
        return None

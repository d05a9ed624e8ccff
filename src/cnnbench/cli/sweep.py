"""A sweep from its command to its table: find it again or begin it, check its jobs, run them, compare the runs."""

import contextlib
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.cli import compose, launchers
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.report import show_study
from cnnbench.cli.run_folders import shorten
from cnnbench.config.schema import SweepConfig, from_dict, to_dict
from cnnbench.config.seeds import drop_seeds
from cnnbench.processes.capacity import Capacity
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
from cnnbench.sweep.server import JobCheck, JobServer
from cnnbench.sweep.supervisor import Supervisor
from cnnbench.sweep.together import check_groups, run_groups

log = logging.getLogger("cnnbench")


@dataclass
class _Session:
    """A sweep that this command runs.

    Attributes:
        request: the command, parsed.
        overrides: the command's overrides.
        requested: the jobs that the command names.
        left: the requested jobs that are to run now.
        checks: the check of each job in `left`, by its name.
        most: the most jobs to run at once; None for as many as the machine has room for.
    """

    request: compose.Request
    overrides: Sequence[str]
    sweep: SweepFolder
    requested: Sequence[SweepJob]
    left: Sequence[SweepJob]
    server: JobServer
    checks: Mapping[str, JobCheck]
    most: int | None
    launcher: str = launchers.NO_LAUNCHER


def create_server(overrides: Sequence[str]) -> JobServer:
    """Create the server for the sweep of a command; it is not started yet.

    Raises:
        ValueError: the launcher is unknown or not installed.
    """
    launchers.find_launcher(overrides)
    return JobServer()


def parse_jobs_at_once(text: str) -> SweepConfig:
    """Parse the value of `sweep.jobs=TEXT`, given when a sweep is resumed from its folder.

    Raises:
        ValueError: the text is neither a number from 1 nor auto.
    """
    return from_dict({"sweep": {"jobs": int(text) if text.isdecimal() else text}}).sweep


def run_sweep(request: compose.Request, overrides: Sequence[str], server: JobServer) -> None:
    """Run the jobs of a sweep that have no result yet; print its table and, on the last line, its folder.

    If the same jobs were started before, they continue in the folder of that sweep.

    Raises:
        ValueError: a job cannot run, or another process runs the sweep; nothing has been written.
        RunFailed: a job failed; the other jobs have been run.
    """
    config = request.hydra.hydra.launcher
    launcher = launchers.find_launcher(overrides)
    # A wrong number is refused before anything else is done.
    most = launchers.choose_jobs_at_once(request.sweep, launcher, config)
    jobs = plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs)
    if len(jobs) < len(request.jobs):
        log.info("%d jobs requested, but only %d differ: each of these runs once", len(request.jobs), len(jobs))
    path, checks = _find_earlier(request, jobs), None
    if path is None:
        if not request.grows and (other := find_with_other_seeds(request.folder.parent, jobs)):
            log.warning("%s has the same configs with other seeds. %s", shorten(other.resolve()), FIX_SEEDS_FIRST)
        checks = _check(jobs, server)
        check_groups(jobs, {name: check.need for name, check in checks.items()})
        if is_sweep(request.folder):
            log.info("renamed the earlier sweep to %s", shorten(rename_sweep(request.folder)))
        path = SweepFolder.create(request.folder, jobs, argv=sys.argv).path
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(lock_folder(path))
        except InUse as error:
            hint = ", or start another sweep with sweep.restart=true" if request.new_folder else ""
            raise InUse(f"{error}{hint}") from None
        sweep = SweepFolder.open_or_repair(path, jobs, argv=sys.argv)
        sweep.adopt(jobs, argv=sys.argv)
        requested = [job for job in sweep.jobs if job.hash in {job.hash for job in jobs}]
        left = _list_left(request, sweep, requested)
        if not left:
            if not request.grows:
                log.info("all %d jobs are finished; sweep.restart=true runs them again", len(jobs))
                _show(sweep)
            return
        if len(left) < len(jobs):
            log.info("continuing: %d of %d jobs are finished", len(jobs) - len(left), len(jobs))
        if checks is None:
            checks = _check(left, server)
        sweep.write()  # only now is it known that every job can run
        if launcher != launchers.NO_LAUNCHER:
            most = launchers.count_jobs_at_once(launcher, config, max(check.need.threads for check in checks.values()))
        _run(_Session(request, overrides, sweep, requested, left, server, checks, most, launcher))


def _list_left(request: compose.Request, sweep: SweepFolder, requested: Sequence[SweepJob]) -> list[SweepJob]:
    """The jobs that have no result. For a claim, a run whose loss became infinite is a result too."""
    left = [job for job in requested if not sweep.is_finished(job)]
    return [job for job in left if not (request.grows and sweep.has_diverged(job))]


def resume_sweep(path: Path, server: JobServer, settings: SweepConfig | None = None) -> None:
    """Run the unfinished jobs of a sweep on this machine, from its folder alone.

    Args:
        settings: how many jobs to run at once; by default the settings that the sweep was started with.

    Raises:
        ValueError: `jobs.json` is damaged, or a job cannot run.
        RunFailed: a job failed; the other jobs have been run.
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
            log.info("running them without the launcher. To use it again, repeat the first command: %s", command)
        settings = settings or from_dict({"sweep": plain.get("sweep") or {}}).sweep
        checks = _check(left, server)
        axes, overrides = ([str(text) for text in plain.get(key) or []] for key in ("axes", "overrides"))
        request = compose.Request([], path, axes=axes, is_sweep=True, hydra=OmegaConf.create(), sweep=settings)
        most = launchers.choose_jobs_at_once(settings, launchers.NO_LAUNCHER, request.hydra)
        _run(_Session(request, overrides, sweep, sweep.jobs, left, server, checks, most))


def _find_earlier(request: compose.Request, jobs: Sequence[SweepJob]) -> Path | None:
    """The folder of an earlier sweep to continue.

    Raises:
        ValueError: the requested folder holds another sweep, or it must be renamed but cannot be.
    """
    folder = request.folder
    if request.grows:
        return folder.resolve() if is_sweep(folder) else None
    if request.sweep.restart:
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
            f"{folder} holds another sweep: choose another folder, or add sweep.restart=true, which renames the "
            "earlier sweep and starts anew"
        )
    return folder.resolve()


def _check(jobs: Sequence[SweepJob], server: JobServer) -> dict[str, JobCheck]:
    """Check that every job can run, load the data into the server, and log a description of them.

    Returns:
        The check of each job, by its name.

    Raises:
        ValueError: a job cannot run.
        RunFailed: the server process died.
    """
    # The report at the end needs this module. The import takes a second, during which the server imports torch.
    import cnnbench.report.page  # noqa: F401

    # Configs that differ only in their seeds share one check.
    alike = {job.name: repr(drop_seeds(job.config)) for job in jobs}
    different = {alike[job.name]: job.config for job in jobs}
    try:
        checks = server.check(list(different.values()))
    except WorkerEnded as ended:
        raise RunFailed(f"the process that checks the jobs and decodes their data died: {ended}") from None
    for check in checks:
        if check.problem is not None:
            raise ValueError(check.problem)
    for line in dict.fromkeys(line for check in checks for line in check.data):
        log.info("%s", line)
    by_config = dict(zip(different, checks, strict=True))
    return {job.name: by_config[alike[job.name]] for job in jobs}


def _run(session: _Session) -> None:
    sweep, left, request = session.sweep, session.left, session.request
    plain = {"overrides": list(session.overrides), "axes": request.axes, "jobs": [job.overrides for job in sweep.jobs]}
    write_yaml(sweep.path / SWEEP, plain | {"sweep": request.sweep.model_dump(include={"jobs"})})
    capacity, needs = Capacity(session.most), {job.name: session.checks[job.name].need for job in left}
    at_once = capacity.count(needs.values())
    launcher = OmegaConf.select(request.hydra, "hydra.launcher")
    session.server.room = launchers.choose_room(session.launcher, launcher, at_once)
    beside = f", up to {at_once} at once" if at_once > 1 else ""
    log.info("%d %s in %s%s", len(left), "job" if len(left) == 1 else "jobs", shorten(sweep.path), beside)
    _warn_of_competition(session, at_once, max(need.threads for need in needs.values()))
    aside = sweep.list_set_aside()
    before, macs = len(session.requested) - len(left), {job.name: session.checks[job.name].macs for job in left}
    try:
        with SweepProgress(sweep, left, before=before, axes=request.axes, at_once=at_once, macs=macs) as progress:
            if session.launcher == launchers.NO_LAUNCHER:
                alone = run_groups(left, sweep, session.server, tick=progress.refresh)
                supervisor = Supervisor(
                    sweep, session.server, argv=sweep.argv, tick=progress.refresh, capacity=capacity, needs=needs
                )
                supervisor.run_all(alone)
                supervisor.close()
            else:
                launchers.launch(session.launcher, request, left, session.server, progress)
    except (KeyboardInterrupt, Terminated) as error:
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # a second signal skips the report
            _write_report(sweep)
        print(shorten(sweep.path), flush=True)
        left = _list_left(request, sweep, session.requested)
        message = f"{len(left)} of {len(session.requested)} jobs are left: repeat the command to continue"
        raise type(error)(message) from None
    except OSError as error:  # for example a full disk
        raise RunFailed(f"{error.strerror}: resolve this, then repeat the command to continue") from error
    if not request.grows:
        _show(sweep)
    if moved := sorted(sweep.list_set_aside() - aside):
        log.warning("moved files that no job can continue from to %s", ", ".join(moved))
    _report_failures(sweep, _list_left(request, sweep, session.requested), len(session.requested))


def _warn_of_competition(session: _Session, at_once: int, threads: int) -> None:
    keys = {launchers.NO_LAUNCHER: "sweep.jobs", "joblib": "hydra.launcher.n_jobs"}
    if session.launcher in keys and session.most is not None and at_once > 1 and at_once * threads > count_cores():
        log.warning(
            "%s=%d: each job uses up to %d threads, but there are only %d cores: the jobs will compete for them",
            keys[session.launcher],
            session.most,
            threads,
            count_cores(),
        )


def _report_failures(sweep: SweepFolder, unfinished: Sequence[SweepJob], requested: int) -> None:
    if elsewhere := [job for job in unfinished if sweep.read_state(job) == RUNNING]:
        names = ", ".join(job.name for job in elsewhere)
        log.warning("skipped, because another process is using them: %s", names)
    if unfinished:
        names = ", ".join(job.name for job in unfinished)
        raise RunFailed(
            f"{len(unfinished)} of {requested} runs failed ({names}): the status.json of each says why. The same "
            "command tries them again"
        )


def _show(sweep: SweepFolder) -> None:
    """Write the report of the runs so far; print its tables and the sweep's folder."""
    if study := _write_report(sweep):
        show_study(study)
    print(shorten(sweep.path), flush=True)


def _write_report(sweep: SweepFolder) -> Study | None:
    try:
        return write_report([sweep.path], sweep.path, strict=False)
    except (FileInTheWay, OSError) as error:  # the runs are not affected
        log.warning("%s. Resolve this, then write the report with: cnnbench report %s", error, shorten(sweep.path))
        return None

"""A sweep from its command to its table: found again or begun, checked, run, compared."""

import contextlib
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.cli import compose, launchers
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.report import show_study
from cnnbench.cli.run_folders import shorten
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.processes.cores import cores
from cnnbench.processes.signals import Terminated
from cnnbench.processes.worker import WorkerEnded
from cnnbench.report.comparing import FIX_SEEDS_FIRST
from cnnbench.report.study import Study
from cnnbench.report.writing import FileInTheWay, write_report
from cnnbench.runs.folder import RUNNING
from cnnbench.runs.reopening import restrict_config
from cnnbench.storage.plain_data import read_yaml, write_yaml
from cnnbench.sweep.folder import SweepFolder, check_renaming, locked, set_aside
from cnnbench.sweep.jobs import SWEEP, Job, find, is_sweep, plan, seen_with_other_seeds
from cnnbench.sweep.progress import Progress
from cnnbench.sweep.server import JobServer
from cnnbench.sweep.supervisor import Supervisor

log = logging.getLogger("cnnbench")


def server_for(overrides: Sequence[str]) -> JobServer:
    """The server of the sweep that a command asks for, not started yet.

    Raises:
        ValueError: a launcher that is unknown, or not installed.
    """
    launchers.launcher_asked(overrides)
    return JobServer()


def run(asked: compose.Request, overrides: Sequence[str], server: JobServer) -> None:
    """Run the jobs of a sweep that have no result yet; prints its table and, last, its folder.

    The same jobs, asked for again, go on in the folder where they were begun.

    Raises:
        ValueError: a job cannot run, or somebody else runs the sweep; nothing has been written.
        RunFailed: a job failed; the others have been run.
    """
    launcher = asked.hydra.hydra.launcher
    name = launchers.launcher_asked(overrides)
    launchers.jobs_at_once(name, launcher)  # a wrong number is said before anything else is done
    jobs = plan((to_dict(job.config), job.overrides) for job in asked.jobs)
    if len(jobs) < len(asked.jobs):
        log.info("%d jobs were asked for, %d of them different: each is run once", len(asked.jobs), len(jobs))
    known = _begun(asked, jobs)
    new = known is None
    if new:
        if earlier := seen_with_other_seeds(asked.folder.parent, jobs):
            log.warning("%s has these with other seeds. %s", shorten(earlier.resolve()), FIX_SEEDS_FIRST)
        threads = _check(jobs, server)
        if is_sweep(asked.folder):
            log.info("the earlier sweep is now %s", shorten(set_aside(asked.folder)))
        known = SweepFolder.create(asked.folder, jobs, argv=sys.argv).path
    assert known is not None
    hint = ", or start another sweep with sweep.restart=true" if asked.new_folder else ""
    with locked(known, hint=hint):
        sweep = SweepFolder.mended(known, jobs, argv=sys.argv)
        sweep.adopt(jobs, argv=sys.argv)
        left = sweep.unfinished()
        if not left:
            log.info("all %d jobs are finished; sweep.restart=true runs them afresh", len(jobs))
            _show(sweep)
            return
        if len(left) < len(jobs):
            log.info("going on: %d of %d jobs are finished", len(jobs) - len(left), len(jobs))
        if not new:
            threads = _check(left, server)
        sweep.write()  # now that all of it can run
        at_once = launchers.jobs_at_once(name, launcher, threads)
        server.room = launchers.room_of(name, launcher, at_once)
        if name == "joblib" and at_once * threads > cores():
            log.warning(
                "hydra.launcher.n_jobs=%d: jobs compute with up to %d threads each, and there are %d cores: "
                "they will wait for one another",
                at_once,
                threads,
                cores(),
            )
        _run(asked, sweep, left, overrides, server, name, at_once)


def go_on(path: Path, server: JobServer) -> None:
    """Go on with what a sweep has not finished, from its folder alone, one job after the other.

    Raises:
        ValueError: `jobs.json` is damaged, or a job cannot run.
        RunFailed: a job failed; the others have been run.
    """
    with locked(path):
        sweep = SweepFolder(path)
        known = read_yaml(path / SWEEP) if (path / SWEEP).is_file() else {}
        left = [replace(job, config=to_dict(restrict_config(from_dict(job.config)))) for job in sweep.unfinished()]
        if not left:
            log.info("all %d jobs are finished: nothing to resume", len(sweep.jobs))
            _show(sweep)
            return
        log.info("going on: %d of %d jobs are finished", len(sweep.jobs) - len(left), len(sweep.jobs))
        if any("hydra/launcher=" in text for text in sweep.argv):
            log.info("one after the other; as it was begun: %s", shlex.join(["cnnbench", *sweep.argv[1:]]))
        _check(left, server)
        axes, overrides = ([str(text) for text in known.get(key) or []] for key in ("axes", "overrides"))
        asked = compose.Request([], path, axes, True, OmegaConf.create())
        _run(asked, sweep, left, overrides, server, launchers.IN_PROCESS, 1)


def _begun(asked: compose.Request, jobs: Sequence[Job]) -> Path | None:
    """The folder of an earlier sweep that is to be gone on with.

    Raises:
        ValueError: the folder that was asked for holds another sweep, or would have to be renamed and cannot be.
    """
    if asked.restart:
        if is_sweep(asked.folder):
            check_renaming(asked.folder)
        return None
    if asked.new_folder:
        found = find(asked.folder.parent, jobs)
        return found.resolve() if found else None
    if not is_sweep(asked.folder):
        return None
    if find(asked.folder.parent, jobs, name=asked.folder.name) is None:
        raise ValueError(
            f"{asked.folder} holds another sweep: name another folder, or start afresh with sweep.restart=true, which "
            "renames that one"
        )
    return asked.folder.resolve()


def _check(jobs: Sequence[Job], server: JobServer) -> int:
    """See to it that every job can run, and that the server has their data in memory; says what data they are.

    Returns:
        The most threads that one of them computes with.

    Raises:
        ValueError: one cannot run.
        RunFailed: the server ended meanwhile.
    """
    # A second that the report needs in the end, while the server imports torch on another core.
    import cnnbench.report.page  # noqa: F401

    # The seed changes nothing that is checked.
    alike = {repr(job.config | {"seed": 0}): job.config for job in jobs}
    try:
        checks = server.check(list(alike.values()))
    except WorkerEnded as ended:
        raise RunFailed(f"the process that checks the jobs and decodes their data died: {ended}") from None
    for check in checks:
        if check.problem is not None:
            raise ValueError(check.problem)
    for line in dict.fromkeys(line for check in checks for line in check.data):
        log.info("%s", line)
    return max(check.threads for check in checks)


def _run(
    asked: compose.Request,
    sweep: SweepFolder,
    jobs: Sequence[Job],
    overrides: Sequence[str],
    server: JobServer,
    launcher: str,
    at_once: int,
) -> None:
    write_yaml(
        sweep.path / "sweep.yaml",
        {
            "overrides": list(overrides),
            "axes": asked.axes,
            "jobs": [job.overrides for job in sweep.jobs],
        },
    )
    log.info("%d %s in %s", len(jobs), "job" if len(jobs) == 1 else "jobs", shorten(sweep.path))
    aside = sweep.aside()
    before = len(sweep.jobs) - len(jobs)
    progress = Progress(sweep, jobs, before=before, axes=asked.axes, at_once=min(at_once, len(jobs)))
    try:
        with progress:
            if launcher != launchers.IN_PROCESS:
                launchers.launch(launcher, asked, sweep, jobs, server, progress)
            else:
                _one_by_one(sweep, jobs, server, progress)
    except (KeyboardInterrupt, Terminated) as error:
        left = len(sweep.unfinished())
        error.args = (f"{left} of {len(sweep.jobs)} jobs are left: the same command goes on with them",)
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # again: the report can wait
            _write(sweep)
        print(shorten(sweep.path), flush=True)
        raise
    _show(sweep)
    if moved := sorted(sweep.aside() - aside):
        log.warning("what lay in the place of a job and was not its own is now %s", ", ".join(moved))
    lost = sweep.unfinished()
    if elsewhere := [job for job in lost if sweep.state(job) == RUNNING]:
        names = ", ".join(job.name for job in elsewhere)
        log.warning("in use by another process, and left alone: %s", names)
    if lost:
        names = ", ".join(job.name for job in lost)
        raise RunFailed(
            f"{len(lost)} of {len(sweep.jobs)} runs failed ({names}): why is in their status.json and train.log, and "
            f"in {shorten(sweep.path) / 'results.csv'}; the same command tries them again"
        )


def _one_by_one(sweep: SweepFolder, jobs: Sequence[Job], server: JobServer, progress: Progress) -> None:
    supervisor = Supervisor(sweep, server, argv=sweep.argv, tick=progress.look)
    for job in jobs:
        supervisor.run(job)
        progress.look(at_once=True)
    supervisor.close()


def _show(sweep: SweepFolder) -> None:
    """Write the report of what there is by now, print its tables and the folder."""
    if study := _write(sweep):
        show_study(study)
    print(shorten(sweep.path), flush=True)


def _write(sweep: SweepFolder) -> Study | None:
    try:
        return write_report([sweep.path], sweep.path, strict=False)
    except FileInTheWay as error:  # the runs are none the worse for it
        log.warning("%s", error)
        return None

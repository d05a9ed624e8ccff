"""A sweep from its command to its table: find it again or begin it, check its jobs, and run those without a result.

`session` runs the jobs and compares the runs; `launchers` does so with Hydra's launchers, and `rounds` adds seeds.
"""

import contextlib
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.cli import compose
from cnnbench.cli.compose.session import NO_LAUNCHER
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_folders import shorten
from cnnbench.cli.sweep import launchers
from cnnbench.cli.sweep.rounds import Rounds
from cnnbench.cli.sweep.session import Display, Session, finish, list_left, run_jobs
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.config.seeds import drop_seeds
from cnnbench.metrics.sequential import find_least_pairs
from cnnbench.plugins.records import require_plugins
from cnnbench.processes.worker import WorkerEnded
from cnnbench.quality.findings import RefusedData
from cnnbench.report.comparing import FIX_SEEDS_FIRST
from cnnbench.runs.folder import SWEEP
from cnnbench.runs.reopening import restrict_config
from cnnbench.storage.atomic import InUse, lock_folder
from cnnbench.storage.plain_data import read_yaml
from cnnbench.sweeps.folder import SweepFolder, check_can_rename, rename_sweep
from cnnbench.sweeps.jobs import SweepJob, find_sweep, find_with_other_seeds, hash_config, is_sweep, plan_jobs
from cnnbench.sweeps.server import JobCheck, JobServer
from cnnbench.sweeps.together import check_groups

log = logging.getLogger("cnnbench")


def run_sweep(request: compose.Request, server: JobServer, display: Display | None = None) -> Path:
    """Run the jobs of a sweep that have no result yet; show its table and, last, its folder, which is returned.

    If the same jobs were started before, they continue in the folder of that sweep.

    Raises:
        ValueError: a job cannot run, or another process runs the sweep; nothing has been written.
        RunFailed: a job failed; the other jobs have been run.
    """
    most = launchers.choose_jobs_at_once(request)  # first, because it refuses wrong numbers
    jobs = plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs)
    if request.sweep.until:
        _check_until(request, jobs)
    if len(jobs) < len(request.jobs):
        log.info("%d jobs requested, but only %d differ: each of these runs once", len(request.jobs), len(jobs))
    path, checks = _find_earlier(request, jobs), None
    if path is None:  # jobs of an earlier sweep are checked later, without those that are finished
        checks = _warn_and_check(request, jobs, server)
        path = SweepFolder.create(request.folder, jobs, argv=sys.argv, settings=request.sweep).path
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(lock_folder(path))
        except InUse as error:
            hint = ", or start another sweep with sweep.restart=true" if request.new_folder else ""
            raise InUse(f"{error}{hint}") from None
        # Only under the lock: another command may have run jobs of this sweep since it was found.
        sweep = SweepFolder.open_or_repair(path, jobs, argv=sys.argv, settings=request.sweep)
        sweep.adopt(jobs, argv=sys.argv, settings=request.sweep)
        rounds, hashes = Rounds(sweep) if sweep.adds_seeds else None, {job.hash for job in jobs}
        requested = [job for job in sweep.jobs if rounds or job.hash in hashes]
        left = rounds.list_left() if rounds else list_left(request, sweep, requested)
        session = Session(request, sweep, requested, left, server, most, rounds)
        session.display = display or session.display
        if not left:
            if not request.grows:
                number = len(rounds.seen if rounds else jobs)
                log.info("all %d jobs are finished; sweep.restart=true runs them again", number)
            finish(session)
            return path
        _log_continuing(session)
        session.checks = checks or _check(left, server)
        sweep.write()  # only now is it known that every job can run
        if request.launcher != NO_LAUNCHER:
            threads = max(check.need.threads for check in session.checks.values())
            session.most = launchers.count_jobs_at_once(request.launcher, request.hydra.hydra.launcher, threads)
        run_jobs(session)
    return path


def resume_sweep(
    path: Path, server: JobServer, jobs_at_once: str | None = None, display: Display | None = None
) -> None:
    """Run the unfinished jobs of a sweep on this machine, from its folder alone.

    Args:
        jobs_at_once: the value of `sweep.jobs=…`; by default as when the sweep was started.

    Raises:
        ValueError: `jobs.json` is damaged, a job cannot run, or `jobs_at_once` is neither a number from 1 nor auto.
        RunFailed: a job failed; the other jobs have been run.
    """
    update = {}
    if jobs_at_once is not None:
        number = int(jobs_at_once) if jobs_at_once.isdecimal() else jobs_at_once
        update = {"jobs": from_dict({"sweep": {"jobs": number}}).sweep.jobs}
    with lock_folder(path):
        sweep = SweepFolder(path)
        plain = read_yaml(path / SWEEP) if (path / SWEEP).is_file() else {}
        settings = sweep.settings.model_copy(update=update)
        left = [_restrict(job, path) for job in sweep.list_unfinished()]
        rounds = Rounds(sweep, left) if sweep.adds_seeds else None
        left = rounds.list_left() if rounds else left
        axes, overrides = ([str(text) for text in plain.get(key) or []] for key in ("axes", "overrides"))
        request = compose.Request([], path, axes, is_sweep=True, hydra=OmegaConf.create(), sweep=settings)
        request.overrides = overrides
        most = launchers.choose_jobs_at_once(request)
        session = Session(request, sweep, sweep.jobs, left, server, most, rounds)
        session.display = display or session.display
        if not left:
            log.info("all %d jobs are finished: nothing to resume", len(rounds.seen if rounds else sweep.jobs))
            finish(session)
            return
        _log_continuing(session)
        if any("hydra/launcher=" in text for text in sweep.argv):
            command = shlex.join(["cnnbench", *sweep.argv[1:]])
            log.info("running them without the launcher. To use it again, repeat the first command: %s", command)
        session.checks = _check(left, server)
        run_jobs(session)


def _check_until(request: compose.Request, jobs: Sequence[SweepJob]) -> None:
    """Check that a sweep with `sweep.until` can be decided."""
    until, most_seeds = f"sweep.until={request.sweep.until}", request.sweep.max_seeds
    if request.launcher != NO_LAUNCHER:
        raise ValueError(
            f"{until} looks at results before it starts more jobs, which hydra/launcher={request.launcher} cannot do: "
            "leave the launcher out, or name the seeds with sweep.seeds=N"
        )
    if any(job.config["sweep"]["together"] for job in jobs):
        raise ValueError(
            f"sweep.together=true trains the seeds of a config by one step, and {until} adds them one by one: leave "
            "one of them out"
        )
    configs = len({hash_config(job.config, with_seeds=False) for job in jobs})
    if configs < 2:
        raise ValueError(
            f"{until} compares configs, and this command has only one: name two or more, such as model=mlp,lenet5"
        )
    if most_seeds < (least := find_least_pairs(configs - 1)):
        raise ValueError(
            f"sweep.max_seeds={most_seeds}: must be a whole number from {least}, because no test can decide "
            f"between {configs} configs with fewer seeds"
        )


def _log_continuing(session: Session) -> None:
    requested = len(session.requested)
    if finished := requested - len(session.left):
        up_to = "up to " if session.rounds else ""
        log.info("continuing: %d of %s%d jobs are finished", finished, up_to, requested)


def _restrict(job: SweepJob, path: Path) -> SweepJob:
    """A job from a sweep's folder as `load_config` gives that of a run."""
    config = from_dict(job.config)
    require_plugins(config, path, unchanged=True)
    return replace(job, config=to_dict(restrict_config(config)))


def _find_earlier(request: compose.Request, jobs: Sequence[SweepJob]) -> Path | None:
    """The folder of an earlier sweep to continue; one that holds another sweep is refused."""
    folder = request.folder
    if request.grows:
        return folder.resolve() if is_sweep(folder) else None
    if request.sweep.restart:
        if is_sweep(folder):
            check_can_rename(folder)
        return None
    adds_seeds = request.sweep.until is not None
    if request.new_folder:
        found = find_sweep(folder.parent, jobs, adds_seeds=adds_seeds)
        return found.resolve() if found else None
    if not is_sweep(folder):
        return None
    if find_sweep(folder.parent, jobs, name=folder.name, adds_seeds=adds_seeds) is None:
        raise ValueError(
            f"{folder} holds another sweep: choose another folder, or add sweep.restart=true, which renames the "
            "earlier sweep and starts anew"
        )
    return folder.resolve()


def _warn_and_check(request: compose.Request, jobs: Sequence[SweepJob], server: JobServer) -> dict[str, JobCheck]:
    """Check the jobs of a new sweep, and rename an earlier one that is in its folder."""
    # Whoever adds seeds after a look at the results makes a difference seem more certain than it is.
    is_fixed = not request.grows and request.sweep.until is None
    if is_fixed and (other := find_with_other_seeds(request.folder.parent, jobs)):
        log.warning("%s has the same configs with other seeds. %s", shorten(other.resolve()), FIX_SEEDS_FIRST)
    checks = _check(jobs, server)
    check_groups(jobs, {name: check.need for name, check in checks.items()})
    if is_sweep(request.folder):
        log.info("renamed the earlier sweep to %s", shorten(rename_sweep(request.folder)))
    return checks


def _check(jobs: Sequence[SweepJob], server: JobServer) -> dict[str, JobCheck]:
    """Check every job, by its name; load the data into the server, and log a description of them."""
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
            raise (RefusedData if check.refuses_data else ValueError)(check.problem)
    for line in dict.fromkeys(line for check in checks for line in check.data):
        log.info("%s", line)
    by_config = dict(zip(different, checks, strict=True))
    return {job.name: by_config[alike[job.name]] for job in jobs}

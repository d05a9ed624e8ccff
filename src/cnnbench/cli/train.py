"""`cnnbench train`: one run, a sweep, or the rest of an interrupted run."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.cli import compose
from cnnbench.cli.compose.quoting import hint_at_several_runs
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import TrainOptions, is_plugins
from cnnbench.cli.run_folders import find_folder, find_unfinished, shorten
from cnnbench.cli.streams import show_log, show_warnings
from cnnbench.config.schema import Config, to_dict
from cnnbench.config.text_values import unquote
from cnnbench.plugins.loading import describe_error
from cnnbench.plugins.records import record_plugins
from cnnbench.runs.checking import find_contradiction
from cnnbench.runs.folder import FINISHED, RunFolder
from cnnbench.runs.painters import open_painters
from cnnbench.runs.pictures import Draw
from cnnbench.storage.atomic import InUse, NoneReadable
from cnnbench.storage.text import format_output_path, make_printable
from cnnbench.sweeps.jobs import is_sweep
from cnnbench.sweeps.server import JobServer

if TYPE_CHECKING:
    from cnnbench.experiment.build import Parts

log = logging.getLogger("cnnbench")
PAINTERS = 1  # processes that draw; each takes 50 MB, and a second one would save a few hundredths of a second


def train(options: TrainOptions) -> None:
    """Train, sweep or resume; print a table and, last, the folder, or the picture of a preview.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: a run started and did not finish.
    """
    show_log()
    overrides = options.overrides or []
    if any(map(_is_resume, overrides)):
        _resume(overrides)
        return
    of_sweeps = ("sweep.seeds=", "sweep.folds=", "sweep.until=")
    several = options.multirun or any(text.startswith(of_sweeps) for text in overrides)
    with JobServer() as server:  # which starts only when it is needed
        if several:
            server.start()  # so that it imports torch while Hydra composes the jobs
        request = compose.compose_request(overrides, multirun=options.multirun)
        if not request.is_sweep:
            with hint_at_several_runs(overrides), open_painters(PAINTERS) as draw:
                _train_one(request, draw)
        elif any(job.config.preview for job in request.jobs):
            raise ValueError("preview=true draws the images of one run: remove -m, or an experiment of several runs")
        else:
            from cnnbench.cli.sweep import run_sweep  # not at the top: a single run needs neither sweeps nor reports

            run_sweep(request, server)


def _show(summary: Mapping[str, Any]) -> None:
    from cnnbench.cli.tables import show_run  # not at the top: a run that fails needs no tables

    show_run(summary)


def _train_one(request: compose.Request, draw: Draw) -> None:
    if request.jobs[0].config.preview:
        print(shorten(_preview(request)))
        return
    folder, summary = train_new(request, draw)
    _show(summary)
    print(shorten(folder))


def _preview(request: compose.Request) -> Path:
    from cnnbench.experiment.preview import draw_preview  # not at the top: it imports torch

    config = request.jobs[0].config
    parts = _build_parts(config)
    if parts is not None and parts.dataset.info.dimensions != 2:
        raise ValueError(f"preview=true draws images, but data={parts.dataset.info.name} holds signals")
    return draw_preview(config, RunFolder.create(request.folder).path)


def train_new(request: compose.Request, draw: Draw) -> tuple[Path, dict[str, Any]]:
    """Train the only job of a request in a new folder; return the folder and the summary.

    Raises:
        ValueError: the config cannot be trained; nothing has been written.
        RunFailed: the run started and did not finish.
    """
    config = request.jobs[0].config
    parts = _build_parts(config)
    folder = RunFolder.create(request.folder).path
    return folder, _run_or_explain(config, folder, request.overrides, parts=parts, draw=draw)


def _build_parts(config: Config) -> "Parts | None":
    """Check a config, and build the parts of its run.

    None if building them raises a RuntimeError or a MemoryError, such as for lack of memory: the run then fails in its
    folder, which records why.
    """
    # Not at the top: it imports torch, which the process of a sweep's command does without.
    from cnnbench.experiment.build import build_parts

    if config.trainer.timeout_minutes is not None:
        raise ValueError(
            f"trainer.timeout_minutes={config.trainer.timeout_minutes:g} is a limit for the jobs of a sweep: add -m, "
            "or leave it out"
        )
    try:
        return build_parts(config)
    except (RuntimeError, MemoryError):
        return None


def _run_or_explain(config: Config, folder: Path, overrides: Sequence[str], **options: Any) -> dict[str, Any]:
    """`run_job` with the same options; what stops the run becomes a `RunFailed` that names the log."""
    from cnnbench.experiment.lifetime import CannotGoOn
    from cnnbench.experiment.run import run_job

    try:
        return run_job(config, folder, overrides, **options)
    except (InUse, NoneReadable, CannotGoOn):  # the command is wrong; nothing has been run
        raise
    except Exception as error:
        log_file = shorten(folder) / "train.log"
        raise RunFailed(f"{describe_error(error)} (the log: {log_file})", folder) from error


def _is_resume(override: str) -> bool:
    return override.lstrip("+").startswith("resume=")


def _resume(overrides: Sequence[str]) -> None:
    names = [unquote(text.partition("=")[2]) for text in overrides if _is_resume(text)]
    others = [text for text in overrides if not _is_resume(text) and not is_plugins(text)]  # these are loaded already
    if len(names) > 1:
        raise ValueError(f"resume={names[0]} and resume={names[1]}: a command resumes one run")
    (name,) = names
    if not name:
        raise ValueError("resume= has no value: must be the folder of a run or a sweep")
    folder = find_unfinished(find_folder(name))
    if folder is None:
        print(f"all runs in {make_printable(name)} are finished: nothing to resume", file=sys.stderr)
        print(format_output_path(name))
    elif is_sweep(folder):
        from cnnbench.cli.sweep import resume_sweep

        jobs_at_once = None
        for text in others:
            name, _, value = text.partition("=")
            if name != "sweep.jobs":
                raise ValueError(f"{text}: a sweep is resumed as it was started; resume=SWEEP takes only sweep.jobs=N")
            jobs_at_once = unquote(value)
        with JobServer() as server:
            resume_sweep(folder.resolve(), server, jobs_at_once)
    else:
        with open_painters(PAINTERS) as draw:
            _resume_run(RunFolder.open_existing(folder), others, draw)


def _resume_run(run: RunFolder, overrides: Sequence[str], draw: Draw) -> None:
    summary = continue_run(run, overrides, draw)
    if summary is not None:
        _show(summary)
    else:
        print(f"{make_printable(str(run.path))} is finished: nothing to resume", file=sys.stderr)
        if problem := find_contradiction(run):
            show_warnings([f"{problem}. The run's figures are not shown"])
        else:
            _show(run.read_summary())
    print(format_output_path(run.path))


def continue_run(run: RunFolder, overrides: Sequence[str], draw: Draw) -> dict[str, Any] | None:
    """Resume a run; return its summary, or None if the run is finished already.

    Raises:
        ValueError: the run cannot be resumed in this way; nothing has been written.
        RunFailed: it started and did not finish.
    """
    from cnnbench.experiment.resume import apply_overrides, describe_longer_schedule
    from cnnbench.runs.reopening import load_config

    own = load_config(run, unchanged=True)
    config = apply_overrides(to_dict(own), overrides)
    config.plugins = record_plugins(to_dict(config))["plugins"]  # their files may have moved
    if change := describe_longer_schedule(own, config):
        log.info("%s", change)
    finished = run.find_status().get("state") == FINISHED
    if finished and config.trainer.epochs == run.read_config()["trainer"]["epochs"]:
        return None
    before = [text for text in _read_overrides(run) if text not in overrides]
    return _run_or_explain(config, run.path, [*before, *overrides], resume=True, draw=draw)


def _read_overrides(run: RunFolder) -> list[str]:
    try:
        return run.read_overrides()
    except (ValueError, OSError):  # it only records what was typed; `config.yaml` has the config
        path = make_printable(str(run.path / "overrides.yaml"))
        log.warning("%s is missing or damaged: continuing without it", path)
        return []

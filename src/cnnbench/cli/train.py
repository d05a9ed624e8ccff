"""`cnnbench train`: one run, a sweep, or the rest of an interrupted run."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.cli import compose, sweep, tables
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.literal import one_run
from cnnbench.cli.run_folders import find_folder, find_unfinished, shorten
from cnnbench.cli.streams import show_log
from cnnbench.config.key_types import text_of
from cnnbench.config.schema import Config, to_dict
from cnnbench.runs.folder import FINISHED, RunFolder
from cnnbench.storage.atomic import InUse, NoneReadable
from cnnbench.storage.text import format_output_path, make_printable
from cnnbench.sweep.jobs import is_sweep

log = logging.getLogger("cnnbench")


def train(overrides: Sequence[str], *, multirun: bool) -> None:
    """Do what the overrides ask; prints a table and, last, the folder, or of a preview the picture.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: a run started and did not finish.
    """
    show_log()
    if any(text.lstrip("+").startswith("resume=") for text in overrides):
        _resume(overrides)
        return
    with sweep.server_for(overrides) as server:
        if multirun or any(text.startswith("sweep.seeds=") for text in overrides):
            server.start()  # torch is imported while Hydra composes the jobs
        asked = compose.request(overrides, multirun=multirun)
        if asked.is_sweep and any(job.config.preview for job in asked.jobs):
            raise ValueError("preview=true draws the images of one run: -m and experiments of several are not accepted")
        if asked.is_sweep:
            sweep.run(asked, overrides, server)
            return
        with one_run(overrides):
            _train_one(asked.jobs[0].config, asked.folder, overrides)


def _train_one(config: Config, path: Path, overrides: Sequence[str]) -> None:
    # Imported here: a sweep's own process needs no torch.
    from cnnbench.experiment.build import build_parts
    from cnnbench.experiment.run import preview

    if config.trainer.timeout_minutes is not None:
        raise ValueError(
            f"trainer.timeout_minutes={config.trainer.timeout_minutes:g} is for the jobs of a sweep, which are watched "
            "over: add -m, or leave it out"
        )
    info = build_parts(config, shapes_only=True).dataset.info
    if config.preview and info.dimensions != 2:
        raise ValueError(f"preview=true draws images, and data={info.name} are signals")
    folder = RunFolder.create(path).path
    if config.preview:
        print(shorten(preview(config, folder)))
        return
    tables.show_run(_run(config, folder, overrides))
    print(shorten(folder))


def _run(config: Config, folder: Path, overrides: Sequence[str], *, resume: bool = False) -> dict[str, Any]:
    from cnnbench.experiment.lifetime import CannotGoOn
    from cnnbench.experiment.run import run_job

    try:
        return run_job(config, folder, overrides, resume=resume)
    except (InUse, NoneReadable, CannotGoOn):
        raise
    except Exception as error:
        raise RunFailed(f"{type(error).__name__}: {error} (the log: {shorten(folder) / 'train.log'})") from error


def _resume(overrides: Sequence[str]) -> None:
    from cnnbench.experiment.resume import resumed
    from cnnbench.runs.reopening import load_config

    given = [text.lstrip("+").partition("=")[2] for text in overrides if text.lstrip("+").startswith("resume=")]
    named = [text_of(text) for text in given]
    others = [text for text in overrides if not text.lstrip("+").startswith("resume=")]
    if len(named) > 1:
        raise ValueError(f"resume={named[1]}: a command goes on with one run, and resume={named[0]} names another")
    if not named[0]:
        raise ValueError("resume=: accepted is the folder of a run")
    place = find_unfinished(find_folder(named[0]))
    if place is None:
        print(f"all runs in {make_printable(named[0])} are finished: nothing to resume", file=sys.stderr)
        print(format_output_path(named[0]))
        return
    if is_sweep(place):
        _go_on_with_sweep(place, others)
        return
    run = RunFolder.existing(place)
    config = resumed(to_dict(load_config(run)), others)
    finished = run.find_status().get("state") == FINISHED
    if finished and config.trainer.epochs == run.read_config()["trainer"]["epochs"]:
        print(f"{make_printable(str(run.path))} is finished: nothing to resume", file=sys.stderr)
        tables.show_run(run.read_summary())
    else:
        before = [text for text in _typed_before(run) if text not in others]
        tables.show_run(_run(config, run.path, [*before, *others], resume=True))
    print(format_output_path(run.path))


def _go_on_with_sweep(place: Path, others: Sequence[str]) -> None:
    if others:
        raise ValueError(f"{others[0]}: a sweep goes on as it was begun; beside resume=SWEEP nothing else is accepted")
    with sweep.server_for([]) as server:
        sweep.go_on(place.resolve(), server)


def _typed_before(run: RunFolder) -> list[str]:
    """What the user typed when the run began, if that can still be read: it is only a record."""
    try:
        return run.read_overrides()
    except (ValueError, OSError):
        log.warning("%s is missing or damaged: going on without it", make_printable(str(run.path / "overrides.yaml")))
        return []

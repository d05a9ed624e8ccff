"""`cnnbench train`: one run, a sweep, or the rest of an interrupted run."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnbench import results
from cnnbench.cli import compose, tables
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.messages import show_messages, shown
from cnnbench.cli.report import show_study
from cnnbench.config import to_dict
from cnnbench.job import preview, run_job
from cnnbench.loaded import config_of
from cnnbench.parts import build_parts
from cnnbench.report.writing import write_report
from cnnbench.results import FINISHED, RunFolder
from cnnbench.resume import resumed
from cnnbench.text import for_output, printable
from cnnbench.whole_files import InUse

log = logging.getLogger("cnnbench")


def train(overrides: Sequence[str], *, multirun: bool) -> None:
    """Do what the overrides ask; prints a table and, last, the folder, or of a preview the picture.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: a run started and did not finish.
    """
    show_messages()
    if any(text.lstrip("+").startswith("resume=") for text in overrides):
        _resume(overrides)
        return
    asked = compose.request(overrides, multirun=multirun)
    previews = any(job.config.preview for job in asked.jobs)
    if previews and asked.is_sweep:
        raise ValueError("preview=true draws the images of one run: -m and experiments of several are not accepted")
    for job in asked.jobs:
        info = build_parts(job.config, shapes_only=True).dataset.info
        if previews and info.dimensions != 2:
            raise ValueError(f"preview=true draws images, and data={info.name} are signals")
    folder = results.create_folder(asked.folder)
    if previews:
        print(shown(preview(asked.jobs[0].config, folder)))
    elif asked.is_sweep:
        _sweep(asked, folder, overrides)
    else:
        tables.show_run(_run(asked.jobs[0].config, folder, overrides))
        print(shown(folder))


def _run(config: Any, folder: Path, overrides: Sequence[str], *, resume: bool = False) -> dict[str, Any]:
    try:
        return run_job(config, folder, overrides, resume=resume)
    except InUse:
        raise
    except Exception as error:
        raise RunFailed(f"{type(error).__name__}: {error} (the log: {shown(folder) / 'train.log'})") from error


def _resume(overrides: Sequence[str]) -> None:
    named = [text.lstrip("+").partition("=")[2] for text in overrides if text.lstrip("+").startswith("resume=")]
    others = [text for text in overrides if not text.lstrip("+").startswith("resume=")]
    if len(named) > 1:
        raise ValueError(f"resume={named[1]}: a command goes on with one run, and resume={named[0]} names another")
    run = RunFolder.existing(named[0])
    config = resumed(to_dict(config_of(run)), others)
    finished = run.status().get("state") == FINISHED
    if finished and config.trainer.epochs == run.config()["trainer"]["epochs"]:
        print(f"{printable(str(run.path))} is finished: nothing to resume", file=sys.stderr)
        tables.show_run(run.summary())
    else:
        before = [text for text in run.overrides() if text not in others]
        tables.show_run(_run(config, run.path, [*before, *others], resume=True))
    print(for_output(run.path))


def _sweep(asked: compose.Request, folder: Path, overrides: Sequence[str]) -> None:
    asked.folder = folder
    results.write_yaml(
        folder / "sweep.yaml",
        {
            "overrides": list(overrides),
            "axes": asked.axes,
            "jobs": [job.overrides for job in asked.jobs],
        },
    )
    log.info("%d jobs in %s", len(asked.jobs), shown(folder))
    states = compose.launch(asked, run_in_sweep)
    show_study(write_report([folder], folder, strict=False))
    print(shown(folder))
    failed = len(states) - states.count(FINISHED)
    if failed:
        raise RunFailed(f"{failed} of {len(states)} runs failed: their states are in {shown(folder) / 'results.csv'}")


def run_in_sweep(composed: DictConfig) -> str:
    """One job of a sweep, in the folder that Hydra made for it; a failed job does not stop the others.

    Returns:
        The state it ended in, as in `status.json`.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    log.info("job %s: %s", hydra.job.num, " ".join(hydra.overrides.task))
    try:
        run_job(compose.to_config(composed), folder, list(hydra.overrides.task))
    except Exception as error:
        log.info("job %s failed: %s: %s", hydra.job.num, type(error).__name__, error)
    return str(RunFolder(folder).status().get("state", "failed"))

"""`cnnbench check-plugin`: the checks that every registered part must pass, on the parts of a plug-in."""

import atexit
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cnnbench.claims import measures as measures
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.cli import compose
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import CheckPluginOptions
from cnnbench.cli.plugin_options import load_plugins
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.config.schema import Config
from cnnbench.conformance.augmentations import AugmentPart
from cnnbench.conformance.checking import run_checks
from cnnbench.conformance.datasets import DataPart
from cnnbench.conformance.measures import MeasurePart
from cnnbench.conformance.metrics import MetricPart
from cnnbench.conformance.models import ModelPart
from cnnbench.conformance.optimizers import OptimizerPart, SchedulePart
from cnnbench.data import DatasetInfo, Source, find_data_shape
from cnnbench.data.sources import forget_sources, load_source
from cnnbench.experiment.factories import make_augmentation
from cnnbench.experiment.loading import get_data_settings
from cnnbench.experiment.run import run_job
from cnnbench.plugins.loading import list_plugins
from cnnbench.plugins.places import find_place
from cnnbench.storage.text import make_printable

COLUMNS = [Column("part", 12), Column("what must hold", 20), Column("result", 6)]
MEASURED = ("lenet5", ["trainer.epochs=1", "data.train_limit=100", "trainer.device=cpu"])  # what measures look at
CHANNELS = {1: "grey", 3: "colour"}


def check_plugin(options: CheckPluginOptions) -> None:
    """Check the parts of a plug-in; print a table, and a sentence for each check that fails.

    Raises:
        PluginError: the plug-in cannot be used at all.
        RunFailed: a check failed.
    """
    load_plugins([options.source], installed=False)
    name = find_place(options.source).name
    plugin = next(plugin for plugin in list_plugins() if plugin.place.name == name)
    rows, problems = [], []
    for kind, part in (one for one in plugin.parts if one[0] in MAKERS):  # the others belong to a dataset
        for outcome in run_checks(kind, MAKERS[kind](part, options.options or [])):
            rows.append([f"{kind} {part}", outcome.check, outcome.result])
            if outcome.reason:
                problems.append(f"{kind} {part}, {outcome.check}: {outcome.result}: {outcome.reason}")
    console = make_console()
    show_table(console, f"The parts of {name}", COLUMNS, rows, lines=False)
    for problem in problems:
        show_text(console, make_printable(problem))
    if failed := sum(row[2] == "FAILS" for row in rows):
        raise RunFailed(f"{failed} of {len(rows)} checks failed")


def _compose(kind: str, name: str, overrides: Sequence[str]) -> Config:
    return compose.compose_config([f"{kind}={name}", *overrides])


def _make_data_part(name: str, overrides: Sequence[str]) -> DataPart:
    config = _compose("data", name, overrides)
    data = config.data
    settings = {**get_data_settings(config), "with_test": True}
    where: dict[str, Any] = {"root": data.root, "options": data.options, "settings": settings}

    def read() -> Source:
        forget_sources()
        return load_source(name, download=data.download, **where)

    return DataPart(name, read, find_data_shape(name, **where))


def _make_augment_part(name: str, overrides: Sequence[str]) -> AugmentPart:
    config = _compose("augment", name, overrides)

    def make(channels: int) -> Any:
        info = DatasetInfo(CHANNELS[channels], channels, 12, ("a", "b", "c"))
        return make_augmentation(config, info, torch.device("cpu"))

    return AugmentPart(name, make)


@functools.cache
def _train_once() -> FinishedRun:
    folder = tempfile.TemporaryDirectory(prefix="cnnbench-check-plugin-")
    atexit.register(folder.cleanup)  # a measure may read the folder later
    path = Path(folder.name) / "run"
    path.mkdir()
    run_job(_compose("model", *MEASURED), path, [], draw=lambda pictures, *, wait=True: None)
    return FinishedRun.read(path)


def _make_measure_part(name: str, overrides: Sequence[str]) -> MeasurePart:
    return MeasurePart(name, lambda source: _train_once() if source == "run" else Network(_compose("model", *MEASURED)))


# A part of each kind with the options of its YAML file and of overrides.
MAKERS: dict[str, Callable[[str, Sequence[str]], Any]] = {
    "model": lambda name, overrides: ModelPart(name, _compose("model", name, overrides).model),
    "data": _make_data_part,
    "metric": lambda name, overrides: MetricPart(name),
    "augment": _make_augment_part,
    "measure": _make_measure_part,
    "optimizer": lambda name, overrides: OptimizerPart(name, _compose("optimizer", name, overrides).optimizer),
    "scheduler": lambda name, overrides: SchedulePart(name, _compose("scheduler", name, overrides).scheduler),
}

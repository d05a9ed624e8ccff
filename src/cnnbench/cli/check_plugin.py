"""`cnnbench check-plugin`: the checks that every registered part must pass, on the parts of a plug-in."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cnnbench.claims import measures as measures
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.cli import compose
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.part_options import CheckPluginOptions
from cnnbench.cli.plugin_options import load_plugins
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.config.schema import Config
from cnnbench.conformance.augmentations import AugmentPart
from cnnbench.conformance.checking import Outcome, run_checks
from cnnbench.conformance.datasets import DataPart
from cnnbench.conformance.measures import MeasurePart
from cnnbench.conformance.metrics import MetricPart
from cnnbench.conformance.models import ModelPart
from cnnbench.data import DatasetInfo, Source, find_data_shape
from cnnbench.data.sources import forget_sources, load_source
from cnnbench.experiment.build import make_augmentation
from cnnbench.experiment.loading import get_data_settings
from cnnbench.experiment.run import run_job
from cnnbench.plugins.loading import OF_DATA, Plugin, list_plugins
from cnnbench.plugins.places import find_place
from cnnbench.storage.text import make_printable

COLUMNS = [Column("part", 12), Column("what must hold", 20), Column("result", 6)]
TRAINED = ("model=lenet5", "trainer.epochs=1", "data.train_limit=100", "trainer.device=cpu")  # what measures look at
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
    for title, outcome in _check_all(plugin, options.options or []):
        result = "FAILS" if outcome.problem else "skipped" if outcome.skipped else "holds"
        rows.append([title, outcome.check, result])
        if reason := outcome.problem or outcome.skipped:
            problems.append(f"{title}, {outcome.check}: {result}: {reason}")
    console = make_console()
    show_table(console, f"The parts of {name}", COLUMNS, rows, lines=False)
    for problem in problems:
        show_text(console, make_printable(problem))
    if failed := sum(row[2] == "FAILS" for row in rows):
        raise RunFailed(f"{failed} of {len(rows)} checks failed")


def _check_all(plugin: Plugin, overrides: Sequence[str]) -> Iterator[tuple[str, Outcome]]:
    for kind, name in plugin.parts:
        title = f"{kind} {name}"
        if kind in MAKERS:
            yield from ((title, outcome) for outcome in run_checks(kind, MAKERS[kind](name, overrides)))
        elif kind not in OF_DATA:
            yield title, Outcome("it is registered", skipped=f"there are no checks of a {kind}")


def make_model_part(name: str, overrides: Sequence[str] = ()) -> ModelPart:
    """A registered model with the options of its YAML file."""
    return ModelPart(name, compose.compose_config([f"model={name}", *overrides]).model)


def make_data_part(name: str, overrides: Sequence[str] = ()) -> DataPart:
    """A registered dataset with the options of its YAML file."""
    config = compose.compose_config([f"data={name}", *overrides])
    data = config.data
    settings = {**get_data_settings(config), "with_test": True}
    where: dict[str, Any] = {"root": data.root, "options": data.options, "settings": settings}

    def read() -> Source:
        forget_sources()
        return load_source(name, download=data.download, **where)

    return DataPart(name, read, find_data_shape(name, **where))


def make_metric_part(name: str, overrides: Sequence[str] = ()) -> MetricPart:
    """A registered metric."""
    return MetricPart(name)


def make_augment_part(name: str, overrides: Sequence[str] = ()) -> AugmentPart:
    """An augmentation preset."""
    config = compose.compose_config([f"augment={name}", *overrides])

    def make(channels: int) -> Any:
        info = DatasetInfo(CHANNELS[channels], channels, 12, ("a", "b", "c"))
        return make_augmentation(config, info, torch.device("cpu"))

    return AugmentPart(name, make)


def make_measure_part(name: str, overrides: Sequence[str] = ()) -> MeasurePart:
    """A registered measure; what it looks at is made once for all of them."""
    return MeasurePart(name, lambda source: Network(_compose_trained()) if source == "network" else _train_once())


def _compose_trained() -> Config:
    return compose.compose_config(TRAINED)


@functools.cache
def _train_once() -> FinishedRun:
    folder = tempfile.TemporaryDirectory(prefix="cnnbench-check-plugin-")
    _train_once.folder = folder  # type: ignore[attr-defined]  # removed when the program ends
    path = Path(folder.name) / "run"
    path.mkdir()
    run_job(_compose_trained(), path, [], draw=lambda pictures, *, wait=True: None)
    return FinishedRun.read(path)


MAKERS: dict[str, Callable[..., Any]] = {
    "model": make_model_part,
    "data": make_data_part,
    "metric": make_metric_part,
    "augment": make_augment_part,
    "measure": make_measure_part,
}

"""What measures look at: a run that has ended, and a network before training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.config.schema import Config
from cnnbench.runs.checking import check_figures
from cnnbench.runs.folder import RunFolder

if TYPE_CHECKING:  # they import torch, and listing claims must not
    from torch import nn

    from cnnbench.analysis import Summary
    from cnnbench.data import DatasetInfo
    from cnnbench.experiment.measuring.measurement import Measurement


@dataclass(frozen=True)
class FinishedRun:
    """A run with a result."""

    path: Path
    summary: Mapping[str, Any]  # its `summary.json`

    @classmethod
    def read(cls, path: Path) -> "FinishedRun":
        """Read a run's folder.

        Raises:
            ValueError: the run is not finished, a file is damaged, or its figures contradict each other.
        """
        folder = RunFolder(path)
        summary = folder.read_summary()
        check_figures(folder, folder.read_config(), summary)
        return cls(path, summary)

    def prepare(self, split: str = "test") -> "Measurement":
        """Its network with the best weights, and the images of a split."""
        from cnnbench.experiment.measuring.measured_data import DataChoice
        from cnnbench.experiment.measuring.measurement import prepare_measurement

        return prepare_measurement(self.path, DataChoice(split=split))


@dataclass(frozen=True)
class Network:
    """A network as its config describes it."""

    config: Config

    @cached_property
    def info(self) -> "DatasetInfo":
        """The shape of its images; data of a known shape need not be there."""
        from cnnbench.experiment.loading import describe_data

        return describe_data(self.config)

    @cached_property
    def summary(self) -> "Summary":
        """Parameters, multiply-accumulates, receptive field."""
        from cnnbench.analysis import summarize
        from cnnbench.experiment.factories import make_model

        return summarize(make_model(self.config, self.info, "meta"), self.info.input_shape)

    def make_model(self) -> "nn.Module":
        """The network with the weights that its seed gives it."""
        from cnnbench.experiment.factories import make_model

        return make_model(self.config, self.info)

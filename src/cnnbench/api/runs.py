"""A run by its folder: its results, its network, predictions and evaluations."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cnnbench.api.arguments import MeasuringOptions, check_batch_size, check_folder, check_measuring
from cnnbench.api.errors import Error, translate_errors
from cnnbench.api.given import check_source, give
from cnnbench.api.overrides import write_overrides
from cnnbench.api.results import Evaluation, Prediction, Table, make_matrix, make_table
from cnnbench.api.session import open_session
from cnnbench.cli.evaluate import measure
from cnnbench.cli.export import write_file
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import EvaluateOptions, ExportOptions
from cnnbench.cli.tables import describe_run
from cnnbench.cli.train import continue_run
from cnnbench.runs.checking import find_contradiction
from cnnbench.runs.contents import read_confusion
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.pictures import draw_in_turn
from cnnbench.storage.csv_tables import read_csv

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("cnnbench")


class Run:
    """A run, by its folder; in a notebook it shows its figures and pictures.

    Args:
        folder: a run's folder.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: str | Path) -> None:
        with translate_errors():
            # Absolute, for programs that change their current folder.
            self._run = RunFolder(RunFolder.open_existing(check_folder(folder)).path.absolute())
        self.folder = self._run.path

    @property
    def state(self) -> str:
        """finished, running, failed, interrupted, pruned or unknown."""
        return str(self._run.find_status().get("state", "unknown"))

    @property
    def config(self) -> dict[str, Any]:
        """The config that the run was made with, as nested mappings."""
        with translate_errors():
            return self._run.read_config()

    @property
    def summary(self) -> dict[str, Any]:
        """The results, as in `summary.json`.

        Raises:
            InvalidRequest: the run is not finished, or its figures do not follow from its files.
        """
        with translate_errors():
            if problem := find_contradiction(self._run):
                raise ValueError(f"{problem}. The run's figures are not shown")
            return self._run.read_summary()

    @property
    def metrics(self) -> Table:
        """A row for each epoch, as in `metrics.csv`: a DataFrame, or without pandas a list of mappings."""
        with translate_errors():
            return make_table(self._run.read_metrics())

    @property
    def per_class(self) -> Table:
        """Precision, recall, F1 and support of each class on the test split: as `metrics`, a DataFrame or a list."""
        with translate_errors():
            rows = read_csv(self.folder / "per_class.csv")
            return make_table([{name: _parse_score(name, cell) for name, cell in row.items()} for row in rows])

    @property
    def confusion(self) -> Any:
        """The confusion matrix of the test split, rows true, columns predicted.

        A DataFrame, or without pandas an array, whose rows and columns are those of `class_names`.
        """
        with translate_errors():
            names, matrix = read_confusion(self.folder)
            return make_matrix(matrix, names)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the labels."""
        with translate_errors():
            return read_confusion(self.folder)[0]

    def network(self, *, model: "nn.Module | None" = None, device: str = "cpu") -> "nn.Module":
        """The network with the best weights, in eval mode. It takes normalised images; `predict` takes any.

        Args:
            model: of a run that was trained with a module of a program, such a module, which is copied.
            device: such as cuda.
        """
        from cnnbench.experiment.measuring.trained import load_trained
        from cnnbench.training.device import resolve_device

        with open_session(), give(model):
            check_source(model, self._run)
            return load_trained(self.folder).load_model(resolve_device(device)).eval()

    def predict(
        self,
        images: Any,
        *,
        top: int = 1,
        invert: bool = False,
        model: "nn.Module | None" = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> list[Prediction]:
        """Predict the classes of images, which are preprocessed as in the run.

        Args:
            images: paths of files, folders or patterns; images of Pillow; or arrays, uint8 or floating point in 0…1,
                of shape N×H×W, N×H×W×C or N×C×H×W, or a list of single ones.
            top: the number of classes for each image.
            invert: take the negative of each image, such as of black ink on white paper.
            model: as for `network`.
            device: auto, cpu, cuda, cuda:N or mps.
            batch_size: images a batch.

        Returns:
            A prediction for each image, in order. That of a file that cannot be read has an `error`.
        """
        from cnnbench.api.predicting import predict_images  # not at the top: both import torch
        from cnnbench.experiment.measuring.predict import Predictor

        with open_session(), give(model):
            check_source(model, self._run)
            check_batch_size(batch_size)
            predictor = Predictor(self.folder, device=device, batch_size=batch_size)
            return predict_images(predictor, images, top=top, invert=invert)

    def evaluate(
        self,
        split: str = "test",
        *,
        data: Any = None,
        path: str | Path | None = None,
        calibrate: bool = False,
        model: "nn.Module | None" = None,
        progress: bool = True,
        **options: Unpack[MeasuringOptions],
    ) -> Evaluation:
        """Measure the best weights on a split, and write the results to the run's folder.

        Args:
            split: train, val or test.
            data: another dataset with the same classes, by name or as `(images, labels)`; that of the run by default.
            path: another image folder or file.
            calibrate: fit a temperature on the validation images; it is kept.
            model: as for `network`.
            progress: show progress bars.
            options: `root`, `exclude`, `abstain`, `out`, `device` and `batch_size`, as of `cnnbench evaluate`.
        """
        with open_session(progress=progress), give(model, data) as given:
            check_source(model, self._run)
            check_measuring(options)
            own = self._run.read_config()["data"]
            # Arrays that are the run's own again are no other data.
            is_own = "data" in given.parts and given.parts["data"].items() <= own.items()
            chosen = None if is_own else given.settings.get("data")
            place = None if path is None else str(path)
            # Typer reads the environment for the command, and a call constructs the options itself.
            more: dict[str, Any] = {"root": os.environ.get("CNNBENCH_DATA"), **options}
            if more.get("out") is not None:
                more["out"] = check_folder(more["out"])
            folder, metrics, notes = measure(
                EvaluateOptions(self.folder, split, data=chosen, path=place, calibrate=calibrate, **more)
            )
            for note in notes:
                log.warning("%s", note)
        return Evaluation(metrics, folder, notes)

    def export(
        self,
        format: str = "onnx",
        *,
        out: str | Path | None = None,
        force: bool = False,
        path: str | Path | None = None,
        model: "nn.Module | None" = None,
        data: Any = None,
        progress: bool = True,
    ) -> Path:
        """Write the network to a file for other programs, and return its path.

        The file appears only if it gives the answers of the network for the whole test split.

        Args:
            format: onnx, exported or state_dict.
            out: the file, instead of one in the run's folder.
            force: replace a file that exists.
            path: the run's image folder or file, if it has moved.
            model, data: of a run that was trained with a module or arrays of a program, the same again.
            progress: show progress bars.

        Raises:
            InvalidRequest: the network cannot be exported, or the file exists.
            RunFailed: the file would give other answers than the network.
        """
        with open_session(progress=progress), give(model, data):
            check_source(model, self._run)
            if isinstance(data, str):
                raise ValueError(f"data={data}: must be left out, because the images of the run itself are tested")
            place = None if path is None else str(path)
            target = None if out is None else check_folder(out)
            root = os.environ.get("CNNBENCH_DATA")  # as the command does
            made = write_file(ExportOptions(self.folder, format, target, force, place, root))
            for note in made.notes:
                log.warning("%s", note)
        return made.path

    def resume(
        self, *overrides: str, model: Any = None, data: Any = None, progress: bool = True, **settings: Any
    ) -> "Run":
        """Continue an interrupted run, or one that gets more epochs; return this run.

        Args:
            overrides: as in a command, such as `"trainer.epochs=10"`.
            model, data: of a run that was trained with a module or arrays of a program, the same again.
            settings: keys that may change, such as `**{"trainer.epochs": 10}`.
        """
        named = {key: value for key, value in (("model", model), ("data", data)) if isinstance(value, str)}
        with open_session(progress=progress), give(model, data):
            check_source(None if "model" in named else model, self._run)
            continue_run(self._run, write_overrides(overrides, named | settings), draw_in_turn)
        return self

    def __repr__(self) -> str:
        return f"<cnnbench run {str(self.folder)!r}: {self.state}>"

    def _repr_html_(self) -> str:
        from cnnbench.api.html import render_message, render_run  # not at the top: it imports matplotlib

        try:
            title, figures = describe_run(self.summary)
        except Error as error:
            return render_message(f"Run {self.folder.name}: {self.state}", str(error))
        return render_run(title, figures, self.folder)


def _parse_score(name: str, cell: str) -> str | float | None:
    if name == "class":
        return cell
    return None if cell == "" else int(cell) if name == "support" else float(cell)


def load(folder: str | Path) -> Run:
    """Open a run.

    Args:
        folder: of the run; `latest` is the one below `outputs` that was written last.

    Raises:
        InvalidRequest: it is no run's folder.
    """
    with translate_errors():
        return Run(find_folder(check_folder(folder), run=True))

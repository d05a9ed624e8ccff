"""A finished run's best weights, measured on any split of its own or another dataset."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench import registry, results
from cnnbench.config import Config
from cnnbench.data import DatasetInfo, data_shape
from cnnbench.parts import batches_of, data_settings, load_dataset
from cnnbench.record import draw_in_turn, record_evaluation
from cnnbench.text import printable, shown_name
from cnnbench.trained import load_trained
from cnnbench.training.device import resolve_device
from cnnbench.training.loop import evaluate
from cnnbench.training.tasks import task_of


def evaluate_run(
    path: Path,
    *,
    split: str = "test",
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    folder: str | None = None,
    root: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Measure a run's best weights on a split, and write the figures beside the run.

    Args:
        split: train, val or test.
        data: another dataset of the same classes and channels; resized to the run's image size.
        options: what that dataset's own yaml adds.
        folder: what its `path` is instead: another folder of images, or another CSV file. One that has no test split
            is measured whole.
        root: where datasets are, if not where the run found them.

    Returns:
        The folder written to and the metrics.

    Raises:
        ValueError: not a finished run, no such split, or other classes.
    """
    trained = load_trained(path)
    config, info = trained.config, trained.info
    is_other = _point_at(config, info, data, options, folder)
    name = config.data.name
    if root is not None:  # the user's own folder, and not the one a stranger's config names
        config.data.root, config.data.download = root, True
    config.data.image_size = info.image_size if info.dimensions == 2 else None
    config.data.normalize = "none"  # the run's own constants will do
    config.trainer.eval_batch_size = batch_size or config.trainer.eval_batch_size
    _check_shape(config, info)
    if is_other and split == "test":
        config.data.val_fraction, config.data.train_limit = 0.0, None
    dataset = load_dataset(config, test_on_all=is_other)
    _check_classes(name, dataset.info.class_names, info.class_names)
    chosen = {"train": dataset.train, "val": dataset.val, "test": dataset.test}.get(split)
    if chosen is None:
        raise ValueError(f"--split {split}: the run has no such split. Accepted: train, test and, if cut, val")
    trained.use_threads()
    target = resolve_device(device or "auto")
    model = trained.model_on(target)
    # Prepared as in training: the constants are those of the run, whatever another dataset's would be.
    dataset = replace(dataset, mean=trained.mean, std=trained.std)
    batches = batches_of(chosen, dataset=dataset, config=config, device=target)
    measured = evaluate(
        model,
        batches,
        task=task_of(model),
        num_classes=info.num_classes,
        autocast=trained.autocast_on(target),
        keep_predictions=True,
    )
    place = "" if folder is None else re.sub(r"[^\w.-]+", "_", Path(folder).absolute().name) + "_"
    written = trained.folder.path / "evaluations" / f"{name}_{place}{split}"
    written.mkdir(parents=True, exist_ok=True)
    where = {} if folder is None else {"path": shown_name(folder)}
    metrics = {"data": name, **where, "split": split, "images": len(chosen), **measured.scores()}
    serve = partial(batches_of, dataset=dataset, config=config, device=target)
    draw_in_turn(record_evaluation(written, measured, chosen, dataset, model=model, serve=serve))
    results.write_json(written / "metrics.json", metrics)
    return written, metrics


def _point_at(
    config: Config, info: DatasetInfo, name: str | None, options: Mapping[str, Any] | None, folder: str | None
) -> bool:
    """Make a run's config name the data it is measured on; returns whether they are not its own."""
    data = config.data
    own = (name or data.name) == data.name
    if not own:
        data.name, data.options = str(name), dict(options or {})
    if folder is not None:
        if "path" not in data.options:
            raise ValueError(
                f"--path {folder}: {data.name} has no path; accepted is --data image_folder --path {folder}"
            )
        data.options["path"] = folder
    if "channels" in data.options:
        data.options["channels"] = info.in_channels
    return not own or folder is not None


def _check_shape(config: Config, info: DatasetInfo) -> None:
    """Refuse what cannot fit before anything is fetched."""
    data = config.data
    shape, classes = data_shape(data.name, root=data.root, options=data.options, settings=data_settings(config))
    fits = (len(shape), shape[0]) == (len(info.input_shape), info.in_channels)
    if not fits or (data.name in registry.names("data_shape") and classes != info.num_classes):
        raise ValueError(
            f"{data.name} does not fit the run: it has {classes} classes of {_kind(shape)}; "
            f"the run was trained on {info.num_classes} of {_kind(info.input_shape)}"
        )


def _check_classes(name: str, found: Sequence[str], trained: Sequence[str]) -> None:
    if tuple(found) == tuple(trained):
        return
    more, fewer = ([one for one in a if one not in b] for a, b in ((found, trained), (trained, found)))
    problems = [f"{', '.join(map(printable, more))}, which the run has not"] if more else []
    problems += [f"not {', '.join(map(printable, fewer))}, which it was trained on"] if fewer else []
    raise ValueError(f"{name} does not fit the run: it has {' and '.join(problems) or 'the classes in another order'}")


def _kind(shape: tuple[int, ...]) -> str:
    return f"{'images' if len(shape) == 3 else 'signals'} with {shape[0]} channel(s)"

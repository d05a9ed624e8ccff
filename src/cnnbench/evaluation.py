"""A finished run's best weights, measured on any split of its own or another dataset."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench import results
from cnnbench.data import data_shape
from cnnbench.job import batches_of, load_dataset
from cnnbench.record import record_evaluation
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
    root: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Measure a run's best weights on a split, and write the figures beside the run.

    Args:
        split: train, val or test.
        data: another dataset of the same classes and channels; resized to the run's image size.
        options: what that dataset's own yaml adds.
        root: where datasets are, if not where the run found them.

    Returns:
        The folder written to and the metrics.

    Raises:
        ValueError: not a finished run, no such split, or other classes.
    """
    trained = load_trained(path)
    config, info = trained.config, trained.info
    name = data or config.data.name
    if name != config.data.name:
        config.data.name, config.data.options = name, dict(options or {})
    config.data.root = root or config.data.root
    config.data.image_size = info.image_size if info.dimensions == 2 else None
    config.trainer.eval_batch_size = batch_size or config.trainer.eval_batch_size
    shape, classes = data_shape(name, root=config.data.root, options=config.data.options)
    if (len(shape), shape[0], classes) != (len(info.input_shape), info.in_channels, info.num_classes):
        raise ValueError(
            f"{name} does not fit the run: it has {classes} classes of {_kind(shape)}; "
            f"the run was trained on {info.num_classes} of {_kind(info.input_shape)}"
        )
    dataset = load_dataset(config)
    if dataset.info.class_names != info.class_names:
        raise ValueError(
            f"{name} does not fit the run: it has the classes {', '.join(dataset.info.class_names)}; "
            f"the run was trained on {', '.join(info.class_names)}"
        )
    chosen = {"train": dataset.train, "val": dataset.val, "test": dataset.test}.get(split)
    if chosen is None:
        raise ValueError(f"--split {split}: the run has no such split. Accepted: train, test and, if cut, val")
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
    folder = trained.folder.path / "evaluations" / f"{name}_{split}"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"data": name, "split": split, "images": len(chosen), **measured.scores()}
    serve = partial(batches_of, dataset=dataset, config=config, device=target)
    record_evaluation(folder, measured, chosen, dataset, model=model, serve=serve)
    results.write_json(folder / "metrics.json", metrics)
    return folder, metrics


def _kind(shape: tuple[int, ...]) -> str:
    return f"{'images' if len(shape) == 3 else 'signals'} with {shape[0]} channel(s)"

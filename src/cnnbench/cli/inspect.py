"""`cnnbench evaluate` and `cnnbench summary`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli import compose, tables


def evaluate(
    run: Path, *, split: str, data: str | None, root: str | None, device: str | None, batch_size: int | None
) -> None:
    """Measure a run on a split and print the metrics and the folder they were written to."""
    from cnnbench.evaluation import evaluate_run

    options = compose.single([f"data={data}"]).data.options if data else None
    folder, metrics = evaluate_run(
        run, split=split, data=data, options=options, root=root, device=device, batch_size=batch_size
    )
    for name, value in metrics.items():
        print(f"{name:<10} {value:.4f}" if isinstance(value, float) else f"{name:<10} {value}")
    print(folder)


def summary(
    overrides: Sequence[str],
    *,
    as_json: bool,
    channels: int | None,
    image_size: int | None,
    num_classes: int | None,
) -> None:
    """Print a model's layers and totals for the data's shape, or for the shape given."""
    from cnnbench.analysis import summarize
    from cnnbench.data import DatasetInfo, data_shape
    from cnnbench.job import data_settings, model_for

    config = compose.single(overrides)
    if channels and image_size and num_classes:
        shape: tuple[int, ...] = (channels, image_size, image_size)
        classes = num_classes
    else:
        shape, classes = data_shape(
            config.data.name, root=config.data.root, options=config.data.options, settings=data_settings(config)
        )
    in_channels = channels or shape[0]
    size = image_size or config.data.image_size or shape[1]
    classes = num_classes or classes
    info = DatasetInfo(config.data.name, in_channels, size, tuple(map(str, range(classes))), len(shape) - 1)
    described = summarize(model_for(config, info, "meta"), info.input_shape)
    if as_json:
        given = {"in_channels": in_channels, "image_size": size, "num_classes": classes}
        print(json.dumps({"model": config.model.name, **given, **dataclasses.asdict(described)}, indent=2))
    else:
        tables.show_summary(f"{config.model.name} for {size}×{size}×{in_channels}, {classes} classes", described)

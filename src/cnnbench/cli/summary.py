"""`cnnbench summary`: the sizes and costs of models that have not been trained."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from cnnbench.analysis import Summary, summarize
from cnnbench.cli import compose, tables
from cnnbench.cli.options import SummaryOptions
from cnnbench.data import DatasetInfo
from cnnbench.experiment.factories import make_model
from cnnbench.experiment.loading import describe_data
from cnnbench.training.parts import freeze_parts

CLOSING = {"(": ")", "[": "]", "{": "}", "'": "'", '"': '"'}


@dataclasses.dataclass
class DescribedModel:
    """A model and its costs.

    Attributes:
        label: how the user wrote it.
        batch_size: images in a training step.
    """

    label: str
    model: str
    info: DatasetInfo
    batch_size: int
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "model": self.model,
            "label": self.label,
            "in_channels": self.info.in_channels,
            "image_size": self.info.image_size,
            "num_classes": self.info.num_classes,
            "batch_size": self.batch_size,
            "batch_activation_bytes": self.batch_size * self.summary.activation_bytes,
            "dense_share": self.summary.dense_share,
            **dataclasses.asdict(self.summary),
        }


def print_summary(options: SummaryOptions) -> None:
    """Print a model's layers and totals, or the totals of several models, for the dataset's shape or a given one."""
    overrides = options.overrides or []
    shape: dict[str, Any] = {
        "channels": options.channels,
        "image_size": None if options.image_size is None else read_size(options.image_size),
        "num_classes": options.num_classes,
    }
    if options.compare is None:
        models = [describe(overrides, None, **shape)]
    else:
        models = [describe([*overrides, *own], label, **shape) for label, own in parse_models(options.compare)]
    if options.as_json:
        plain = [model.to_dict() for model in models]
        print(json.dumps(plain[0] if options.compare is None else plain, indent=2))
    elif options.compare is not None:
        tables.show_models([(model.label, model.batch_size, model.summary) for model in models])
    else:
        (model,) = models
        size = tables.format_sizes((*model.info.input_shape[1:], model.info.in_channels))
        title = f"{model.label} for {size}, {model.info.num_classes} classes"
        tables.show_summary(title, model.batch_size, model.summary)


def describe(
    overrides: Sequence[str],
    label: str | None = None,
    *,
    channels: int | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> DescribedModel:
    """Build a model without allocating it, and describe it. If the whole shape is given, no data are needed.

    Raises:
        ValueError: an override that is not accepted, or a model that does not fit the data.
    """
    config = compose.compose_config(overrides)
    info = describe_data(config, channels=channels, image_size=image_size, num_classes=num_classes)
    model = make_model(config, info, "meta")
    freeze_parts(model, config.model.freeze)
    summary = summarize(model, info.input_shape)
    return DescribedModel(label or config.model.name, config.model.name, info, config.trainer.batch_size, summary)


def read_size(text: str) -> tuple[int, int]:
    """Read height and width from 32, 32x48 or 32,48.

    Raises:
        ValueError: the text has another form.
    """
    found = re.fullmatch(r"\[?(\d{1,5})(?:\s*[x×,]\s*(\d{1,5}))?\]?", text.strip())
    sides = [int(side) for side in found.groups(found[1])] if found else [0]
    if min(sides) < 1:
        raise ValueError(f"--image-size {text}: must be a number of pixels, such as 32, or HEIGHTxWIDTH, such as 32x48")
    return sides[0], sides[1]


def parse_models(text: str) -> list[tuple[str, list[str]]]:
    """Return labels and overrides of models such as "lenet5,lenet5 model.width=2,mlp".

    Commas separate models, and spaces separate a model's name and overrides, except inside brackets and quotes.

    Raises:
        ValueError: a model has no name.
    """
    models = []
    for item in _split(text, ","):
        words = [word for word in _split(item, " ") if word]
        if not words or "=" in words[0]:
            raise ValueError(
                f"--compare: {item.strip()!r} in {text!r} has no model name. Write names separated by commas, "
                "each followed by its own overrides: 'lenet5,lenet5 model.width=2,mlp'"
            )
        models.append((" ".join(words), [f"model={words[0]}", *words[1:]]))
    return models


def _split(text: str, separator: str) -> list[str]:
    parts, pending = [""], ""  # pending: the closing brackets and quotes still to come, innermost last
    for character in text:
        if pending and character == pending[-1]:
            pending = pending[:-1]
        elif pending[-1:] not in ("'", '"') and character in CLOSING:
            pending += CLOSING[character]
        elif character == separator and not pending:
            parts.append("")
            continue
        parts[-1] += character
    return parts

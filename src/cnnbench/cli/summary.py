"""`cnnbench summary`: what can be said of models before they are trained."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from cnnbench.analysis import Summary, summarize
from cnnbench.cli import compose, tables
from cnnbench.data import DatasetInfo, data_shape, image_size_of
from cnnbench.experiment.build import data_settings, model_for

BRACKETS = {"(": ")", "[": "]", "{": "}"}


@dataclasses.dataclass
class Described:
    """A model of a command line and what it comes to.

    Attributes:
        label: what the user called it.
        batch_size: images in a training step.
    """

    label: str
    model: str
    info: DatasetInfo
    batch_size: int
    summary: Summary

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
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


def summary(
    overrides: Sequence[str],
    *,
    compare: str | None,
    as_json: bool,
    channels: int | None,
    image_size: str | None,
    num_classes: int | None,
) -> None:
    """Print a model's layers and totals, or several models' totals, for the data's shape or for the shape given.

    Args:
        compare: models, as `models_to_compare` reads them.
    """
    sides = None if image_size is None else read_size(image_size)
    given: dict[str, Any] = {"channels": channels, "image_size": sides, "num_classes": num_classes}
    if compare is not None:
        several = [describe([*overrides, *one], label, **given) for label, one in models_to_compare(compare)]
        if as_json:
            print(json.dumps([one.plain() for one in several], indent=2))
        else:
            tables.show_models([(one.label, one.batch_size, one.summary) for one in several])
        return
    described = describe(overrides, None, **given)
    if as_json:
        print(json.dumps(described.plain(), indent=2))
    else:
        size = tables.format_sizes(described.info.input_shape[1:])
        title = f"{described.label} for {size}×{described.info.in_channels}, {described.info.num_classes} classes"
        tables.show_summary(title, described.batch_size, described.summary)


def describe(
    overrides: Sequence[str],
    label: str | None = None,
    *,
    channels: int | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> Described:
    """Build one model's shapes and describe them; the data are not looked at where the shape is given.

    Raises:
        ValueError: an override, or a model for these data, that is not accepted.
    """
    config = compose.single(overrides)
    if channels and image_size and num_classes:
        shape: tuple[int, ...] = (channels, *image_size)
        classes = num_classes
    else:
        shape, classes = data_shape(
            config.data.name, root=config.data.root, options=config.data.options, settings=data_settings(config)
        )
    in_channels = channels or shape[0]
    asked = config.data.image_size
    sides = image_size or ([asked] * 2 if isinstance(asked, int) else asked) or shape[1:]
    size = image_size_of(*sides) if len(shape) == 3 else sides[0]
    names = tuple(map(str, range(num_classes or classes)))
    info = DatasetInfo(config.data.name, in_channels, size, names, len(shape) - 1)
    summary = summarize(model_for(config, info, "meta"), info.input_shape)
    return Described(label or config.model.name, config.model.name, info, config.trainer.batch_size, summary)


def read_size(text: str) -> tuple[int, int]:
    """Height and width from 32, 32x48 or 32,48.

    Raises:
        ValueError: it is none of them.
    """
    found = re.fullmatch(r"\[?(\d{1,5})(?:\s*[x×,]\s*(\d{1,5}))?\]?", text.strip())
    sides = [int(side) for side in found.groups(found[1])] if found else [0]
    if min(sides) < 1:
        raise ValueError(
            f"--image-size {text}: accepted is a number of pixels, such as 32, or HEIGHTxWIDTH, such as 32x48"
        )
    return sides[0], sides[1]


def models_to_compare(text: str) -> list[tuple[str, list[str]]]:
    """Labels and overrides of models such as "lenet5,lenet5 model.width=2,mlp".

    Commas part the models, and spaces a model's name from its overrides; inside brackets and quotes they do not.

    Raises:
        ValueError: a model without a name.
    """
    models = []
    for item in _split(text, ","):
        words = [word for word in _split(item, " ") if word]
        if not words or "=" in words[0]:
            raise ValueError(
                f"--compare: {item.strip()!r} in {text!r} has no model's name. Accepted are names separated by "
                "commas, each with its own overrides behind it: 'lenet5,lenet5 model.width=2,mlp'"
            )
        models.append((" ".join(words), [f"model={words[0]}", *words[1:]]))
    return models


def _split(text: str, separator: str) -> list[str]:
    parts, closing = [""], ""  # closing: the brackets and quotes that are still open, innermost last
    for character in text:
        if closing and character == closing[-1]:
            closing = closing[:-1]
        elif closing[-1:] not in ("'", '"') and character in "([{'\"":
            closing += BRACKETS.get(character, character)
        elif character == separator and not closing:
            parts.append("")
            continue
        parts[-1] += character
    return parts

"""Load a dataset by its name in a config."""

import functools
import inspect
import json
import os
from collections.abc import Mapping
from typing import Any

import cnnbench.data.sets as _sets
from cnnbench import registry
from cnnbench.data.dataset import Source

registry.discover(_sets)


def load_source(
    name: str,
    *,
    root: str,
    download: bool,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Source:
    """Read a dataset; the last few stay in memory, so that a sweep reads each of them once.

    Args:
        root: the folder of all datasets.
        download: whether a dataset that is missing there may be downloaded.
        options: those of the dataset.
        settings: those of any dataset, such as `image_size`, of which it receives what its signature names.

    Raises:
        ValueError: an unknown name or option, or missing files.
    """
    given = dict(options or {})
    everything = {"root": root, "download": download, **(settings or {})}
    named = inspect.signature(registry.find_part("data", name)).parameters
    wanted = {key: value for key, value in everything.items() if key in named and key not in given}
    if name in registry.list_names("data_kept"):  # it notices itself whether its files have changed
        return registry.build("data", name, options=given, **wanted)
    arguments = json.dumps([given, wanted], sort_keys=True)
    return _load_source(name, arguments, (_get_version(given.get("path")), _get_version(given.get("test_path"))))


def find_train_images(name: str) -> int | None:
    """The number of a dataset's training images, before any are set aside; None if it depends on files."""
    found: int | None = registry.get_facts("data", name).get("train_images")
    return found


def find_data_shape(
    name: str, *, root: str, options: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[tuple[int, ...], int]:
    """The shape of one image (C, H, W) or signal (C, L), and the number of classes; nothing is downloaded.

    The files are read unless the dataset registers a `data_shape`. Arguments and errors are those of `load_source`.
    """
    if name in registry.list_names("data_shape"):
        return registry.build("data_shape", name, options=options)
    info = load_source(name, root=root, download=False, options=options, settings=settings).info
    return info.input_shape, info.num_classes


@registry.renew_with_parts
@functools.lru_cache(maxsize=8)
def _load_source(name: str, arguments: str, _: object) -> Source:
    options, settings = json.loads(arguments)
    source = registry.build("data", name, options=options, **settings)
    if not isinstance(source, Source):  # a plug-in's function
        raise ValueError(f"data={name}: its function must return a Source, not {type(source).__name__}")
    return source.add_marks()


def forget_sources() -> None:
    """Read every dataset again the next time it is loaded."""
    _load_source.cache_clear()


def _get_version(path: object) -> tuple[int, int] | None:
    """When a file was last changed, and its size; None if it does not exist."""
    try:
        found = os.stat(os.path.expanduser(str(path)))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size

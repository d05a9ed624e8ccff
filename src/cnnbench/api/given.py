"""Networks and arrays that a program passes in place of names."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cnnbench.cli.compose.session import offer_parts
from cnnbench.runs.folder import RunFolder

log = logging.getLogger("cnnbench")


@dataclass
class Given:
    """The model and the data of a call.

    Attributes:
        settings: their names.
        parts: the config of those that are objects of the program.
    """

    settings: dict[str, str] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def give(model: Any = None, data: Any = None) -> Iterator[Given]:
    """A context in which runs can use a network and arrays of the program; yields how a config names them.

    Args:
        model: a name, a torch module, or None for the default.
        data: a name, arrays as `read_arrays` accepts them, or None for the default.
    """
    given = Given()
    with ExitStack() as entered:
        if isinstance(model, str):
            given.settings["model"] = model
        elif model is not None:
            from cnnbench.models.given import describe_module, give_module

            given.parts["model"] = describe_module(model)
            entered.enter_context(give_module(model))
        if isinstance(data, str):
            given.settings["data"] = data
        elif data is not None:
            from cnnbench.data.sets.arrays import NAME, give_arrays, read_arrays

            arrays = read_arrays(data)
            given.parts["data"] = {"name": NAME, "sha256": arrays.sha256}
            entered.enter_context(give_arrays(arrays))
        entered.enter_context(offer_parts(given.parts))
        given.settings |= {group: str(part["name"]) for group, part in given.parts.items()}
        yield given


def check_source(model: Any, run: RunFolder) -> None:
    """Warn if the source of a module has changed since the run.

    Raises:
        ValueError: the run needs no module, or this is not one.
    """
    if model is None:
        return
    from cnnbench.models.given import NAME, describe_module

    own = run.read_config()["model"]
    if own["name"] != NAME:
        raise ValueError(f"model: must be left out, because the network of this run is {own['name']}, not a module")
    now, then = describe_module(model)["source_sha256"], own.get("source_sha256")
    if then is not None and now != then:
        log.warning("the source of %s is not the one that the run was trained with", type(model).__qualname__)

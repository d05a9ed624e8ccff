"""Experiments in the user's own files (`experiment=./mine.yaml`), and several at once (`experiment=a,b`)."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cnnbench.cli.compose.quoting import SeveralValues
from cnnbench.config.text_values import split_values, unquote
from cnnbench.storage.text import format_path

KEY = "experiment="


@contextmanager
def register_experiments(overrides: Sequence[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Register each file with Hydra under a generated name; yield the overrides with these names, and name → file.

    An error raised inside the context names the file instead.

    Raises:
        ValueError: a file that is missing, or holds no keys.
    """
    named: dict[str, str] = {}
    known = []
    for text in overrides:
        start, found, value = text.partition(KEY)
        if found and start in ("", "+", "++"):
            values = [value] if os.path.lexists(value) else split_values(value)
            names = [_register(one, named) if _is_file(one) else one for one in values]
            text = f"{start}{KEY}{','.join(names)}"
        known.append(text)
    try:
        yield known, named
    except ValueError as error:
        if isinstance(error, SeveralValues):
            error.problem = restore_names(error.problem, named)
        error.args = (restore_names(str(error), named),)
        raise


def split_by_experiment(given: Sequence[str], parsed: Sequence[Override]) -> list[list[str]]:
    """The overrides of each experiment, if a sweep names several experiments; else an empty list.

    Args:
        parsed: the given overrides, parsed by Hydra.
    """
    named = {place: o for place, o in enumerate(parsed) if o.key_or_group == "experiment"}
    if not named or not (last := named[max(named)]).is_sweep_override():
        return []
    others = [text for place, text in enumerate(given) if place not in named]
    return [[f"{KEY}{name}", *others] for name in last.sweep_string_iterator()]


def restore_names(text: str, named: dict[str, str]) -> str:
    """Replace the generated names in a text by their files."""
    for name, file in named.items():
        text = text.replace(name, file)
    return text


def _is_file(value: str) -> bool:
    text = unquote(value)
    return text.endswith((".yaml", ".yml")) or os.sep in text


def _register(value: str, named: dict[str, str]) -> str:
    """Register a file with Hydra; return the name, and note it in `named`."""
    try:
        content = Path(unquote(value)).read_bytes()
        config = OmegaConf.create(content.decode("utf-8-sig")) if content.strip() else OmegaConf.create({})
    except OSError as error:
        raise ValueError(f"{KEY}{format_path(value)}: the file cannot be read: {error.strerror}") from None
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{KEY}{format_path(value)} is not an experiment's YAML file: {reason}") from None
    if not isinstance(config, DictConfig):
        raise ValueError(f"{KEY}{format_path(value)} is not an experiment's YAML file: it holds no keys")
    # Not the path itself, which may hold characters that Hydra does not accept in a name.
    name = f"own_{hashlib.sha256(os.fsencode(value)).hexdigest()[:16]}"
    ConfigStore.instance().store(group="experiment", name=name, node=config, package="_global_", provider="cnnbench")
    named[name] = value
    return name

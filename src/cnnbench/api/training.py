"""Train one run."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.api.arguments import check_new_folder
from cnnbench.api.errors import translate_errors
from cnnbench.api.given import give
from cnnbench.api.overrides import refuse_preview, write_overrides
from cnnbench.api.runs import Run, load
from cnnbench.api.session import open_session
from cnnbench.cli import compose, plugin_options
from cnnbench.cli.compose.quoting import SeveralValues
from cnnbench.cli.train import train_new
from cnnbench.runs.pictures import draw_in_turn

if TYPE_CHECKING:
    from torch import nn


def train(
    *overrides: str,
    model: "str | nn.Module | None" = None,
    data: Any = None,
    folder: str | Path | None = None,
    resume: "Run | str | Path | None" = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train and test a model, as `cnnbench train` does.

    Args:
        overrides: as in a command, such as `"experiment=lenet5_fast"`.
        model: a name of `cnnbench list models`, or a torch module that gives a logit for each class. A copy of the
            module is trained, from the weights that it has.
        data: a name of `cnnbench list data`; or `(images, labels)`, with an array of images as `Run.predict` takes it,
            and labels as whole numbers or text; or a pair of these, for training and test.
        folder: for the run, new or empty; by default one below `outputs`.
        resume: a run to continue.
        progress: show a progress bar.
        settings: keys of the config by name, such as `**{"trainer.epochs": 5}`.

    Raises:
        InvalidRequest: an unknown name, or a value that is not accepted; nothing has been written.
        RunFailed: the run started and did not finish.
        KeyboardInterrupt: by Ctrl-C; the run is saved, and `resume` continues it.
    """
    if resume is not None:
        run = resume if isinstance(resume, Run) else load(resume)
        return run.resume(*overrides, model=model, data=data, progress=progress, **settings)
    with open_session(progress=progress), give(model, data) as given:
        if folder is not None:
            settings["hydra.run.dir"] = check_new_folder(folder)
        if not (model is None or isinstance(model, str) or any(one.requires_grad for one in model.parameters())):
            raise ValueError(f"model={type(model).__qualname__} has no parameters that can be trained")
        texts = write_overrides(overrides, given.settings | settings)
        with hint_at_sweep(settings):
            request = compose.compose_request(texts)
        config = request.jobs[0].config
        if request.is_sweep:
            raise ValueError(f"{' '.join(texts)}: names several runs, which cnnbench.sweep runs")
        refuse_preview([config])
        if given.parts and config.trainer.devices > 1:
            raise ValueError(
                f"trainer.devices={config.trainer.devices}: a module or arrays of a program train in one process, so "
                "it must be 1"
            )
        return Run(train_new(request, draw_in_turn)[0])


def load_plugins(*sources: str | Path) -> None:
    """Load parts of your own for all later calls: models, datasets and others that plug-ins register.

    A run that uses a plug-in can be opened only once that is loaded. `train` and `sweep` also take `plugins=[…]`.

    Args:
        sources: Python files, folders with `__init__.py`, or names of installed modules. One that has changed since it
            was loaded is loaded again.

    Raises:
        InvalidRequest: one cannot be used; the message says where it fails.
    """
    with translate_errors():
        if wrong := [source for source in sources if not isinstance(source, str | os.PathLike)]:
            raise ValueError(f"plug-in {wrong[0]!r}: must be a file, a folder or the name of a module")
        plugin_options.load_plugins([os.fspath(source) for source in sources])


@contextmanager
def hint_at_sweep(settings: Mapping[str, Any]) -> Iterator[None]:
    """A context in which an error also suggests `sweep`, if a list may have been meant as several values."""
    try:
        yield
    except SeveralValues as error:
        raise ValueError(f"{error.problem}: cnnbench.sweep runs each of them") from None
    except ValueError as error:
        if not any(isinstance(value, list | tuple | range) for value in settings.values()):
            raise
        raise ValueError(f"{error}. cnnbench.sweep runs each of several values") from None

"""`cnnbench tune`: a search for good values, chosen on the validation split alone."""

import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from cnnbench.cli import compose, tables
from cnnbench.cli.choices import spaces
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.literal import literal, several_values, unreadable
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.streams import log, show_log
from cnnbench.config.schema import Config, refuse_interpolation, to_dict
from cnnbench.experiment.build import build_parts, load_dataset
from cnnbench.metrics import text_of
from cnnbench.registry import unknown
from cnnbench.runs.folder import FINISHED, create_folder
from cnnbench.storage.atomic import lock_folder
from cnnbench.storage.plain_data import read_yaml, write_yaml
from cnnbench.storage.text import format_output_path, make_printable
from cnnbench.training.tasks import task_of
from cnnbench.tuning.figures import draw_search
from cnnbench.tuning.search import Search
from cnnbench.tuning.settings import TuneSettings, settings_of
from cnnbench.tuning.space import Space, Value, override, space_of
from cnnbench.tuning.study import INSTALL, Study

DEFAULT_SPACE = "lenet5"
ON_RESUME = ("trials", "workers", "timeout")  # what a study can go on with otherwise
FRESH_SEEDS = 6  # of the command that trains the best anew: the fewest that a paired test can tell anything from


@dataclass
class _Asked:
    """A search that was asked for, checked.

    Attributes:
        overrides: of every trial: those of the space's file, then the command's.
        folder: where it goes, or is.
        monitor: the metric that chooses.
    """

    settings: TuneSettings
    space: Space
    overrides: list[str]
    config: Config
    folder: Path
    monitor: str


def tune(overrides: Sequence[str]) -> None:
    """Search, or go on searching; prints the best trials and, last, the study's folder.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: no trial finished.
    """
    show_log()
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(INSTALL)
    overrides = literal(overrides)
    ours = [o for o in map(_parsed, overrides) if o.key_or_group in ("tune", "resume") or o.key_or_group[:5] == "tune."]
    for o in ours:
        if o.is_sweep_override():
            raise ValueError(f"{several_values(o)}: accepted is one")
    theirs = [text for text in overrides if text not in {o.input_line for o in ours}]
    given = {o.key_or_group: o.value() for o in ours}
    if "resume" in given:
        asked = _resumed(given, theirs)
    else:
        asked = _asked(given, theirs)
        create_folder(asked.folder)
        asked.folder = asked.folder.resolve()
        write_yaml(asked.folder / "study.yaml", _record(asked))
    with lock_folder(asked.folder):
        _search(asked)


def _parsed(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ValueError(unreadable(text, compose.first_line(error))) from None


def _asked(given: dict[str, Any], theirs: Sequence[str]) -> _Asked:
    plain = _space_file(str(given.pop("tune", DEFAULT_SPACE)))
    settings = settings_of(plain | {key.removeprefix("tune."): value for key, value in given.items()})
    named = [] if any(text.startswith("name=") for text in theirs) else ["name=tune"]
    request = compose.request([*settings.overrides, *named, *theirs])
    kept = [text for text in theirs if not text.lstrip("+~").startswith("hydra")]
    return _checked(settings, [*settings.overrides, *named, *kept], request.folder)


def _checked(settings: TuneSettings, overrides: list[str], folder: Path) -> _Asked:
    """What is to be searched, once it is known that every end of the space can be trained."""
    space = space_of(settings.space)
    config = compose.single(overrides)
    monitor = _monitor(config)
    log.info("%s", load_dataset(config, test=False).describe())
    for key, entry in space.items():
        for value in entry.edges():
            try:
                edge = compose.single([*overrides, override(key, value)])
                if _monitor(edge) != monitor:
                    raise ValueError(f"it is judged by {_monitor(edge)}, and the others by {monitor}")
            except ValueError as error:
                raise ValueError(f"tune.space.{key}: {override(key, value)} cannot be trained: {error}") from None
    return _Asked(settings, space, overrides, config, folder, monitor)


def _monitor(config: Config) -> str:
    """What chooses among trials; building the parts also finds out whether the config can be trained."""
    parts = build_parts(config, shapes_only=True, test=False)
    if parts.dataset.val is None:
        raise ValueError(
            f"data.val_fraction={config.data.val_fraction}: a search chooses on the validation split, never on the "
            "test images: accepted is a number above 0 and below 1"
        )
    return config.trainer.monitor or task_of(parts.model).monitor


def _space_file(name: str) -> dict[str, Any]:
    """The keys of a space: one of ours by its name, or one's own by its path, which ends with .yaml."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else spaces().get(name)
    if path is None:
        raise ValueError(f"{unknown('tune', name, spaces())}, or the path of a .yaml file")
    if not path.is_file():
        raise ValueError(f"tune={name}: there is no such file")
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise ValueError(f"tune={name}: accepted is a YAML file with the keys space and, if you like, overrides")
    return plain


def _record(asked: _Asked) -> dict[str, Any]:
    return {"overrides": asked.overrides, "tune": asked.settings.model_dump(), "config": to_dict(asked.config)}


def _resumed(given: dict[str, Any], theirs: Sequence[str]) -> _Asked:
    folder = find_folder(str(given.pop("resume")), study=True).resolve()
    accepted = [f"tune.{key}" for key in ON_RESUME]
    for key in [*given, *theirs]:
        if key not in accepted:
            raise ValueError(f"{key}: beside resume=STUDY accepted are {', '.join(accepted)}")
    if not (folder / "study.yaml").is_file():
        raise ValueError(f"{str(folder)!r} is not the folder of a search: it has no study.yaml")
    record = read_yaml(folder / "study.yaml")
    if not isinstance(record, dict) or not isinstance(record.get("tune"), dict):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: it lacks tune")
    overrides = record.get("overrides")
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: overrides is not a list of text")
    # The file may be a stranger's: it says what to train, and evaluates nothing.
    refuse_interpolation(overrides, "overrides")
    if any(_parsed(text).is_hydra_override() for text in overrides):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: its overrides set keys of Hydra")
    settings = settings_of(record["tune"] | {key.removeprefix("tune."): value for key, value in given.items()})
    asked = _checked(settings, overrides, folder)
    _check_same(record.get("config"), to_dict(asked.config))
    return asked


def _check_same(recorded: Any, now: dict[str, Any]) -> None:
    """The trials to come must be of the config that the earlier ones had."""
    if not isinstance(recorded, dict):
        raise ValueError("study.yaml is damaged: it lacks config")
    for section in now:
        was, is_now = recorded.get(section), now[section]
        pairs = [(section, was, is_now)]
        if isinstance(was, dict) and isinstance(is_now, dict):
            pairs = [(f"{section}.{key}", was.get(key), is_now.get(key)) for key in [*is_now, *was]]
        for key, before, after in pairs:
            if before != after:
                raise ValueError(f"the study was made with {key}={before}, and here it is {after}: set it as it was")


def _search(asked: _Asked) -> None:
    settings = asked.settings
    study = Study(
        asked.folder,
        asked.space,
        settings,
        monitor=asked.monitor,
        maximize=asked.monitor != "val/loss",
        most_epochs=asked.config.trainer.epochs,
    )

    def composed(params: dict[str, Value]) -> tuple[Config, list[str]]:
        overrides = [*asked.overrides, *(override(key, value) for key, value in params.items())]
        config = compose.single(overrides)
        build_parts(config, shapes_only=True, test=False)
        return config, overrides

    log.info("up to %d trials in %s, chosen by %s", settings.trials, shorten(asked.folder), asked.monitor)
    search = Search(study, composed, trials=settings.trials, workers=settings.workers, timeout=settings.timeout)
    try:
        search.run()
    except BaseException:
        log.info("go on with: cnnbench tune resume=%s", shlex.quote(str(shorten(asked.folder))))
        raise
    finally:
        _write_best(asked, study)
    _show(asked, study)


def _write_best(asked: _Asked, study: Study) -> None:
    rows, best = study.rows(), study.best()
    draw_search(asked.folder, rows, asked.monitor, study.maximize, study.importances())
    if best:
        params = {key: best[key] for key in asked.space}
        write_yaml(
            asked.folder / "best.yaml",
            {
                "trial": best["trial"],
                asked.monitor: best[asked.monitor],
                "of_trials": len(rows),
                "params": params,
                "command": _command(asked, params),
                "note": "the best of many on the validation split: expect less of it on new images",
            },
        )


def _command(asked: _Asked, params: dict[str, Value]) -> str:
    """The command that trains the best anew, with seeds that the search has not seen, and tests each once."""
    first = asked.config.seed + 1
    seeds = ",".join(str(seed) for seed in range(first, first + FRESH_SEEDS))
    kept = [text for text in asked.overrides if text.partition("=")[0] not in {"name", "seed", *params}]
    chosen = [override(key, value) for key, value in params.items()]
    return shlex.join(["cnnbench", "train", "-m", *kept, *chosen, f"seed={seeds}"])


def _show(asked: _Asked, study: Study) -> None:
    rows, best = study.rows(), study.best()
    if best is None:
        print(format_output_path(shorten(asked.folder)))
        raise RunFailed(f"none of {len(rows)} trials finished: {shorten(asked.folder) / 'trials.csv'} says why")
    tables.show_trials(rows, list(asked.space), asked.monitor, study.maximize, study.importances())
    params = {key: best[key] for key in asked.space}
    states = [row["state"] for row in rows]
    print(
        f"Trial {best['trial']} has the best {asked.monitor} of {states.count(FINISHED)} finished trials, "
        f"{text_of(asked.monitor, best[asked.monitor])}: chosen as the best of many, it looks better here than it is.\n"
        f"Train it anew with {FRESH_SEEDS} other seeds and test each once:\n  {make_printable(_command(asked, params))}"
    )
    print(format_output_path(shorten(asked.folder)))

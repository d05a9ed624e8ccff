"""`cnnbench tune`: search for good values of config keys, judged on the validation split alone."""

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
from cnnbench.cli.choices import list_spaces
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.literal import describe_values, explain_syntax, quote_text
from cnnbench.cli.plugin_options import is_plugins
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.streams import log, show_log
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.config.seeds import Seeds
from cnnbench.config.text_values import refuse_interpolation
from cnnbench.experiment.build import build_parts, estimate_need
from cnnbench.experiment.loading import load_dataset
from cnnbench.metrics import format_metric
from cnnbench.plugins.records import require_plugins
from cnnbench.registry import describe_unknown
from cnnbench.runs.folder import FINISHED, STUDY, create_folder
from cnnbench.storage.atomic import lock_folder
from cnnbench.storage.plain_data import read_yaml, write_yaml
from cnnbench.storage.text import format_output_path, get_first_line, make_printable
from cnnbench.training.tasks import get_task
from cnnbench.tuning.figures import draw_search
from cnnbench.tuning.search import Search, TrialPlan
from cnnbench.tuning.settings import TuneSettings, parse_settings
from cnnbench.tuning.space import Space, Value, format_override, parse_space
from cnnbench.tuning.study import INSTALL, SearchStudy

DEFAULT_SPACE = "lenet5"
ON_RESUME = ("trials", "workers", "timeout")  # settings that may change when a study resumes
FRESH_SEEDS = 6  # to retrain the best trial with: a paired test of fewer cannot be significant


@dataclass
class _SearchRequest:
    """A checked request for a search.

    Attributes:
        overrides: the overrides of every trial: those of the space's file, then those of the command.
        folder: the study's folder.
        monitor: the metric by which trials are judged.
    """

    settings: TuneSettings
    space: Space
    overrides: list[str]
    config: Config
    folder: Path
    monitor: str


def tune(overrides: Sequence[str]) -> None:
    """Start or resume a search; print the best trials and, last, the study's folder.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: no trial finished.
    """
    show_log()
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(INSTALL)
    overrides = quote_text(overrides)
    # These belong to the search; all others apply to every trial.
    own = [o for o in map(_parse, overrides) if o.key_or_group in ("tune", "resume") or o.key_or_group[:5] == "tune."]
    for o in own:
        if o.is_sweep_override():
            raise ValueError(f"{describe_values(o)}: give one")
    others = [text for text in overrides if text not in {o.input_line for o in own}]
    given = {o.key_or_group: o.value() for o in own}
    if "resume" in given:
        request = _reopen_request(given, others)
    else:
        request = _read_request(given, others)
        create_folder(request.folder)
        request.folder = request.folder.resolve()
        write_yaml(request.folder / STUDY, _to_plain(request))
    with lock_folder(request.folder):
        _search(request)


def _parse(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ValueError(explain_syntax(text, get_first_line(error))) from None


def _read_request(given: dict[str, Any], others: Sequence[str]) -> _SearchRequest:
    plain = _read_space(str(given.pop("tune", DEFAULT_SPACE)))
    settings = parse_settings(plain | {key.removeprefix("tune."): value for key, value in given.items()})
    name = [] if any(text.startswith("name=") for text in others) else ["name=tune"]
    composed = compose.compose_request([*settings.overrides, *name, *others])
    if composed.sweep.folds is not None:
        hint = "data.folds=K data.fold=1 searches without that fold"
        raise ValueError(f"sweep.folds={composed.sweep.folds}: a trial is one run, not a cross-validation. {hint}")
    folder = composed.folder
    # Of the plug-ins, only their hashes are kept: a study that is resumed may not load any by itself.
    kept = [text for text in others if not text.lstrip("+~").startswith("hydra") and not is_plugins(text)]
    return _check(settings, [*settings.overrides, *name, *kept], folder)


def _check(settings: TuneSettings, overrides: list[str], folder: Path) -> _SearchRequest:
    """Return the request after checking that both ends of every range, and every choice, can be trained."""
    space = parse_space(settings.space)
    config = compose.compose_config(overrides)
    monitor = _find_monitor(config)
    log.info("%s", load_dataset(config, test=False).describe())
    for key, entry in space.items():
        for value in entry.list_ends():
            override = format_override(key, value)
            try:
                other = _find_monitor(compose.compose_config([*overrides, override]))
                if other != monitor:
                    raise ValueError(f"it is judged by {other}, but the others by {monitor}")
            except ValueError as error:
                raise ValueError(f"tune.space.{key}: {override} cannot be trained: {error}") from None
    return _SearchRequest(settings, space, overrides, config, folder, monitor)


def _find_monitor(config: Config) -> str:
    """The metric by which trials are judged. Also checks that the config can be trained."""
    parts = build_parts(config, shapes_only=True, test=False)
    if parts.dataset.val is None:
        raise ValueError(
            f"data.val_fraction={config.data.val_fraction}: must be above 0 and below 1, because a search judges "
            "trials on the validation split, never on the test images"
        )
    return config.trainer.monitor or get_task(parts.model).monitor


def _read_space(name: str) -> dict[str, Any]:
    """Read a search space: one of ours by its name, or the user's own file, whose path ends with .yaml."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else list_spaces().get(name)
    if path is None:
        raise ValueError(f"{describe_unknown('tune', name, list_spaces())}, or the path of a .yaml file")
    if not path.is_file():
        raise ValueError(f"tune={name}: there is no such file")
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise ValueError(f"tune={name}: must be a YAML file with the key space and, optionally, overrides")
    return plain


def _to_plain(request: _SearchRequest) -> dict[str, Any]:
    return {"overrides": request.overrides, "tune": request.settings.model_dump(), "config": to_dict(request.config)}


def _reopen_request(given: dict[str, Any], others: Sequence[str]) -> _SearchRequest:
    folder = find_folder(str(given.pop("resume")), study=True).resolve()
    allowed = [f"tune.{key}" for key in ON_RESUME]
    for key in [*given, *others]:
        if key not in allowed and not is_plugins(key):
            raise ValueError(f"{key}: resume=STUDY takes only {', '.join(allowed)}")
    if not (folder / STUDY).is_file():
        raise ValueError(f"{str(folder)!r} is not the folder of a search: it has no study.yaml")
    record = read_yaml(folder / STUDY)
    if not isinstance(record, dict) or not isinstance(record.get("tune"), dict):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: it lacks tune")
    overrides = record.get("overrides")
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: overrides is not a list of text")
    # The study may come from a stranger, and `${…}` can read environment variables.
    refuse_interpolation(overrides, "overrides")
    if any(_parse(text).is_hydra_override() for text in overrides):
        raise ValueError(f"{folder / 'study.yaml'} is damaged: its overrides set keys of Hydra")
    settings = parse_settings(record["tune"] | {key.removeprefix("tune."): value for key, value in given.items()})
    if isinstance(config := record.get("config"), dict):
        own = from_dict({key: config[key] for key in ("plugins", "plugin_sha256") if key in config})
        require_plugins(own, folder, unchanged=True)
    request = _check(settings, overrides, folder)
    _check_same(record.get("config"), to_dict(request.config))
    return request


def _check_same(recorded: Any, now: dict[str, Any]) -> None:
    """Check that further trials would have the same config as the earlier ones."""
    if not isinstance(recorded, dict):
        raise ValueError("study.yaml is damaged: it lacks config")
    for section in [name for name in now if name != "plugins"]:  # their files may have moved
        was, is_now = recorded.get(section), now[section]
        pairs = [(section, was, is_now)]
        if isinstance(was, dict) and isinstance(is_now, dict):
            pairs = [(f"{section}.{key}", was.get(key), is_now.get(key)) for key in [*is_now, *was]]
        for key, before, after in pairs:
            if before != after:
                raise ValueError(
                    f"the study was started with {key}={before}, but here it is {after}: restore the first value"
                )


def _search(request: _SearchRequest) -> None:
    settings = request.settings
    study = SearchStudy(
        request.folder,
        request.space,
        settings,
        monitor=request.monitor,
        most_epochs=request.config.trainer.epochs,
    )

    def plan_trial(params: dict[str, Value]) -> TrialPlan:
        overrides = [*request.overrides, *(format_override(key, value) for key, value in params.items())]
        config = compose.compose_config(overrides)
        return TrialPlan(config, overrides, estimate_need(config, build_parts(config, shapes_only=True, test=False)))

    trials = f"{settings.trials} trial{'s' if settings.trials > 1 else ''}"
    log.info("%s in %s, chosen by %s", trials, shorten(request.folder), request.monitor)
    try:
        Search(study, plan_trial).run()
    except BaseException:
        log.info("resume with: cnnbench tune resume=%s", shlex.quote(str(shorten(request.folder))))
        raise
    finally:
        _write_best(request, study)
    _show(request, study)


def _write_best(request: _SearchRequest, study: SearchStudy) -> None:
    rows, best = study.list_rows(), study.find_best()
    draw_search(request.folder, rows, request.monitor, study.compute_importances())
    if best:
        params = {key: best[key] for key in request.space}
        write_yaml(
            request.folder / "best.yaml",
            {
                "trial": best["trial"],
                request.monitor: best[request.monitor],
                "of_trials": len(rows),
                "params": params,
                "command": _format_command(request, params),
                "note": "the best of many on the validation split: expect a lower value on new images",
            },
        )


def _format_command(request: _SearchRequest, params: dict[str, Value]) -> str:
    """The command that retrains the best trial with new seeds and tests each run once."""
    first = request.config.seed + 1
    seeds = ",".join(str(seed) for seed in range(first, first + FRESH_SEEDS))
    dropped = {"name", "seed", *(f"seeds.{source}" for source in Seeds._fields), *params}
    kept = [text for text in request.overrides if text.partition("=")[0] not in dropped]
    chosen = [format_override(key, value) for key, value in params.items()]
    plugins = [f"plugins=[{','.join(request.config.plugins)}]"] if request.config.plugins else []
    return shlex.join(["cnnbench", "train", "-m", *plugins, *kept, *chosen, f"seed={seeds}"])


def _show(request: _SearchRequest, study: SearchStudy) -> None:
    rows, best = study.list_rows(), study.find_best()
    if best is None:
        print(format_output_path(shorten(request.folder)))
        raise RunFailed(f"none of {len(rows)} trials finished: {shorten(request.folder) / 'trials.csv'} says why")
    tables.show_trials(rows, list(request.space), request.monitor, study.compute_importances())
    params = {key: best[key] for key in request.space}
    states = [row["state"] for row in rows]
    command = make_printable(_format_command(request, params))
    score = format_metric(request.monitor, best[request.monitor])
    print(
        f"Trial {best['trial']} has the best {request.monitor} of {states.count(FINISHED)} finished trials, {score}: "
        "the best of many trials looks better here than it is.\n"
        f"Train it again with {FRESH_SEEDS} other seeds and test each once:\n  {command}"
    )
    print(format_output_path(shorten(request.folder)))

"""`cnnbench tune`: search for good values of config keys, judged on the validation split alone."""

import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.cli import compose, tables
from cnnbench.cli.choices import list_spaces
from cnnbench.cli.compose.quoting import parse_override, quote_text, refuse_several_values
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import TuneOptions, is_plugins
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.streams import log, show_log
from cnnbench.config import keys
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.config.seeds import Seeds
from cnnbench.config.text_values import refuse_interpolation
from cnnbench.experiment.build import build_parts, estimate_need
from cnnbench.experiment.loading import load_dataset
from cnnbench.metrics import format_metric
from cnnbench.plugins.records import require_plugins
from cnnbench.registry import describe_unknown
from cnnbench.report.formatting import format_count
from cnnbench.runs.folder import FINISHED, STUDY, create_folder, format_resume_command
from cnnbench.storage.atomic import lock_folder
from cnnbench.storage.plain_data import check_kinds, read_yaml, write_yaml
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import format_output_path, make_printable
from cnnbench.training.tasks import get_task
from cnnbench.tuning.figures import draw_search
from cnnbench.tuning.settings import TuneSettings, parse_settings
from cnnbench.tuning.space import Space, Value, format_override, parse_space

if TYPE_CHECKING:
    from cnnbench.tuning.study import SearchStudy

DEFAULT_SPACE = "lenet5"
INSTALL = "cnnbench tune needs the package optuna: pip install 'cnnbench[tune]'"
ON_RESUME = ("trials", "workers", "timeout")  # settings that may change when a study resumes
FRESH_SEEDS = 6  # to retrain the best trial with: a paired test of fewer cannot be significant


class _StudyRecord(keys.Section):
    """The content of `study.yaml`."""

    overrides: list[str] = keys.key("The overrides of every trial")
    tune: dict[str, Any] = keys.key("The settings of the search")
    config: dict[str, Any] = keys.key("The config of a trial, without the values that vary")


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


def tune(options: TuneOptions) -> None:
    """Start or resume a search; print the best trials and, last, the study's folder.

    Raises:
        ValueError: the command is wrong; nothing has been written.
        RunFailed: no trial finished.
    """
    show_log()
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(INSTALL)
    overrides = quote_text(options.overrides or [])
    # These belong to the search; all others apply to every trial.
    own = [o for o in map(parse_override, overrides) if o.key_or_group.partition(".")[0] in ("tune", "resume")]
    refuse_several_values(own, "give one")
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


def _read_request(given: dict[str, Any], others: Sequence[str]) -> _SearchRequest:
    plain = _read_space(str(given.pop("tune", DEFAULT_SPACE)))
    settings = parse_settings(plain | {key.removeprefix("tune."): value for key, value in given.items()})
    name = [] if any(text.startswith("name=") for text in others) else ["name=tune"]
    composed = compose.compose_request([*settings.overrides, *name, *others])
    if composed.sweep.folds is not None:
        raise ValueError(
            f"sweep.folds={composed.sweep.folds}: a trial is one run, not a cross-validation. data.folds=K data.fold=1 "
            "searches without that fold"
        )
    # Of the plug-ins, only their hashes are kept: a study that is resumed may not load any by itself.
    kept = [text for text in others if not text.lstrip("+~").startswith("hydra") and not is_plugins(text)]
    return _check(settings, [*settings.overrides, *name, *kept], composed.folder)


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
    path = folder / STUDY
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} is not the folder of a search: it has no {STUDY}")
    plain = check_kinds(path, read_yaml(path), {})
    try:
        record = _StudyRecord.from_plain(plain, "")
        # The study may come from a stranger, and `${…}` can read environment variables.
        refuse_interpolation(record.overrides, "overrides")
        if any(parse_override(text).is_hydra_override() for text in record.overrides):
            raise ValueError("its overrides set keys of Hydra")
    except ValueError as error:
        refuse_damaged(path, error)
    settings = parse_settings(record.tune | {key.removeprefix("tune."): value for key, value in given.items()})
    plugins = {name: value for name, value in record.config.items() if name in ("plugins", "plugin_sha256")}
    require_plugins(from_dict(plugins), folder, unchanged=True)
    request = _check(settings, record.overrides, folder)
    # Otherwise the trials could not be compared. The files of plug-ins may have moved.
    before, now = (keys.flatten(plain | {"plugins": None}) for plain in (record.config, to_dict(request.config)))
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"the study was started with {name}={before.get(name)}, but here it is {now.get(name)}: restore the "
                "first value"
            )
    return request


def _search(request: _SearchRequest) -> None:
    # Not at the top: they import optuna, which may not be installed.
    from cnnbench.tuning.search import Search, TrialPlan
    from cnnbench.tuning.study import SearchStudy

    settings = request.settings
    most_epochs = request.config.trainer.epochs
    study = SearchStudy(request.folder, request.space, settings, monitor=request.monitor, most_epochs=most_epochs)

    def plan_trial(params: dict[str, Value]) -> TrialPlan:
        overrides = [*request.overrides, *(format_override(key, value) for key, value in params.items())]
        config = compose.compose_config(overrides)
        return TrialPlan(config, overrides, estimate_need(config, build_parts(config, shapes_only=True, test=False)))

    trials = format_count(settings.trials, "trial")
    log.info("%s in %s, chosen by %s", trials, shorten(request.folder), request.monitor)
    try:
        Search(study, plan_trial).run()
    except BaseException:
        log.info("resume with: %s", format_resume_command("tune", shorten(request.folder)))
        raise
    finally:
        _write_best(request, study)
    _show(request, study)


def _write_best(request: _SearchRequest, study: "SearchStudy") -> None:
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


def _show(request: _SearchRequest, study: "SearchStudy") -> None:
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

"""Verify a finished run: do its config, its data and its weights give the figures in its folder?

First the files are compared with each other, the weights with the config, and the data with their record. Then the
weights are tested again and must give the stored predictions within a tolerance. If versions, threads and processor are
those of the run, it is also trained again and must give the same bits. Nothing in the folder changes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cnnbench.config.keys import flatten
from cnnbench.config.schema import Config, LoggerConfig
from cnnbench.experiment.build import Parts, build_parts
from cnnbench.experiment.data_record import NOT_ITS_DATA, describe_changes, describe_own_data, read_data
from cnnbench.experiment.measuring.repetition import test_weights, train_again
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.experiment.resume import compute_fingerprint
from cnnbench.plugins.places import PluginError
from cnnbench.plugins.records import describe_code_changes, require_metrics
from cnnbench.reproducibility import describe_differences, use_threads
from cnnbench.runs.checking import UNREADABLE, check_figures, is_tested
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import BEST_WEIGHTS, FINISHED, RunFolder
from cnnbench.runs.measured import Contradiction, MeasuredFigures
from cnnbench.runs.reopening import load_config
from cnnbench.runs.starting_weights import find_missing_weights
from cnnbench.storage.text import format_path, make_printable
from cnnbench.training import checkpoint
from cnnbench.training.device import resolve_device
from cnnbench.training.progress import Diverged

REPRODUCED, AGREES, DISAGREES, UNVERIFIABLE = "reproduced", "agrees", "disagrees", "unverifiable"
# Of a probability or, as a share of it, a loss. Other versions and processors round differently; half precision and
# another kind of device, whose convolutions may be less exact, much more so.
CLOSE, ROUGH = 0.001, 0.05
NEEDED = ("torch", "cnnbench", "cpu_capability", "torch_threads")  # of `env.json`, to know whether bits can agree
LONGEST = 500  # characters of a reason


@dataclass(frozen=True)
class Verification:
    """What the verification of a run has shown."""

    verdict: str  # one of the four above
    reason: str = ""  # why the run was not trained again, does not agree, or cannot be verified
    tolerance: float | None = None  # for a probability; None if nothing was tested again

    def describe(self) -> str:
        """The verdict in words."""
        if self.verdict == REPRODUCED:
            return "reproduced to the bit"
        if self.verdict == AGREES:
            return f"figures agree within {self.tolerance:g} (not retrained: {self.reason})"
        return f"{'does NOT agree' if self.verdict == DISAGREES else 'cannot be verified'}: {self.reason}"


class _Ended(Exception):
    """The verification has ended early."""

    def __init__(self, verdict: str, reason: str) -> None:
        self.verification = Verification(verdict, make_printable(" ".join(reason.split())[:LONGEST]))


@contextmanager
def _blame_files(kinds: tuple[type[Exception], ...] = UNREADABLE) -> Iterator[None]:
    """Take an error of one of these kinds as evidence that the run's files are not those that its training wrote."""
    try:
        yield
    except (Contradiction, PluginError):
        raise
    except kinds as error:
        raise _Ended(DISAGREES, str(error) or type(error).__name__) from error


def verify_run(
    path: Path, *, evaluate_only: bool = False, root: str | None = None, data_path: str | None = None
) -> Verification:
    """Verify a run. Any content of its folder leads to a verdict, not to an error.

    Args:
        evaluate_only: do not train.
        root: where datasets are, if they have moved since the run. Nothing is downloaded.
        data_path: where the images or signals of a run's own `data.path` are now.
    """
    try:
        return _verify(path, evaluate_only, root, data_path)
    except Contradiction as error:
        inside = error.file.is_relative_to(path)
        file = format_path(error.file.relative_to(path) if inside else error.file)
        return _Ended(DISAGREES, error.describe(file)).verification
    except _Ended as end:
        return end.verification
    except Exception as error:  # missing data, too little memory, or an error that a hostile folder provokes
        return _Ended(UNVERIFIABLE, str(error) or type(error).__name__).verification


def _verify(path: Path, evaluate_only: bool, root: str | None, data_path: str | None) -> Verification:
    run = RunFolder.open_existing(path)
    if (state := run.read_status().get("state", "unknown")) != FINISHED:
        raise _Ended(UNVERIFIABLE, f"it is not finished (its state: {state})")
    require_metrics(run.read_environment(), path)
    with _blame_files():
        summary, config = _check_files(run)
    tested = is_tested(run, summary)
    device, obstacles = _find_obstacles(run, summary, config)
    obstacles = ["--evaluate-only"] if evaluate_only else obstacles
    if obstacles and not tested:
        raise _Ended(UNVERIFIABLE, f"it was not tested, and is not trained again: {'; '.join(obstacles)}")
    _prepare_config(config, device, root, data_path, is_trained=not obstacles)
    parts = build_parts(describe_own_data(config, run.path), test=tested, within_memory=True)
    record = read_data(run.path)
    changes = describe_changes(record, parts.dataset) if record else "the folder does not record them"
    if changes:
        raise _Ended(UNVERIFIABLE, f"{NOT_ITS_DATA}: {changes}")
    _check_parts(run, summary, parts)
    trained_on = str(summary.get("device", "cpu")).partition(":")[0]
    exact = trained_on == device.type and config.trainer.precision == "fp32"
    tolerance = CLOSE if exact else ROUGH
    if tested:
        with _blame_files():
            trained = replace(load_trained(run.path), config=config)
        trained.refuse_large_batches(min(config.trainer.eval_batch_size, len(parts.dataset.test)))
        with _blame_files((ValueError, Diverged)):
            test_weights(trained, summary, parts, tolerance)
    if obstacles:
        return Verification(AGREES, make_printable("; ".join(obstacles)[:LONGEST]), tolerance)
    with _blame_files((Diverged,)):
        train_again(run, config, parts, test=tested)
    return Verification(REPRODUCED)


def _check_files(run: RunFolder) -> tuple[dict[str, Any], Config]:
    """Check the files of a run against each other; return its summary and its config."""
    plain, summary = run.read_config(), run.read_summary()
    config = load_config(run)
    if is_tested(run, summary):
        check_figures(run, plain, summary)
    if (run.path / "predictions.npz").is_file():
        read_predictions(run.path)  # if it is damaged, `check_figures` makes do with the confusion matrix
    for file in sorted(run.path.glob("evaluations/*/metrics.json")):
        MeasuredFigures(file.parent).check_measured()
    epochs, most = summary.get("epochs"), config.trainer.epochs
    if epochs != most and (config.trainer.patience is None or not isinstance(epochs, int) or epochs > most):
        raise Contradiction(run.path / "summary.json", "epochs", epochs, "config.yaml", most)
    if not checkpoint.locate(run.checkpoints, checkpoint.BEST).is_file():
        raise _Ended(UNVERIFIABLE, f"{BEST_WEIGHTS} is missing")
    _check_record(run, plain, summary)
    return summary, config


def _check_record(run: RunFolder, plain: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Check that the weights were trained with this config, on these data, up to the best epoch."""
    _, record = checkpoint.load(run.checkpoints, checkpoint.BEST)
    own = flatten(compute_fingerprint(plain))
    trained_with = flatten({"config": record.get("config")})
    for key, value in own.items():
        # Another version of cnnbench may have had other keys.
        if (found := trained_with.get(f"config.{key}", value)) != value:
            raise Contradiction(run.path / "config.yaml", key, value, BEST_WEIGHTS, found)
    if record.get("epoch") != summary.get("best_epoch"):
        raise Contradiction(
            run.path / "summary.json", "best_epoch", summary.get("best_epoch"), BEST_WEIGHTS, record.get("epoch")
        )
    hashes = record.get("split")
    for name, split in read_data(run.path).items():
        found = hashes.get(name) if isinstance(hashes, dict) else None
        if found not in (None, split.files_sha256):
            figure = f"files_sha256 of the {name} split"
            raise Contradiction(run.path / "data.json", figure, split.files_sha256, BEST_WEIGHTS, found)


def _find_obstacles(run: RunFolder, summary: Mapping[str, Any], config: Config) -> tuple[torch.device, list[str]]:
    """The device to compute on, and why training there cannot be expected to give the same bits."""
    name = str(summary.get("device", "cpu"))[:20]
    try:
        device = resolve_device(name)
    except (ValueError, RuntimeError):
        return torch.device("cpu"), [f"trained on {name}, here cpu"]
    if threads := run.read_threads():
        use_threads(threads)
    environment = run.read_environment()
    unknown = [f"env.json lacks {key}" for key in NEEDED if key not in environment]
    if device.type == "cuda" and not config.trainer.deterministic:
        unknown.append("trainer.deterministic=false")
    missing = find_missing_weights(config)
    obstacles = [*unknown, *([missing] if missing else []), *describe_code_changes(config)]
    return device, obstacles + describe_differences(environment, device, training=True)


def _prepare_config(
    config: Config, device: torch.device, root: str | None, data_path: str | None, *, is_trained: bool
) -> None:
    """Set in the config of a run where to compute and where the data are."""
    config.logger = LoggerConfig()  # nothing is sent to trackers
    config.trainer.device = str(device)
    if not is_trained:
        # What only training needs would be checked, and might not be available here.
        config.trainer.devices, config.trainer.compile, config.trainer.graph = 1, False, False
        config.sweep.together = False
        config.model.weights = None
    if root is not None:
        config.data.root = os.path.expanduser(root)
    if data_path is not None and "path" in config.data.options:
        config.data.options["path"] = os.path.expanduser(data_path)


def _check_parts(run: RunFolder, summary: Mapping[str, Any], parts: Parts) -> None:
    """Check the figures that follow from the network and from the data."""
    sizes, data_key = parts.complexity, "train_set_sha256"
    figures = {
        "parameters": sizes.parameters,
        "macs": sizes.macs,
        "flops": sizes.flops,
        "receptive_field": max(sizes.receptive_field),
        "depth": sizes.depth,
        "dense_share": round(sizes.dense_share, 6),
        "activation_bytes": sizes.activation_bytes,
        data_key: parts.dataset.pool,
    }
    for key, found in figures.items():
        if summary.get(key, found) != found:
            source = "the data" if key == data_key else "the network"
            raise Contradiction(run.path / "summary.json", key, summary[key], source, found)

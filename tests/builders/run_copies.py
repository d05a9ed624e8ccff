"""Run folders for tests of the report: one real, short run, copied with other settings, figures and names."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.cli import compose
from cnnbench.experiment.run import run_job
from cnnbench.metrics import compute_accuracy_interval, compute_scores, score_classes, score_probabilities
from cnnbench.metrics.ranking import score_ranking
from cnnbench.report.study import Study
from cnnbench.report.writing import write_report
from cnnbench.runs.contents import read_confusion, read_predictions, write_evaluation
from cnnbench.runs.folder import FINISHED, RunFolder, create_folder
from cnnbench.storage.atomic import write_text
from cnnbench.storage.csv_tables import format_csv_row, read_csv, write_csv
from cnnbench.storage.plain_data import format_sealed_yaml, write_json


def trained_pair(folder: Path) -> Path:
    """Two real runs, mlp and lenet5, on digits, as a sweep leaves them."""
    for number, model in enumerate(("mlp", "lenet5")):
        overrides = [f"model={model}", "trainer.epochs=2", "name=pair", "data.train_limit=400"]
        (job,) = compose.compose_request(overrides).jobs
        path = create_folder(folder / str(number))
        run_job(job.config, path, overrides)
    return folder


def study_pages(folder: Path) -> tuple[dict[str, Path], dict[str, Study]]:
    """The pages of sweeps by name, and their studies: a pair of runs, 48 with a failed one, hostile names, one run."""
    pair = trained_pair(folder / "pair")
    sweeps = {
        "pair": pair,
        "grid": grid(pair / "1", folder / "grid"),
        "hostile": hostile(pair / "1", folder / "hostile"),
        "single": copied(pair / "1", folder / "single/0").path.parent,
    }
    studies = {name: write_report([path], path) for name, path in sweeps.items()}
    return {name: path / "report.html" for name, path in sweeps.items()}, studies


def copied(
    source: Path,
    target: Path,
    *,
    change: Callable[[dict[str, Any]], None] = lambda config: None,
    summary: dict[str, Any] | None = None,
    state: str = FINISHED,
    message: str = "",
    overrides: Sequence[str] = (),
    environment: dict[str, Any] | None = None,
) -> RunFolder:
    """A copy of a run, its config changed, its summary overwritten where given; not finished, it has no summary."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.png", "checkpoints"))
    run = RunFolder(target)
    config = run.read_config()
    change(config)
    (target / "config.yaml").write_bytes(format_sealed_yaml(config))
    (target / "overrides.yaml").write_bytes(format_sealed_yaml(list(overrides)))
    if environment is not None:
        write_json(target / "env.json", environment)
    status = json.loads((target / "status.json").read_text())
    write_json(target / "status.json", status | {"state": state, "message": message})
    if state == FINISHED:
        run.write_summary(run.read_summary() | {"seed": config["seed"]} | (summary or {}))
    else:
        (target / "summary.json").unlink()
    return run


def grid(source: Path, folder: Path) -> Path:
    """48 runs: four widths by two depths by six seeds, one of them failed."""
    rng = np.random.default_rng(0)
    for number in range(48):
        width, depth, seed = (0.5, 1.0, 2.0, 4.0)[number // 12], 1 + number // 6 % 2, number % 6
        accuracy = float(np.clip(0.9 + 0.02 * np.log2(width) - 0.03 * depth + rng.normal(0, 0.004), 0, 1))
        figures = {
            "parameters": int(11_000 * width**2 * depth),
            "macs": int(92_000 * width**2 * depth),
        }

        def change(config: dict[str, Any], width: float = width, depth: int = depth, seed: int = seed) -> None:
            config["model"] |= {"width": width, "depth": depth}
            config["seed"] = seed

        failed = number == 17
        run = copied(
            source, folder / str(number), change=change, summary=figures, state="failed" if failed else FINISHED,
            message="Diverged: the loss is nan at step 73" if failed else "",
            overrides=["model=lenet5", f"model.width={width:g}", f"model.depth={depth}", f"seed={seed}"],
        )  # fmt: skip
        if not failed:
            measured_anew(run, accuracy, rng)
    return folder


def measured_anew(run: RunFolder, accuracy: float, rng: np.random.Generator) -> None:
    """Give a run another accuracy, and all that goes with it; of its own mistakes it keeps as many as it can."""
    classes, _ = read_confusion(run.path)
    arrays = read_predictions(run.path)
    labels, predictions = arrays["labels"], arrays["predictions"]
    order = np.argsort((predictions == labels) + rng.random(len(labels)) / 2)
    wrong = np.isin(np.arange(len(labels)), order[: round((1 - accuracy) * len(labels))])
    other = np.where(predictions == labels, (labels + 1) % len(classes), predictions)
    predictions = np.where(wrong, other, labels)
    confusion = np.bincount(labels * len(classes) + predictions, minlength=len(classes) ** 2)
    confusion = confusion.reshape(len(classes), len(classes))
    even = np.full(arrays["probabilities"].shape, 1 / len(classes), dtype=np.float32)
    write_evaluation(
        run.path, class_names=classes, confusion=confusion, per_class=score_classes(confusion, classes), labels=labels,
        predictions=predictions, probabilities=even,
    )  # fmt: skip
    scores = compute_scores(confusion) | compute_accuracy_interval(confusion)
    arrays = read_predictions(run.path)
    scores |= score_probabilities(arrays) | score_ranking(arrays, len(classes))
    measured = {f"test/{name}": value for name, value in scores.items()}
    run.write_summary(run.read_summary() | measured | {"test/loss": float(np.log(len(classes)))})


NAMES = [
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=2>',
    "=cmd|' /C calc'!A0",
    "$x_1$ \\frac{1}{2} $$",
    "שלום \u202eevil\u202c",
    "مرحبا بالعالم",
    "long " * 60,
    "👩‍🔬🧪 &amp; {{ 7*7 }} {% raw %}",
    "</style></title></svg><script>window.pwned=3</script>",
    "line\nbreak\x1b[31m\x07",
]


def hostile(source: Path, folder: Path) -> Path:
    """Two groups of two runs whose classes, settings, messages, names and environment are all meant to break a page."""
    for number in range(5):

        def change(config: dict[str, Any], number: int = number) -> None:
            config["seed"] = number % 2
            config["name"] = NAMES[0]
            config["tags"] = NAMES[:4]
            config["model"]["note"] = NAMES[number // 2]
            config["model"][NAMES[1]] = NAMES[8]

        name = NAMES[1].replace("/", "|") if number == 0 else f"{number} $x$ <b>"
        run = copied(
            source, folder / name, change=change, overrides=NAMES,
            state="failed" if number == 4 else FINISHED, message=NAMES[8] + NAMES[9] if number == 4 else "",
            environment={"cnnbench": NAMES[0], NAMES[1]: NAMES[8], "command": ["cnnbench", "train", NAMES[8]]},
        )  # fmt: skip
        rename_classes(run, NAMES)
    return folder


def rename_classes(run: RunFolder, names: Sequence[str]) -> None:
    """Give the classes of a run other names."""
    write_csv(
        run.path / "per_class.csv",
        [row | {"class": name} for row, name in zip(read_csv(run.path / "per_class.csv"), names, strict=True)],
    )
    _, counts = read_confusion(run.path)
    rows = [["true", *names], *([name, *row] for name, row in zip(names, counts.tolist(), strict=True))]
    write_text(run.path / "confusion_matrix.csv", "".join(map(format_csv_row, rows)))

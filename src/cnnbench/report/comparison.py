"""The table at the end of a sweep: every group of runs that differ only in their seed, with spread and paired tests."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench import results
from cnnbench.results import FINISHED, RunFolder, find_runs
from cnnbench.text import for_markdown

ENOUGH_SEEDS = 6
COLUMNS = ("model", "data", "seed", "parameters", "macs", "receptive_field", "depth", "epochs", "best_epoch")


@dataclass
class Paired:
    """The difference of a group's accuracies from the baseline's, paired by seed.

    Attributes:
        n: seeds that both groups have.
        mean, low, high: of the differences, and the 95 % interval of their mean (Student's t).
        p: two-sided paired t-test; None where n is below 2 or all differences are equal.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None


@dataclass
class Group:
    """Runs that differ only in their seed.

    Attributes:
        label: what sets the group apart, such as `model=mlp`.
        accuracy, f1_macro, seconds: by seed.
        reference: published accuracy and F1, where the experiment gives them.
    """

    label: str
    parameters: int
    macs: int
    receptive_field: int
    test_labels: str
    accuracy: dict[int, float] = field(default_factory=dict)
    f1_macro: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    difference: Paired | None = None


@dataclass
class Comparison:
    """Groups of a sweep, its runs one by one, and what a reader should know of them."""

    groups: list[Group]
    runs: list[dict[str, Any]]
    notes: list[str]


def compare(folder: Path) -> Comparison:
    """Read a sweep folder and compare its groups of runs with the baseline."""
    sweep = results.read_yaml(folder / "sweep.yaml")
    axes = [axis for axis in sweep["axes"] if axis != "seed"]
    groups: dict[str, Group] = {}
    rows = []
    for run in find_runs([folder]):
        overrides = dict(text.lstrip("+").split("=", 1) for text in results.read_yaml(run.path / "overrides.yaml"))
        label = " ".join(f"{axis}={overrides[axis]}" for axis in axes if axis in overrides)
        state = run.status().get("state", "unknown")
        finished = state == FINISHED
        summary = run.summary() if finished else {}
        label = label or f"model={run.config()['model']['name']}"
        rows.append(_row(run, label, state, summary))
        if "test/accuracy" in summary:
            cost = summary["parameters"], summary["macs"], summary["receptive_field"]
            group = groups.setdefault(label, Group(label, *cost, summary["test_labels_sha256"]))
            group.reference = dict(sweep["reference"].get(label, {}))
            seed = summary["seed"]
            group.accuracy[seed] = summary["test/accuracy"]
            group.f1_macro[seed] = summary["test/f1_macro"]
            group.seconds[seed] = summary["train_seconds"]
    ordered = list(groups.values())
    baseline = groups.get(sweep["baseline"] or "", ordered[0] if ordered else None)
    for group in ordered:
        if baseline and group is not baseline and group.test_labels == baseline.test_labels:
            group.difference = paired(group.accuracy, baseline.accuracy)
    return Comparison(ordered, rows, _notes(ordered, baseline, rows))


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Paired | None:
    """Compare two sets of figures by seed; None where no seed is in both.

    The interval is that of Student's t for the mean difference, the p-value that of the two-sided paired t-test.
    """
    from scipy import stats

    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    differences = [values[seed] - baseline[seed] for seed in seeds]
    n, mean = len(seeds), statistics.fmean(differences)
    if n < 2:
        return Paired(n, mean, None, None, None)
    error = statistics.stdev(differences) / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else None
    return Paired(n, mean, mean - half, mean + half, p)


def write_comparison(compared: Comparison, folder: Path) -> None:
    """Write `results.csv` (a row a run), `comparison.csv` (a row a group) and `comparison.md` (the table)."""
    results.write_csv(folder / "results.csv", compared.runs)
    results.write_csv(folder / "comparison.csv", [_group_row(group) for group in compared.groups])
    header, rows = cells(compared)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    table = "\n".join("| " + " | ".join(for_markdown(cell) for cell in line) + " |" for line in lines)
    notes = "\n".join(f"- {for_markdown(note)}" for note in compared.notes)
    results.write_text(folder / "comparison.md", f"# Comparison\n\n{table}\n\n{notes}\n")


def cells(compared: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table, as text."""
    referenced = any(group.reference for group in compared.groups)
    header = [
        "group",
        "parameters",
        "MACs",
        "field",
        "n",
        "accuracy %",
        "F1 macro",
        "difference, points [95 %]",
        "p",
        "seconds",
    ]
    rows = []
    for group in compared.groups:
        row = [
            group.label,
            f"{group.parameters:,}",
            f"{group.macs:,}",
            str(group.receptive_field),
            str(len(group.accuracy)),
            _spread(list(group.accuracy.values()), 100, 2),
            _spread(list(group.f1_macro.values()), 1, 4),
            _difference(group.difference),
            _p(group.difference),
            f"{statistics.fmean(group.seconds.values()):.1f}",
        ]
        if referenced:
            row += [_known(group.reference, "accuracy", 100, 2), _known(group.reference, "f1_macro", 1, 4)]
        rows.append(row)
    return header + (["course's accuracy %", "course's F1"] if referenced else []), rows


def _notes(groups: Sequence[Group], baseline: Group | None, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if baseline and len(groups) > 1:
        notes.append(
            f"Differences are in accuracy from {baseline.label}, paired by seed; interval and p from Student's t. "
            "± is the standard deviation over seeds; field is the receptive field in pixels; seconds are the mean time "
            "in training."
        )
        if any(group.test_labels != baseline.test_labels for group in groups):
            notes.append("Groups tested on other images than the baseline are not compared with it.")
        if sum(group.difference is not None for group in groups) > 1:
            notes.append("The p-values are not corrected for the number of comparisons.")
    smallest = min((len(group.accuracy) for group in groups), default=0)
    if 0 < smallest < ENOUGH_SEEDS:
        seeds = "seed" if smallest == 1 else "seeds"
        notes.append(f"n = {smallest} {seeds} is few: use {ENOUGH_SEEDS} or more before you call one better.")
    silent = [str(row["run"]) for row in rows if row["state"] == FINISHED and "test/accuracy" not in row]
    if silent:
        notes.append(f"Without classes there is no accuracy to compare: {', '.join(silent)} are only in results.csv.")
    lost = [str(row["run"]) for row in rows if row["state"] != FINISHED]
    if lost:
        notes.append(f"Not finished, and not in the table: {', '.join(lost)}.")
    return notes


def _row(run: RunFolder, label: str, state: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    measured = {key: value for key, value in summary.items() if key.startswith("test/") or key == "train_seconds"}
    known = {key: summary.get(key) for key in COLUMNS} if summary else {}
    return {"run": run.path.name, "group": label, "state": state, **known, **measured}


def _group_row(group: Group) -> dict[str, Any]:
    difference = group.difference
    row: dict[str, Any] = {
        "group": group.label,
        "parameters": group.parameters,
        "macs": group.macs,
        "receptive_field": group.receptive_field,
        "n": len(group.accuracy),
        "seeds": " ".join(map(str, group.accuracy)),
    }
    for name, values in (
        ("accuracy", group.accuracy),
        ("f1_macro", group.f1_macro),
        ("seconds", group.seconds),
    ):
        row[f"{name}_mean"] = statistics.fmean(values.values())
        row[f"{name}_std"] = statistics.stdev(values.values()) if len(values) > 1 else None
    for name in ("mean", "low", "high", "p", "n"):
        row[f"difference_{name}"] = getattr(difference, name) if difference else None
    for name in ("accuracy", "f1_macro"):
        row[f"reference_{name}"] = group.reference.get(name)
    return row


def _spread(values: Sequence[float], factor: float, digits: int) -> str:
    mean = statistics.fmean(values) * factor
    spread = f" ± {statistics.stdev(values) * factor:.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def _difference(difference: Paired | None) -> str:
    if difference is None:
        return ""
    interval = (
        ""
        if difference.low is None or difference.high is None
        else (f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]")
    )
    return f"{100 * difference.mean:+.2f}{interval}"


def _p(difference: Paired | None) -> str:
    if difference is None or difference.p is None:
        return ""
    return "< 0.0001" if difference.p < 0.0001 else f"{difference.p:.4f}"


def _known(reference: Mapping[str, float], key: str, factor: float, digits: int) -> str:
    return f"{reference[key] * factor:.{digits}f}" if key in reference else ""

"""Which of a study's figures are drawn, and as what: from groups and runs to the numbers that charts take."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnbench.report.charts import TRAINING, VALIDATION, Curve, Difference, curve_chart, difference_chart, heatmap
from cnnbench.report.checking import is_number
from cnnbench.report.cost_chart import Point, cost_chart, pareto_front
from cnnbench.report.groups import Group, shown, shown_key
from cnnbench.report.runs import Run
from cnnbench.report.study import Study
from cnnbench.report.svg import SERIES, Chart, as_percent, legible

WIDTH, DEPTH = "model.width", "model.depth"
MOST_DIFFERENCES, MOST_HEATMAPS, MOST_STEPS = 30, 6, 12
SPLITS = {"train": TRAINING, "val": VALIDATION}
METRICS = (("accuracy", "%", 100.0), ("loss", "", 1.0))


def short_name(group: Group, axes: Sequence[str]) -> str:
    """What a chart writes for a group: `lenet5, width 2` for `model=lenet5 model.width=2`."""
    ends = [key.rpartition(".")[2] for key in axes]
    parts = []
    for key in axes:
        value, end = shown(group.settings.get(key)), key.rpartition(".")[2]
        if end == "name":
            parts.append(value)
        else:
            parts.append(f"{end if ends.count(end) == 1 else shown_key(key)} {value}")
    return ", ".join(parts) or group.label


def measured(study: Study) -> list[Group]:
    """The groups with an accuracy."""
    return [group for group in study.groups if group.accuracy]


def ranked(study: Study) -> list[Group]:
    """The groups with an accuracy: the baseline, then the others by their mean, highest first."""
    return sorted(measured(study), key=lambda group: (group.label != study.baseline, -mean_accuracy(group)))


def mean_accuracy(group: Group) -> float:
    """The mean over the seeds, of a group that has accuracies."""
    return sum(group.accuracy.values()) / len(group.accuracy)


def points(study: Study, cost: str) -> list[Point]:
    """A point for each group that has an accuracy and this cost, `parameters` or `macs`."""
    found = []
    for group in measured(study):
        estimate, value = group.accuracy_estimate, getattr(group, cost)
        if estimate is not None and value is not None:
            seeds = list(group.accuracy.values())
            low, high = estimate.share_bounds
            name = short_name(group, study.axes)
            baseline = group.label == study.baseline
            found.append(Point(group.label, name, value, estimate.mean, low, high, seeds, baseline))
    return found


def cost_charts(study: Study) -> tuple[list[Chart], str]:
    """Accuracy against parameters and against MACs where groups differ in them, and a sentence on what that says."""
    charts, fronts, alike = [], {}, {}
    for key, name in (("parameters", "parameters"), ("macs", "MACs")):
        found = points(study, key)
        costs = {point.cost for point in found}
        if len(costs) > 1:
            charts.append(cost_chart(f"accuracy-{key}", name, found))
            front = [f"{legible(point.short, 60)} ({as_percent(point.mean)})" for point in pareto_front(found)]
            fronts[name] = "; ".join([*front[:6], *([f"{len(front) - 6} more"] if len(front) > 6 else [])])
        elif costs:
            alike[name] = f"{costs.pop():,} {name}"
    if len(fronts) == 2 and len(set(fronts.values())) == 1:
        fronts = {"parameters and by MACs": fronts["MACs"]}
    said = [f"By {name}, the Pareto front is: {front}." for name, front in fronts.items()]
    if fronts:
        said.append("The front is one of means: only the comparison of two groups says whether they differ.")
    if alike:
        whose = "The only group has" if len(measured(study)) == 1 else "All groups have"
        said.append(f"{whose} {' and '.join(alike.values())}, so there is no cost to weigh accuracy against.")
    return charts, " ".join(said)


def difference_of(study: Study) -> Chart | None:
    """The differences from the baseline, largest first."""
    by_label = {group.label: group for group in study.groups}
    against = [c for c in study.comparisons if c.b == study.baseline]
    if not against or study.baseline is None:
        return None
    kept = sorted(against, key=lambda c: -abs(c.mean))[:MOST_DIFFERENCES]
    drawn = [
        Difference(
            c.a,
            short_name(by_label[c.a], study.axes),
            c.mean,
            c.low,
            c.high,
            str(c.n_a) if c.kind == "paired" else f"{c.n_a} and {c.n_b}",
            c.verdict,
        )
        for c in sorted(kept, key=lambda c: -c.mean)
    ]
    return difference_chart("differences-chart", study.baseline, drawn, len(against))


def learning_curves(study: Study) -> tuple[list[Chart], str]:
    """Loss and accuracy by epoch for as many groups as there are colours, and a sentence on which those are."""
    groups = ranked(study) or study.groups
    drawn = groups[: len(SERIES)]
    rows = {group.label: [_rows(run) for run in group.runs] for group in drawn}
    charts = []
    for metric, unit, factor in METRICS:
        curves = [
            curve
            for number, group in enumerate(drawn)
            for split in ("val", "train")
            if (curve := _curve(rows[group.label], split, metric, number, group, short_name(group, study.axes)))
        ]
        if curves:
            unit_shown = unit or ("mean squared error" if not measured(study) else "nats")
            charts.append(curve_chart(f"curve-{metric}", metric, unit_shown, curves, factor=factor))
    note = (
        "The test images are looked at only once, after training. Training figures are taken while the weights change, "
        "on the images as augmented and with dropout: a validation accuracy above the training accuracy is no error."
    )
    without = [group for group in drawn if not _measured(rows[group.label], "val/loss")]
    if 0 < len(without) < len(rows):
        names = ", ".join(legible(short_name(group, study.axes), 60) for group in without)
        note += f" Without a validation split, and so with training curves alone: {names}."
    if len(groups) > len(SERIES):
        note += (
            f" Drawn are {len(SERIES)} of {len(groups)} groups: the baseline and those of the highest mean accuracy."
        )
    return charts, note


def _measured(runs: Sequence[Sequence[dict[str, Any]]], key: str) -> bool:
    return any(is_number(row.get(key)) for run in runs for row in run)


def _rows(run: Run) -> list[dict[str, Any]]:
    try:
        return [row for row in run.metrics() if is_number(row.get("epoch"))]
    except (ValueError, OSError):
        return []


def _curve(
    runs: Sequence[Sequence[dict[str, Any]]], split: str, metric: str, number: int, group: Group, short: str
) -> Curve | None:
    key = f"{split}/{metric}"
    values: dict[int, list[float]] = defaultdict(list)
    for rows in runs:
        for row in rows:
            if is_number(row.get(key)):
                values[int(row["epoch"])].append(float(row[key]))
    if not values:
        return None
    epochs = sorted(values)
    by_epoch = [values[epoch] for epoch in epochs]
    means = [float(np.mean(some)) for some in by_epoch]
    low, high, n = ([*map(of, by_epoch)] for of in (min, max, len))
    return Curve(number, group.label, short, SPLITS[split], epochs, means, low, high, n)


def heatmaps(study: Study) -> list[Chart]:
    """Accuracy by width and depth, a picture for each combination of the other axes; none without those two axes."""
    if not {WIDTH, DEPTH} <= set(study.axes):
        return []
    others = [key for key in study.axes if key not in (WIDTH, DEPTH)]
    panels: dict[str, list[Group]] = defaultdict(list)
    for group in measured(study):
        if all(is_number(group.settings.get(key)) for key in (WIDTH, DEPTH)):
            panels[" ".join(f"{shown_key(key)}={shown(group.settings.get(key))}" for key in others)].append(group)
    charts: list[Chart] = []
    for title, groups in panels.items():
        widths, depths = (sorted({group.settings[key] for group in groups}) for key in (WIDTH, DEPTH))
        if len(widths) * len(depths) < 2 or len(widths) > MOST_STEPS or len(depths) > MOST_STEPS:
            continue
        means = np.full((len(depths), len(widths)), np.nan)
        counts = np.zeros(means.shape, dtype=int)
        for group in groups:
            place = depths.index(group.settings[DEPTH]), widths.index(group.settings[WIDTH])
            means[place], counts[place] = mean_accuracy(group), len(group.accuracy)
        name = f"heatmap-{len(charts) + 1}"
        heading = f"Accuracy by width and depth{f', {legible(title, 80)}' if title else ''}"
        names = [*map(shown, widths)], [*map(shown, depths)]
        charts.append(heatmap(name, heading, ("width", "depth"), *names, means, counts))
    return charts[:MOST_HEATMAPS]

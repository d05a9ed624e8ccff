"""Accuracy against confidence over the seeds of groups, before and after calibration."""

import numpy as np

from cnnbench.metrics.calibration import BINS, Reliability, measure_reliability
from cnnbench.report.calibration import PARTS
from cnnbench.report.curves import Curve, draw_curves
from cnnbench.report.groups import Group, shorten_names
from cnnbench.report.runs import CALIBRATED, TEMPERATURE, Run
from cnnbench.report.study import Study
from cnnbench.report.svg import MUTED, SERIES, Chart, make_chart
from cnnbench.storage.text import format_percent

AXES = ("confidence", "accuracy")
BANDS = (
    f"Each mark: one of up to {BINS} bins of images by confidence, the probability of the predicted class. Lines: mean "
    "over the seeds; bands: from the lowest seed to the highest. Below the dotted line, a network is too confident."
)


def chart_calibration(study: Study) -> list[Chart]:
    """Chart accuracy against confidence for as many groups as there are colours."""
    drawn = (study.ranked or study.groups)[: len(SERIES)]
    short = shorten_names(study.groups, study.axes)
    gathered = (
        _gather_curve(number, group, short[group.label], part) for number, group in enumerate(drawn) for part in PARTS
    )
    curves = [curve for curve in gathered if curve]
    if not curves:
        return []
    figure, axes, tips = draw_curves(curves, PARTS, _describe)
    lowest = min(min(curve.x.min(), curve.low.min()) for curve in curves)
    axes.plot([lowest, 100], [lowest, 100], color=MUTED, linestyle=":", linewidth=1, zorder=1)
    axes.set(xlabel="confidence (%)", ylabel="accuracy (%)")
    rows = [
        (curve.label, PARTS[curve.part], _write(curve.x, place), _write(curve.mean, place), str(curve.n[place]))
        for curve in curves
        for place in range(len(curve.x))
    ]
    note = BANDS
    if len(study.measured) > len(drawn):
        note += f" Drawn are {len(drawn)} of {len(study.measured)} groups."
    header = ("group", "probabilities", "confidence (%)", "accuracy (%)", "n")
    return [make_chart(figure, "reliability", "Reliability", note, header, rows, tips)]


def _gather_curve(number: int, group: Group, short: str, part: str) -> Curve | None:
    """The bins of a group's runs, which are paired by their rank; a run may lack some, because of ties."""
    measured = (_measure(run, part) for run in group.runs)
    found = [one for one in measured if one is not None]
    if not found:
        return None
    filled = np.array([one.counts > 0 for one in found])
    used = filled.any(0)
    confidence, accuracy = (100 * np.array([getattr(one, name) for one in found])[:, used] for name in AXES)
    x = np.nanmean(confidence, 0)
    order = np.argsort(x)
    mean, low, high = (of(accuracy, 0)[order] for of in (np.nanmean, np.nanmin, np.nanmax))
    return Curve(number, group.label, short, part, x[order], mean, low, high, filled.sum(0)[used][order])


def _measure(run: Run, part: str) -> Reliability | None:
    temperature = run.summary.get(TEMPERATURE)
    if part == CALIBRATED and temperature is None:
        return None
    try:
        return measure_reliability(run.read_predictions(), temperature if part == CALIBRATED else None)
    except (ValueError, OSError):  # missing or damaged; a note says so
        return None


def _describe(curve: Curve, place: int) -> str:
    low, mean, high = (_write(values, place) for values in (curve.low, curve.mean, curve.high))
    figure = f"{mean} % correct, seeds {low} to {high}, n = {curve.n[place]}"
    return f"{curve.label}\n{PARTS[curve.part]}, confidence {_write(curve.x, place)} %: {figure}"


def _write(percentages: np.ndarray, place: int) -> str:
    return format_percent(percentages[place] / 100, sign="")

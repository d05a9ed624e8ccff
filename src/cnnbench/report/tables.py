"""A study as tables of text, as rows of CSV files, and as `report.md`."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnbench.metrics import shown_metrics
from cnnbench.report.comparing import FIXED_BEFOREHAND, PAIRED, Comparison, p_text
from cnnbench.report.glossary import explained
from cnnbench.report.groups import Group, shown, shown_key
from cnnbench.report.statistics import Estimate
from cnnbench.report.study import Study
from cnnbench.storage.text import escape_for_markdown, format_percent

INTERVAL = "[95 %]"
RUN_COLUMNS = ("run", "group", "state", "counted", "seed", "name", "tags")  # the first ones of results.csv
NAMES = ("group", "against", "network", "of", "of the other")
RULES = (
    "± is the standard deviation over seeds, [ ] the 95 % interval of the mean (Student's t). Differences are in "
    "percentage points of test accuracy; their intervals are not corrected for the number of comparisons.",
    "Groups that share two seeds or more are compared seed by seed. The exact sign-flip test decides, because it "
    "assumes nothing about the distribution of the differences, which a few seeds could not reveal; the paired t-test "
    "is shown beside it. Other groups are compared by Welch's t-test, which gives a verdict only with as many seeds in "
    "each group as pairs would need.",
    "Better and worse need p < 0.05 after Holm's correction over the comparisons above. No difference shown does not "
    "mean that there is none. With too few seeds for a verdict, the table says what they show and how many are needed. "
    f"{FIXED_BEFOREHAND}",
)
ABOUT_MCNEMAR = (
    "This is a different question from which group is better: do two trained networks, one from each group, differ on "
    "these particular test images? The exact McNemar test answers it, with Holm's correction over this table. It says "
    "nothing about how either network would do with another seed, and so nothing about the groups."
)


@dataclass(frozen=True)
class Table:
    """Text to be set as a table, words to the left and figures to the right.

    Attributes:
        header: names of the columns.
    """

    header: list[str]
    rows: list[list[str]]

    def is_left(self, column: int) -> bool:
        """Whether a column holds words."""
        return self.header[column] in (*NAMES, "effect", "verdict", "it has")

    def is_name(self, column: int) -> bool:
        """Whether a column holds names that anybody may have chosen; all others hold our own words and figures."""
        return self.header[column] in NAMES


def headline(study: Study) -> Table:
    """A row a group: what it reached, and what it costs. Columns that would be empty are left out."""
    columns: dict[str, list[str]] = {
        "group": [group.label for group in study.groups],
        "n": [str(group.n) for group in study.groups],
        **_score_columns(study),
        "loss": [average(group.loss, ".4f") if not group.accuracy else "" for group in study.groups],
        "parameters": [_whole(group.parameters) for group in study.groups],
        "MACs": [_whole(group.macs) for group in study.groups],
        "field": [_whole(group.receptive_field) for group in study.groups],
        "depth": [_whole(group.depth) for group in study.groups],
        "seconds": [average(group.seconds, ".1f") for group in study.groups],
        "images/s": [average(group.images_per_second, ",.0f") for group in study.groups],
        f"epochs to {100 * (study.target or 0):.4g} %": [_epochs(group) for group in study.groups],
        "published accuracy %": [_known(group.reference, "accuracy", 100, 2) for group in study.groups],
        "published F1": [_known(group.reference, "f1_macro", 1, 4) for group in study.groups],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells) or name == "group"}
    return Table(list(kept), [list(row) for row in zip(*kept.values(), strict=True)])


def _score_columns(study: Study) -> dict[str, list[str]]:
    columns = {}
    for metric in shown_metrics():
        figures = [group.estimate_of(metric.name) for group in study.groups]
        of = metric.factor, metric.digits
        columns[metric.heading] = [spread(one, *of) for one in figures]
        columns[f"{metric.title} {INTERVAL}"] = [interval(one, *of, share=metric.share) for one in figures]
    return columns


def comparisons(study: Study) -> Table:
    """A row a comparison of groups, with its verdict in words."""
    header = [
        "group",
        "against",
        f"difference, points {INTERVAL}",
        "effect",
        "p, sign-flip",
        "p, t",
        "p, Holm",
        "verdict",
    ]
    rows = [
        [
            comparison.a,
            comparison.b,
            difference(comparison),
            f"{comparison.effect_name} {comparison.effect:+.2f}" if comparison.effect is not None else "",
            maybe_p(comparison.p_flip),
            maybe_p(comparison.p_t) + ("" if comparison.kind == PAIRED or comparison.p_t is None else " (Welch)"),
            maybe_p(comparison.p_holm),
            comparison.words,
        ]
        for comparison in study.comparisons
    ]
    return Table(header, rows)


def networks(study: Study) -> Table:
    """A row a McNemar test."""
    header = [
        "network",
        "of",
        "against",
        "of the other",
        "images",
        "only it right",
        "only the other",
        "p",
        "p, Holm",
        "it has",
    ]
    rows = [
        [
            test.a,
            test.label_a,
            test.b,
            test.label_b,
            f"{test.images:,}",
            f"{test.only_a:,}",
            f"{test.only_b:,}",
            p_text(test.p),
            p_text(test.p_holm),
            test.verdict,
        ]
        for test in study.mcnemar
    ]
    return Table(header, rows)


def markdown(study: Study, command: str, made: str) -> str:
    """The whole of `report.md`.

    Args:
        command: the one that makes this report.
        made: when and by which versions.
    """
    counted = sum(group.n for group in study.groups)
    runs, groups = _several(len(study.runs), "run"), _several(len(study.groups), "group")
    said = f"{runs}, of which {counted} count, in {groups}."
    baseline = f" Compared with {escape_for_markdown(study.baseline)}." if study.comparisons and study.baseline else ""
    parts = ["# Comparison", said + _tested(study) + baseline, _set(headline(study))]
    if study.comparisons:
        parts += ["## Which is better", _set(comparisons(study)), *RULES]
    if study.mcnemar:
        parts += ["## Two networks on the same images", ABOUT_MCNEMAR, _set(networks(study))]
    if study.notes:
        parts += ["## Notes", "\n".join(f"- {escape_for_markdown(note)}" for note in study.notes)]
    words = explained("\n".join(parts))
    if words:
        parts += ["## Words", "\n".join(f"- **{escape_for_markdown(word)}**: {sentence}" for word, sentence in words)]
    parts += ["## How this was made", f"    {command}", made]
    return "\n\n".join(parts) + "\n"


def _tested(study: Study) -> str:
    """On which images, where all groups share them."""
    if len(study.test_sets) != 1:
        return ""
    summary = study.groups[0].runs[0].summary
    return f" Tested on {summary.get('test_images')} images of {escape_for_markdown(summary.get('data'))}."


def run_rows(study: Study) -> list[dict[str, Any]]:
    """`results.csv`: a row a run, also of those that failed, with the keys in which the groups differ."""
    rows = []
    for run in study.runs:
        own = {"run": run.name, "group": run.group, "state": run.state, "counted": run.counted, "seed": run.seed}
        own |= {"name": run.label, "tags": run.tags}
        settings = {shown_key(key): plain(run.settings.get(key)) for key in (*study.axes, *study.follows)}
        measured = {key: value for key, value in run.summary.items() if not isinstance(value, dict | list)}
        rows.append(measured | settings | own | {"message": run.message, "folder": str(run.path)})
    order = dict.fromkeys([*RUN_COLUMNS, *map(shown_key, (*study.axes, *study.follows))])
    return [order | row for row in rows]


def group_rows(study: Study) -> list[dict[str, Any]]:
    """`groups.csv`: a row a group; the differences are from the baseline."""
    against = {c.a: c for c in study.comparisons if c.b == study.baseline}
    return [_group_row(group, study, against.get(group.label)) for group in study.groups]


def _group_row(group: Group, study: Study, comparison: Comparison | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": group.label,
        **{shown_key(key): plain(group.settings.get(key)) for key in study.axes},
        "n": group.n,
        "seeds": " ".join(map(str, group.seeds)),
        "parameters": group.parameters,
        "macs": group.macs,
        "receptive_field": group.receptive_field,
        "depth": group.depth,
    }
    for metric in shown_metrics():
        name, values = metric.name, group.estimate_of(metric.name)
        low, high = bounds(values, share=metric.share)
        row |= {f"{name}_mean": values.mean if values else None, f"{name}_std": values.std if values else None}
        row |= {f"{name}_low": low, f"{name}_high": high}
    for name, figures in (
        ("loss", group.loss),
        ("seconds", group.seconds),
        ("images_per_second", group.images_per_second),
    ):
        row[f"{name}_mean"] = statistics.fmean(figures.values()) if figures else None
        row[f"{name}_std"] = statistics.stdev(figures.values()) if len(figures) > 1 else None
    if study.target is not None:
        row |= {
            "target": study.target,
            "target_metric": group.target_metric,
            "target_reached_by": group.reached,
            "epochs_to_target_median": group.median_epochs_to_target,
        }
    row["against"] = comparison.b if comparison else None
    for part in ("kind", "n_a", "n_b", "mean", "low", "high", "effect", "effect_name", "p_t", "p_flip", "p", "p_holm"):
        row[part if part[0] in "kp" else f"difference_{part}"] = getattr(comparison, part) if comparison else None
    row |= {part: getattr(comparison, part) if comparison else None for part in ("verdict", "words")}
    return row | {f"published_{name}": group.reference.get(name) for name in ("accuracy", "f1_macro")}


def plain(value: Any) -> Any:
    """A config's value as a cell: numbers and text as they are."""
    return value if value is None or isinstance(value, int | float | str) else shown(value)


def spread(values: Estimate | None, factor: float, digits: int) -> str:
    """Such as `98.79 ± 0.15`."""
    if values is None:
        return ""
    std = f" ± {values.std * factor:.{digits}f}" if values.std is not None else ""
    return f"{figure(values.mean, factor, digits)}{std}"


def figure(value: float, factor: float, digits: int) -> str:
    """A value as tables show it; 100 is a percentage, of which 100.00 means all."""
    return format_percent(value, digits, sign="") if factor == 100 else f"{value * factor:.{digits}f}"


def bounds(values: Estimate | None, *, share: bool) -> tuple[float, float] | tuple[None, None]:
    """The interval of a mean; that of a share never goes beyond what a share can be."""
    if values is None or values.low is None or values.high is None:
        return None, None
    return values.share_bounds if share else (values.low, values.high)


def interval(values: Estimate | None, factor: float, digits: int, *, share: bool = True) -> str:
    """Such as `[98.63, 98.94]`."""
    low, high = bounds(values, share=share)
    if low is None or high is None:
        return ""
    return f"[{figure(low, factor, digits)}, {figure(high, factor, digits)}]"


def average(values: Mapping[int, float], form: str) -> str:
    """The mean of figures by seed."""
    return format(statistics.fmean(values.values()), form) if values else ""


def difference(comparison: Comparison) -> str:
    """In percentage points, such as `+2.03 [+1.64, +2.42]`."""
    bounds = ""
    if comparison.low is not None and comparison.high is not None:
        bounds = f" [{100 * comparison.low:+.2f}, {100 * comparison.high:+.2f}]"
    return f"{100 * comparison.mean:+.2f}{bounds}"


def maybe_p(p: float | None) -> str:
    """A p-value, or nothing."""
    return "" if p is None else p_text(p)


def _epochs(group: Group) -> str:
    """The median epoch and how many seeds got there, such as `2 (6 of 6)`."""
    if not group.epochs_to_target:
        return ""
    median = group.median_epochs_to_target
    return f"{'never' if median is None else f'{median:g}'} ({group.reached} of {len(group.epochs_to_target)})"


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _known(reference: Mapping[str, float], key: str, factor: float, digits: int) -> str:
    return f"{reference[key] * factor:.{digits}f}" if key in reference else ""


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _set(table: Table) -> str:
    rule = ["---" if table.is_left(column) else "---:" for column in range(len(table.header))]
    rows = [[_cell(table, column, text) for column, text in enumerate(row)] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (table.header, rule, *rows))


def _cell(table: Table, column: int, text: str) -> str:
    return escape_for_markdown(text) if table.is_name(column) else text.replace("<", "&lt;")

"""The rows of `results.csv` and `groups.csv`: figures with all digits, for programs."""

import statistics
from typing import Any

from cnnbench.metrics import OF_PROBABILITIES, list_metrics
from cnnbench.report.comparing import Comparison
from cnnbench.report.groups import Group, format_setting, shorten_key
from cnnbench.report.study import Study

# Columns of groups.csv, and the attributes of a `Comparison` and of its anytime `Reading` behind them.
SIZES = ("n_a", "n_b", "mean", "low", "high", "effect", "effect_name")
TESTS = ("p_t", "p_flip", "p", "p_holm", "delta", "p_equal", "verdict", "words")
OF_COMPARISON = {"kind": "kind", **{f"difference_{name}": name for name in SIZES}, **{name: name for name in TESTS}}
OF_READING = {f"anytime_{name}": name for name in ("verdict", "decided_at", "low", "high")}
RUN_COLUMNS = ("run", "group", "state", "counted", "seed", "name", "tags")  # the first columns of results.csv


def list_runs(study: Study) -> list[dict[str, Any]]:
    """The rows of `results.csv`: one per run, also of those that failed, with the keys in which the groups differ."""
    keys = (*study.axes, *study.follows)
    order = dict.fromkeys([*RUN_COLUMNS, *map(shorten_key, keys)])
    rows = []
    for run in study.runs:
        measured = {key: value for key, value in run.summary.items() if not isinstance(value, dict | list)}
        settings = {shorten_key(key): _to_plain(run.settings.get(key)) for key in keys}
        seed = run.seeds.name if run.seeds else None  # `fold`, of the summary, is a column of its own
        values = (run.name, run.group, run.state, run.counted, seed, run.given_name, run.tags)
        own = dict(zip(RUN_COLUMNS, values, strict=True))
        # A table of figures does not repeat one that is not believed.
        message = run.contradiction.describe_without_value() if run.contradiction else run.message
        rows.append(order | measured | settings | own | {"message": message, "folder": str(run.path)})
    return rows


def list_groups(study: Study) -> list[dict[str, Any]]:
    """The rows of `groups.csv`: one per group; the differences are from the baseline."""
    against = study.against_baseline
    return [_list_group(group, study, against.get(group.label)) for group in study.groups]


def _list_group(group: Group, study: Study, comparison: Comparison | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": group.label,
        **{shorten_key(key): _to_plain(group.settings.get(key)) for key in study.axes},
        "n": group.n,
        **({"folds": group.folds or None} if study.most_folds else {}),
        "seeds": " ".join(map(str, group.seeds)),
        **group.costs,
    }
    for metric in (*list_metrics(), *OF_PROBABILITIES):
        found = group.estimate_of(metric.name)
        bounds = found.compute_bounds(share=metric.share, lowest=metric.lowest) if found else ()
        figures = (found.mean, found.std, *bounds) if found else (None,) * 4
        row |= dict(zip((f"{metric.name}_{part}" for part in ("mean", "std", "low", "high")), figures, strict=True))
    for name, key in (("loss", "test/loss"), ("seconds", "train_seconds"), ("images_per_second", "images_per_second")):
        values = group.collect_figures(key).values()
        row[f"{name}_mean"] = statistics.fmean(values) if values else None
        row[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    if study.target is not None:
        row |= {
            "target": study.target,
            "target_metric": group.target_metric,
            "target_reached_by": group.reached,
            "epochs_to_target_median": group.median_epochs_to_target,
        }
    row["against"] = comparison.b if comparison else None
    row |= {column: getattr(comparison, part) if comparison else None for column, part in OF_COMPARISON.items()}
    row |= {column: getattr(comparison and comparison.anytime, part, None) for column, part in OF_READING.items()}
    return row | {f"published_{name}": group.reference.get(name) for name in ("accuracy", "f1_macro")}


def _to_plain(value: Any) -> Any:
    """A config's value as a cell of a CSV file: numbers and text as they are."""
    return value if value is None or isinstance(value, int | float | str) else format_setting(value)

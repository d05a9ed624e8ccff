"""Groups of runs that differ only in their seed, and the shortest words that tell the groups apart."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnbench.metrics import shown_metrics
from cnnbench.report.checking import is_number
from cnnbench.report.runs import DAMAGED, Run, names_of
from cnnbench.report.statistics import Estimate, estimate

# What says where a run lies, how it is watched or how fast its images are read, but not what is trained.
IGNORED = {"seed", "name", "tags", "resume", "recipe", "preview", "model.recipe", "model.recipe_data"}
IGNORED |= {f"data.{key}" for key in ("root", "download", "cache", "workers", "memory_limit", "on_bad_image")}
IGNORED |= {f"trainer.{key}" for key in ("checkpoint_minutes", "keep", "timeout_minutes")}
IGNORED_SECTIONS = {"logger", "comparison", "sweep", "tune", "hydra"}
UNSET = "unset"


@dataclass
class Group:
    """Finished runs that differ only in their seed, one a seed.

    Attributes:
        label: what sets the group apart from the others, such as `model=lenet5 model.width=2`.
        settings: every key that differs between groups, with this group's value; None where it has none.
        scores: by metric, by seed; empty where there are no classes.
        loss, seconds, images_per_second: by seed.
        epochs_to_target: by seed, the first epoch that reached the target; None where none did. Empty without a target.
        target_metric: what had to reach it: val/accuracy, or train/accuracy where there is no validation split.
        reference: published accuracy and f1_macro, where an experiment gives them.
    """

    label: str
    settings: dict[str, Any]
    runs: list[Run]
    parameters: int | None = None
    macs: int | None = None
    receptive_field: int | None = None
    depth: int | None = None
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    loss: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    images_per_second: dict[int, float] = field(default_factory=dict)
    epochs_to_target: dict[int, int | None] = field(default_factory=dict)
    target_metric: str = ""
    reference: dict[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.runs)

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return sorted(run.seed for run in self.runs if run.seed is not None)

    @property
    def accuracy(self) -> dict[int, float]:
        """By seed; empty without classes."""
        return self.scores.get("accuracy", {})

    @property
    def accuracy_estimate(self) -> Estimate | None:
        """Mean accuracy; None without classes."""
        return self.estimate_of("accuracy")

    def estimate_of(self, metric: str) -> Estimate | None:
        """The mean of a metric; None without classes."""
        return estimated(self.scores.get(metric, {}))

    @property
    def reached(self) -> int:
        """Seeds that reached the target."""
        return sum(epoch is not None for epoch in self.epochs_to_target.values())

    @property
    def median_epochs_to_target(self) -> float | None:
        """The median over all seeds, one that never got there counting as later than all; None if half never did."""
        epochs = [float("inf") if epoch is None else epoch for epoch in self.epochs_to_target.values()]
        median = statistics.median(epochs) if epochs else float("inf")
        return median if median < float("inf") else None


def estimated(values: Mapping[int, float]) -> Estimate | None:
    """The estimate of figures by seed; None where there are none."""
    return estimate(list(values.values())) if values else None


def group_runs(
    runs: Sequence[Run], target: float | None, by: str | None = None
) -> tuple[list[Group], list[str], list[str], list[str]]:
    """Put readable runs into groups; sets their `group` and `counted`.

    Args:
        by: `name` or `tag`: runs with another one are in another group, however alike they are.

    Returns:
        The groups with a finished run, in the order of their first run; the axes: a smallest set of keys that tells all
        groups apart; the keys that differ along with them; and notes.
    """
    notes = []
    members: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        if run.state != DAMAGED:
            run.settings = flat(run.config) | (
                {} if by is None else {by: (run.label if by == "name" else run.tags) or None}
            )
            members[_identity(run.settings)].append(run)
    settings = [several[0].settings for several in members.values()]
    differing = _differing(settings)
    axes = _separating(settings, differing, by)
    groups = []
    for values, several in zip(settings, members.values(), strict=True):
        label = _label(axes, values)
        for run in several:
            run.group = label
        counted, said = _one_a_seed(several, label)
        notes += said
        if counted:
            group = Group(label, {key: values.get(key) for key in differing}, counted)
            notes += _fill(group, target)
            groups.append(group)
    return groups, axes, [key for key in differing if key not in axes], notes


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say what was trained, such as `model.width`; a null is as good as none."""
    found: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if prefix in IGNORED or value is None:
            return
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{prefix}.{key}", inner)
            return
        found[prefix] = value

    for key, value in config.items():
        if key not in IGNORED_SECTIONS:
            add(str(key), value)
    return found


def shown(value: Any) -> str:
    """A value as one would type it: `2` for 2.0, `true`, `[0.9,0.99]`."""
    if value is None:
        return UNSET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return str(value)


def shown_key(key: str) -> str:
    """`model` for `model.name`, as one would type it."""
    return key.removesuffix(".name")


def matches(group: Group, words: str) -> bool:
    """Whether a group is what words such as `model=mlp` or `model.width=2 model.depth=1` say."""
    if words == group.label:
        return True
    config = group.runs[0].settings
    pairs = [word.partition("=") for word in words.split()]
    return bool(pairs) and all(
        equals and any(shown(config.get(full)) == _typed(value) for full in (key, f"{key}.name") if full in config)
        for key, equals, value in pairs
    )


def _typed(text: str) -> str:
    try:
        return shown(float(text))
    except ValueError:
        return text


def _identity(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((key, shown(value)) for key, value in values.items()))


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for values in settings for key in values)
    order = {key: place for place, key in enumerate(keys)}
    differing = [key for key in keys if len({shown(values.get(key)) for values in settings}) > 1]
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    return sorted(differing, key=lambda key: (sections.index(key.partition(".")[0]), order[key]))


def _separating(settings: Sequence[Mapping[str, Any]], differing: Sequence[str], by: str | None) -> list[str]:
    """Keys that split the groups, `by` before parts (`model.name`) before options; one that splits none is left out."""
    classes = [0] * len(settings)
    chosen = set()
    for key in sorted(differing, key=lambda key: (key != by, not key.endswith(".name"))):
        seen: dict[tuple[int, str], int] = {}
        finer = [
            seen.setdefault((number, shown(values.get(key))), len(seen))
            for number, values in zip(classes, settings, strict=True)
        ]
        if len(seen) > len(set(classes)):
            chosen.add(key)
            classes = finer
    return [key for key in differing if key in chosen]


def _label(axes: Sequence[str], values: Mapping[str, Any]) -> str:
    named = axes or [key for key in ("model.name", "data.name") if key in values] or ["seed"]
    return " ".join(f"{shown_key(key)}={shown(values.get(key))}" for key in named)


def _one_a_seed(runs: Iterable[Run], label: str) -> tuple[list[Run], list[str]]:
    """The runs to count: of several finished ones with the same config and seed, the latest."""
    by_seed: dict[int | None, list[Run]] = defaultdict(list)
    for run in runs:
        if run.summary:
            by_seed[run.seed].append(run)
    counted, notes = [], []
    for seed, several in by_seed.items():
        chosen = max(several, key=lambda run: (run.updated, run.path))
        chosen.counted = True
        counted.append(chosen)
        if len(several) > 1:
            results = {run.summary.get("test/accuracy", run.summary.get("test/loss")) for run in several}
            alike = "all with the same result" if len(results) == 1 else "with different results"
            notes.append(
                f"{label}, seed {seed}: {len(several)} finished runs of the same config, {alike} "
                f"({names_of(several)}). They count as one, by the latest: {chosen.name}.{_apart(several)}"
            )
    return counted, notes


def _apart(runs: Sequence[Run]) -> str:
    """How runs that count as one would count apart, where they differ in name or tags."""
    for by, words in (("name", [run.label for run in runs]), ("tag", [run.tags for run in runs])):
        known = list(dict.fromkeys(words))
        if len(known) > 1:
            shown_words = ", ".join(word or "none" for word in known[:8])
            return f" Their {by}s differ ({shown_words}): --by {by} makes separate groups of them."
    return ""


def _fill(group: Group, target: float | None) -> list[str]:
    """Take the figures over from the runs' summaries."""
    notes = []
    for key in ("parameters", "macs", "receptive_field", "depth"):
        values = [run.summary.get(key) for run in group.runs]
        setattr(group, key, values[0])
        if len(set(values)) > 1:
            notes.append(
                f"{group.label}: its runs do not agree on {key} ({', '.join(map(str, dict.fromkeys(values)))})."
            )
    named = {
        **{f"test/{metric.name}": group.scores.setdefault(metric.name, {}) for metric in shown_metrics()},
        "test/loss": group.loss,
        "train_seconds": group.seconds,
        "images_per_second": group.images_per_second,
    }
    for run in group.runs:
        assert run.seed is not None
        for key, figures in named.items():
            if run.summary.get(key) is not None and is_number(run.summary[key]):
                figures[run.seed] = run.summary[key]
    if target is not None:
        notes += _find_target(group, target)
    return notes


def _find_target(group: Group, target: float) -> list[str]:
    """Look for the first epoch of each run that reached the target."""
    notes = []
    for run in (run for run in group.runs if run.has_classes):
        try:
            rows = run.metrics()
        except (ValueError, OSError) as error:
            notes.append(f"{run.name}: metrics.csv cannot be read ({error}).")
            continue
        validated = any(row.get("val/accuracy") is not None for row in rows)
        group.target_metric = "val/accuracy" if validated else "train/accuracy"
        reached = (
            row["epoch"]
            for row in rows
            if is_number(row.get(group.target_metric))
            and is_number(row.get("epoch"))
            and row[group.target_metric] >= target
        )
        assert run.seed is not None
        group.epochs_to_target[run.seed] = next(reached, None)
    return notes

"""Groups of runs that differ only in their seeds and folds, and the shortest labels that tell the groups apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from cnnbench.config.declared import select
from cnnbench.config.keys import flatten, format_value
from cnnbench.config.seeds import SeedName, Seeds, drop_seeds, sort_seeds
from cnnbench.report.runs import DAMAGED, Run
from cnnbench.report.statistics import Estimate, estimate
from cnnbench.storage.plain_data import is_number

UNSET = "unset"
COSTS = ("parameters", "macs", "receptive_field", "depth")


@dataclass
class Group:
    """Finished runs that differ only in their seeds and folds, which are named as `name_repetition` does."""

    label: str  # what sets the group apart from the others, such as `model=lenet5 model.width=2`
    settings: dict[str, Any]  # every key that differs between groups, with this group's value or None
    runs: list[Run]  # those that count, one for each seed
    # The runs that vary the seed of one source of randomness alone, by source, if `runs` vary all together. Mean,
    # spread and comparisons leave them out, because they share all other seeds.
    alone: dict[str, list[Run]] = field(default_factory=dict)
    costs: dict[str, int | None] = field(default_factory=dict)  # of its first run, by the names of `COSTS`
    epochs_to_target: dict[SeedName, int | None] = field(default_factory=dict)  # the first that reached it, by seed
    target_metric: str = ""  # what had to reach it: val/accuracy, or train/accuracy without a validation split
    reference: dict[str, float] = field(default_factory=dict)  # published accuracy and f1_macro of an experiment
    departures: str = ""  # how the runs depart from the protocol of published figures, which are then left out

    @property
    def n(self) -> int:
        """The number of runs that count."""
        return len(self.runs)

    @property
    def folds(self) -> int:
        """The number of folds of its cross-validation; 0 without one."""
        fold = self.runs[0].fold
        return fold.total if fold else 0

    @property
    def correction(self) -> float:
        """The `correction` of its means; see `statistics`."""
        return 1 / (self.folds - 1) if self.folds else 0.0

    @property
    def seeds(self) -> list[SeedName]:
        """The seeds, ascending."""
        return sort_seeds(run.seed for run in self.runs if run.seed is not None)

    def collect_figures(self, key: str) -> dict[SeedName, float]:
        """A figure of the runs' summaries, such as `test/loss`, by seed."""
        figures = {run.seed: run.summary.get(key) for run in self.runs if run.seed is not None}
        return {seed: value for seed, value in figures.items() if value is not None and is_number(value)}

    @property
    def accuracy(self) -> dict[SeedName, float]:
        """Test accuracy by seed; empty without classes."""
        return self.collect_figures("test/accuracy")

    def estimate_of(self, metric: str) -> Estimate | None:
        """The mean of a metric on the test split; None without classes."""
        values = self.collect_figures(f"test/{metric}")
        return estimate(list(values.values()), self.correction) if values else None

    @property
    def mean_accuracy(self) -> float:
        """The mean over the seeds, for a group that has accuracies."""
        return sum(self.accuracy.values()) / len(self.accuracy)

    @property
    def reached(self) -> int:
        """The number of seeds that reached the target."""
        return sum(epoch is not None for epoch in self.epochs_to_target.values())

    @property
    def median_epochs_to_target(self) -> float | None:
        """The median over all seeds; one that never reached the target counts as later than all others."""
        epochs = [float("inf") if epoch is None else epoch for epoch in self.epochs_to_target.values()]
        # Leaving out the seeds that never reached it would favour the group that fails more often.
        middle = median(epochs) if epochs else float("inf")
        return middle if middle < float("inf") else None

    def matches(self, words: str) -> bool:
        """Whether its label, or settings such as `model=mlp` or `model.width=2 model.depth=1`, describe the group."""
        if words == self.label:
            return True
        pairs = [word.partition("=") for word in words.split()]
        return bool(pairs) and all(equals and self._has_setting(key, value) for key, equals, value in pairs)

    def _has_setting(self, key: str, text: str) -> bool:
        settings = self.runs[0].settings
        with suppress(ValueError):
            text = format_setting(float(text))  # 2.0 and 2 are the same width
        return any(format_setting(settings[full]) == text for full in (key, f"{key}.name") if full in settings)


def group_runs(
    runs: Sequence[Run], target: float | None, by: str | None = None
) -> tuple[list[Group], list[str], list[str]]:
    """Put readable runs into groups; sets their `settings`, `group` and `counted`.

    Args:
        by: `name` or `tag`: runs that differ in it are in different groups.

    Returns:
        The groups with a finished run, in the order of their first run; the axes, a smallest set of keys that tells all
        groups apart; and the keys that differ along with them.
    """
    members: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        if run.state != DAMAGED:
            run.settings = select_settings(run.config)
            if by is not None:
                run.settings[by] = (run.given_name if by == "name" else run.tags) or None
            members[tuple(sorted((key, format_setting(value)) for key, value in run.settings.items()))].append(run)
    settings = [several[0].settings for several in members.values()]
    differing = _find_differing(settings)
    axes = _choose_axes(settings, differing, by)
    groups = []
    for values, several in zip(settings, members.values(), strict=True):
        keys = axes or [key for key in ("model.name", "data.name") if key in values] or ["seed"]
        label = " ".join(f"{shorten_key(key)}={format_setting(values.get(key))}" for key in keys)
        for run in several:
            run.group = label
        counted = _choose_latest(several)
        if counted:
            costs = {key: counted[0].summary.get(key) for key in COSTS}
            together, alone = separate_sources(counted)
            own = {key: values.get(key) for key in differing}
            group = Group(label, settings=own, runs=together, alone=alone, costs=costs)
            if target is not None:
                _find_target(group, target)
            groups.append(group)
    return groups, axes, [key for key in differing if key not in axes]


def select_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a result depends on, such as `model.width`, except the seeds; null counts as absent."""
    settings = flatten(drop_seeds(select(config, lambda role, _: role == "result")))
    return {key: value for key, value in settings.items() if value is not None and value != {}}


def format_setting(value: Any) -> str:
    """A value as a user would type it: `2` for 2.0, `true`, `[0.9,0.99]`."""
    return UNSET if value is None else format_value(value)


def shorten_key(key: str) -> str:
    """A key as a user would type it: `model` for `model.name`."""
    return key.removesuffix(".name")


def _find_differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for values in settings for key in values))
    differing = [key for key in keys if len({format_setting(values.get(key)) for values in settings}) > 1]
    # The keys of a section stand together, also if a later config has more of them than the first.
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    return sorted(differing, key=lambda key: sections.index(key.partition(".")[0]))


def _choose_axes(settings: Sequence[Mapping[str, Any]], differing: Sequence[str], by: str | None) -> list[str]:
    """Choose the keys that tell groups apart: `by` first, then parts (`model.name`), then options."""
    # Each key refines the classes of settings that the keys before could not tell apart. One that refines none says
    # nothing new, so that the labels stay short.
    classes = [0] * len(settings)
    chosen = set()
    for key in sorted(differing, key=lambda key: (key != by, not key.endswith(".name"))):
        numbers: dict[tuple[int, str], int] = {}
        finer = [
            numbers.setdefault((number, format_setting(values.get(key))), len(numbers))
            for number, values in zip(classes, settings, strict=True)
        ]
        if len(numbers) > len(set(classes)):
            chosen.add(key)
            classes = finer
    return [key for key in differing if key in chosen]


def _choose_latest(runs: Iterable[Run]) -> list[Run]:
    """The finished runs that count: the latest of several with the same config and seeds."""
    by_seed: dict[SeedName | None, list[Run]] = defaultdict(list)
    for run in runs:
        if run.summary:
            by_seed[run.seed].append(run)
    chosen = [max(several, key=lambda run: (run.updated, run.path)) for several in by_seed.values()]
    for run in chosen:
        run.counted = True
    return chosen


def separate_sources(runs: Sequence[Run]) -> tuple[list[Run], dict[str, list[Run]]]:
    """Separate runs of one config that vary all seeds together from those that vary one alone.

    Returns:
        The runs in which all sources of randomness have the same seed; and by source, the runs that vary its seed
        alone (the most that share their other seeds). All runs and nothing if there are not two of either kind, or
        if the runs are those of a cross-validation.
    """
    together = [run for run in runs if run.seeds and len(set(run.seeds)) == 1]
    alone = {}
    for place, source in enumerate(Seeds._fields):
        by_others: dict[tuple[int, ...], list[Run]] = defaultdict(list)
        for run in runs:
            if run.seeds:
                by_others[run.seeds[:place] + run.seeds[place + 1 :]].append(run)
        most = max(by_others.values(), key=len, default=[])
        if len(most) > 1:
            alone[source] = most
    is_folded = any(run.fold for run in runs)
    return (together, alone) if len(together) > 1 and alone and not is_folded else (list(runs), {})


def _find_target(group: Group, target: float) -> None:
    """Find the first epoch of each run that reached the target."""
    for run in group.runs:
        if not run.has_classes or run.seed is None:
            continue
        rows = run.read_epochs()
        validated = any(row.get("val/accuracy") is not None for row in rows)
        group.target_metric = "val/accuracy" if validated else "train/accuracy"
        values = ((row["epoch"], row.get(group.target_metric)) for row in rows)
        reached = (epoch for epoch, value in values if value is not None and is_number(value) and value >= target)
        group.epochs_to_target[run.seed] = next(reached, None)


def shorten_names(groups: Sequence[Group], axes: Sequence[str]) -> dict[str, str]:
    """Shorten the labels of groups for a chart: `lenet5, width 2` for `model=lenet5 model.width=2`."""
    ends = [key.rpartition(".")[2] for key in axes]

    def write(group: Group) -> str:
        parts = []
        for key, end in zip(axes, ends, strict=True):
            value = format_setting(group.settings.get(key))
            name = end if ends.count(end) == 1 else shorten_key(key)
            parts.append(value if end == "name" else f"{name} {value}")
        return ", ".join(parts) or group.label

    return {group.label: write(group) for group in groups}

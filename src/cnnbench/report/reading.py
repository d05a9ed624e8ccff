"""From run folders to a `Study`: read, grouped, compared."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cnnbench.report.comparing import PAIRS_UP_TO, choose_baseline, compare_groups
from cnnbench.report.groups import Group, format_setting, group_runs, shorten_key
from cnnbench.report.networks import compare_networks
from cnnbench.report.notes import collect_notes
from cnnbench.report.runs import Run, join_names, read_runs
from cnnbench.report.study import Note, Study
from cnnbench.report.variance import decompose_variance
from cnnbench.runs.folder import SWEEP
from cnnbench.storage.plain_data import is_number, read_yaml
from cnnbench.storage.text import join_some

GROUP_BY = ("name", "tag")  # what may separate groups besides their settings
MOST_SETS = 6  # test sets that a message names


class DifferentTestSets(ValueError):
    """Runs on different test sets, which are not compared.

    Attributes:
        runs_by_set: the runs by the hash of their test set.
    """

    def __init__(self, runs_by_set: dict[str, list[Run]]) -> None:
        self.runs_by_set = runs_by_set
        sets = [
            f"{hashed[:12]} ({runs[0].summary.get('data')}, {runs[0].summary.get('test_images')} images): "
            f"{join_names(runs)}"
            for hashed, runs in runs_by_set.items()
        ]
        super().__init__(
            "Runs on different test sets are not compared. Test sets by SHA-256: "
            f"{join_some(sets, MOST_SETS, '; ')}. Report the runs of each test set separately."
        )


def read_study(
    folders: Sequence[Path],
    *,
    baseline: str | None = None,
    target: float | None = None,
    strict: bool = True,
    by: str | None = None,
    delta: float | None = None,
) -> Study:
    """Read runs and sweeps, and compare what can be compared.

    Args:
        baseline: a group's label, or settings that only one group has, such as `model=mlp`; None takes the
            experiment's, or else the first group.
        target: an accuracy, as a share.
        strict: refuse runs on different test sets; otherwise such groups are not compared, and a note says so.
        by: `name` or `tag`: runs that differ in it are in different groups.
        delta: the difference of accuracies, as a share, up to which groups count as equal; None takes `sweep.delta` of
            the sweeps, if they agree.

    Raises:
        DifferentTestSets: with `strict`.
        ValueError: a folder without runs, a baseline that names no group or several, or a target outside 0 to 1.
    """
    if target is not None and not 0 < target <= 1:
        raise ValueError(f"--target {target}: must be an accuracy above 0 and up to 1, such as 0.98")
    if by not in (None, *GROUP_BY):
        raise ValueError(f"--by {by}: must be {' or '.join(GROUP_BY)}")
    runs = read_runs(folders)
    groups, axes, follows = group_runs(runs, target, by)
    study = Study(runs, groups=groups, axes=axes, follows=follows, target=target)
    study.variance = [share for group in study.groups for share in decompose_variance(group)]
    conflict = _find_conflict(runs)
    if conflict and strict:
        raise conflict
    for group in study.groups:
        _add_reference(group)
    chosen, is_named = choose_baseline(study.groups, baseline)
    problems: list[str] = []
    if chosen:
        study.baseline = chosen.label if len(study.groups) > 1 else None
        study.delta = _find_delta(runs) if delta is None else delta
        study.comparisons = compare_groups(study.groups, chosen, all_pairs=not is_named, delta=study.delta)
        study.mcnemar, problems = compare_networks(study.groups, study.comparisons)
    study.notes = collect_notes(study, folders)
    if chosen and not is_named and len(study.measured) > PAIRS_UP_TO:
        text = f"No baseline was named: all groups are compared with the first, {chosen.label}."
        study.notes.append(Note("comparisons", f"{text} Use --baseline to choose another."))
    study.notes += [Note("networks", problem) for problem in problems]
    study.notes += [Note("data", str(conflict))] if conflict else []
    return study


def _find_delta(runs: Sequence[Run]) -> float | None:
    """Find the `sweep.delta` that all sweeps of these runs share; None if they differ or have none."""
    found = []
    for folder in {run.path.parent for run in runs}:
        try:
            content = read_yaml(folder / SWEEP) if (folder / SWEEP).is_file() else {}
        except (ValueError, OSError):  # a note says so
            content = {}
        settings = content.get("sweep") if isinstance(content, dict) else None
        found.append(settings.get("delta") if isinstance(settings, dict) else None)
    delta = found[0] if found and all(one == found[0] for one in found) else None
    return float(delta) if isinstance(delta, int | float) and 0 < delta < 1 else None


def _find_conflict(runs: Sequence[Run]) -> DifferentTestSets | None:
    """Find runs on different test sets; a test split that depends on the seed alone is no conflict."""
    by_seed, by_group, by_hash = defaultdict(set), defaultdict(set), defaultdict(list)
    for run in (run for run in runs if run.summary):
        by_seed[run.seed].add(run.test_set)
        by_group[run.group].add(run.test_set)
        by_hash[run.test_set].append(run)
    cut_by_seed = all(len(sets) == 1 for sets in by_seed.values()) and any(len(sets) > 1 for sets in by_group.values())
    return None if len(by_hash) < 2 or cut_by_seed else DifferentTestSets(by_hash)


def _add_reference(group: Group) -> None:
    """Add published figures from the experiments' configs if the group's runs follow their protocol."""
    for run in group.runs:
        reference = run.comparison.get("reference")
        for words, figures in reference.items() if isinstance(reference, dict) else ():
            if not isinstance(figures, dict) or not group.matches(str(words)):
                continue
            if departures := _describe_departures(run, run.comparison.get("protocol")):
                group.departures = departures
                continue
            known = {key: figures.get(key) for key in ("accuracy", "f1_macro")}
            group.reference = {key: value for key, value in known.items() if value is not None and is_number(value)}


def _describe_departures(run: Run, protocol: object) -> str:
    """Describe how a run departs from a protocol, such as `trainer.epochs=5 (not 3)`; empty if it does not."""
    if not isinstance(protocol, dict) or not protocol:
        return "a protocol that comparison.protocol does not state"
    wanted = {
        f"{section}.{key}": value
        for section, values in protocol.items()
        for key, value in (values.items() if isinstance(values, dict) else ())
    }
    pairs = {key: (format_setting(value), format_setting(run.settings.get(key))) for key, value in wanted.items()}
    departures = [
        f"{shorten_key(key)}={value} (not {own})"
        for key, (value, own) in pairs.items()
        # A model that lacks an option of another model does not depart from it.
        if value != own and (key in run.settings or not key.startswith("model."))
    ]
    return join_some(departures, 4)

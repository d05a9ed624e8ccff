"""Everything a report says: runs in groups, the groups compared, and what a reader must know.

The rules, fixed before any result is seen:

- Two groups that share at least two seeds are compared seed by seed; only shared seeds count. Equal seeds mean equal
  splits and orders of the images, so that much of the noise cancels. Otherwise, if each has at least two runs, they are
  compared by Welch's t-test. Otherwise there is no test.
- Of pairs, the exact sign-flip test decides; the paired t-test stands beside it. The t-test would find more with three
  or four seeds, but only if differences are normal, which so few cannot show. The sign-flip test assumes nothing but
  that, if the groups are equal, either of a pair could have been the better one; its smallest p is 2 / 2^n, so that it
  cannot find anything with fewer than six seeds. Without pairs Welch's test decides, of as many seeds of each group: of
  fewer, it would find what holds only if accuracies are normal.
- The p-values that decide are corrected by Holm's method over all comparisons shown; those of the McNemar tests, a
  family of its own, likewise.
- "better" and "worse" need a corrected p below 0.05. With enough seeds, anything else is "no difference shown", which
  is not "equal". With fewer than could show anything, it is said what was seen and how many seeds a verdict needs.
- A McNemar test asks about two trained networks, not about two ways to train: it is made for each comparison with the
  runs of the lowest seed that both groups have, or with the first runs. Two runs of one group, asked about alone, are
  compared in this way too.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.report.checking import is_number
from cnnbench.report.comparing import Comparison, baseline_of, compare_groups
from cnnbench.report.groups import Group, group_runs, matches, shown, shown_key
from cnnbench.report.networks import McNemar, mcnemar_tests
from cnnbench.report.runs import SWEEP, Run, names_of, read_runs, unstarted
from cnnbench.runs.folder import FINISHED

__all__ = ["LOOKING_AGAIN", "Comparison", "Group", "McNemar", "Run", "Study", "read_study"]

APART = ("name", "tag")  # what groups may be told apart by besides their settings
LONGEST_MESSAGE = 1000  # characters of what a run said
MOST_SETS = 6  # test sets that a message names
LOOKING_AGAIN = (
    "Adding seeds until there is a verdict makes about 15 % of equal networks look different, not 5 %: decide how many "
    "seeds before you look (docs/reports.md)"
)


@dataclass
class Study:
    """What a report is made of.

    Attributes:
        runs: every run that was found, also failed, running and damaged ones.
        groups: those with a finished run, in the order of their first run.
        axes: the keys that tell the groups apart, such as `model.name`, `model.width`.
        follows: keys that differ along with the axes.
        baseline: the label of the group that others are compared with; None where there are no two groups.
        target: the accuracy whose first epoch is looked for.
        test_sets: counted runs by the hash of their test labels.
        comparisons: differences of groups, the baseline's first.
        mcnemar: differences of single networks.
        notes: sentences that a reader must know.
        replaced: that an earlier report has made way for this one, in a sentence; else empty.
    """

    runs: list[Run]
    groups: list[Group]
    axes: list[str]
    follows: list[str]
    baseline: str | None
    target: float | None
    test_sets: dict[str, list[str]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    mcnemar: list[McNemar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    replaced: str = ""


def read_study(
    folders: Sequence[Path],
    *,
    baseline: str | None = None,
    target: float | None = None,
    strict: bool = True,
    by: str | None = None,
) -> Study:
    """Read runs and sweeps, and compare what can be compared.

    Args:
        baseline: a group's label, or settings that only one group has, such as `model=mlp`; None takes the
            experiment's, or else the first group.
        target: an accuracy, as a share.
        strict: refuse runs on different test sets; else such groups are not compared, and a note says so.
        by: `name` or `tag`: runs with another one are in another group.

    Raises:
        ValueError: a folder without runs, a baseline that names no group or several, a target outside 0 to 1, or
            runs on different test sets.
    """
    if target is not None and not 0 < target <= 1:
        raise ValueError(f"--target {target}: accepted is an accuracy above 0 and up to 1, such as 0.98")
    if by not in (None, *APART):
        raise ValueError(f"--by {by}: accepted are {' and '.join(APART)}")
    runs = read_runs(folders)
    groups, axes, follows, notes = group_runs(runs, target, by)
    study = Study(runs, groups, axes, follows, None, target, _test_sets(groups))
    conflict = _conflict(runs)
    if conflict and strict:
        raise ValueError(conflict)
    notes += _add_references(groups)
    chosen, named = baseline_of(groups, baseline)
    study.baseline = chosen.label if chosen and len(groups) > 1 else None
    if chosen:
        study.comparisons, said = compare_groups(groups, chosen, named=named)
        study.mcnemar, more = mcnemar_tests(groups, study.comparisons)
        notes += [*said, *more]
    study.notes = [
        *_states(runs),
        *unstarted(folders, runs),
        *notes,
        *_confounded(study),
        *_other_data(groups),
        *_looked_at_again(groups),
        *([conflict] if conflict else []),
        *_without(groups),
    ]
    return study


def _looked_at_again(groups: Sequence[Group]) -> list[str]:
    """A sentence where a group has other seeds than those of one sweep, which may have been looked at before."""
    for group in groups:
        folders = {run.path.parent for run in group.runs}
        sweeps = [folder for folder in folders if (folder / SWEEP).is_file()]
        if sweeps and len(folders) > 1:
            more = "a sweep and single runs" if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
            return [f"The seeds of {group.label} come from {more}. {LOOKING_AGAIN}."]
    return []


def _test_sets(groups: Sequence[Group]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for run in group.runs:
            found[run.test_set].append(run.name)
    return dict(found)


def _conflict(runs: Sequence[Run]) -> str | None:
    """Which runs are on which test set, if not all on one; a split cut by the seed differs by seed alone."""
    by_seed, by_group, by_hash = defaultdict(set), defaultdict(set), defaultdict(list)
    for run in (run for run in runs if run.summary):
        by_seed[run.seed].add(run.test_set)
        by_group[run.group].add(run.test_set)
        by_hash[run.test_set].append(run)
    cut_by_seed = all(len(sets) == 1 for sets in by_seed.values()) and any(len(sets) > 1 for sets in by_group.values())
    if len(by_hash) < 2 or cut_by_seed:
        return None
    sets = [f"{hashed[:12]} ({_of(several[0])}): {names_of(several)}" for hashed, several in by_hash.items()]
    more = f" and {len(sets) - MOST_SETS} more" if len(sets) > MOST_SETS else ""
    return (
        f"Runs on different test sets are not compared. Test sets by SHA-256: {'; '.join(sets[:MOST_SETS])}{more}. "
        "Report the runs of each test set by themselves."
    )


def _of(run: Run) -> str:
    return f"{run.summary.get('data')}, {run.summary.get('test_images')} images"


def _add_references(groups: Sequence[Group]) -> list[str]:
    """Published figures from the experiments' configs, for the groups that they speak of and that follow the protocol.

    Returns:
        A note for each group whose runs differ from the protocol of its published figures.
    """
    notes = {}
    for group in groups:
        for run in group.runs:
            comparison = run.config.get("comparison")
            comparison = comparison if isinstance(comparison, dict) else {}
            reference = comparison.get("reference")
            for words, figures in reference.items() if isinstance(reference, dict) else ():
                if not isinstance(figures, dict) or not matches(group, str(words)):
                    continue
                other = _departures(run, comparison.get("protocol"))
                if other:
                    notes[group.label] = f"No published figures of {group.label}: they were measured with {other}."
                    continue
                known = {key: figures.get(key) for key in ("accuracy", "f1_macro")}
                group.reference = {k: value for k, value in known.items() if value is not None and is_number(value)}
    return list(notes.values())


def _departures(run: Run, protocol: object) -> str:
    """What of a protocol a run does not follow, such as `trainer.epochs=5 (not 3)`; empty where it follows it all."""
    if not isinstance(protocol, dict) or not protocol:
        return "a protocol that comparison.protocol does not tell"
    wanted = {
        f"{section}.{key}": value
        for section, values in protocol.items()
        for key, value in (values.items() if isinstance(values, dict) else ())
    }
    other = [
        f"{shown_key(key)}={shown(value)} (not {shown(run.settings.get(key))})"
        for key, value in wanted.items()
        # A model without an option of another one does not depart from it.
        if shown(run.settings.get(key)) != shown(value) and (key in run.settings or not key.startswith("model."))
    ]
    return ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")


def _states(runs: Sequence[Run]) -> list[str]:
    """A sentence for each state but finished, with the first runs in it."""
    words = {
        "running": "still running, or ended abruptly, and not counted",
        "failed": "failed, and not counted",
        "interrupted": "interrupted, and not counted (`cnnbench train resume=RUN` goes on)",
        "untested": "measured on the validation split alone, as trials of a search, and not counted",
        "pruned": "stopped early by their search, and not counted",
        "damaged": "damaged, and not counted",
    }
    by_state: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.state != FINISHED:
            by_state[run.state].append(run)
    notes = []
    for state, several in by_state.items():
        said = words.get(state, f"in the state {state!r}, and not counted")
        why = "; ".join(f"{run.name}: {run.message[:LONGEST_MESSAGE]}" for run in several[:3] if run.message)
        notes.append(f"{len(several)} of {len(runs)} runs {said}: {names_of(several)}.{f' {why}.' if why else ''}")
    return notes


def _confounded(study: Study) -> list[str]:
    """What else differs between the groups, besides the options that only one part of an axis has."""
    sections = {key.partition(".")[0] for key in study.axes if key.endswith(".name")}
    own = {
        key
        for key in study.follows
        if key.partition(".")[0] in sections and any(group.settings.get(key) is None for group in study.groups)
    }
    also = [shown_key(key) for key in study.follows if key not in own]
    if not also or len(study.groups) < 2:
        return []
    more = f" and {len(also) - 12} more" if len(also) > 12 else ""
    return [f"The groups also differ in {', '.join(also[:12])}{more}: a difference may come from any of these."]


def _other_data(groups: Sequence[Group]) -> list[str]:
    """A sentence for runs whose configs name the same data, and found others there: grown, or changed."""
    found: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        for run in group.runs:
            named = {key: value for key, value in run.settings.items() if key.startswith("data.")}
            if hashed := run.summary.get("train_set_sha256"):
                found[repr(sorted(named.items()))][str(hashed)].append(run)
    notes = []
    for sets in (sets for sets in found.values() if len(sets) > 1):
        labels = dict.fromkeys(run.group for several in sets.values() for run in several)
        several = "; ".join(f"{hashed[:12]}: {names_of(runs)}" for hashed, runs in list(sets.items())[:MOST_SETS])
        notes.append(
            f"{', '.join([*labels][:8])}: trained on different data under one name, so a difference may come from the "
            f"data. Training images by SHA-256: {several}."
        )
    return notes


def _without(groups: Sequence[Group]) -> list[str]:
    """What is not to be had of some groups."""
    unchecked: dict[str, list[Run]] = defaultdict(list)
    for run in (run for group in groups for run in group.runs):
        for said in run.unchecked:
            unchecked[said].append(run)
    notes = [f"{names_of(runs)}: {said}." for said, runs in [*unchecked.items()][:8]]
    partly = [run for group in groups if group.accuracy for run in group.runs if not run.has_classes]
    if partly:
        notes.append(f"Without an accuracy, and so not compared: {names_of(partly)}.")
    silent = [group.label for group in groups if not group.accuracy]
    if silent:
        notes.append(f"Without classes there is no accuracy to compare: {', '.join(silent[:8])}.")
    if any(len({run.test_set for run in group.runs}) > 1 for group in groups):
        notes.append("The test images were drawn by the seed: each seed has a test set of its own.")
    for key, name in (("torch", "versions of torch"), ("cnnbench", "versions of cnnbench"), ("cpu", "processors")):
        values = {str(run.environment.get(key)) for group in groups for run in group.runs if run.environment.get(key)}
        if len(values) > 1:
            notes.append(f"The runs come from {len(values)} {name} ({', '.join(sorted(values)[:4])}).")
    devices = {str(run.summary["device"]) for group in groups for run in group.runs if run.summary.get("device")}
    if len(devices) > 1:
        notes.append(f"The runs were trained on {', '.join(sorted(devices))}: their times do not compare.")
    return notes

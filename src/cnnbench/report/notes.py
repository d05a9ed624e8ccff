"""Notes that a reader needs besides the numbers: what was not counted, not checked, or not comparable."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnnbench.config.seeds import SeedName
from cnnbench.metrics import ONE_RUN
from cnnbench.report.comparing import FIX_SEEDS_FIRST, FOLDS, PAIRED, TOO_FEW
from cnnbench.report.formatting import format_interval, format_share
from cnnbench.report.groups import COSTS, shorten_key
from cnnbench.report.runs import Run, join_names
from cnnbench.report.section_tables import FOLDS_NOTE
from cnnbench.report.study import Note, Study
from cnnbench.runs.folder import FINISHED, SWEEP
from cnnbench.storage.plain_data import read_yaml
from cnnbench.storage.text import join_some

LONGEST_MESSAGE = 1000  # characters of a run's message
MOST_SETS = 6  # training sets that a note names
WEIGHTS_HASH = "model.weights_sha256"
MOST_GROUPS = 8  # groups that a note names
SHARED = ("test_images_in_training", "test_images_near_training", "test_images")
STATES = {
    "running": "{be} still running or ended abruptly",
    "failed": "failed",
    "interrupted": "{be} interrupted (`cnnbench train resume=RUN` continues)",
    "untested": "{be} measured on the validation split only, as trials of a search,",
    "pruned": "{be} stopped early by a search",
    "damaged": "{be} damaged",
}


def collect_notes(study: Study, folders: Sequence[Path]) -> list[Note]:
    """All notes on a study of these folders, those on its runs first."""
    return [
        *_note_states(study),
        *_note_missing_jobs(study, folders),
        *_note_duplicates(study),
        *_note_disagreements(study),
        *_note_departures(study),
        *_note_single_runs(study),
        *_note_seeds(study),
        *_note_folds(study),
        *_note_single_sources(study),
        *_note_other_keys(study),
        *_note_training_data(study),
        *_note_shared_images(study),
        *_note_missing_checks(study),
        *_note_missing_accuracy(study),
        *_note_environments(study),
    ]


def _note_states(study: Study) -> Iterator[Note]:
    by_state: dict[str, list[Run]] = defaultdict(list)
    for run in study.runs:
        if run.state != FINISHED:
            by_state[run.state].append(run)
    for state, runs in by_state.items():
        be = "is" if len(runs) == 1 else "are"
        words = STATES[state].format(be=be) if state in STATES else f"{be} in the state {state!r}"
        text = f"{len(runs)} of {len(study.runs)} runs {words} and {be} not counted: {join_names(runs)}."
        why = "; ".join(f"{run.name}: {run.message[:LONGEST_MESSAGE]}" for run in runs[:3] if run.message)
        yield Note("unfinished", f"{text} {why}." if why else text)


def _note_missing_jobs(study: Study, folders: Sequence[Path]) -> Iterator[Note]:
    """Note sweeps in or below the folders that have jobs without a folder, unless only some runs were named."""
    # A job that has not started has no folder, so only the sweep's own record shows it.
    started = Counter(run.path.parent for run in study.runs)
    named = [folder.resolve() for folder in folders]
    for sweep in dict.fromkeys([*named, *started]):
        if not any(sweep.is_relative_to(folder) for folder in named):
            continue
        try:
            content = read_yaml(sweep / SWEEP) if (sweep / SWEEP).is_file() else {}
        except (ValueError, OSError) as error:
            yield Note("unstarted", f"{error}: how many jobs the sweep has is not known.")
            continue
        jobs, settings = (content.get(key) if isinstance(content, dict) else None for key in ("jobs", "sweep"))
        adds_seeds = isinstance(settings, dict) and settings.get("until") is not None
        if adds_seeds:
            yield Note(
                "seeds",
                f"{sweep.name} adds seeds until it is decided: read its anytime verdict. The other verdict holds only "
                "for a number of seeds that was fixed beforehand.",
            )
        missing = len(jobs) - started[sweep] if isinstance(jobs, list) else 0
        if missing > 0 and adds_seeds:
            yield Note("unstarted", f"{sweep.name} is not decided: it may need up to {missing} more runs.")
        elif missing > 0 and isinstance(jobs, list):
            have = "has" if missing == 1 else "have"
            yield Note("unstarted", f"{missing} of the {len(jobs)} jobs of {sweep.name} {have} not started.")


def _note_duplicates(study: Study) -> Iterator[Note]:
    """Note finished runs with the same config and seeds, of which the latest counts."""
    by_seed: dict[tuple[str, SeedName | None], list[Run]] = defaultdict(list)
    for run in study.runs:
        if run.summary:
            by_seed[run.group, run.seed].append(run)
    for (label, seed), runs in by_seed.items():
        if len(runs) < 2:
            continue
        results = {run.summary.get("test/accuracy", run.summary.get("test/loss")) for run in runs}
        alike = "all with the same result" if len(results) == 1 else "with different results"
        latest = next(run.name for run in runs if run.counted)
        yield Note(
            "runs",
            f"{label}, seed {seed}: {len(runs)} finished runs of the same config, {alike} ({join_names(runs)}). "
            f"They count as one, the latest: {latest}.{_suggest_grouping(runs)}",
        )


def _suggest_grouping(runs: Sequence[Run]) -> str:
    for by, words in (("name", [run.given_name for run in runs]), ("tag", [run.tags for run in runs])):
        distinct = list(dict.fromkeys(words))
        if len(distinct) > 1:
            named = ", ".join(word or "none" for word in distinct[:8])
            return f" Their {by}s differ ({named}): --by {by} makes separate groups of them."
    return ""


def _note_disagreements(study: Study) -> Iterator[Note]:
    for group in study.groups:
        for key in COSTS:
            values = list(dict.fromkeys(str(run.summary.get(key)) for run in group.runs))
            if len(values) > 1:
                yield Note("groups", f"{group.label}: its runs do not agree on {key} ({', '.join(values)}).")


def _note_departures(study: Study) -> Iterator[Note]:
    for group in study.groups:
        if group.departures:
            yield Note("groups", f"No published figures of {group.label}: they were measured with {group.departures}.")


def _note_single_runs(study: Study) -> Iterator[Note]:
    """Give groups of one run, which have no spread over seeds, the interval that their test images allow."""
    single = [
        f"{group.label} {format_share(summary['test/accuracy'])} "
        f"{format_interval(summary['test/accuracy_low'], summary['test/accuracy_high'])}"
        for group in study.measured
        if group.n == 1 and "test/accuracy_low" in (summary := group.runs[0].summary)
    ]
    if single:
        yield Note("groups", f"One run only: {join_some(single, MOST_GROUPS, '; ')}. [ ] is {ONE_RUN}.")


def _note_seeds(study: Study) -> Iterator[Note]:
    """Note seeds that are too few, may have been added after looking at results, or are not all compared."""
    mixed = ""
    for group in study.groups:
        folders = {run.path.parent for run in group.runs}
        sweeps = sum((folder / SWEEP).is_file() for folder in folders)
        if sweeps and len(folders) > 1:
            mixed = "a sweep and single runs" if sweeps == 1 else f"{sweeps} sweeps"
            yield Note("comparisons", f"The seeds of {group.label} come from {mixed}.")
            break
    if mixed or any(comparison.verdict == TOO_FEW for comparison in study.comparisons):
        yield Note("seeds", FIX_SEEDS_FIRST)
    counts = {group.label: len(group.accuracy) for group in study.groups}
    for one in study.comparisons:
        if one.kind == PAIRED and one.n_a < max(counts[one.a], counts[one.b]):
            yield Note(
                "comparisons",
                f"{one.a} and {one.b} share {one.n_a} of their {counts[one.a]} and {counts[one.b]} seeds: only those "
                "are compared.",
            )


def _note_folds(study: Study) -> Iterator[Note]:
    if study.most_folds:
        yield Note("folds", FOLDS_NOTE)
    for one in study.comparisons:
        counts = [group.n for group in study.groups if group.label in (one.a, one.b)]
        if one.kind == FOLDS and one.n_a < max(counts):
            yield Note("comparisons", f"{one.a} and {one.b} are compared on the {one.size} that both have finished.")


def _note_single_sources(study: Study) -> Iterator[Note]:
    for group in study.groups:
        if group.alone:
            left_out = sum(run.group == group.label and run.counted for run in study.runs) - group.n
            yield Note(
                "groups",
                f"{group.label}: mean, spread and comparisons use the {group.n} runs that vary all seeds together. "
                f"{left_out} other runs keep some seeds fixed, and count only for the shares of the variance.",
            )


def _note_other_keys(study: Study) -> Iterator[Note]:
    """Note what else differs between the groups, apart from options that only one choice of an axis has."""
    sections = {key.partition(".")[0] for key in study.axes if key.endswith(".name")}
    own_options = {
        key
        for key in study.follows
        if key.partition(".")[0] in sections and any(group.settings.get(key) is None for group in study.groups)
    }
    # The hash of weights follows from their path, which is an axis if it tells the groups apart.
    implied = own_options | ({WEIGHTS_HASH} if "model.weights" in study.axes else set())
    also = [shorten_key(key) for key in study.follows if key not in implied]
    if also and len(study.groups) > 1:
        text = f"The groups also differ in {join_some(also, 12)}: a difference may come from any of these."
        yield Note("groups", text)


def _note_training_data(study: Study) -> Iterator[Note]:
    """Note runs with the same data keys that found different data."""
    by_data: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in study.counted_runs:
        # A dataset of the same name may have changed between two runs, or differ between machines.
        named = {key: value for key, value in run.settings.items() if key.startswith("data.")}
        if hashed := run.summary.get("train_set_sha256"):
            by_data[repr(sorted(named.items()))][str(hashed)].append(run)
    for sets in (sets for sets in by_data.values() if len(sets) > 1):
        labels = list(dict.fromkeys(run.group for runs in sets.values() for run in runs))
        hashes = "; ".join(f"{hashed[:12]}: {join_names(runs)}" for hashed, runs in list(sets.items())[:MOST_SETS])
        yield Note(
            "data",
            f"{', '.join(labels[:8])}: trained on different data under one name, so a difference may come from the "
            f"data. Training images by SHA-256: {hashes}.",
        )


def _note_shared_images(study: Study) -> Iterator[Note]:
    """Note runs that were tested on images which they had learned from, as they recorded it themselves."""
    by_count: dict[tuple[int, int, int], list[Run]] = defaultdict(list)
    for run in study.counted_runs:
        same, near, total = (run.summary.get(key) or 0 for key in SHARED)
        if same or near:
            by_count[same, near, total].append(run)
    for (same, near, total), runs in list(by_count.items())[:MOST_SETS]:
        counts = [f"{same:,} are also among the images they learned from"] if same else []
        counts += [f"{near:,} are nearly the same as one of those"] if near else []
        yield Note(
            "data",
            f"{join_names(runs)}: of the {total:,} test images, {' and '.join(counts)}, so the accuracy is too high. "
            "`cnnbench check` lists them, and `data.exclude` leaves them out.",
        )


def _note_missing_checks(study: Study) -> Iterator[Note]:
    by_reason: dict[str, list[Run]] = defaultdict(list)
    for run in study.counted_runs:
        for reason in run.unchecked:
            by_reason[reason].append(run)
    for reason, runs in list(by_reason.items())[:8]:
        yield Note("runs", f"{join_names(runs)}: {reason}.")


def _note_missing_accuracy(study: Study) -> Iterator[Note]:
    without = [run for group in study.measured for run in group.runs if not run.has_classes]
    if without:
        yield Note("runs", f"Without an accuracy, and so not compared: {join_names(without)}.")
    labels = [group.label for group in study.groups if not group.accuracy]
    if labels:
        yield Note("groups", f"Without classes there is no accuracy to compare: {', '.join(labels[:8])}.")
    if any(len({run.test_set for run in group.runs}) > 1 for group in study.groups if not group.folds):
        yield Note("data", "The test images were drawn by the seed: each seed has its own test set.")


def _note_environments(study: Study) -> Iterator[Note]:
    runs = study.counted_runs
    for key, name in (
        ("torch", "versions of torch"),
        ("cnnbench", "versions of cnnbench"),
        ("cpu", "processors"),
        ("cpu_capability", "sets of processor features"),
        ("torch_threads", "numbers of threads"),
    ):
        values = {str(run.environment[key]) for run in runs if run.environment.get(key)}
        if len(values) > 1:
            yield Note("runs", f"The runs come from {len(values)} {name} ({', '.join(sorted(values)[:4])}).")
    devices = {str(run.summary["device"]) for run in runs if run.summary.get("device")}
    if len(devices) > 1:
        yield Note("runs", f"The runs were trained on {', '.join(sorted(devices))}: their times do not compare.")

"""`cnnbench claim`: the course's statements, run as experiments and answered with verdicts."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf

from cnnbench.claims.measuring import Measurer, Plan, judge
from cnnbench.claims.records import (
    ANSWERS,
    TABLE,
    VERDICT,
    Answer,
    ContrastRecord,
    VerdictRecord,
    find_verdicts,
    format_table,
    make_record,
    read_prediction,
    read_verdict,
    record_prediction,
    write_verdict,
)
from cnnbench.claims.statement import SCALES, Claim, Scale, choose_claims, list_claims
from cnnbench.cli import compose
from cnnbench.cli.choices import find_config_dir, list_groups
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import CLAIM_ACTIONS, ClaimOptions
from cnnbench.cli.run_folders import OUTPUTS
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.config.schema import Config, to_dict
from cnnbench.registry import describe_unknown
from cnnbench.storage.atomic import write_text
from cnnbench.storage.text import format_output_path, make_printable
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.jobs import hash_config, is_sweep

log = logging.getLogger("cnnbench")
CLAIMS = OUTPUTS / "claims"
Word = TypeVar("Word", bound=str)
RUNS = "runs"  # the sweep that the claims of a dataset and scale share


@dataclass(frozen=True)
class _Place:
    """Where the claims of a dataset and a scale are kept."""

    data: str
    scale: Scale

    @property
    def folder(self) -> Path:
        return CLAIMS / f"{self.data}-{self.scale}"

    @property
    def runs(self) -> Path:
        return self.folder / RUNS


def claim(options: ClaimOptions) -> None:
    """List claims, run them, or report verdicts."""
    if options.action not in CLAIM_ACTIONS:
        raise ValueError(describe_unknown("action of claim", options.action, CLAIM_ACTIONS))
    names = list(options.names or [])
    scale = _check_word("--scale", options.scale, SCALES)
    if options.action == "list":
        show_claims(scale)
    elif options.action == "report":
        report_claims([Path(name) for name in names] or [CLAIMS], options.out)
    else:
        answer = None if options.predict is None else _check_word("--predict", options.predict, ANSWERS)
        run_claims(names, scale, options.data, answer)


def _check_word(option: str, given: str, accepted: Sequence[Word]) -> Word:
    for word in accepted:
        if word == given:
            return word
    raise ValueError(describe_unknown(f"value of {option}", given, accepted))


def run_claims(names: list[str], scale: Scale, data: str | None, answer: Answer | None) -> None:
    """Run claims one after the other; prints each verdict as soon as it is known and, last, the folder.

    Raises:
        ValueError: an unknown claim or dataset, or a prediction that comes too late; nothing has been run.
        RunFailed: a run failed for another reason than its own loss; all claims have been judged by what there is.
    """
    claims = choose_claims(find_config_dir() / "claim", names)
    known = list_groups()["data"]
    if data is not None and data not in known:
        raise ValueError(describe_unknown("data", data, known))
    places = {claim.id: _Place(data or claim.data, scale) for claim in claims}
    plans = [_plan(claim, places[claim.id]) for claim in claims]
    if answer is not None:
        for claim in claims:
            record_prediction(places[claim.id].folder / claim.id, claim.id, answer)
    failures = []
    from cnnbench.cli.sweep import create_server, run_sweep

    with create_server([]) as server:
        for plan in plans:
            place = places[plan.claim.id]
            if plan.claim.needs_training:
                try:
                    run_sweep(_make_request(plan, place), [], server)
                except RunFailed as error:
                    failures.append(f"{plan.claim.id}: {error}")
                    log.warning("%s", failures[-1])
            record = _judge(plan, place)
            write_verdict(place.folder / plan.claim.id, record)
            show_verdict(record)
    for place in dict.fromkeys(places.values()):
        records = [(path.parent.name, read_verdict(path)) for path in find_verdicts(place.folder, 1)]
        write_text(place.folder / TABLE, format_table(records))
        print(format_output_path(place.folder))
    if failures:
        raise RunFailed("; ".join(failures))


def _plan(claim: Claim, place: _Place) -> Plan:
    configs = {}
    for group in claim.groups:
        try:
            configs[group] = compose.compose_config(
                ["name=claims", *claim.list_overrides(group, place.scale, place.data)]
            )
        except ValueError as error:
            raise ValueError(f"{claim.id}, group {group!r}: {error}") from None
    return Plan(claim, configs, claim.protocol[place.scale].seeds)


def _make_request(plan: Plan, place: _Place) -> compose.Request:
    """The sweep that trains what a claim needs; runs of other claims in the same folder are left alone."""
    trained = {name for contrast in plan.claim.contrasts if contrast.source == "run" for name in contrast.groups}
    jobs = [
        compose.Job([*plan.claim.list_overrides(group, place.scale, place.data), f"seed={seed}"], config)
        for group, seed, config in plan.list_runs()
        if group in trained
    ]
    hydra = OmegaConf.create({"hydra": {"launcher": {}}})
    return compose.Request(jobs, place.runs, axes=[], is_sweep=True, hydra=hydra, new_folder=False, grows=True)


def _judge(plan: Plan, place: _Place) -> VerdictRecord:
    folders = {}
    if is_sweep(place.runs):
        sweep = SweepFolder(place.runs)
        folders = {job.hash: (sweep.path / job.name, sweep, job) for job in sweep.jobs}
    used: dict[str, None] = {}

    def find_run(config: Config) -> tuple[Path, bool] | None:
        path, sweep, job = folders.get(hash_config(to_dict(config)), (None, None, None))
        if path is None or sweep is None or job is None:
            return None
        used[f"../{RUNS}/{path.name}"] = None
        if sweep.has_diverged(job):
            return path, True
        return (path, False) if sweep.is_finished(job) else None

    measurer = Measurer(find_run)
    findings, values = judge(plan, measurer)
    return make_record(
        plan.claim,
        findings,
        values,
        data=place.data,
        scale=place.scale,
        prediction=read_prediction(place.folder / plan.claim.id),
        problems=list(dict.fromkeys(measurer.problems)),
        runs=list(used),
    )


def show_verdict(record: VerdictRecord) -> None:
    """Print a claim, its contrasts and its verdict."""
    console = make_console()
    columns = [
        Column("contrast", 24),
        Column("effect [95 %]"),
        Column("rule"),
        Column("p", optional=1),
        Column("n"),
        Column("verdict", 12),
    ]
    rows = [_list_cells(contrast) for contrast in record.contrasts]
    show_table(console, f"{record.id}: {record.statement.en}", columns, rows)
    show_text(console, f"{record.id} is {record.verdict} on {record.data} ({record.scale}). {_tell_prediction(record)}")
    for text in [*(f"{c.measure}: {c.advice}" for c in record.contrasts if c.advice), *record.problems]:
        show_text(console, text, indent=2)


def _list_cells(contrast: ContrastRecord) -> list[str]:
    sides = contrast.group
    if contrast.against is not None:
        sides += f" {'−' if contrast.compare == 'difference' else '/'} {contrast.against}"
    effect = "none" if contrast.effect is None else f"{contrast.effect:.4g}"
    if contrast.low is not None and contrast.high is not None and contrast.low < contrast.high:
        effect += f" [{contrast.low:.4g}, {contrast.high:.4g}]"
    sign = {"at_least": "≥", "at_most": "≤", "within": "within ±", "beyond": "beyond ±"}[contrast.rule]
    p = "" if contrast.p is None or contrast.low == contrast.high else f"{contrast.p:.2g}"
    rule = f"{sign} {contrast.threshold:g} {contrast.unit}".replace("± ", "±")
    return [f"{contrast.measure}: {sides}", effect, rule, p, str(contrast.n), contrast.verdict]


def _tell_prediction(record: VerdictRecord) -> str:
    if record.prediction is None:
        return ""
    outcome = {True: "which held", False: "which did not hold", None: "which is open"}[record.held]
    return f"The prediction was {record.prediction}, {outcome}."


def show_claims(scale: Scale) -> None:
    """Print every claim with its cost and its last verdict."""
    from cnnbench.claims.cost import estimate_minutes, measure_rate

    console, folder = make_console(), find_config_dir() / "claim"
    claims = choose_claims(folder, [*list_claims(folder)])
    latest: dict[str, VerdictRecord] = {}
    for path in find_verdicts(CLAIMS):
        record = read_verdict(path)
        if record.id not in latest or record.created > latest[record.id].created:
            latest[record.id] = record
    rate = measure_rate(CLAIMS)
    rows = []
    for claim in claims:
        if not claim.needs_training:
            minutes = "0"
        elif rate is None:
            minutes = "?"
        else:
            minutes = estimate_minutes(_plan(claim, _Place(claim.data, scale)), rate)
        last = latest.get(claim.id)
        verdict = "" if last is None else f"{last.verdict} ({last.data}, {last.scale})"
        rows.append([claim.id, claim.statement.en, minutes, verdict])
    columns = [Column("claim", 4), Column("statement", 30), Column("minutes"), Column("last verdict", 12)]
    show_table(console, f"Claims, with the minutes that --scale {scale} takes here", columns, rows, lines=False)


def report_claims(folders: Sequence[Path], out: Path | None) -> None:
    """Print predictions and verdicts below some folders, such as one a student, and write `claims.csv`.

    Raises:
        ValueError: a folder is missing, or none holds a verdict.
    """
    records = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{make_printable(str(folder))!r} is not a folder: give folders with verdicts of claims")
        for path in find_verdicts(folder):
            try:
                records.append((folder.resolve().name, read_verdict(path)))
            except (ValueError, OSError) as error:
                print(f"warning: {make_printable(str(error))}", file=sys.stderr)
    if not records:
        named = ", ".join(make_printable(str(folder)) for folder in folders)
        raise ValueError(f"{named}: there is no {VERDICT}; `cnnbench claim run ID` makes one")
    held = {True: "yes", False: "no", None: ""}
    rows = [
        [place, record.id, record.data, record.scale, record.prediction or "", record.verdict, held[record.held]]
        for place, record in records
    ]
    names = ("folder", "claim", "data", "scale", "predicted", "verdict", "held")
    columns = [Column(name, 8 if name == "folder" else 4) for name in names]
    show_table(make_console(), "Predictions and verdicts", columns, rows)
    place = out or Path(TABLE)
    write_text(place, format_table(records))
    print(format_output_path(place))

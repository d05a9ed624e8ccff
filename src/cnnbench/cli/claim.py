"""`cnnbench claim`: run the course's statements as experiments, and judge them."""

import logging
from collections.abc import Collection
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.claims.measuring import Measurer, NotMeasurable, Plan, judge
from cnnbench.claims.records import (
    ANSWERS,
    TABLE,
    Answer,
    VerdictRecord,
    format_table,
    make_record,
    read_prediction,
    read_verdicts,
    record_prediction,
    write_verdict,
)
from cnnbench.claims.statement import SCALES, Scale, choose_claims
from cnnbench.claims.wording import Wording
from cnnbench.cli import compose
from cnnbench.cli.choices import find_config_dir, list_groups
from cnnbench.cli.claim_plans import RUNS, Place, find_work, plan_claim
from cnnbench.cli.claim_results import report_class, show_claims, show_verdict
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import CLAIM_ACTIONS, ClaimOptions
from cnnbench.cli.run_folders import CLAIMS
from cnnbench.cli.streams import show_warnings
from cnnbench.config.schema import Config, to_dict
from cnnbench.registry import check_choice
from cnnbench.report.documents import LANGUAGES
from cnnbench.storage.atomic import write_text
from cnnbench.storage.text import format_output_path
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import hash_config, is_sweep
from cnnbench.sweeps.server import JobServer

log = logging.getLogger("cnnbench")


def claim(options: ClaimOptions) -> None:
    """List claims, run them, or report verdicts."""
    check_choice("action of claim", options.action, CLAIM_ACTIONS)
    names = list(options.names or [])
    if options.action == "measure":
        from cnnbench.cli.measure import measure_runs

        measure_runs(names)
        return
    scale = check_choice("value of --scale", options.scale, SCALES)
    wording = Wording(check_choice("value of --language", options.language, LANGUAGES))
    if options.action == "list":
        show_claims(CLAIMS, scale, wording)
    elif options.action == "report":
        report_class([Path(name) for name in names] or [CLAIMS], options.out, wording)
    else:
        answer = None if options.predict is None else check_choice("value of --predict", options.predict, ANSWERS)
        run_claims(names, scale, options.data, answer, wording)


def run_claims(names: list[str], scale: Scale, data: str | None, answer: Answer | None, wording: Wording) -> None:
    """Run claims one after the other; print each verdict as soon as it is known and, last, the path of the page.

    Raises:
        ValueError: an unknown claim or dataset, a prediction that comes too late, or data on which no claim can be
            measured; nothing has been recorded.
        RunFailed: a run failed for another reason than its loss; all claims have been judged by the runs that finished.
    """
    # Everything is composed and checked first: nothing is recorded for a command that is wrong.
    claims = choose_claims(find_config_dir() / "claim", names)
    if data is not None:
        check_choice("data", data, list_groups()["data"])
    places = {claim.id: Place(data or claim.data, scale) for claim in claims}
    plans = [plan_claim(claim, places[claim.id]) for claim in claims]
    if answer is not None:
        for claim in claims:
            record_prediction(places[claim.id].folder / claim.id, claim.id, answer)
    failures = []
    from cnnbench.claims.page import INDEX, PAGE, write_claim_page
    from cnnbench.cli.sweep import run_sweep

    with JobServer() as server:
        for plan in plans:
            place = places[plan.claim.id]
            if plan.claim.needs_training:
                try:
                    run_sweep(_make_request(plan, place), server)
                except RunFailed as error:
                    failures.append(f"{plan.claim.id}: {error}")
                    log.warning("%s", failures[-1])  # now, as the claims that follow may take hours
            try:
                record = _judge(plan, place)
            except NotMeasurable as error:  # a verdict would say nothing about the claim
                failures.append(f"{plan.claim.id}: {error}")
                del places[plan.claim.id]
                continue
            folder = place.folder / plan.claim.id
            write_verdict(folder, record)
            find_work(plan.claim, place, plan)  # so that `claim list` need not compose the claim
            write_claim_page(folder, record, wording)
            show_verdict(record, wording)
    if not places:
        raise ValueError("; ".join(failures))
    _write_overviews({*places.values()}, wording)
    only = next(iter(places)) if len(places) == 1 else None
    print(format_output_path(places[only].folder / only / PAGE if only else CLAIMS / INDEX))
    if failures:
        raise RunFailed("; ".join(failures))


def _write_overviews(places: Collection[Place], wording: Wording) -> None:
    """Write the index of all claims, and the table of each folder in which something has been run."""
    from cnnbench.claims.page import write_index

    problems: list[str] = []
    verdicts = read_verdicts(CLAIMS, problems, levels=2)
    for place in places:
        inside = [(path.parent.name, record) for path, record in verdicts if path.parent.parent == place.folder]
        write_text(place.folder / TABLE, format_table(inside))
    write_index(CLAIMS, verdicts, choose_claims(find_config_dir() / "claim", ["all"]), wording, problems)
    show_warnings(problems)


def _make_request(plan: Plan, place: Place) -> compose.Request:
    """The sweep that trains what a claim needs; runs of other claims in the same folder are left alone."""
    trained = plan.claim.list_trained_groups()
    jobs = [
        compose.Job([*plan.claim.list_overrides(group, place.scale, place.data), f"seed={seed}"], config)
        for group, seed, config in plan.list_runs()
        if group in trained
    ]
    hydra = OmegaConf.create({"hydra": {"launcher": {}}})  # none: the jobs run on this machine
    return compose.Request(jobs, place.runs, axes=[], is_sweep=True, hydra=hydra, new_folder=False, grows=True)


def _judge(plan: Plan, place: Place) -> VerdictRecord:
    sweep = SweepFolder(place.runs) if is_sweep(place.runs) else None  # a claim may need no training
    jobs = {job.hash: job for job in sweep.jobs} if sweep else {}
    used: dict[str, None] = {}

    def find_run(config: Config) -> tuple[Path, bool] | None:
        job = jobs.get(hash_config(to_dict(config)))
        if sweep is None or job is None:
            return None
        used[f"../{RUNS}/{job.name}"] = None
        has_diverged = sweep.has_diverged(job)
        return (sweep.path / job.name, has_diverged) if has_diverged or sweep.is_finished(job) else None

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

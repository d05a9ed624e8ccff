"""`cnnbench plan`: the seeds and minutes that would find a difference."""

import json
import math
from dataclasses import asdict
from typing import Any

from cnnbench.cli.report import convert_points
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import PlanOptions
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.report.formatting import format_change, format_count
from cnnbench.report.planning import MOST_SEEDS, Plan, plan_seeds
from cnnbench.report.reading import read_study

MOST_PLANS = 20


def plan(options: PlanOptions) -> None:
    """Print the spread of each comparison, and the seeds for each test."""
    difference = convert_points("--difference", options.difference)
    study = read_study([find_folder(folder) for folder in options.folders])
    plans = plan_seeds(study, difference, options.baseline)
    if options.as_json:
        print(json.dumps([make_plain(one) for one in plans], indent=2))
        return
    console = make_console()
    for one in plans[:MOST_PLANS]:
        show_text(console, describe_spread(one))
    names = [Column("group", 20), Column("against", 20)] if plans[0].b else []
    columns = [*names, Column("test", 15), Column("seeds"), Column("for the interval of the spread"), Column("minutes")]
    rows = [
        [
            *([one.a, one.b] if names else []),
            need.test,
            _format_seeds(need.seeds),
            f"[{_format_seeds(need.low)}, {_format_seeds(need.high)}]",
            "" if need.minutes is None else f"{need.minutes:,.1f}",
        ]
        for one in plans[:MOST_PLANS]
        for need in one.needs
    ]
    title = f"Seeds that find a difference of {options.difference:g} points in 80 % of cases"
    show_table(console, title, columns, rows)
    if len(plans) > MOST_PLANS:
        show_text(console, f"{len(plans) - MOST_PLANS} more comparisons are not shown.")
    together = f" With {len(plans)} comparisons." if len(plans) > 1 else ""
    show_text(
        console,
        f"For normally distributed differences.{together} Minutes of training are of both groups, for the seeds that "
        "have not been run, one run at a time on the machine of the runs.",
    )
    show_text(
        console,
        "Fix the number of seeds of the sign-flip test and the t-test beforehand; the anytime test may stop earlier.",
    )


def make_plain(plan: Plan) -> dict[str, Any]:
    """A plan for programs; None means more than `MOST_SEEDS` seeds, because JSON has no infinity."""
    needs = [{key: None if value == math.inf else value for key, value in asdict(need).items()} for need in plan.needs]
    return asdict(plan) | {"needs": needs}


def describe_spread(plan: Plan) -> str:
    """The spread of a comparison and what pairing does to it, in sentences."""
    spread, low, high = (f"{100 * value:.2f}" for value in plan.spread)
    if not plan.b:
        return (
            f"{plan.a}: for another group with the same spread over {plan.n} seeds, and no correlation, a difference "
            f"has a standard deviation of {spread} points [{low}, {high}]."
        )
    start = f"{plan.a} against {plan.b}: a difference has a standard deviation of {spread} points [{low}, {high}]"
    if plan.correlation is None or plan.saved is None:
        return f"{start}; the correlation of paired seeds is not known (n = {plan.n})."
    interval = plan.correlation_interval
    ends = f" [{format_change(interval[0])}, {format_change(interval[1])}]" if interval else ""
    pairing = "does not help" if plan.saved <= 0 else f"removes {100 * plan.saved:.0f} % of the variance"
    return (
        f"{start}; paired seeds have a correlation of {format_change(plan.correlation)}{ends}, so pairing {pairing} "
        f"({format_count(plan.n, 'pair')})."
    )


def _format_seeds(seeds: float) -> str:
    return f"over {MOST_SEEDS:,}" if math.isinf(seeds) else f"{seeds:.0f}"

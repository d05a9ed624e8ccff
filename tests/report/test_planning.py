"""The anytime verdict and *equal within δ* of a report, and `cnnbench plan`."""

import json
import math

import numpy as np
import pytest
from run_builders import write_run
from scipy import stats
from statsmodels.stats.power import TTestPower

from cnnbench.cli import plan as command
from cnnbench.cli.plan import describe_spread
from cnnbench.cli.run_options import PlanOptions
from cnnbench.metrics.sequential import decide
from cnnbench.report.csv_rows import list_groups
from cnnbench.report.documents import bind_percent, render_markdown
from cnnbench.report.page import render_page
from cnnbench.report.planning import (
    count_seeds_of_anytime_test,
    count_seeds_of_sign_flip,
    count_seeds_of_t_test,
    plan_seeds,
)
from cnnbench.report.reading import read_study
from cnnbench.report.statistics import compute_sign_flip_p
from cnnbench.storage.plain_data import write_yaml

MLP = [900, 905, 898, 902, 901, 899, 903, 900]
ALIKE = [901, 904, 898, 903, 900, 900, 903, 899]
FAR = [950, 951, 949, 953, 950, 947, 952, 951]


def write_sweep(folder, mlp, lenet5):
    for number, (name, rights) in enumerate((("mlp", mlp), ("lenet5", lenet5))):
        for seed, right in enumerate(rights):
            write_run(folder / str(100 * number + seed), seed, right, model__name=name)
    return folder


def test_a_report_has_the_anytime_verdict_beside_that_of_a_fixed_number_and_mixes_neither(tmp_path):
    study = read_study([write_sweep(tmp_path / "s", MLP, FAR)])
    (found,) = study.comparisons
    differences = [(b - a) / 1000 for a, b in zip(MLP, FAR, strict=True)]
    assert (found.verdict, found.anytime.verdict, found.anytime.n) == ("better", "better", 8)
    assert found.anytime.decided_at == decide(differences).decided_at
    assert found.words == "better (p = 0.0078, n = 8)"
    assert found.anytime_words.startswith(f"better after {found.anytime.decided_at}")
    (row,) = [row for row in list_groups(study) if row["against"]]
    assert (row["verdict"], row["anytime_verdict"], row["anytime_low"]) == ("better", "better", found.anytime.low)
    text = render_markdown(study, "cnnbench report", "now")
    assert "| verdict (fixed n) | anytime verdict [95 %] |" in text
    assert found.anytime_words in text
    assert "holds however often it was read" in text
    page = render_page(study)
    assert bind_percent(f"anytime verdict [95 %]: {found.anytime_words}") in page
    few = read_study([write_sweep(tmp_path / "few", MLP[:3], FAR[:3])]).comparisons[0]
    assert (few.verdict, few.anytime_words) == ("too few seeds", "undecided after 3 seeds")


def test_equal_needs_a_delta_that_the_reader_named(tmp_path):
    folder = write_sweep(tmp_path / "s", MLP, ALIKE)
    (unnamed,) = read_study([folder]).comparisons
    assert (unnamed.verdict, unnamed.p_equal, unnamed.anytime.verdict) == ("no difference shown", None, "undecided")
    (named,) = read_study([folder], delta=0.005).comparisons
    assert named.verdict == "equal"
    assert named.words.startswith("equal within 0.5 points (p < 0.0001, two one-sided tests, n = 8)")
    assert named.anytime.verdict == "equal"
    assert named.anytime_words.startswith("equal within 0.5 points after ")
    (strict,) = read_study([folder], delta=0.0005).comparisons
    assert strict.verdict == "no difference shown"
    assert "; not shown to be equal within 0.05 points (p = " in strict.words
    (both,) = read_study([write_sweep(tmp_path / "far", MLP, FAR)], delta=0.1).comparisons
    assert both.words == "better (p = 0.0078, n = 8), and equal within 10 points (p < 0.0001)"


def test_delta_is_that_of_the_sweep_if_the_command_names_none(tmp_path):
    folder = write_sweep(tmp_path / "s", MLP, ALIKE)
    write_yaml(folder / "sweep.yaml", {"sweep": {"until": "decided", "delta": 0.005}, "jobs": []})
    assert read_study([folder]).comparisons[0].verdict == "equal"
    assert read_study([folder], delta=0.0005).delta == 0.0005


@pytest.mark.parametrize(("effect", "comparisons"), [(0.3, 1), (0.8, 1), (0.8, 3), (2.0, 1)])
def test_the_seeds_of_the_t_test_equal_statsmodels(effect, comparisons):
    exact = TTestPower().solve_power(effect, power=0.8, alpha=0.05 / comparisons, alternative="two-sided")
    assert count_seeds_of_t_test(effect, comparisons) == math.ceil(exact)


@pytest.mark.parametrize(("effect", "comparisons"), [(1.2, 1), (2.0, 3)])
def test_the_seeds_of_the_sign_flip_test_have_the_power_and_fewer_do_not(effect, comparisons):
    needed = int(count_seeds_of_sign_flip(effect, comparisons))
    random, powers = np.random.default_rng(5), []
    for n in (needed - 1, needed + 1):
        found = [compute_sign_flip_p(values) * comparisons < 0.05 for values in random.normal(effect, 1, (600, n))]
        powers.append(np.mean(found))
    assert powers[0] < 0.84
    assert powers[1] > 0.78
    assert count_seeds_of_sign_flip(0.3, 1) == count_seeds_of_t_test(0.3, 1)


def test_the_seeds_of_the_anytime_test_have_the_power():
    needed = int(count_seeds_of_anytime_test(1.0, 1))
    random = np.random.default_rng(6)
    found = [decide(values).verdict == "better" for values in random.normal(1, 1, (400, needed))]
    assert 0.74 < np.mean(found) < 0.86
    assert count_seeds_of_anytime_test(0.01, 1) == math.inf


def test_a_plan_has_the_spread_the_correlation_and_the_minutes(tmp_path):
    study = read_study([write_sweep(tmp_path / "s", MLP, FAR)])
    (plan,) = plan_seeds(study, 0.002)
    x, y = np.array(FAR) / 1000, np.array(MLP) / 1000
    spread = np.std(x - y, ddof=1)
    assert plan.spread == (
        pytest.approx(spread),
        pytest.approx(spread * math.sqrt(7 / stats.chi2.ppf(0.975, 7))),
        pytest.approx(spread * math.sqrt(7 / stats.chi2.ppf(0.025, 7))),
    )
    expected = stats.pearsonr(x, y)
    assert plan.correlation == pytest.approx(expected.statistic)
    assert plan.correlation_interval == pytest.approx(tuple(expected.confidence_interval()))
    assert plan.saved == pytest.approx(1 - spread**2 / (np.var(x, ddof=1) + np.var(y, ddof=1)))
    assert [need.test for need in plan.needs] == ["sign-flip, Holm", "paired t", "anytime"]
    for need in plan.needs:
        assert need.low <= need.seeds <= need.high
        seconds = 2 * np.mean([2.0 + seed for seed in range(8)])  # of both groups, as `write_run` records them
        assert need.minutes == pytest.approx(max(0, need.seeds - 8) * seconds / 60)
    assert "so pairing removes " in describe_spread(plan)
    (opposed,) = plan_seeds(read_study([write_sweep(tmp_path / "o", MLP, [1800 - right for right in MLP])]), 0.002)
    assert opposed.correlation == pytest.approx(-1)
    assert "so pairing does not help (8 pairs)" in describe_spread(opposed)


def test_a_group_alone_stands_for_another_of_its_kind(tmp_path):
    (plan,) = plan_seeds(read_study([write_sweep(tmp_path / "s", MLP, [])]), 0.002)
    assert (plan.b, plan.n, plan.correlation) == ("", 8, None)
    assert plan.spread[0] == pytest.approx(math.sqrt(2) * np.std(MLP, ddof=1) / 1000)
    assert "for another group with the same spread over 8 seeds" in describe_spread(plan)


def test_a_plan_is_printed_as_json_in_which_seeds_beyond_the_limit_are_null(tmp_path, capsys):
    folder = write_sweep(tmp_path / "s", MLP, FAR)
    command.plan(PlanOptions([folder], 0.00001, as_json=True))
    (printed,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    (planned,) = plan_seeds(read_study([folder]), 1e-7)
    assert (printed["a"], printed["n"], printed["spread"]) == (planned.a, 8, list(planned.spread))
    assert [need["seeds"] for need in printed["needs"]] == [None] * 3

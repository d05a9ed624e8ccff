"""Shares of the variance, against closed forms, on planted accuracies."""

import numpy as np
import pytest
from run_builders import write_run

from cnnbench.report.documents import render_markdown
from cnnbench.report.page import render_page
from cnnbench.report.reading import read_study
from cnnbench.report.variance import compute_variance_ratio

# Right answers of 1,000: by the seed of everything, and by the seed of the weights alone, beside those of seed 0.
TOGETHER, INIT = [900, 910, 890, 900], [904, 896]


@pytest.fixture
def study(tmp_path):
    for seed, right in enumerate(TOGETHER):
        write_run(tmp_path / f"all{seed}", seed, right)
    for seed, right in enumerate(INIT, 1):
        write_run(tmp_path / f"init{seed}", 0, right, seeds__init=seed)
    for seed in (1, 2):
        write_run(tmp_path / f"order{seed}", 0, 900, seeds__order=seed)
    return read_study([tmp_path])


def test_shares_and_intervals_follow_from_the_variances_by_the_f_and_chi_square_distributions(study):
    init, order, together, test_set = study.variance
    assert (init.source, init.n, together.n, together.share) == ("initial weights", 3, 4, 1.0)
    # Variances of 900, 904, 896 and of 900, 910, 890, 900: 16 and 200 / 3. The quantiles are from printed tables.
    assert init.std == pytest.approx(0.004)
    assert init.share == pytest.approx(16 / (200 / 3))
    assert (init.low, init.high) == pytest.approx((0.24 / 16.0441, 0.24 * 39.1655), rel=1e-4)
    assert (order.share, order.low, order.high) == (0.0, None, None), "equal accuracies are no proof of no variance"
    assert test_set.std == pytest.approx((0.9 * 0.1 / 1000) ** 0.5)
    share = 0.9 * 0.1 / 1000 / (200 / 3 / 1000**2)
    assert test_set.share == pytest.approx(share)
    assert (test_set.low, test_set.high) == pytest.approx((share * 0.215795 / 3, share * 9.348404 / 3), rel=1e-5)


def test_the_interval_contains_a_planted_share_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    found = [compute_variance_ratio(*pair) for pair in rng.normal(0, [[0.5], [1.0]], (2000, 2, 30))]
    assert np.mean([low <= 0.25 <= high for _, low, high in found]) == pytest.approx(0.95, abs=0.015)


def test_mean_and_tests_leave_out_the_runs_that_vary_one_seed_alone(study):
    (group,) = study.groups
    assert (group.n, group.seeds, {source: len(runs) for source, runs in group.alone.items()}) == (
        4, [0, 1, 2, 3], {"init": 3, "order": 3},
    )  # fmt: skip
    assert group.mean_accuracy == pytest.approx(0.9)
    assert all(run.counted for run in study.runs)
    assert any("use the 4 runs that vary all seeds together. 4 other runs keep" in note.text for note in study.notes)


def test_the_table_is_in_the_report_and_on_the_page(study):
    text = render_markdown(study, "cnnbench report", "today")
    assert "| initial weights | 3 | 0.400 | 24 | [1.5, 940] |" in text
    assert "| test set of 1,000 images |  | 0.949 | 135 | [9.7, 421] |" in text
    html = render_page(study)
    assert 'id="variance-table"' in html
    assert 'id="variance-chart"' in html


def test_runs_that_differ_in_one_seed_alone_are_repetitions_and_pair(tmp_path):
    for model, rights in (("mlp", [900, 905, 898, 902, 901, 899]), ("lenet5", [950, 951, 949, 953, 950, 947])):
        for seed, right in enumerate(rights):
            write_run(tmp_path / f"{model}{seed}", 0, right, seeds__order=seed, model__name=model)
    study = read_study([tmp_path])
    assert [(group.n, group.seeds[:2]) for group in study.groups] == [(6, [0, "0,order=1"])] * 2
    (comparison,) = study.comparisons
    assert (comparison.kind, comparison.n_a, comparison.verdict) == ("paired", 6, "worse")
    assert study.variance == []

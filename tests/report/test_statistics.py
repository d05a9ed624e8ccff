"""The report's statistics against scipy and statsmodels, and the level they hold."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from cnnbench.report import statistics
from cnnbench.report.statistics import (
    compare_pairs,
    compare_samples,
    compute_equivalence_p,
    compute_mcnemar_p,
    compute_sign_flip_p,
    correct_by_holm,
    estimate,
    find_least_p,
    find_least_seeds,
)

CLOSE = {"rel": 0, "abs": 1e-9}
SHARES = st.integers(0, 10_000).map(lambda right: right / 10_000)  # accuracies on 10,000 test images
SAMPLES = st.lists(SHARES, min_size=2, max_size=12)
PAIRS = st.lists(st.tuples(SHARES, SHARES), min_size=2, max_size=12)


@given(SAMPLES)
def test_an_estimate_equals_scipys_t_interval(values):
    found = estimate(values)
    assert (found.n, found.mean) == (len(values), pytest.approx(np.mean(values), **CLOSE))
    assert found.std == pytest.approx(np.std(values, ddof=1), **CLOSE)
    assume(len(set(values)) > 1)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low, **CLOSE), pytest.approx(high, **CLOSE))


@given(PAIRS)
def test_paired_figures_equal_scipys(pairs):
    first, second = np.array(pairs).T
    differences = first - second
    found = compare_pairs(first, second)
    assert found.mean == pytest.approx(differences.mean(), **CLOSE)
    assume(np.ptp(differences) > 1e-6)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.p_t == pytest.approx(expected.pvalue, **CLOSE)
    assert (found.low, found.high) == (pytest.approx(interval.low, **CLOSE), pytest.approx(interval.high, **CLOSE))
    # t is the standardised mean difference times the root of n.
    assert found.effect == pytest.approx(expected.statistic / math.sqrt(len(pairs)), rel=1e-9, abs=1e-9)


@given(PAIRS)
def test_the_sign_flip_test_equals_scipys_permutation_test(pairs):
    first, second = np.array(pairs).T

    def mean_difference(a, b, axis):
        return np.mean(a - b, axis=axis)

    expected = stats.permutation_test(
        (first, second), mean_difference, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert compute_sign_flip_p(first - second) == pytest.approx(expected.pvalue, **CLOSE)
    assert compare_pairs(first, second).p_flip == compute_sign_flip_p(first - second)


@given(PAIRS, st.sampled_from([0.0005, 0.01, 0.3]))
def test_equivalence_equals_statsmodels(pairs, delta):
    first, second = np.array(pairs).T
    assume(np.ptp(first - second) > 1e-6)
    expected = ttost_paired(first, second, -delta, delta)[0]
    assert compute_equivalence_p(first - second, delta) == pytest.approx(expected, **CLOSE)


@given(SAMPLES, SAMPLES)
def test_welch_and_hedges_equal_scipy_and_statsmodels(first, second):
    found = compare_samples(first, second)
    assume(len(set(first)) > 1 or len(set(second)) > 1)
    expected = stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p_t == pytest.approx(expected.pvalue, **CLOSE)
    assert (found.low, found.high) == (pytest.approx(interval.low, **CLOSE), pytest.approx(interval.high, **CLOSE))
    variances = np.var(first, ddof=1), np.var(second, ddof=1)
    g, _ = effectsize_smd(
        np.mean(first), variances[0] ** 0.5, len(first), np.mean(second), variances[1] ** 0.5, len(second)
    )
    assert found.effect == pytest.approx(g, rel=1e-9, abs=1e-9)
    assert found.p_flip is None


@given(st.integers(0, 2_000), st.integers(0, 2_000))
def test_mcnemar_equals_statsmodels(only_first, only_second):
    expected = reference_mcnemar([[5_000, only_first], [only_second, 100]], exact=True).pvalue
    assert compute_mcnemar_p(only_first, only_second) == pytest.approx(min(1.0, expected), **CLOSE)


@settings(max_examples=15)  # statsmodels takes 0.1 s for each
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_equals_statsmodels(values):
    assert correct_by_holm(values) == pytest.approx(multipletests(values, method="holm")[1], **CLOSE)


@pytest.mark.parametrize("n", [18, 20, 25])
def test_many_pairs_are_flipped_exactly_or_drawn_as_scipy_draws(n):
    differences = np.random.default_rng(n).integers(-20, 40, n) / 10_000
    exact = n <= statistics.EXACT_SEEDS
    if exact:  # another way to the exact answer: count the sums of whole numbers one by one
        ways = {0: 1}
        for value in np.round(differences * 10_000).astype(int).tolist():
            new: dict[int, int] = {}
            for total, count in ways.items():
                for moved in (total + value, total - value):
                    new[moved] = new.get(moved, 0) + count
            ways = new
        observed = abs(round(differences.sum() * 10_000))
        expected = sum(count for total, count in ways.items() if abs(total) >= observed) / 2**n
        assert compute_sign_flip_p(differences) == pytest.approx(expected, **CLOSE)
    else:
        assert compute_sign_flip_p(differences) == compute_sign_flip_p(differences), "the draw is the same each time"
        assert compute_sign_flip_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_what_the_numbers_do_not_allow_is_none():
    assert estimate([0.5]) == statistics.Estimate(1, 0.5, None, None, None)
    alike = estimate([0.1, 0.1, 0.1])
    assert (alike.mean, alike.std, alike.low, alike.high) == (pytest.approx(0.1), 0, None, None)
    assert alike.compute_bounds() == (None, None)
    wide = estimate([0.6, 0.9])
    assert (wide.low < 0, wide.high > 1, wide.compute_bounds()) == (True, True, (0.0, 1.0))
    one = compare_pairs([0.75], [0.5])
    assert (one.mean, one.low, one.high, one.p_t, one.effect) == (0.25, None, None, None, None)
    # 0.7 - 0.6 and 0.3 - 0.2 differ in their last bits: rounding is no spread.
    equal = compare_pairs([0.7, 0.3, 0.9], [0.6, 0.2, 0.8])
    assert (equal.low, equal.high, equal.p_t, equal.effect) == (None, None, None, None)
    assert equal.p_flip == 0.25
    assert compute_sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    assert compare_samples([0.5], [0.1, 0.2]).p_t is None
    assert compare_samples([0.5, 0.5], [0.1, 0.1]).p_t is None
    assert compute_mcnemar_p(0, 0) == 1.0
    assert compute_equivalence_p([0.1], 0.2) is None
    assert compute_equivalence_p([0.0, 0.0, 0.0], 0.2) is None


@pytest.mark.parametrize(("family", "needed"), [(1, 6), (2, 7), (3, 7), (6, 8), (11, 9), (100, 12)])
def test_the_seeds_needed_are_the_fewest_that_can_reach_the_level(family, needed):
    others = [1.0] * (family - 1)
    assert find_least_seeds(others) == needed
    assert multipletests([find_least_p(needed), *others], method="holm")[1][0] < 0.05
    assert multipletests([find_least_p(needed - 1), *others], method="holm")[1][0] >= 0.05


def test_fewer_seeds_are_needed_beside_comparisons_that_are_clear():
    assert find_least_seeds([1e-9] * 10) == 6
    assert find_least_seeds([1.0] * 10) == 9


@pytest.mark.parametrize("n", range(2, 9))
def test_least_p_is_reached_by_differences_of_one_sign(n):
    assert compute_sign_flip_p(np.arange(1, n + 1) / 1000) == pytest.approx(find_least_p(n))


def test_null_comparisons_reject_as_often_as_the_level_says():
    """Of 2,000 comparisons and of other shapes: benchmarks/null_level.py."""
    random = np.random.default_rng(0)
    t, flip, unpaired = [], [], []
    for _ in range(1_000):
        shared = random.normal(0.98, 0.004, 7)  # what a seed does to both
        first, second = (np.round(shared + random.normal(0, 0.002, 7), 4) for _ in range(2))
        found = compare_pairs(first, second)
        t.append(found.p_t < 0.05)
        flip.append(found.p_flip < 0.05)
        unpaired.append(compare_samples(random.normal(0.98, 0.002, 6), random.normal(0.98, 0.006, 10)).p_t < 0.05)
    for rejected in (t, flip, unpaired):
        assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)

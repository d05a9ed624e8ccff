"""The test that is read after each pair: what it says stands, is true often enough, and follows from its interval."""

import math

import numpy as np
import pytest
import sequential_null
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbench.metrics.sequential import BETTER, EQUAL, UNDECIDED, WORSE, decide, find_least_pairs, find_verdict

DIFFERENCES = st.lists(st.integers(-40, 40).map(lambda images: images / 360), max_size=25)


@settings(max_examples=15)
@given(DIFFERENCES, st.sampled_from([None, 0.01, 0.05]))
def test_a_verdict_stands_whatever_comes_later(differences, delta):
    readings = [decide(differences[:n], delta=delta) for n in range(len(differences) + 1)]
    last = readings[-1]
    for n, reading in enumerate(readings):
        is_reached = last.decided_at is not None and n >= last.decided_at
        assert (reading.verdict, reading.decided_at) == (
            (last.verdict, last.decided_at) if is_reached else (UNDECIDED, None)
        )
        assert reading.is_decided == is_reached
        assert (reading.n, reading.mean) == (n, pytest.approx(np.mean(differences[:n])) if n else None)


@given(DIFFERENCES, st.sampled_from([0.01, 0.05]))
def test_the_verdict_follows_from_the_interval_at_its_pair(differences, delta):
    reading = decide(differences, delta=delta)
    if not reading.is_decided or not any(differences[: reading.decided_at]):
        return
    then = decide(differences[: reading.decided_at], delta=delta)
    if then.verdict == EQUAL:
        assert -delta - 1e-9 <= then.low
        assert then.high <= delta + 1e-9
    elif then.verdict == BETTER:
        assert then.low >= -1e-9
    else:
        assert then.high <= 1e-9


@given(DIFFERENCES)
def test_swapping_the_groups_or_the_unit_changes_nothing_else(differences):
    reading, swapped = decide(differences), decide([-value for value in differences])
    assert swapped.verdict == {BETTER: WORSE, WORSE: BETTER}.get(reading.verdict, reading.verdict)
    assert swapped.decided_at == reading.decided_at
    scaled = decide([value / 1024 for value in differences])  # a power of two, so that nothing is rounded
    assert (scaled.verdict, scaled.decided_at) == (reading.verdict, reading.decided_at)


def test_the_money_is_a_fair_game_over_all_signs():
    """Over all signs of some magnitudes, the mean of what a bettor has is exactly 1: the theorem's premise."""
    from cnnbench.metrics import sequential

    magnitudes = np.array([0.3, 0.01, 0.0, 0.2, 0.02, 0.05, 0.4, 0.001])
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(magnitudes))).reshape(len(magnitudes), -1).T
    money = [
        math.exp(sequential._grow(values, sequential._choose_rates(values), 0.0)[-1]) for values in signs * magnitudes
    ]
    assert np.mean(money) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("comparisons", "least"), [(1, 7), (3, 9), (10, 10)])
def test_a_clear_difference_is_found_soon_but_not_before_the_least_pairs(comparisons, least):
    assert find_least_pairs(comparisons) == least
    verdict, pairs = find_verdict(np.full(40, 0.02), comparisons=comparisons)
    assert verdict == BETTER
    assert least <= pairs <= least + 2
    assert decide([0.02, 0.021, 0.019] * 2, comparisons=comparisons).low is None


def test_networks_that_agree_in_all_seeds_are_equal_without_an_interval():
    reading = decide([0.0] * 12, delta=0.001)
    assert (reading.verdict, reading.decided_at, reading.low, reading.high) == (EQUAL, 8, None, None)
    assert decide([0.0] * 12).verdict == UNDECIDED, "δ is named by the user, never by us"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"delta": 0.0}, "delta=0.0: must be a share above 0 and below 1, such as 0.001"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"delta": math.nan}, "delta=nan"),
        ({"comparisons": 0}, "comparisons=0: must be at least 1"),
        ({"differences": [0.1, math.nan]}, "not a finite number"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        decide(**{"differences": [0.1], **arguments})


@pytest.mark.parametrize("name", ["normal", "right of 360 images", "one in five fails", "exponential, skewness 2"])
def test_few_verdicts_are_false_however_often_they_are_read(name):
    """400 paths, of which 5 % are 20, and by chance at most 32; benchmarks/sequential_null.py takes 10,000."""
    random, draw = np.random.default_rng(1), sequential_null.DIFFERENCES[name]
    assert sequential_null.measure_null(random, draw, 400) <= 0.08
    assert sequential_null.measure_equal(random, draw, 400, 2 * sequential_null.SPREAD)[1] <= 0.08


def test_the_interval_contains_the_mean_after_every_number_of_pairs():
    random = np.random.default_rng(2)
    missed = 0
    for values in random.normal(0.001, 0.002, (40, 20)):
        readings = [decide(values[:n]) for n in (8, 10, 14, 20)]
        missed += any(one.low is not None and not one.low <= 0.001 <= (one.high or 1) for one in readings)
    assert missed <= 6

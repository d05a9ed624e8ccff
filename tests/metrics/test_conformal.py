"""The threshold of prediction sets: the finite-sample quantile, also at its edges, and the promised coverage."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.metrics.conformal import Misfit, PredictionSets, compute_threshold, find_least_images, score_sets

SHARES = st.sampled_from((0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9))


@given(st.lists(st.integers(0, 9), max_size=60), SHARES)
def test_the_threshold_is_the_least_score_that_enough_do_not_exceed(scores, miss):
    needed = (1 - Fraction(str(miss))) * (len(scores) + 1)
    enough = [score for score in scores if sum(other <= score for other in scores) >= needed]
    assert compute_threshold(np.array(scores), miss) == min(enough, default=math.inf)
    assert (compute_threshold(np.array(scores), miss) < math.inf) == (len(scores) >= find_least_images(miss))


@given(st.integers(1, 200), SHARES)
def test_of_images_of_one_kind_the_promised_share_is_covered_and_hardly_more(n, miss):
    # Any of n + 1 images is as likely to be the new one, and the others calibrate.
    scores = np.arange(n + 1)
    covered = np.mean([score <= compute_threshold(np.delete(scores, score), miss) for score in scores])
    assert 1 - miss - 1e-12 <= covered <= 1 - miss + 1 / (n + 1) + 1e-12


@pytest.mark.parametrize(("miss", "least"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_too_few_images_give_sets_of_all_classes(miss, least):
    assert find_least_images(miss) == least
    assert compute_threshold(np.arange(least), miss) == least - 1
    assert compute_threshold(np.arange(least - 1), miss) == math.inf


def test_sets_are_scored_by_coverage_size_and_the_share_that_is_empty():
    found = score_sets(np.array([1, 0, 2, 1]), np.array([True, False, True, False]))
    assert found == {"coverage": 0.5, "mean_set_size": 1.0, "unknown": 0.25}


@pytest.mark.parametrize("classes", [3, 101])
def test_an_image_like_no_class_has_an_empty_set_where_classes_have_a_distance(classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 60 * classes)
    logits = (10 * np.eye(classes)[labels] + random.normal(size=(len(labels), classes))).astype(np.float32)
    half = len(labels) // 2
    misfit = Misfit.fit(logits[:half], labels[:half])
    scores = misfit.measure(logits[half:])[np.arange(half), labels[half:]]
    found = PredictionSets(misfit, scores, 0.05).find(logits[half:])
    assert 0.9 < found[np.arange(half), labels[half:]].mean() < 1
    certain = np.full((1, classes), -20, np.float32)
    certain[0, 0] = 40  # the network is sure of it, and it is like none that was seen
    assert PredictionSets(misfit, scores, 0.05).find(certain).any() == (classes > 100)


def test_a_class_without_images_fits_nothing():
    logits, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    assert np.isinf(Misfit.fit(logits, labels).measure(logits)[:, 2]).all()
    assert np.isfinite(Misfit.fit(logits, labels).measure(logits)[:, :2]).all()

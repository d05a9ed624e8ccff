"""Against scikit-learn where it has the figure, and otherwise against slow code that follows the definition."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import _TemperatureScaling, calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from cnnbench.metrics import OF_PROBABILITIES, score_probabilities
from cnnbench.metrics.calibration import (
    BINS,
    NoTemperature,
    bin_by_confidence,
    calibrate,
    compute_aurc,
    fit_temperature,
    measure_reliability,
)

EQUAL = {"rel": 1e-9, "abs": 1e-9}
ATOL = {"rtol": 1e-9, "atol": 1e-9}
# Few different values, so that many images have the same confidence.
CONFIDENCES = st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60)


def draw(images, classes, seed=0, sharpness=3.0):
    """Logits and labels of a network that is right more often than not, and more confident than it should be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return sharpness * logits, labels


def predict(logits, labels):
    """The arrays of `predictions.npz`."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return {"labels": labels, "predictions": probabilities.argmax(1), "probabilities": probabilities}


@pytest.mark.filterwarnings("ignore:.*values do not sum to one")  # to float32's precision they do
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("temperature", [None, 2.5, 0.4])
def test_nll_and_brier_score_equal_scikit_learn(classes, temperature):
    logits, labels = draw(500, classes)
    arrays = predict(logits, labels)
    found = score_probabilities(arrays, temperature)
    exact = arrays["probabilities"].astype(np.float64)
    if temperature is not None:
        exact = calibrate(exact, temperature)
        expected = predict(logits / temperature, labels)["probabilities"]
        np.testing.assert_allclose(exact, expected, rtol=1e-5, atol=1e-12)
    assert list(found) == [metric.name for metric in OF_PROBABILITIES]
    assert found["nll"] == pytest.approx(log_loss(labels, exact, labels=range(classes)), **EQUAL)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, exact, labels=range(classes)), **EQUAL)


@given(CONFIDENCES)
def test_bins_equal_scikit_learn_and_the_error_is_the_mean_gap(pairs):
    confidence, correct = (np.array(part) for part in zip(*pairs, strict=True))
    found = bin_by_confidence(confidence, correct)
    assert found.counts.sum() == len(pairs)
    filled = found.counts > 0
    accuracy, mean = calibration_curve(correct, confidence, n_bins=BINS, strategy="quantile", pos_label=True)
    np.testing.assert_allclose(found.accuracy[filled], accuracy, **ATOL)
    np.testing.assert_allclose(found.confidence[filled], mean, **ATOL)
    edges = [np.quantile(confidence, place / BINS) for place in range(1, BINS)]
    by_bin = {}
    for value, right in pairs:
        by_bin.setdefault(sum(value > edge for edge in edges), []).append((value, right))
    gap = 0.0
    for inside in by_bin.values():
        values, rights = zip(*inside, strict=True)
        gap += len(inside) / len(pairs) * abs(sum(rights) / len(inside) - sum(values) / len(inside))
    assert found.compute_error() == pytest.approx(gap, **EQUAL)


def test_bins_of_distinct_confidences_hold_equally_many_images():
    confidence = np.random.default_rng(0).random(15 * 24)
    assert bin_by_confidence(confidence, confidence > 0.5).counts.tolist() == [24] * BINS


@given(st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_the_area_under_risk_and_coverage_is_the_mean_over_all_orders_of_equal_confidence(pairs):
    areas = []
    for order in permutations(pairs):
        if [value for value, _ in order] == sorted((value for value, _ in pairs), reverse=True):
            wrong = [not right for _, right in order]
            areas.append(sum(sum(wrong[:n]) / n for n in range(1, len(wrong) + 1)) / len(wrong))
    confidence, correct = (np.array(part) for part in zip(*pairs, strict=True))
    assert compute_aurc(confidence, correct) == pytest.approx(sum(areas) / len(areas), **EQUAL)


def test_the_temperature_is_that_of_scikit_learn():
    logits, labels = draw(2000, 5)
    found = fit_temperature(logits.astype(np.float32), labels)
    assert found == pytest.approx(1 / _TemperatureScaling().fit(logits, labels).beta_, rel=1e-5)
    assert found == float(f"{found:.6g}"), "the last digits depend on the batch size"
    arrays = predict(logits, labels)
    before, after = score_probabilities(arrays), score_probabilities(arrays, found)
    assert after["nll"] < before["nll"]
    assert after["ece"] < 0.5 * before["ece"]


def test_a_temperature_is_found_far_from_one_and_for_enormous_logits():
    logits, labels = draw(500, 3)
    usual = fit_temperature(logits, labels)
    for factor in (1e-2, 1e2):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor * usual, rel=1e-5)


def test_without_mistakes_or_knowledge_there_is_no_temperature():
    logits, labels = draw(50, 3)
    with pytest.raises(NoTemperature, match="classifies all of them correctly"):
        fit_temperature(logits, logits.argmax(1))
    with pytest.raises(NoTemperature, match="no better than guessing"):
        fit_temperature(logits, logits.argmin(1))
    with pytest.raises(NoTemperature, match="no better than guessing"):
        fit_temperature(np.zeros((50, 3)), labels)


def test_of_the_likeliest_classes_alone_only_the_confidence_is_scored():
    arrays = predict(*draw(200, 20))
    whole = score_probabilities(arrays)
    top = np.argsort(-arrays["probabilities"], axis=1, kind="stable")[:, :10]
    few = np.take_along_axis(arrays["probabilities"], top, axis=1)
    stored = arrays | {"probabilities": few, "top_classes": top, "num_classes": np.array(20)}
    assert score_probabilities(stored) == {name: whole[name] for name in ("ece", "aurc")}
    assert score_probabilities(stored, 2.0) == {}
    assert measure_reliability(stored, 2.0) is None


def test_nothing_is_scored_without_images_or_with_a_probability_that_is_not_finite():
    arrays = predict(*draw(3, 4))
    assert score_probabilities({name: values[:0] for name, values in arrays.items()}) == {}
    arrays["probabilities"][1, 2] = np.nan
    assert score_probabilities(arrays) == {}


def test_a_probability_that_has_become_0_costs_as_much_as_the_least_float32():
    arrays = {"labels": np.array([0]), "predictions": np.array([1]), "probabilities": np.float32([[0, 1]])}
    assert score_probabilities(arrays)["nll"] == pytest.approx(-np.log(np.finfo(np.float32).tiny))

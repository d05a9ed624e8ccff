"""Against scikit-learn, which computes the same curves and areas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve, top_k_accuracy_score

from cnnbench.metrics.ranking import (
    MOST_THRESHOLDS,
    compute_top_accuracy,
    list_thresholds,
    rank_class,
    rank_classes,
    score_ranking,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
# Few distinct values, so that many images have equal probabilities.
RANKED = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60)


@given(RANKED)
def test_curves_and_areas_equal_scikit_learn(pairs):
    positive, scores = np.array([one for one, _ in pairs]), np.array([score / 6 for _, score in pairs])
    found = rank_class(positive, scores)
    if not positive.any():
        assert np.isnan(found.roc_auc)
        assert np.isnan(found.average_precision)
        return
    assert found.average_precision == pytest.approx(average_precision_score(positive, scores), abs=1e-9)
    if positive.all():
        assert np.isnan(found.roc_auc)
        return
    assert found.roc_auc == pytest.approx(roc_auc_score(positive, scores), abs=1e-9)
    x, y, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, x[1:], atol=1e-9)
    np.testing.assert_allclose(found.sensitivity, y[1:], atol=1e-9)
    np.testing.assert_allclose(found.thresholds, thresholds[1:])


@given(st.integers(6, 14).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, 40), st.integers(0, 2**32 - 1))))
@settings(max_examples=50)
def test_top_five_accuracy_equals_scikit_learn_also_with_equal_probabilities(case):
    k, n, seed = case
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, k, n), random.integers(0, 5, (n, k)) / 4
    # Of equal ones scikit-learn takes the last for the likelier, and argmax the first.
    expected = top_k_accuracy_score(k - 1 - labels, probabilities[:, ::-1], k=5, labels=range(k))
    assert compute_top_accuracy(labels, probabilities) == pytest.approx(expected, abs=1e-9)
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :6]
    kept = np.take_along_axis(probabilities, likeliest, 1)
    assert compute_top_accuracy(labels, kept, likeliest) == pytest.approx(expected, abs=1e-9)


@given(st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.integers(20, 60), st.integers(0, 2**32 - 1))))
@settings(max_examples=30)
def test_mean_areas_of_a_few_classes_equal_scikit_learn(case):
    k, n, seed = case
    random = np.random.default_rng(seed)
    labels, probabilities = np.arange(n) % k, random.dirichlet(np.ones(k), n)
    found = score_ranking({"labels": labels, "probabilities": probabilities}, k)
    one_hot = np.eye(k)[labels]
    assert found["roc_auc"] == pytest.approx(roc_auc_score(one_hot, probabilities, average="macro"), abs=1e-9)
    expected = average_precision_score(one_hot, probabilities, average="macro")
    assert found["average_precision"] == pytest.approx(expected, abs=1e-9)
    assert score_ranking({"labels": labels % 1, "probabilities": probabilities}, k) == {}, "an area is undefined"
    assert list(score_ranking({"labels": labels, "probabilities": probabilities}, 11)) == ["top5_accuracy"]


def test_thresholds_list_the_counts_of_each_class_and_stay_few():
    labels, probabilities = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]])
    rows = list_thresholds(rank_classes(labels, probabilities), ["cat", "dog"])
    assert [row["class"] for row in rows] == ["cat"] * 3 + ["dog"] * 3
    assert rows[1] == {
        "class": "cat",
        "threshold": 0.6,
        "true_positives": 2,
        "false_positives": 1,
        "false_negatives": 0,
        "true_negatives": 1,
        "sensitivity": 1.0,
        "specificity": 0.5,
        "precision": 2 / 3,
    }
    many = np.random.default_rng(0).random(5000)
    rows = list_thresholds([rank_class(many > 0.5, many)], ["high"])
    assert len(rows) == MOST_THRESHOLDS
    assert [rows[0]["threshold"], rows[-1]["threshold"]] == [many.max(), many.min()]

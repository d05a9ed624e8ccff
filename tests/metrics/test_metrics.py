"""Against scikit-learn, which computes the same figures from the labels themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    recall_score,
)
from statsmodels.stats.proportion import proportion_confint

from cnnbench import registry
from cnnbench.metrics import (
    compute_accuracy_interval,
    compute_scores,
    count_confusion,
    list_metrics,
    score_classes,
)
from cnnbench.metrics.scores import compute_wilson_interval

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in scalar divide"),
]
CASES = st.integers(2, 12).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=80)
    )
)


def counted(k, pairs):
    return count_confusion(*np.array(pairs).T, k)


@given(CASES)
def test_confusion_and_scores_equal_scikit_learn(case):
    k, pairs = case
    labels, predictions = np.array(pairs).T
    confusion = counted(k, pairs)
    np.testing.assert_array_equal(confusion, confusion_matrix(labels, predictions, labels=range(k)))
    found = compute_scores(confusion)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert found["f1_macro"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions), abs=1e-9)
    assert found["mcc"] == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-9)
    kappa = cohen_kappa_score(labels, predictions)  # not a number if there is one class
    assert found["cohen_kappa"] == pytest.approx(0 if np.isnan(kappa) else kappa, abs=1e-9)


@given(CASES)
def test_scores_of_each_class_equal_scikit_learn(case):
    k, pairs = case
    labels, predictions = np.array(pairs).T
    rows = score_classes(counted(k, pairs), [f"c{i}" for i in range(k)])
    expected = precision_recall_fscore_support(labels, predictions, labels=range(k), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], values)
    for number, row in enumerate(rows):
        rest = recall_score(labels != number, predictions != number, zero_division=0)
        assert row["specificity"] == pytest.approx(rest, abs=1e-9)


@given(st.integers(0, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_wilson_interval_equals_statsmodels(counts):
    right, total = counts
    found = compute_wilson_interval(right, total)
    assert found == pytest.approx(proportion_confint(right, total, method="wilson") if total else (0, 1), abs=1e-9)
    assert 0 <= found[0] <= (right / total if total else 0) <= found[1] <= 1
    confusion = np.array([[right, total - right], [0, 0]])
    assert tuple(compute_accuracy_interval(confusion).values()) == found


def test_details_stay_out_of_the_tables_of_runs():
    shown, details = ([metric.name for metric in list_metrics(detail=detail)] for detail in (False, True))
    assert shown[:2] == ["accuracy", "f1_macro"]
    assert {"balanced_accuracy", "cohen_kappa", "mcc"} <= set(details)
    assert sorted(shown + details) == registry.list_names("metric")


def test_rows_are_true_classes_and_columns_predicted_ones():
    confusion = counted(3, [(0, 2)])
    assert confusion[0, 2] == 1
    assert confusion.sum() == 1


def test_scores_of_no_images_are_zero():
    assert set(compute_scores(np.zeros((3, 3), dtype=np.int64)).values()) == {0.0}


def test_every_registered_metric_is_in_the_scores():
    assert list(compute_scores(np.eye(2, dtype=np.int64))) == registry.list_names("metric")


def test_many_classes_are_counted_in_little_memory_and_scored_alike():
    pairs = [(i % 900, (i * 7) % 900) for i in range(5000)]
    few, many = counted(900, pairs), counted(20_000, pairs)
    assert many.data.nbytes < 2**17, "not 3 GB"
    np.testing.assert_array_equal(many[:900, :900].toarray(), few)
    assert compute_scores(many) == compute_scores(few)
    names = [str(k) for k in range(20_000)]
    assert score_classes(many, names)[:900] == score_classes(few, names[:900])

"""The report of a cross-validation: its test, its table and its words."""

import math

import numpy as np
import pytest
from run_builders import write_run
from scipy import stats

from cnnbench.report.latex import format_latex
from cnnbench.report.page import render_page
from cnnbench.report.planning import plan_seeds
from cnnbench.report.reading import DifferentTestSets, read_study
from cnnbench.report.statistics import compare_folds, compare_pairs, compute_equivalence_p, estimate
from cnnbench.report.writing import write_report
from cnnbench.storage.csv_tables import read_csv

FIRST = (0.90, 0.93, 0.91, 0.92, 0.90)
SECOND = (0.95, 0.96, 0.97, 0.95, 0.96)


def write_folds(folder, model, accuracies, *, folds=5, seed=0):
    for fold, accuracy in enumerate(accuracies, 1):
        test_set = f"{folds}{seed}{fold}".ljust(64, "a")
        where = {"model__name": model, "data__folds": folds, "data__fold": fold, "test_set": test_set}
        write_run(folder / f"{model}{seed}{folds}{fold}", seed, round(1000 * accuracy), **where)


@pytest.fixture
def two_groups(tmp_path):
    write_folds(tmp_path / "s", "lenet5", FIRST)
    write_folds(tmp_path / "s", "mlp", SECOND)
    return tmp_path / "s"


def compute_t(differences, folds):
    """The formula of Nadeau and Bengio (2003), written again: n2 / n1 is 1 / (K - 1)."""
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((value - mean) ** 2 for value in differences) / (n - 1)
    error = math.sqrt((1 / n + 1 / (folds - 1)) * variance)
    half = stats.t.ppf(0.975, n - 1) * error
    return 2 * stats.t.sf(abs(mean / error), n - 1), mean - half, mean + half


@pytest.mark.parametrize(("folds", "seeds"), [(2, 1), (5, 1), (10, 3)])
def test_the_corrected_test_is_that_of_nadeau_and_bengio(folds, seeds):
    first, second = np.random.default_rng(0).normal(0.9, 0.02, (2, folds * seeds))
    found = compare_folds(first, second, 1 / (folds - 1))
    assert (found.p_t, found.low, found.high) == pytest.approx(compute_t(first - second, folds), rel=1e-9)
    assert found.p_flip is None
    assert found.p_t > compare_pairs(first, second).p_t
    assert estimate(first, 1 / (folds - 1)).low == pytest.approx(compute_t(first, folds)[1], rel=1e-9)
    without = compare_folds(first, second, 0)
    assert without.p_t == pytest.approx(compare_pairs(first, second).p_t, rel=1e-9)


def test_equivalence_is_corrected_too():
    differences, n = np.array([0.001, -0.002, 0.0015, 0.0, -0.001]), 5
    error = math.sqrt((1 / n + 1 / 4) * differences.var(ddof=1))
    t = min(0.004 + differences.mean(), 0.004 - differences.mean()) / error
    assert compute_equivalence_p(differences, 0.004, 1 / 4) == pytest.approx(stats.t.sf(t, n - 1), rel=1e-9)


def test_folds_are_paired_and_have_a_test_of_their_own(two_groups):
    study = read_study([two_groups])
    (found,) = study.comparisons
    p, low, high = compute_t(np.array(SECOND) - np.array(FIRST), 5)
    assert (found.kind, found.p_flip, found.anytime, found.seeds_needed) == ("folds", None, None, None)
    assert (found.p, found.low, found.high) == pytest.approx((p, low, high), rel=1e-6)
    assert found.words.startswith("better (p = 0.0")
    assert found.words.endswith(", corrected resampled t-test, n = 5 folds)")
    assert [(group.n, group.folds) for group in study.groups] == [(5, 5), (5, 5)]
    assert sum("Nadeau and Bengio" in note.text for note in study.notes) == 1
    assert not any("drawn by the seed" in note.text or "Fix the number" in note.text for note in study.notes)


def test_several_seeds_are_one_test_over_all_folds(two_groups):
    write_folds(two_groups, "lenet5", FIRST[::-1], seed=1)
    write_folds(two_groups, "mlp", SECOND, seed=1)
    (found,) = read_study([two_groups]).comparisons
    differences = np.array([*SECOND, *SECOND]) - np.array([*FIRST, *FIRST[::-1]])
    assert (found.kind, found.n_a) == ("folds", 10)
    assert found.p == pytest.approx(compute_t(differences, 5)[0], rel=1e-6)


def test_other_folds_and_seeds_are_not_mixed_with_them(two_groups):
    for seed in range(6):
        write_run(two_groups / f"whole{seed}", seed, 990, test_set="b" * 64)
    study = read_study([two_groups], baseline="model=lenet5 data.folds=5")
    words = {one.a: one.words for one in study.comparisons}
    assert words.pop("model=mlp data.folds=5").endswith("corrected resampled t-test, n = 5 folds)")
    assert {*words.values()} == {"no test: the groups were not tested on the same images"}
    write_folds(two_groups, "mlp", SECOND[:4], folds=4)
    with pytest.raises(DifferentTestSets):
        read_study([two_groups])
    study = read_study([two_groups], baseline="model=mlp data.folds=5", strict=False)
    assert {one.a: one.kind for one in study.comparisons}["model=mlp data.folds=4"] == "welch"
    assert sum(one.verdict == "no test" for one in study.comparisons) == 2


@pytest.mark.parametrize(("done", "words"), [(1, "no test: it needs two folds or more"), (2, "better (p = ")])
def test_folds_that_have_not_finished_are_left_out(done, words, tmp_path):
    write_folds(tmp_path / "s", "lenet5", (0.5, 0.501, 0.5, 0.5, 0.5)[: done + 1])
    write_folds(tmp_path / "s", "mlp", (0.9, 0.91)[:done])
    study = read_study([tmp_path / "s"])
    (found,) = study.comparisons
    assert (found.kind, found.n_a) == ("folds", done)
    assert found.words.startswith(words)
    assert sum("both have finished" in note.text for note in study.notes) == 1


def test_every_file_of_the_report_shows_the_folds_and_names_the_test(two_groups):
    study = write_report([two_groups], two_groups / "out", latex=True)
    texts = {name: (two_groups / "out" / name).read_text() for name in ("report.md", "report.html", "report.tex")}
    for name, text in texts.items():
        assert "corrected resampled t-test" in text, name
        assert "Nadeau and Bengio" in text, name
        assert "fold 5" in text, name
        assert "97.00" in text, name  # the best fold of mlp
    assert "<h2>Folds (test accuracy)</h2>" in render_page(study)
    assert "seeds" not in format_latex(study).partition("Accuracy on each held-out fold")[2]
    rows = read_csv(two_groups / "out" / "results.csv")
    assert {(row["group"], row["seed"]) for row in rows} == {("model=lenet5", "0"), ("model=mlp", "0")}
    first, second = read_csv(two_groups / "out" / "groups.csv")
    assert (first["folds"], second["folds"], second["kind"]) == ("5", "5", "folds")
    assert second["p_flip"] == second["anytime_verdict"] == ""


def test_plan_refuses_folds(two_groups):
    with pytest.raises(ValueError, match=r"cross-validation.*plan needs runs of sweep\.seeds=N"):
        plan_seeds(read_study([two_groups]), 0.01)

"""The table at the end of a sweep, from run folders written by hand; statistics against scipy."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from cnnbench import results
from cnnbench.report.comparison import cells, compare, paired, write_comparison
from cnnbench.results import RunFolder

VALUES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20)


@given(VALUES)
def test_paired_figures_equal_scipys(pairs):
    first, second = np.array(pairs).T
    assume(np.std(first - second) > 1e-6)
    found = paired(dict(enumerate(first)), dict(enumerate(second)))
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.mean == pytest.approx(np.mean(first - second), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_only_seeds_that_both_have_are_paired():
    found = paired({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.7, 0: 0.7, 9: 0.3})
    assert found.n == 2
    assert found.mean == pytest.approx(0.15)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_one_pair_has_no_interval_and_equal_differences_no_p():
    single = paired({0: 0.75}, {0: 0.5})
    assert (single.mean, single.low, single.high, single.p) == (0.25, None, None, None)
    assert paired({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25}).p is None


def write_run(folder, number, overrides, seed, accuracy, *, state="finished", labels="x"):
    path = folder / str(number)
    path.mkdir()
    run = RunFolder(path)
    run.start({"model": {"name": "mlp"}}, [*overrides, f"seed={seed}"], {})
    run.set_status(state)
    if state == "finished":
        scores = {"test/accuracy": accuracy, "test/f1_macro": accuracy, "test/loss": 0.1}
        size = {"parameters": 1234, "macs": 5678, "receptive_field": 16, "train_seconds": 2.0}
        about = {"model": "mlp", "data": "digits", "seed": seed, "test_labels_sha256": labels}
        run.write_summary({**about, **size, **scores})


@pytest.fixture
def sweep(tmp_path):
    reference = {"model=lenet5": {"accuracy": 0.9871, "f1_macro": 0.987}}
    asked = {"axes": ["model", "seed"], "baseline": "model=mlp", "reference": reference}
    results.write_yaml(tmp_path / "sweep.yaml", asked)
    figures = {"lenet5": [0.98, 0.99, 0.97], "mlp": [0.96, 0.95, 0.96]}
    for i, (model, seed) in enumerate((m, s) for m in figures for s in range(3)):
        write_run(tmp_path, i, [f"model={model}"], seed, figures[model][seed])
    return tmp_path


def test_groups_show_n_mean_spread_difference_and_reference(sweep):
    compared = compare(sweep)
    assert [(g.label, len(g.accuracy)) for g in compared.groups] == [("model=lenet5", 3), ("model=mlp", 3)]
    lenet5, mlp = compared.groups
    assert mlp.difference is None, "the baseline is not compared with itself"
    expected = stats.ttest_rel([0.98, 0.99, 0.97], [0.96, 0.95, 0.96])
    assert lenet5.difference.p == pytest.approx(expected.pvalue)
    header, rows = cells(compared)
    row = dict(zip(header, rows[0], strict=True))
    assert row["accuracy %"] == "98.00 ± 1.00"
    assert row["difference, points [95 %]"] == "+2.33 [-1.46, +6.13]"
    assert row["course's accuracy %"] == "98.71"
    assert any("n = 3 seeds is few" in note for note in compared.notes)


def test_an_unfinished_run_is_listed_but_not_counted(sweep):
    write_run(sweep, 6, ["model=mlp"], 9, None, state="failed")
    compared = compare(sweep)
    assert [len(g.accuracy) for g in compared.groups] == [3, 3]
    assert compared.runs[-1]["state"] == "failed"
    assert "Not finished, and not in the table: 6." in compared.notes


def test_other_test_images_are_not_compared(sweep):
    for seed in range(3):
        write_run(sweep, 10 + seed, ["model=other"], seed, 0.5, labels="y")
    compared = compare(sweep)
    assert compared.groups[-1].difference is None
    assert any("other images" in note for note in compared.notes)


def test_files_hold_the_same_figures(sweep):
    compared = compare(sweep)
    write_comparison(compared, sweep)
    runs = results.read_csv(sweep / "results.csv")
    assert [float(row["test/accuracy"]) for row in runs] == [0.98, 0.99, 0.97, 0.96, 0.95, 0.96]
    groups = results.read_csv(sweep / "comparison.csv")
    assert float(groups[0]["accuracy_mean"]) == pytest.approx(0.98)
    assert float(groups[0]["difference_p"]) == compared.groups[0].difference.p
    lines = (sweep / "comparison.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1


def test_hostile_labels_cannot_break_the_markdown_table(tmp_path):
    results.write_yaml(tmp_path / "sweep.yaml", {"axes": ["name"], "baseline": None, "reference": {}})
    write_run(tmp_path, 0, ["name=a|b<script>"], 0, 0.5)
    write_comparison(compare(tmp_path), tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    assert "a\\|b&lt;script&gt;" in text
    assert "<script>" not in text


def test_a_sweep_without_a_finished_run_has_an_empty_table(tmp_path):
    results.write_yaml(tmp_path / "sweep.yaml", {"axes": ["seed"], "baseline": None, "reference": {}})
    write_run(tmp_path, 0, [], 0, None, state="failed")
    compared = compare(tmp_path)
    write_comparison(compared, tmp_path)
    assert compared.groups == []

"""The study of run folders written by hand: groups, verdicts, refusals, notes."""

import os
import shutil

import numpy as np
import pytest
from run_builders import write_run
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from cnnbench.cli import compose
from cnnbench.config.schema import to_dict
from cnnbench.report import runs as report_runs
from cnnbench.report.csv_rows import list_runs
from cnnbench.report.formatting import format_p
from cnnbench.report.reading import DifferentTestSets, read_study
from cnnbench.storage.plain_data import write_json, write_yaml


def write_group(folder, rights, *, first=0, **changes):
    for seed, right in enumerate(rights, first):
        write_run(folder / f"{len(list(folder.iterdir())) if folder.is_dir() else 0}", seed, right, **changes)


@pytest.fixture
def two_groups(tmp_path):
    """mlp and lenet5, six seeds each, the second better with every seed."""
    write_group(tmp_path / "sweep", [900, 905, 898, 902, 901, 899], model__name="mlp")
    write_group(tmp_path / "sweep", [950, 951, 949, 953, 950, 947], model__name="lenet5")
    return tmp_path / "sweep"


def labels(study):
    return [group.label for group in study.groups]


def note(study, words):
    found = [one.text for one in study.notes if words in one.text]
    assert len(found) == 1, study.notes
    return found[0]


def test_runs_that_differ_only_in_their_seed_are_a_group(two_groups):
    study = read_study([two_groups])
    assert [(group.label, group.n, group.seeds) for group in study.groups] == [
        ("model=mlp", 6, [0, 1, 2, 3, 4, 5]),
        ("model=lenet5", 6, [0, 1, 2, 3, 4, 5]),
    ]
    assert study.axes == ["model.name"]
    lenet5 = study.groups[1]
    assert lenet5.costs == {"parameters": 1234, "macs": 5678, "receptive_field": 16, "depth": 5}
    assert lenet5.collect_figures("train_seconds") == {seed: 2.0 + seed for seed in range(6)}
    assert lenet5.estimate_of("accuracy").mean == pytest.approx(0.95)


def test_a_label_holds_the_fewest_keys_that_tell_groups_apart(tmp_path):
    write_run(tmp_path / "a", 0, model__name="mlp", optimizer__lr=0.1, model__hidden=[8, 8])
    write_run(tmp_path / "b", 0, model__width=2.0, model__kernel=5)
    write_run(tmp_path / "c", 0, model__width=0.5, model__kernel=5)
    study = read_study([tmp_path])
    assert labels(study) == ["model=mlp model.width=1", "model=lenet5 model.width=2", "model=lenet5 model.width=0.5"]
    # lr differs with the model, and neither is an option of one model alone.
    assert "also differ in optimizer.lr:" in note(study, "also differ")


def test_where_a_run_lies_and_how_it_is_watched_does_not_part_it_from_its_group(tmp_path):
    write_run(tmp_path / "a", 0, name="mine", tags=["x"], data__root="/there", logger__name="tensorboard")
    write_run(tmp_path / "b", 1, name="other", comparison__baseline="model=mlp", trainer__keep=4)
    (group,) = read_study([tmp_path / "a", tmp_path / "b"]).groups
    assert (group.label, group.n) == ("model=lenet5 data=digits", 2)


def test_a_key_that_is_null_is_as_good_as_none(tmp_path):
    write_run(tmp_path / "a", 0, trainer__patience=None)
    write_run(tmp_path / "b", 1)
    assert len(read_study([tmp_path]).groups) == 1


def test_six_seeds_that_agree_are_better_by_the_sign_flip_test(two_groups):
    (found,) = read_study([two_groups]).comparisons
    expected = stats.ttest_rel([0.950, 0.951, 0.949, 0.953, 0.950, 0.947], [0.9, 0.905, 0.898, 0.902, 0.901, 0.899])
    assert (found.a, found.b, found.kind, found.n_a) == ("model=lenet5", "model=mlp", "paired", 6)
    assert found.p_t == pytest.approx(expected.pvalue, rel=0, abs=1e-9)
    assert found.p_flip == found.p == found.p_holm == 2 / 64
    assert (found.verdict, found.words) == ("better", "better (p = 0.031, n = 6)")


def test_the_other_way_round_it_is_worse(two_groups):
    (found,) = read_study([two_groups], baseline="model=lenet5").comparisons
    assert (found.a, found.b, found.verdict) == ("model=mlp", "model=lenet5", "worse")
    assert found.mean < 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_than_six_seeds_show_nothing_however_large_the_difference(n, tmp_path):
    write_group(tmp_path / "s", range(100, 100 + n), model__name="mlp")
    write_group(tmp_path / "s", range(900, 900 + n))
    (found,) = read_study([tmp_path]).comparisons
    assert found.verdict == "too few seeds"
    many = "both" if n == 2 else f"all {n}"
    assert found.words == f"ahead in {many} seeds; a verdict needs 6 seeds: add sweep.seeds=6"


def test_too_few_seeds_say_what_they_have_seen(tmp_path):
    write_group(tmp_path / "s", [900, 910, 905], model__name="mlp")
    write_group(tmp_path / "s", [918, 932, 925])
    write_group(tmp_path / "t", [918, 910, 900], model__width=2.0)
    study = read_study([tmp_path])
    found = {(c.a, c.b): c for c in study.comparisons}
    first, second, third = found.values()
    assert first.words == ("ahead in all 3 seeds; a verdict needs 7 seeds with 3 comparisons: add sweep.seeds=7")
    assert first.low == pytest.approx(0.02 - stats.t.ppf(0.975, 2) * 0.002 / 3**0.5)
    assert second.words.startswith("ahead on average, in 1 of 3 seeds; ")
    assert third.words.startswith("behind on average, in 2 of 3 seeds; ")
    assert {c.verdict for c in study.comparisons} == {"too few seeds"}
    assert "14.6 %" in note(study, "Fix the number of seeds before you look")


def test_no_verdict_comes_from_fewer_seeds_unpaired_than_paired(tmp_path):
    for n, verdict in ((2, "too few seeds"), (5, "too few seeds"), (6, "worse")):
        folder = tmp_path / str(n)
        write_group(folder, [900 + seed % 2 for seed in range(n)])
        write_group(folder, [800 + seed % 3 for seed in range(n)], first=100, model__name="mlp")
        (found,) = read_study([folder]).comparisons
        assert (found.kind, found.verdict) == ("welch", verdict)
        assert found.p_t < 0.001
        assert ("a verdict needs 6 seeds of each: add sweep.seeds=6" in found.words) == (n < 6)


def test_more_comparisons_need_more_seeds(tmp_path):
    for width in range(5):
        write_group(tmp_path / "s", range(900, 906), model__width=width + 1.0)
    study = read_study([tmp_path], baseline="model.width=1")
    assert len(study.comparisons) == 4
    assert study.comparisons[0].words == (
        "level in all 6 seeds; a verdict needs 8 seeds with 4 comparisons: add sweep.seeds=8"
    )


def test_one_seed_is_no_test(tmp_path):
    write_run(tmp_path / "a", 0, 100, model__name="mlp")
    write_run(tmp_path / "b", 0, 900)
    (found,) = read_study([tmp_path]).comparisons
    assert (found.verdict, found.p, found.low) == ("too few seeds", None, None)
    assert found.words == ("ahead in the one seed in common; a verdict needs 6 seeds: add sweep.seeds=6")


def test_without_seeds_in_common_it_is_welch(tmp_path):
    fewer, more = [900, 905, 898, 901, 899, 902], [950, 951, 949, 953, 950, 948, 952]
    write_group(tmp_path / "s", fewer, model__name="mlp")
    write_group(tmp_path / "s", more, first=10)
    (found,) = read_study([tmp_path]).comparisons
    expected = stats.ttest_ind(np.array(more) / 1000, np.array(fewer) / 1000, equal_var=False)
    assert (found.kind, found.n_a, found.n_b, found.p_flip) == ("welch", 7, 6, None)
    assert found.p == found.p_t == pytest.approx(expected.pvalue, rel=0, abs=1e-9)
    assert found.words == "better (p < 0.0001, n = 7 and 6)"
    assert found.effect_name == "Hedges' g"


def test_only_seeds_in_common_are_paired_and_it_is_said(tmp_path):
    write_group(tmp_path / "s", [900, 905, 898], model__name="mlp")
    write_group(tmp_path / "s", [950, 951, 949, 953], first=1)
    study = read_study([tmp_path])
    (found,) = study.comparisons
    assert (found.kind, found.n_a) == ("paired", 2)
    assert found.mean == pytest.approx(np.mean([0.950 - 0.905, 0.951 - 0.898]))
    assert "share 2 of their 4 and 3 seeds" in note(study, "share 2")


def test_three_groups_are_all_compared_and_more_only_with_the_first(tmp_path):
    for number in range(4):
        write_group(tmp_path / "s", [900, 901], model__width=number + 1.0)
        pairs = [(found.a, found.b) for found in read_study([tmp_path]).comparisons]
        names = [f"model.width={width}" for width in range(1, number + 2)]
        if number == 2:
            assert pairs == [(names[1], names[0]), (names[2], names[0]), (names[2], names[1])]
    assert pairs == [(name, names[0]) for name in names[1:]]
    assert "Use --baseline to choose another." in note(read_study([tmp_path]), "No baseline was named")


def test_holm_makes_up_for_several_comparisons(tmp_path):
    rights = np.random.default_rng(0).integers(850, 950, (4, 8))
    rights[3] = rights[0] + np.arange(20, 28)
    for width, row in enumerate(rights.tolist(), 1):
        write_group(tmp_path / "s", row, model__width=float(width))
    study = read_study([tmp_path])
    from statsmodels.stats.multitest import multipletests

    ps = [found.p for found in study.comparisons]
    assert [found.p_holm for found in study.comparisons] == pytest.approx(multipletests(ps, method="holm")[1])
    assert study.comparisons[2].words == "better (p = 0.023 after Holm, n = 8)"


def test_two_networks_are_compared_image_by_image(tmp_path):
    random = np.random.default_rng(1)
    first, second = random.random(1000) < 0.9, random.random(1000) < 0.93
    write_run(tmp_path / "a", 3, first, model__name="mlp")
    write_run(tmp_path / "b", 3, second)
    (found,) = read_study([tmp_path]).mcnemar
    expected = mcnemar([[0, (second & ~first).sum()], [(first & ~second).sum(), 0]], exact=True)
    assert (found.a, found.b, found.images) == ("b", "a", 1000)
    assert (found.only_a, found.only_b) == ((second & ~first).sum(), (first & ~second).sum())
    assert found.p == pytest.approx(expected.pvalue, rel=0, abs=1e-9)
    assert found.verdict == ("more of these images right" if expected.pvalue < 0.05 else "no difference shown")


def test_two_runs_that_differ_in_the_seed_alone_are_compared_image_by_image(tmp_path):
    write_run(tmp_path / "a", 0, 900)
    write_run(tmp_path / "b", 1, 930)
    study = read_study([tmp_path / "a", tmp_path / "b"])
    assert study.comparisons == []
    assert [(found.a, found.b, found.only_a, found.only_b) for found in study.mcnemar] == [("b", "a", 30, 0)]
    assert study.mcnemar[0].p == pytest.approx(2 / 2**30)


@pytest.mark.parametrize("data", ["image_folder", "csv_signals"])
def test_two_seeds_share_the_test_images_of_ones_own_data(data, tmp_path):
    write_run(tmp_path / "a", 0, 900, data__name=data)
    write_run(tmp_path / "b", 1, 930, data__name=data)
    assert [(found.only_a, found.only_b) for found in read_study([tmp_path]).mcnemar] == [(30, 0)]


def test_different_test_sets_are_refused_and_named(tmp_path):
    write_group(tmp_path / "s", [900, 901], model__name="mlp")
    write_group(tmp_path / "t", [900, 901], test_set="b" * 64, data__name="mnist")
    with pytest.raises(DifferentTestSets, match="different test sets") as refused:
        read_study([tmp_path])
    assert [[run.name for run in runs] for runs in refused.value.runs_by_set.values()] == [
        ["s/0", "s/1"],
        ["t/0", "t/1"],
    ]
    assert "aaaaaaaaaaaa (digits, 1000 images): s/0, s/1; bbbbbbbbbbbb (mnist, 1000 images): t/0, t/1" in str(
        refused.value
    )
    study = read_study([tmp_path], strict=False)
    assert [found.words for found in study.comparisons] == ["no test: the groups were not tested on the same images"]
    assert study.mcnemar == []
    assert note(study, "different test sets")


def test_equal_labels_of_other_images_are_another_test_set(tmp_path):
    for number, hashed in enumerate(("c" * 64, "d" * 64)):
        run = write_run(tmp_path / str(number), 0, 900 + number, model__name=("mlp", "lenet5")[number])
        run.write_summary(run.read_summary() | {"test_set_sha256": hashed})
    with pytest.raises(ValueError, match=r"different test sets.*cccccccccccc.*dddddddddddd"):
        read_study([tmp_path], strict=True)
    study = read_study([tmp_path], strict=False)
    assert study.mcnemar == []
    assert all(comparison.p is None for comparison in study.comparisons)


def test_a_rerun_on_other_test_images_is_refused_too(tmp_path):
    write_run(tmp_path / "a", 0)
    write_run(tmp_path / "b", 0, test_set="b" * 64)
    with pytest.raises(ValueError, match="different test sets"):
        read_study([tmp_path])


def test_a_test_split_that_the_seed_cuts_is_compared_seed_by_seed_only(tmp_path):
    for seed in range(3):
        for model in ("mlp", "lenet5"):
            write_run(tmp_path / f"{model}{seed}", seed, test_set=str(seed) * 64, model__name=model)
    study = read_study([tmp_path])
    assert [(found.kind, found.n_a) for found in study.comparisons] == [("paired", 3)]
    assert note(study, "drawn by the seed")


def test_folders_that_are_named_twice_count_once(two_groups):
    other = two_groups.parent / "sweep/../sweep"
    assert len(read_study([two_groups, other, two_groups / "3"]).runs) == 12


def test_of_two_runs_with_the_same_config_and_seed_the_latest_counts(tmp_path):
    for name, right, updated in (("a", 900, "2026-01-02"), ("b", 910, "2026-01-03"), ("c", 905, "2026-01-01")):
        run = write_run(tmp_path / name, 0, right)
        write_json(run.path / "status.json", {"state": "finished", "updated": updated})
    study = read_study([tmp_path])
    assert [(run.name, run.counted) for run in study.runs] == [("a", False), ("b", True), ("c", False)]
    assert study.groups[0].accuracy == {0: 0.91}
    assert "3 finished runs of the same config, with different results" in note(study, "seed 0")


def test_runs_of_several_people_count_apart_by_name_or_tag(tmp_path):
    for number, (name, tags) in enumerate((("anna", ["a", "b"]), ("ben", ["a", "b"]), ("ben", []))):
        for seed in range(2):
            write_run(tmp_path / f"{number}{seed}", seed, 900 + number, name=name, tags=tags)
    study = read_study([tmp_path])
    assert [group.n for group in study.groups] == [2]
    said = note(study, "seed 0")
    assert "(00, 10, 20). They count as one, the latest: " in said
    assert said.endswith(" Their names differ (anna, ben): --by name makes separate groups of them.")
    study = read_study([tmp_path], by="name", baseline="name=ben")
    assert [(group.label, group.n) for group in study.groups] == [("name=anna", 2), ("name=ben", 2)]
    assert study.comparisons[0].a == "name=anna"
    assert note(study, "seed 1").endswith("Their tags differ (a, b, none): --by tag makes separate groups of them.")
    study = read_study([tmp_path], by="tag")
    assert labels(study) == ["tag=a, b", "tag=unset"]
    rows = list_runs(study)
    assert [(row["name"], row["tags"]) for row in rows[::2]] == [("anna", "a, b"), ("ben", "a, b"), ("ben", "")]
    with pytest.raises(ValueError, match="--by student: must be name or tag"):
        read_study([tmp_path], by="student")


def test_runs_that_are_not_finished_are_listed_and_not_counted(two_groups):
    write_run(two_groups / "20", 7, state="failed", message="ValueError: the loss became nan", model__name="mlp")
    write_run(two_groups / "21", 8, state="running", model__name="mlp")
    write_run(two_groups / "22", 0, state="interrupted", model__name="vgg_mini")
    (two_groups / "23").mkdir()
    write_yaml(two_groups / "sweep.yaml", {"jobs": [[]] * 17})
    study = read_study([two_groups])
    assert [group.n for group in study.groups] == [6, 6]
    assert [run.state for run in study.runs[12:]] == ["failed", "running", "interrupted"]
    assert "20. 20: ValueError: the loss became nan." in note(study, "1 of 15 runs failed and is not counted")
    assert note(study, "2 of the 17 jobs of sweep have not started.")
    assert not [
        text for text in read_study([two_groups / "3", two_groups / "4"]).notes if "have not started" in text.text
    ]


def test_a_sweep_that_has_just_begun_is_an_empty_study(tmp_path):
    write_yaml(tmp_path / "sweep.yaml", {"jobs": [["seed=0"], ["seed=1"]]})
    study = read_study([tmp_path])
    assert (study.runs, study.groups, study.comparisons) == ([], [], [])
    assert "2 of the 2 jobs" in study.notes[0].text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", b"a: [", "config.yaml is damaged"),
        ("config.yaml", b"", "config.yaml is damaged"),
        ("status.json", b"[]", "status.json is damaged"),
        ("status.json", b'{"state": "finished"', "status.json is damaged"),
        ("summary.json", b"\xff", "summary.json is damaged"),
        ("summary.json", b"{}", "summary.json is damaged: test_labels_sha256 is missing"),
        ("summary.json", b'{"test/accuracy": 2, "test/f1_macro": 1}', "test/accuracy=2: must be from 0 to 1"),
        ("summary.json", b'{"test/accuracy": 1, "test/f1_macro": NaN}', "test/f1_macro=nan: must be from 0 to 1"),
        ("summary.json", b'{"train_seconds": Infinity}', "train_seconds=inf: must be from 0 to"),
        ("summary.json", b'{"parameters": "<script>"}', "parameters='<script>'"),
        ("summary.json", None, "no summary.json"),
        ("env.json", b"[1]", "env.json is damaged"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_compared(name, content, words, two_groups):
    path = two_groups / "2" / name
    path.unlink() if content is None else path.write_bytes(content)
    study = read_study([two_groups])
    assert words in note(study, "1 of 12 runs is damaged and is not counted: 2.")
    assert [group.n for group in study.groups] == [5, 6]


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_damaged_predictions_cost_only_the_mcnemar_test(content, two_groups):
    path = two_groups / "0" / "predictions.npz"
    path.unlink() if content is None else path.write_bytes(content)
    study = read_study([two_groups])
    assert study.comparisons[0].verdict == "better"
    assert study.mcnemar == []
    assert note(study, "No McNemar test of 6 and 0")


def test_a_run_that_vanishes_while_it_is_read_is_one_run_less(two_groups, monkeypatch):
    real = report_runs._read_run

    def read(path, name):
        if name == "4":
            shutil.rmtree(path)
        return real(path, name)

    monkeypatch.setattr(report_runs, "_read_run", read)
    study = read_study([two_groups])
    assert (study.runs[4].state, [group.n for group in study.groups]) == ("damaged", [5, 6])


def test_runs_without_classes_are_listed_with_their_loss(tmp_path):
    write_group(tmp_path / "s", [900, 901])
    write_group(tmp_path / "s", [None, None], model__name="conv_autoencoder")
    study = read_study([tmp_path])
    assert study.groups[1].collect_figures("test/loss") == {0: 0.25, 1: 0.25}
    assert study.groups[1].estimate_of("accuracy") is None
    assert (study.comparisons, study.mcnemar) == ([], [])
    assert "model=conv_autoencoder" in note(study, "Without classes")
    write_group(tmp_path / "a", [800, 801], model__name="mlp")
    study = read_study([tmp_path / "s" / "2", tmp_path / "s" / "3", tmp_path])
    assert labels(study)[0] == "model=conv_autoencoder"
    assert study.baseline == "model=mlp"
    assert [(found.a, found.b) for found in study.comparisons] == [("model=lenet5", "model=mlp")]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("model=vgg", "no group with an accuracy"),
        ("data=digits", "names 2 groups"),
        ("", "no group"),
        ("x", "no group"),
    ],
)
def test_a_baseline_must_be_one_group(asked, words, two_groups):
    with pytest.raises(ValueError, match=words) as refused:
        read_study([two_groups], baseline=asked)
    assert "must be one of 'model=mlp', 'model=lenet5'" in str(refused.value)


def test_the_experiments_baseline_and_published_figures_are_used(tmp_path):
    about = {"baseline": "model=lenet5", "reference": {"model=mlp": {"accuracy": 0.96, "f1_macro": "high"}}}
    about["protocol"] = {"trainer": {"epochs": 3, "patience": None}, "model": {"width": 1, "kernel_size": 5}}
    for model in ("mlp", "lenet5"):
        write_group(tmp_path / "s", [900, 901], model__name=model, comparison=about)
    study = read_study([tmp_path])
    assert study.baseline == "model=lenet5"
    assert [group.reference for group in study.groups] == [{"accuracy": 0.96}, {}]
    assert not [text for text in study.notes if "published" in text.text]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer__epochs": 2}, "trainer.epochs=3 (not 2)"),
        ({"model__width": 2.0}, "model.width=1 (not 2)"),
        ({"trainer__patience": 4, "data__name": "mnist"}, "trainer.patience=unset (not 4), data=digits (not mnist)"),
        ({"protocol": {}}, "a protocol that comparison.protocol does not state"),
    ],
    ids=str,
)
def test_published_figures_stand_beside_runs_of_their_protocol_alone(changes, words, tmp_path):
    about = {"reference": {"model=mlp": {"accuracy": 0.96}}}
    about["protocol"] = {"trainer": {"epochs": 3, "patience": None}, "model": {"width": 1}, "data": {"name": "digits"}}
    about["protocol"] = changes.pop("protocol", about["protocol"])
    write_run(tmp_path / "0", 0, model__name="mlp", comparison=about, **changes)
    study = read_study([tmp_path])
    assert study.groups[0].reference == {}
    assert words in note(study, "No published figures of model=mlp")


@pytest.mark.parametrize("experiment", ["mlp_vs_lenet5", "lenet5_width_depth"])
def test_an_experiment_follows_the_protocol_of_its_published_figures(experiment, tmp_path):
    for number, more in enumerate(([], ["trainer.epochs=3"], ["data.train_limit=6000"], ["model.norm=batch"])):
        job = compose.compose_request([f"experiment={experiment}", *more, "model=lenet5", "seed=0"]).jobs[0]
        run = write_run(tmp_path / str(number), 0)
        write_yaml(run.path / "config.yaml", to_dict(job.config))
        change = {"model": "lenet5", "data": "mnist"}
        run.write_summary(run.read_summary() | change)
    references = {run.name: run.group for run in read_study([tmp_path]).runs}
    published = {group.runs[0].name: group.reference for group in read_study([tmp_path]).groups}
    assert published == {"0": {"accuracy": 0.9871, "f1_macro": 0.987}, "1": {}, "2": {}, "3": {}}, references


def test_numbers_of_a_baseline_may_be_written_otherwise(tmp_path):
    for width in (1.0, 2.0):
        write_group(tmp_path / "s", [900, 901], model__width=width)
    assert read_study([tmp_path], baseline="model.width=2.0").baseline == "model.width=2"


def test_epochs_to_a_target_are_a_median_over_all_seeds(tmp_path):
    curves = [(0.5, 0.9, 0.95), (0.9, 0.8, 0.99), (0.1, 0.2, 0.3), (0.1, 0.2, 0.9), (0.1, 0.1, 0.1)]
    for seed, curve in enumerate(curves):
        write_run(tmp_path / str(seed), seed, epochs=curve)
    (group,) = read_study([tmp_path], target=0.9).groups
    assert group.epochs_to_target == {0: 2, 1: 1, 2: None, 3: 3, 4: None}
    assert (group.reached, group.median_epochs_to_target, group.target_metric) == (3, 3, "train/accuracy")
    (group,) = read_study([tmp_path], target=0.95).groups
    assert (group.reached, group.median_epochs_to_target) == (2, None)
    assert read_study([tmp_path]).groups[0].epochs_to_target == {}


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "1.00"),
        (0.123, "0.12"),
        (0.03125, "0.031"),
        (0.0496, "0.0496"),
        (0.05, "0.05"),
        (0.04999999, "0.04999999"),
        (0.00012, "0.00012"),
        (0.00001, "< 0.0001"),
        (0.0, "< 0.0001"),
    ],
)
def test_a_p_value_is_written_on_its_side_of_the_level(p, text):
    assert format_p(p) == text


@pytest.mark.parametrize("target", [0, -1, 98, float("nan")])
def test_a_target_is_a_share(target, two_groups):
    with pytest.raises(ValueError, match=r"such as 0\.98"):
        read_study([two_groups], target=target)


def test_runs_are_found_below_any_folder_but_not_what_a_sweep_set_aside(tmp_path):
    write_run(tmp_path / "out/a/2026/0", 0)
    write_run(tmp_path / "out/a/2026/10", 1)
    write_run(tmp_path / "out/a/2026/2", 2)
    write_yaml(tmp_path / "out/a/2026/sweep.yaml", {})
    write_run(tmp_path / "out/a/2026/set_aside/0_old", 0)
    write_run(tmp_path / "out/b/alone", 3)
    write_run(tmp_path / "out/.hidden/x", 4)
    write_run(tmp_path / "out/b/alone/inner", 5)
    os.symlink(tmp_path / "out", tmp_path / "out/b/round")
    assert [run.name for run in read_study([tmp_path / "out"]).runs] == ["0", "2", "10", "alone"]


def test_names_are_as_long_as_they_must_be(tmp_path):
    for place in ("x/a/0", "x/b/0", "y/a/0", "y/c/1"):
        write_run(tmp_path / place, 0)
    assert [run.name for run in read_study([tmp_path]).runs] == ["x/a/0", "b/0", "y/a/0", "1"]


def test_the_jobs_of_a_sweep_are_named_alike(tmp_path):
    for sweep, jobs in (("first", 3), ("second", 1)):
        for job in range(jobs):
            write_run(tmp_path / sweep / str(job), job)
    names = [run.name for run in read_study([tmp_path]).runs]
    assert names == ["first/0", "first/1", "first/2", "second/0"]


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'nowhere' is not a folder"):
        read_study([tmp_path.__class__("nowhere")])
    with pytest.raises(ValueError, match="holds no run"):
        read_study([tmp_path])


def test_epochs_are_read_on_demand(two_groups):
    run = read_study([two_groups]).runs[0]
    assert [row["epoch"] for row in run.read_epochs()] == [1, 2, 3]


def test_runs_that_found_other_data_under_one_name_are_named(tmp_path):
    for seed, hashed in enumerate("aab"):
        run = write_run(tmp_path / f"run{seed}", seed)
        write_json(run.path / "summary.json", run.read_summary() | {"train_set_sha256": hashed * 64})
    found = note(read_study([tmp_path]), "trained on different data under one name")
    assert "aaaaaaaaaaaa: run0, run1; bbbbbbbbbbbb: run2" in found
    write_json(run.path / "summary.json", run.read_summary() | {"train_set_sha256": "a" * 64})
    assert not [text for text in read_study([tmp_path]).notes if "different data" in text.text]


def test_runs_that_were_tested_on_training_images_are_named(tmp_path):
    for seed, counts in enumerate(((0, 0), (12, 3), (12, 3))):
        run = write_run(tmp_path / f"run{seed}", seed)
        shared = dict(zip(("test_images_in_training", "test_images_near_training"), counts, strict=True))
        write_json(run.path / "summary.json", run.read_summary() | shared)
    said = note(read_study([tmp_path]), "of the 1,000 test images")
    assert said.startswith("run1, run2: of the 1,000 test images, 12 are also among the images they learned from and")


def test_seeds_added_to_a_sweep_by_single_runs_are_told(tmp_path):
    for seed in range(6):
        write_run(tmp_path / ("sweep" if seed < 4 else "later") / str(seed), seed, 900 + seed)
    (tmp_path / "sweep/sweep.yaml").write_text("axes: []\n")
    assert note(read_study([tmp_path]), "come from a sweep and single runs.")
    assert "14.6 %" in note(read_study([tmp_path]), "Fix the number of seeds before you look")
    assert {found.kind for found in read_study([tmp_path / "sweep"]).notes} == {"runs"}


def test_a_group_of_one_run_has_the_interval_of_its_test_images(tmp_path):
    write_run(tmp_path / "0", 0, 950)
    (note,) = (note.text for note in read_study([tmp_path]).notes if "Wilson" in note.text)
    low, high = proportion_confint(950, 1000, method="wilson")
    assert f"95.00 % [{100 * low:.2f} %, {100 * high:.2f} %]" in note
    assert "sampling of the test images but not the spread over seeds" in note
    write_run(tmp_path / "1", 1, 940)
    assert not any("Wilson" in note.text for note in read_study([tmp_path]).notes), (
        "two seeds have an interval of their own"
    )

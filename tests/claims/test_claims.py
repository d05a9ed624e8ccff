"""Claims: what their files may say, what a verdict is, and the commands on real runs."""

import json
import math
from dataclasses import replace
from typing import get_args

import pytest
from run_builders import write_run

from cnnbench.claims.cost import count_work
from cnnbench.claims.measures.results import SMALLEST_RATE, ReachOptions, learned_rate
from cnnbench.claims.measures.sizes import parameters
from cnnbench.claims.measuring import Measurer, judge
from cnnbench.claims.records import compare_prediction, read_prediction, record_prediction
from cnnbench.claims.statement import Claim, Contrast, GroupSet, Take, choose_claims, list_claims, read_claim
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.claims.verdict import combine, compute_effects, judge_contrast, summarise_set
from cnnbench.cli.choices import find_config_dir
from cnnbench.cli.claim_plans import Place, plan_claim
from cnnbench.cli.compose import compose_config
from cnnbench.storage.csv_tables import read_csv
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import plan_jobs

FOLDER = find_config_dir() / "claim"
TEXT = {"en": "a", "pt": "a"}
MINIMAL = {
    "id": "C99",
    **dict.fromkeys(("statement", "question", "nuance", "equal"), TEXT),
    "data": "digits",
    "overrides": ["trainer.epochs=1", "data.train_limit=100", "data.val_fraction=0"],
    "groups": {"a": ["model=mlp"], "b": ["model=mlp", "model.width=0.1"]},
    "protocol": {"quick": {"seeds": 2}, "full": {"seeds": 2}},
    "contrasts": [
        {"measure": "accuracy", "group": "a", "against": "b", "rule": "at_least", "threshold": 0.1, "unit": "of 1"}
        | {"reason": TEXT}
    ],
}


def make_contrast(rule="at_least", threshold=0.1, **changes) -> Contrast:
    return Contrast.model_validate({**MINIMAL["contrasts"][0], "rule": rule, "threshold": threshold, **changes})


def write_claim(folder, plain) -> None:
    (folder / "C99_test.yaml").write_text(json.dumps(plain))


@pytest.mark.parametrize("name", ["C03", "c3", "C3_anything", "C03_parameters_and_image_size"])
def test_an_id_may_be_written_short(name):
    assert [claim.id for claim in choose_claims(FOLDER, [name])] == ["C03"]


@pytest.mark.parametrize("name", list_claims(FOLDER))
def test_every_file_is_a_claim(name):
    (claim,) = choose_claims(FOLDER, [name])
    assert claim.id == name
    assert not claim.needs_training or claim.protocol["quick"].seeds >= 6
    assert claim.protocol["full"].seeds >= claim.protocol["quick"].seeds
    # Of groups that set the same keys to other values, such as a grid's, one is composed.
    forms = {tuple(one.partition("=")[0] for one in overrides): name for name, overrides in claim.groups.items()}
    for group in forms.values():
        compose_config(claim.list_overrides(group, "quick"))
    compose_config(claim.list_overrides(next(iter(claim.groups)), "full"))
    for text in (claim.statement, claim.question, claim.nuance, claim.equal, *(c.reason for c in claim.contrasts)):
        assert text.en.endswith((".", "?"))
        assert text.pt.endswith((".", "?"))
        assert text.en != text.pt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statment": TEXT}, "unknown key 'statment'. Did you mean 'statement'"),
        ({"contrasts": [{**MINIMAL["contrasts"][0], "treshold": 1}]}, "Did you mean 'threshold'"),
        ({"contrasts": [{**MINIMAL["contrasts"][0], "measure": "acuracy"}]}, "Did you mean 'accuracy'"),
        ({"contrasts": [{**MINIMAL["contrasts"][0], "group": "A"}]}, "unknown group 'A'"),
        ({"contrasts": [{**MINIMAL["contrasts"][0], "threshold": -1}]}, "could only have one outcome"),
        ({"contrasts": [{**MINIMAL["contrasts"][0], "threshold": 1}]}, "could only have one outcome"),
        ({"groups": {**MINIMAL["groups"], "c": []}}, "group 'c' is in no contrast"),
        ({"sets": {"c": {"groups": ["a", "b"], "take": "mean"}}}, "group 'c' is in no contrast"),
        ({"sets": {"a": {"groups": ["a", "b"], "take": "mean"}}}, "'a' is a group and a set"),
        ({"protocol": {"quick": {"seeds": 2}}}, "full is missing"),
        ({"id": "C98"}, "file's name must begin with C98_"),
    ],
)
def test_a_file_that_is_wrong_or_could_not_fail_is_refused(tmp_path, changes, message):
    write_claim(tmp_path, {**MINIMAL, **changes})
    with pytest.raises(ValueError, match=r"C99_test\.yaml") as error:
        read_claim(tmp_path / "C99_test.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rule", "effects", "verdict"),
    [
        ("at_least", [0.30, 0.31, 0.32], "supported"),
        ("at_least", [0.01, 0.02, 0.03], "refuted"),
        ("at_least", [0.0, 0.1, 0.3], "inconclusive"),
        ("at_most", [0.01, 0.02, 0.03], "supported"),
        ("at_most", [0.30, 0.31, 0.32], "refuted"),
        ("within", [-0.01, 0.0, 0.02], "supported"),
        ("within", [-0.31, -0.30, -0.32], "refuted"),
        ("beyond", [-0.31, -0.30, -0.32], "supported"),
        ("beyond", [-0.01, 0.0, 0.02], "refuted"),
        ("at_least", [0.3], "inconclusive"),
        ("at_least", [0.3] * 3, "inconclusive"),  # no spread: only the sign-flip test is left, and needs six
        ("at_least", [0.3] * 6, "supported"),
        ("at_least", [0.0] * 6, "refuted"),
        ("at_least", [], "inconclusive"),
    ],
)
def test_the_interval_decides(rule, effects, verdict):
    assert judge_contrast(make_contrast(rule), effects).verdict == verdict


def test_an_exact_effect_needs_one_seed():
    contrast = make_contrast("at_most", 2, measure="parameters", compare="ratio")
    assert [judge_contrast(contrast, [effect]).verdict for effect in (1.9, 2.0, 2.1)] == [
        "supported",
        "supported",
        "refuted",
    ]


def test_all_contrasts_must_hold_and_one_refutes_after_correction():
    good, failed, undecided = (
        judge_contrast(make_contrast(), effects)
        for effects in ([0.30, 0.31, 0.32], [0.01, 0.02, 0.03], [0.0, 0.1, 0.3])
    )
    assert combine([good, good]) == "supported"
    assert combine([good, undecided]) == "inconclusive"
    assert combine([good, failed]) == "refuted"
    # Alone at p = 0.04, it is refuted; beside another at p = 0.5, Holm's method asks for 0.025.
    close = replace(failed, p=0.04)
    assert [combine([close]), combine([close, undecided])] == ["refuted", "inconclusive"]


def test_an_open_verdict_says_how_many_seeds_would_decide_it():
    # The mean lies 0.1 above the threshold, with a spread of 0.1: t(0.975, n − 1) / √n falls below 1 at n = 7.
    finding = judge_contrast(make_contrast(), [0.1, 0.2, 0.3])
    assert (finding.obstacle, finding.seeds_needed) == ("few_seeds", 7)


def test_missing_seeds_decide_nothing():
    # A seed without an effect failed or diverged: the others are not a random part of the protocol's seeds.
    findings = [judge_contrast(make_contrast(), effects, 4) for effects in ([0.3, 0.31, 0.32], [0.3, 0.31, 0.32, 0.3])]
    assert [(one.verdict, one.obstacle) for one in findings] == [("inconclusive", "missing_seeds"), ("supported", None)]


def test_a_run_without_result_is_a_problem_of_the_verdict(tmp_path):
    write_claim(tmp_path, MINIMAL)
    claim = read_claim(tmp_path / "C99_test.yaml")
    measurer = Measurer(lambda config: None)
    (finding,), _ = judge(plan_claim(claim, Place("digits", "quick")), measurer)
    assert finding.obstacle == "no_result"
    assert measurer.problems[0] == "a, seed 0: its run failed or was interrupted, and has no result"


def test_a_run_that_contradicts_itself_is_a_problem_of_the_verdict(tmp_path):
    write_claim(tmp_path, MINIMAL)
    run = write_run(tmp_path / "0", 0, 900)
    run.write_summary(run.read_summary() | {"test/accuracy": 0.99})
    measurer = Measurer(lambda config: (run.path, False))
    claim = read_claim(tmp_path / "C99_test.yaml")
    (finding,), _ = judge(plan_claim(claim, Place("digits", "quick")), measurer)
    assert finding.obstacle == "no_result"
    assert measurer.problems == [f"{run.path}/summary.json says 0.99 for test/accuracy; by predictions.npz it is 0.9"]


def test_effects_are_paired_by_seed_and_compared_with_another_pair():
    values = {"a": {0: 0.9, 1: 0.8, 2: 0.7}, "b": {0: 0.5, 1: 0.6}}
    assert compute_effects(make_contrast(), values) == pytest.approx({0: 0.4, 1: 0.2})
    than = make_contrast(than={"group": "b", "against": "b"})
    assert compute_effects(than, values) == pytest.approx({0: 0.4, 1: 0.2})


def test_a_set_stands_for_its_groups_by_seed():
    values = {"a": {0: 0.9, 1: 0.5}, "b": {0: 0.5, 1: 0.8, 2: 0.1}, "c": {0: 0.1, 1: 0.8}}
    found = {take: summarise_set(GroupSet(groups=["a", "b", "c"], take=take), values) for take in get_args(Take)}
    assert found == {
        "mean": pytest.approx({0: 0.5, 1: 0.7}),
        "highest": {0: 0.9, 1: 0.8},
        "lowest": {0: 0.1, 1: 0.5},
        "spread": pytest.approx({0: 0.8, 1: 0.3}),
    }
    # A value that is not a number has no place in an order, wherever it stands.
    odd = {"a": {0: 0.5, 1: math.nan, 2: 0.5}, "b": {0: math.nan, 1: 0.5, 2: 0.7}}
    assert summarise_set(GroupSet(groups=["a", "b"], take="highest"), odd) == {2: 0.7}
    pair = make_contrast(group="spread", against="mean")
    assert compute_effects(pair, found) == pytest.approx({0: 0.3, 1: -0.4})


def test_the_work_of_a_claim_counts_the_groups_that_are_trained_and_equal_ones_once():
    trained = {**MINIMAL, "groups": {**MINIMAL["groups"], "c": ["model=mlp", "model.depth=1"], "d": ["model.width=9"]}}
    sets = {"sets": {"both": {"groups": ["b", "c"], "take": "mean"}}}
    counts = {**MINIMAL["contrasts"][0], "measure": "parameters", "against": "d", "threshold": 1}
    claim = Claim.model_validate({**trained, **sets, "contrasts": [make_contrast(against="both"), counts]})
    assert claim.list_trained_groups() == ["a", "b", "c"]
    plan = plan_claim(claim, Place("digits", "quick"))
    # 784 · units + units · 10 for a, which c equals, and for b of 13 units; 100 images, 1 epoch, 2 seeds.
    assert count_work(plan) == 794 * (128 + 13) * 100 * 2


def test_the_largest_rate_that_trains_is_the_boundary_of_a_grid(tmp_path):
    right = {0.01: 900, 0.1: 500, 1.0: 499}  # of 1000
    for rate, count in right.items():
        write_run(tmp_path / str(rate), 0, count, optimizer__lr=rate)
    rates = {str(rate): {0: learned_rate(FinishedRun.read(tmp_path / str(rate)), ReachOptions())} for rate in right}
    assert rates == {"0.01": {0: -2}, "0.1": {0: -1}, "1.0": {0: SMALLEST_RATE}}
    assert summarise_set(GroupSet(groups=[*rates], take="highest"), rates) == {0: -1}


def test_the_budgets_of_c06_are_equal():
    (claim,) = choose_claims(FOLDER, ["C06"])
    counts = {
        name: parameters(Network(config)) for name, config in plan_claim(claim, Place("mnist", "quick")).configs.items()
    }
    for budget in ("6,000", "16,000", "44,000"):
        own, others = counts[f"convolutions, {budget}"], counts[f"perceptron, {budget}"]
        assert 0.96 < own / others < 1  # a little less, so that parameters do not explain an advantage


def test_a_prediction_holds_or_not_or_is_open():
    assert [compare_prediction("yes", verdict) for verdict in ("supported", "refuted", "inconclusive")] == [
        True,
        False,
        None,
    ]
    assert compare_prediction("no", "refuted") is True


def test_analytic_claims_are_answered_without_training(cnnbench, tmp_path):
    ended = cnnbench("claim", "run", "c10", "--predict", "no")
    assert ended.returncode == 0, ended.stderr
    assert "C10 is supported" in ended.stdout
    record = json.loads((tmp_path / "outputs/claims/mnist-quick/C10/verdict.json").read_text())
    assert (record["verdict"], record["prediction"], record["held"]) == ("supported", "no", False)
    late = cnnbench("claim", "run", "C10", "--predict", "yes")
    assert late.returncode == 2
    assert "a prediction comes before" in late.stderr
    assert "supported (mnist, quick)" in cnnbench("claim", "list").stdout
    assert cnnbench("claim", "report", "--out", "class").returncode == 0
    assert {row["claim"] for row in read_csv(tmp_path / "class/claims.csv")} == {"C10"}


def test_a_prediction_is_not_changed(tmp_path):
    record_prediction(tmp_path, "C10", "no")
    record_prediction(tmp_path, "C10", "no")
    with pytest.raises(ValueError, match="already has the other prediction"):
        record_prediction(tmp_path, "C10", "yes")
    assert read_prediction(tmp_path) == "no"


def test_data_that_do_not_suit_a_claim_leave_no_verdict(cnnbench, tmp_path):
    for arguments, expected in (
        (("C03", "--data", "waves"), "the data are signals"),
        (("C11", "--data", "image_folder"), "data.path=null"),
    ):
        ended = cnnbench("claim", "run", *arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert expected in ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_unknown_words_are_answered_with_the_nearest(cnnbench):
    assert "Did you mean C18?" in cnnbench("claim", "run", "C188").stderr
    assert "Did you mean 'report'?" in cnnbench("claim", "reprot").stderr
    assert "Did you mean 'quick'?" in cnnbench("claim", "run", "C03", "--scale", "quik").stderr


def test_a_shared_folder_takes_up_the_jobs_of_another_claim(tmp_path):
    first, both = (plan_jobs(({"seed": seed}, []) for seed in seeds) for seeds in ((3,), (4, 3)))
    sweep = SweepFolder.create(tmp_path / "runs", first, argv=[])
    sweep.adopt(both, argv=[])
    sweep.write()
    found = SweepFolder(tmp_path / "runs").jobs
    assert [(job.name, job.config["seed"]) for job in found] == [("0", 3), ("1", 4)]  # a folder never changes its job

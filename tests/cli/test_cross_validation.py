"""`sweep.folds` as a user meets it: its jobs, its refusals, and a sweep from the command to its report."""

import re

import pytest

from cnnbench.cli.compose import compose_request
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv

TINY = ("model=mlp", "trainer.epochs=1", "data.train_limit=100", "sweep.folds=2")


def test_each_fold_of_each_value_and_seed_is_a_job():
    request = compose_request(["model=mlp,lenet5", "sweep.folds=3", "sweep.seeds=2"], multirun=True)
    jobs = [(job.config.model.name, job.config.seed, job.config.data.held_out) for job in request.jobs]
    folds = [(number, 3) for number in (1, 2, 3)]
    assert jobs == [(model, seed, fold) for model in ("mlp", "lenet5") for seed in (0, 1) for fold in folds]
    assert len(compose_request(["sweep.folds=3"]).jobs) == 3


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sweep.until=decided", "model=mlp,lenet5"], "cannot be combined with sweep.until=decided"),
        (["sweep.alone=[init]", "sweep.seeds=2"], r"cannot be combined with sweep.alone=\[init\]"),
        (["data.folds=3"], "cannot be combined with data.folds=3"),
        (["data.fold=1,2"], "cannot be combined with data.fold=1,2"),
        (["sweep.delta=0.01"], "sweep.delta=0.01 is for sweep.until=decided"),
    ],
)
def test_what_folds_cannot_be_combined_with_is_refused(overrides, said):
    with pytest.raises(ValueError, match=said):
        compose_request(["sweep.folds=3", *overrides], multirun=True)


def test_a_cross_validation_ends_with_its_report_and_is_not_run_twice(cnnbench, tmp_path):
    ended = cnnbench("train", "-m", "model.width=0.25,0.5", *TINY)
    assert ended.returncode == 0, ended.stderr
    assert re.search("the test images are fold [12] of 2", ended.stderr)
    assert "corrected resampled t-test" in ended.stdout
    assert "fold 2" in ended.stdout
    sweep = tmp_path / ended.stdout.splitlines()[-1]
    rows = read_csv(sweep / "results.csv")
    assert [(row["model.width"], row["fold"], row["test_images"]) for row in rows] == [
        (width, fold, "50") for width in ("0.25", "0.5") for fold in ("1", "2")
    ]
    first, second = (RunFolder(sweep / name).read_summary() for name in "02")
    assert (
        first["test_set_sha256"]
        == second["test_set_sha256"]
        != RunFolder(sweep / "1").read_summary()["test_set_sha256"]
    )
    again = cnnbench("train", "-m", "model.width=0.25,0.5", *TINY)
    assert "all 4 jobs are finished" in again.stderr
    together = cnnbench("train", *TINY, "sweep.together=true", "sweep.restart=true")
    assert together.returncode == 2
    assert "sweep.together=true cannot be combined with sweep.folds=2" in together.stderr

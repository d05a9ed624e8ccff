"""Runs trained together, each with its folder: interrupted, failed and resumed as if it were alone."""

import pytest
from test_resume import Interrupted, assert_same_run, signals  # noqa: F401

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.group import run_group
from cnnbench.experiment.run import run_job, start_job
from cnnbench.processes.signals import Terminated
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RunFolder
from cnnbench.training.progress import Diverged

GROUP = ["model=mlp", "model.width=0.25", "model.dropout=0.3", "trainer.epochs=4", "trainer.patience=2"]
GROUP += [
    "data.train_limit=200",
    "trainer.batch_size=48",
    "trainer.ema=0.9",
    "optimizer.lr=0.01",
    "sweep.together=true",
]


def train(folder, seeds, *overrides, resume=False):
    jobs = []
    for seed in seeds:
        path = folder / str(seed)
        path.mkdir(parents=True, exist_ok=True)
        config = compose_config([*GROUP, *overrides, f"seed={seed}"])
        jobs.append(start_job(config, path, [f"seed={seed}"], resume=resume, draw=lambda pictures, wait=True: None))
    return run_group(jobs)


def read_state(path):
    return RunFolder(path).read_status()["state"]


def test_an_interrupted_group_goes_on_to_the_bits_of_one_that_never_was_and_of_each_run_alone(
    tmp_path,
    monkeypatch,
    signals,  # noqa: F811
):
    whole = train(tmp_path / "whole", [0, 1])
    assert [member.error for member in whole] == [None, None]
    alone = tmp_path / "alone"
    alone.mkdir()
    run_job(compose_config([*GROUP, "seed=1"]), alone, [], draw=lambda pictures, wait=True: None)
    assert_same_run(tmp_path / "whole/1", alone)
    assert "seed=0" not in (tmp_path / "whole/1/train.log").read_text()
    # In the second step, between two epochs of one run, and in the other's validation.
    for at in (2, 6, 9):
        with monkeypatch.context() as patch:
            Interrupted(patch, at=at)
            members = train(tmp_path / "cut", [0, 1], resume=(tmp_path / "cut").exists())
        assert [type(member.error) for member in members] == [Terminated, Terminated]
        assert [read_state(tmp_path / "cut" / seed) for seed in "01"] == [INTERRUPTED] * 2
    members = train(tmp_path / "cut", [0, 1], resume=True)
    assert [member.error for member in members] == [None, None]
    # One that is behind, as after a kill between two saves, is trained first.
    for seed, at in ((0, 2), (1, 6)):
        with monkeypatch.context() as patch:
            Interrupted(patch, at=at)
            train(tmp_path / "apart", [seed])
    train(tmp_path / "apart", [0, 1], resume=True)
    for seed in "01":
        assert_same_run(tmp_path / "whole" / seed, tmp_path / "cut" / seed)
        assert_same_run(tmp_path / "whole" / seed, tmp_path / "apart" / seed)


def test_a_run_that_diverges_leaves_the_others_alone(tmp_path):
    jobs = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        config = compose_config([*GROUP, f"seed={seed}"])
        jobs.append(start_job(config, tmp_path / str(seed), [], draw=lambda pictures, wait=True: None))

    def spoil(job):
        request = next(job)
        next(request.state.model.parameters()).data.fill_(float("nan"))
        try:
            yield request
        except Diverged as error:
            job.throw(error)

    members = run_group([jobs[0], spoil(jobs[1])])
    assert members[0].error is None
    assert isinstance(members[1].error, Diverged)
    assert [read_state(tmp_path / seed) for seed in "01"] == [FINISHED, FAILED]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=lenet5"], r"on the CPU, model=lenet5 \([\d,]+ weights\) trains more slowly together with others"),
        (["model.width=1"], r"on the CPU, model=mlp \([\d,]+ weights\) trains more slowly"),
        (["trainer.accumulate=2"], "cannot be combined with trainer.accumulate=2: leave one of them out"),
        (["optimizer=muon"], "cannot be combined with optimizer=muon"),
        (["model.freeze=hidden"], r"cannot be combined with model.freeze=\[hidden\]"),
        (["trainer.compile=true"], "cannot be combined with trainer.compile=true"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(overrides, message):
    with pytest.raises(ValueError, match=f"sweep.together=true:? {message}"):
        build_parts(compose_config([*GROUP, *overrides]), shapes_only=True)


def test_a_failed_start_is_that_of_one_run(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/config.yaml").write_text("")
    members = train(tmp_path, [0, 1], "trainer.epochs=1")
    assert members[0].error is None
    assert "already holds a run" in str(members[1].error)
    assert read_state(tmp_path / "0") == FINISHED

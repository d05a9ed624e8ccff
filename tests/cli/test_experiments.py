"""Experiments: files of one's own, several at once; signs in front of keys, and flags in front of commands."""

import sys

import pytest

from cnnbench.cli import compose, main
from cnnbench.cli.app import put_command_first
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.config.seeds import Seeds, read_seeds
from cnnbench.sweeps.jobs import plan_jobs

MINE = """
defaults:
  - override /model: mlp
name: mine_${model.name}
optimizer: {lr: 0.05}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      seed: 0,1
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my exp (1), é.yaml").write_text(MINE)
    return "my exp (1), é.yaml"


def made(asked):
    return [(job.config.name, job.config.model.name, job.config.optimizer.lr, job.config.seed) for job in asked.jobs]


def test_an_experiment_may_be_a_file_of_ones_own(mine, tmp_path):
    expected = [("mine_mlp", "mlp", 0.05, 0), ("mine_mlp", "mlp", 0.05, 1)]
    for path in (mine, f"./{mine}", f"{tmp_path}/{mine}"):
        asked = compose.compose_request([f"experiment={path}"])
        assert made(asked) == expected
        assert f"experiment={path}" in asked.jobs[0].overrides, "the record has what the user typed"
    assert made(compose.compose_request([f"experiment={mine}", "optimizer.lr=1", "seed=3"])) == [
        ("mine_mlp", "mlp", 1.0, 3)
    ]
    assert compose.compose_config([f"experiment={mine}"]).name == "mine_mlp"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("no.yaml", None, "the file cannot be read: No such file"),
        ("list.yaml", "- a", "it holds no keys"),
        ("broken.yaml", "a: [", "is not an experiment's YAML file"),
        ("wrong.yaml", "trainer: {epoch: 3}", "unknown key in trainer 'epoch'. Did you mean 'epochs'?"),
        ("missing.yaml", "defaults: [{override /model: nope}]", "nope"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(name, content, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        compose.compose_request([f"experiment=./{name}"])
    assert why in str(caught.value)
    assert "own_" not in str(caught.value)


def test_several_values_beside_a_file_of_ones_own_are_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text("defaults: [{override /model: mlp}]")
    for several in ("seed=0,1,2", "experiment=./one.yaml,./two.yaml"):
        with pytest.raises(ValueError, match=f"^{several} names several values: add -m to run each of them$"):
            compose.compose_request(["experiment=./one.yaml", several])


def test_a_sweep_varies_each_source_of_randomness_alone_and_all_together():
    request = compose.compose_request(["experiment=variance_lenet5", "data=digits", "sweep.seeds=2"])
    jobs = plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs)
    names = [read_seeds(job.config).name for job in jobs]
    assert names == [0, 1, "0,init=1", "0,order=1", "0,augment=1", "0,split=1", "0,dropout=1"]
    assert request.axes == ["seed", *(f"seeds.{source}" for source in Seeds._fields)]
    assert {from_dict(job.config).augment.crop for job in jobs} == {2}


def test_each_of_several_experiments_runs_its_own_sweep():
    asked = compose.compose_request(["experiment=mlp_vs_lenet5,lenet5_fast", "data=digits"], multirun=True)
    each = [(job.config.name, job.config.model.name, job.config.seed) for job in asked.jobs]
    models = ("mlp", "lenet5")
    assert each == [
        *(("mlp_vs_lenet5", model, seed) for model in models for seed in range(6)),
        ("lenet5_fast", "lenet5", 0),
    ]
    assert asked.axes == ["experiment", "model", "seed"]
    both = compose.compose_request(
        ["experiment=mlp_vs_lenet5,lenet5_fast", "data=digits", "sweep.seeds=2"], multirun=True
    )
    assert [job.config.seed for job in both.jobs] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("~optimizer.weight_decay", "a key cannot be removed: use optimizer.weight_decay=0"),
        ("~trainer.patience", "trainer.patience=null, its default"),
        ("~trainer.deterministic", "trainer.deterministic=true, its default"),
        ("~optimizer.betas", "optimizer.betas=VALUE"),
        ("~seed=0", "seed=0, its default"),
        ("~model", "model=NAME"),
        ("~model=lenet5", "model=NAME"),
        ("~logger", "logger=none"),
        ("++model=mlp", "choose a part without +: model=mlp"),
        ("+experiment=lenet5_fast", "experiment=lenet5_fast"),
        ("+seed=3", "leave out the +"),
    ],
)
def test_a_message_about_a_sign_that_would_do_nothing_has_a_form_that_works(text, form):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        compose.compose_request([text])
    assert form in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["-m", "train", "a=1"], ["train", "-m", "a=1"]),
        (["--multirun", "train"], ["train", "--multirun"]),
        (["--latex", "--out", "report", "report", "RUN"], ["report", "--latex", "--out", "report", "RUN"]),
        (["train", "a=1", "-m"], ["train", "a=1", "-m"]),
        (["--version", "train"], ["--version", "train"]),
        (["--help"], ["--help"]),
        (["a=1", "train"], ["a=1", "train"]),
        ([], []),
    ],
)
def test_flags_may_stand_before_the_command(typed, read):
    assert put_command_first(typed, ["train", "report"]) == read


def test_a_flag_before_the_command_is_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "-m", "train", "model=mlp,nope"])
    with pytest.raises(SystemExit):
        main()
    assert "unknown model 'nope'" in capsys.readouterr().err

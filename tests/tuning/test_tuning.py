"""`cnnbench tune`: the space, the study in its file, real processes that train, are stopped and killed, and go on."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnbench.cli import choices, compose
from cnnbench.cli import tune as command
from cnnbench.cli.completion import complete_override, complete_tuning
from cnnbench.cli.options import TuneOptions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_yaml, write_yaml
from cnnbench.tuning.figures import draw_search
from cnnbench.tuning.settings import TuneSettings, parse_settings
from cnnbench.tuning.space import format_override, parse_space
from cnnbench.tuning.study import SearchStudy
from conftest import find_parent, wait_until

LR = {"optimizer.lr": {"type": "float", "low": "1e-4", "high": 0.1, "log": True}}
SMALL = ["model=mlp", "data.train_limit=300"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a small space, and the logger left as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    before = command.log.handlers, command.log.propagate, command.log.level
    write_yaml(tmp_path / "small.yaml", {"overrides": SMALL, "space": LR})
    yield tmp_path
    command.log.handlers, command.log.propagate = before[:2]
    command.log.setLevel(before[2])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "tune.space={}: must have at least one KEY"),
        ({"optimizer.lr": 0.1}, "tune.space.optimizer.lr=0.1: must be {type: float, int or categorical"),
        ({"optimizer.lr": {"low": 1, "high": 2}}, "must be {type: float, int or categorical"),
        ({"optimizer.lr": {"type": "flaot"}}, "unknown tune.space.optimizer.lr.type 'flaot'. Did you mean 'float'?"),
        ({"optimizer.lr": {"type": "float", "low": 1}}, "tune.space.optimizer.lr.high is missing: it must be a number"),
        ({"optimizer.lr": {"type": "float", "low": 2, "high": 1}}, "high=1.0: must be more than low=2.0"),
        (
            {"optimizer.lr": {"type": "float", "low": 0, "high": 1, "log": True}},
            "low=0.0: with log=true it must be above 0",
        ),
        (
            {"optimizer.lr": {"type": "float", "low": 0, "high": 1, "log": "perhaps"}},
            "log=perhaps: must be true or false",
        ),
        ({"optimizer.lr": {"type": "float", "low": 0, "high": float("inf")}}, "high=inf: must be a number"),
        (
            {"optimizer.lr": {"type": "float", "low": 0, "high": 1, "step": 0.3}},
            "step=0.3: must be a number above 0 that",
        ),
        (
            {"optimizer.lr": {"type": "float", "low": 1, "high": 9, "step": 2, "log": True}},
            "left out, because log=true",
        ),
        ({"model.depth": {"type": "int", "low": 1.5, "high": 3}}, "low=1.5: must be a whole number"),
        ({"model.depth": {"type": "int", "low": 1, "high": 3, "steps": 1}}, "Did you mean 'step'?"),
        ({"optimizer": {"type": "categorical", "choices": ["adam"]}}, "a list of two or more different plain values"),
        ({"optimizer": {"type": "categorical", "choices": ["adam", "adam"]}}, "two or more different plain values"),
        ({"optimizer": {"type": "categorical", "choices": [["adam"], "sgd"]}}, "two or more different plain values"),
        ({"seed": {"type": "int", "low": 0, "high": 3}}, "can only be compared on the same images by the same measure"),
        ({"data.val_fraction": {"type": "float", "low": 0.1, "high": 0.2}}, "the same images by the same measure"),
        ({"trainer.monitor": {"type": "categorical", "choices": ["val/loss", None]}}, "by the same measure"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_by_key_and_value(space, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        parse_space(space)
    assert message in str(caught.value)


WRONG = [
    (
        ["tune=lennet5"],
        "unknown tune 'lennet5'. Did you mean 'lenet5'? Valid: lenet5, mlp, or the path of a .yaml file",
    ),
    (["tune=nowhere.yaml"], "tune=nowhere.yaml: there is no such file"),
    (["tune.trails=3"], "unknown key in tune 'trails'. Did you mean 'trials'?"),
    (["tune.trials=0"], "tune.trials=0: must be a whole number from 1"),
    (["tune.workers=many"], "tune.workers=many: must be a whole number from 1 to 256 or auto"),
    (["tune.timeout=-1"], "tune.timeout=-1: must be null or a number above 0"),
    (["tune.pruner=medain"], "tune.pruner=medain: must be one of median, hyperband, none. Did you mean median?"),
    (["tune.space={optimizer.rl: {type: float, low: 1, high: 2}}"], "tune.space.optimizer.rl: optimizer.rl=1.0 cannot"),
    (["tune.space={model.dropout: {type: float, low: 0, high: 1}}"], "model.dropout=1: must be a number from 0"),
    (["tune.space={model: {type: categorical, choices: [mlp, nlp]}}"], "unknown model 'nlp'. Did you mean 'mlp'?"),
    (["tune.space={model: {type: categorical, choices: [mlp, conv_autoencoder]}}"], "it is judged by val/loss"),
    (["tune=mlp", "data.val_fraction=0"], "never on the test images"),
    (["tune=mlp", "modle=mlp"], "unknown key 'modle'. Did you mean 'model'?"),
    (["tune=mlp", "seed=0,1"], "seed=0,1 names several values"),
    (["tune=mlp", "tune.x"], "'tune.x' cannot be read as KEY=VALUE"),
    (["resume=nowhere"], "is not the folder of a search: it has no study.yaml"),
    (["resume=nowhere", "seed=1"], "seed=1: resume=STUDY takes only tune.trials, tune.workers, tune.timeout"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_wrong_command_ends_with_2_and_one_message_and_writes_nothing(arguments, message, here, monkeypatch, capsys):
    from cnnbench.cli import main

    (here / "small.yaml").unlink()
    monkeypatch.setattr(sys, "argv", ["cnnbench", "tune", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(here.iterdir()) == []


def test_without_optuna_the_install_command_is_shown(here, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'cnnbench\[tune\]'"):
        command.tune(TuneOptions(["tune=small.yaml"]))


@pytest.mark.parametrize("name", choices.list_spaces())
def test_every_space_of_ours_can_be_trained_at_each_of_its_ends(name):
    asked = command._read_request({"tune": name}, [])
    assert asked.config.model.name == name
    assert asked.monitor == "val/accuracy"


def study_of(folder, space, **settings):
    checked = parse_settings({"space": space, **settings})
    return SearchStudy(folder, parse_space(space), checked, monitor="val/accuracy", most_epochs=9)


@given(
    low=st.integers(1, 50),
    steps=st.integers(1, 300),
    whole=st.booleans(),
    log=st.booleans(),
    step=st.sampled_from([None, 1, 3]),
)
def test_what_is_drawn_lies_in_the_space_and_is_read_back_by_the_config(low, steps, whole, log, step):
    import optuna

    high = low + steps * (step or 1)
    plain = {"type": "int" if whole else "float", "low": low, "high": high, "log": log, "step": None if log else step}
    space = parse_space({"model.width": plain})["model.width"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=low))
    value = space.suggest(study.ask(), "x")
    assert low <= value <= high
    assert isinstance(value, int if whole else float)
    if space.step:
        assert (value - low) % space.step == pytest.approx(0, abs=1e-9)
    assert yaml.safe_load(format_override("x", value).partition("=")[2]) == value


MIXED = {
    "optimizer.lr": LR["optimizer.lr"],
    "model.depth": {"type": "int", "low": 1, "high": 4},
    "scheduler": {"type": "categorical", "choices": ["constant", "cosine"]},
}


def pretend(study, trial):
    """A trial that learns as its learning rate lets it; yields after each epoch whether it has ended."""
    quality = 1 - abs(np.log10(trial.params["optimizer.lr"]) + 2) / 3 - 0.05 * trial.params["model.depth"]
    for epoch in range(1, 6):
        if study.report(trial, {"epoch": epoch, "val/accuracy": quality * epoch / 5}):
            study.finish(trial, "pruned", seconds=epoch)
            yield True
        yield False
    study.finish(trial, "finished", seconds=5)
    yield True


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_an_interrupted_study_draws_judges_and_ends_as_an_uninterrupted_one(pruner, tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = study_of(tmp_path / "whole", MIXED, pruner=pruner)
    for _ in range(14):
        any(pretend(whole, whole.ask()))
    for number in range(14):
        broken = study_of(tmp_path / "broken", MIXED, pruner=pruner)
        any(islice(pretend(broken, broken.ask()), 1 + number % 4))
        with open(tmp_path / "broken/study.journal", "ab") as file:  # what a process killed while writing leaves
            file.write(b'{"op_code":4,"wor')
        (tmp_path / "broken/study.journal.lock").touch()
        broken = study_of(tmp_path / "broken", MIXED, pruner=pruner)
        for trial in broken.list_unfinished():
            any(pretend(broken, trial))
    assert broken.list_rows() == whole.list_rows()
    states = [row["state"] for row in whole.list_rows()]
    assert {"finished", "pruned"} <= set(states)
    assert len({row["optimizer.lr"] for row in whole.list_rows()}) == 14, "each trial draws anew"
    best = max((row for row in whole.list_rows() if row["state"] == "finished"), key=lambda row: row["val/accuracy"])
    assert broken.find_best() == best


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_search_is_the_same_however_many_of_its_trials_run_at_once(pruner, tmp_path):
    rows = []
    for most in (1, 2, 3):
        (tmp_path / str(most)).mkdir()
        study = study_of(tmp_path / str(most), MIXED, pruner=pruner, workers=3)
        running, number = [], 0
        while number < 16 or running:
            while number < 16 and len(running) < most and study.can_start(number):
                running.append(pretend(study, study.ask()))
                number += 1
            ended = [trial for trial in running[::-1] if next(trial)]  # an epoch of each, the last first
            running = [trial for trial in running if trial not in ended]
        rows.append(study.list_rows())
    assert rows[0] == rows[1] == rows[2]
    assert {"finished", "pruned"} <= {row["state"] for row in rows[0]}


def test_a_trial_below_the_median_of_its_epoch_is_pruned_and_one_above_is_not(tmp_path):
    study = study_of(tmp_path, LR, startup_trials=5, warmup_epochs=2, workers=1)
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(5):
        trial, curve = study.ask(), rng.random(4)
        assert not any(study.report(trial, {"epoch": e, "val/accuracy": v}) for e, v in enumerate(curve, 1))
        study.finish(trial, "finished")
        curves.append(curve)
    medians = np.median(curves, axis=0)
    for offset in (-0.01, 0.01):
        trial = study.ask()
        judged = [study.report(trial, {"epoch": e, "val/accuracy": v + offset}) for e, v in enumerate(medians[:2], 1)]
        best_so_far = max(medians[:2] + offset)  # the median pruner looks at the best epoch so far
        assert judged == [False, bool(best_so_far < medians[1])]
        study.finish(trial, "failed")


def test_importance_names_the_key_that_decides_and_needs_two_different_values(tmp_path):
    study = study_of(tmp_path, MIXED, pruner="none", sampler="random")
    assert study.compute_importances() == {}
    for _ in range(20):
        trial = study.ask()
        study.report(trial, {"epoch": 1, "val/accuracy": float(trial.params["scheduler"] == "cosine")})
        study.finish(trial, "finished")
    shares = study.compute_importances()
    assert next(iter(shares)) == "scheduler"
    assert shares["scheduler"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    draw_search(tmp_path, study.list_rows(), "val/accuracy", shares)
    for name in ("history.png", "importance.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 800
    draw_search(tmp_path, study.list_rows(), "val/accuracy", {})
    assert not (tmp_path / "importance.png").exists(), "one of earlier trials does not stay"


@pytest.mark.parametrize("content", [b"{}\n{}\n", b'[1]\n{"a"\n{}\n', b"\x80\x04\x95\n" * 3, b'{"op_code":99}\n'])
def test_a_damaged_journal_is_named_and_nothing_of_it_is_run(content, tmp_path):
    (tmp_path / "study.journal").write_bytes(content)
    with pytest.raises(ValueError, match=r"study\.journal is damaged"):
        study_of(tmp_path, LR)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"overrides": ["name=${oc.env:HOME}"]}, "interpolations are not accepted"),
        ({"overrides": ["hydra.searchpath=[file:///tmp]"]}, "its overrides set keys of Hydra"),
        ({"overrides": "model=mlp"}, "study.yaml is damaged: overrides=model=mlp: must be a list, each text"),
        ({"overrides": [*SMALL, "seed=3"]}, "the study was started with seed=0, but here it is 3"),
        ({"tune": {"space": LR, "workers": 1000}}, "tune.workers=1000: must be a whole number from 1 to 256"),
        ({"tune": []}, "study.yaml is damaged: tune=[]: must be keys with values"),
        ({"config": None}, "study.yaml is damaged: config=null: must be keys with values"),
    ],
)
def test_a_strangers_study_is_checked_before_it_continues(changed, message, here):
    asked = command._read_request({"tune": "small.yaml"}, [])
    (here / "study").mkdir()
    write_yaml(here / "study/study.yaml", command._to_plain(asked) | changed)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        command.tune(TuneOptions(["resume=study"]))
    assert message in str(caught.value)
    assert [path.name for path in (here / "study").iterdir()] == ["study.yaml"]


def results_of(folder):
    """What a study came to, without times."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_csv(folder / "trials.csv")]


def wait_for_rows(path, count, begun):
    def has_rows():
        with contextlib.suppress(OSError):
            return len(path.read_text().splitlines()) > count
        return False

    wait_until(has_rows, begun)


def processes_of(session):
    """Processes of a session that still run."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "stat=,cmd="], capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


def assert_ended(session):
    """All processes of a session end in moments; the system may take some to clear one away."""
    end = time.monotonic() + 10
    while processes_of(session) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(session) == []


HALF_FAILS = {
    "optimizer.lr": {"type": "categorical", "choices": [0.05, 1e30]},
    "model.width": {"type": "float", "low": 0.5, "high": 2, "step": 0.25},
}


def test_a_search_that_is_stopped_then_killed_continues_to_the_same_trials_and_failed_ones_stop_nothing(
    here, begin, cnnbench
):
    write_yaml(here / "half.yaml", {"overrides": [*SMALL, "optimizer=sgd", "trainer.epochs=20"], "space": HALF_FAILS})
    asked = ["tune=half.yaml", "tune.trials=4", "tune.pruner=none", "tune.seed=10"]
    done = cnnbench("tune", *asked, "hydra.run.dir=whole")
    assert done.returncode == 0, done.stderr
    whole = results_of(here / "whole")
    assert {row["optimizer.lr"]: row["state"] for row in whole} == {"0.05": "finished", "1e+30": "failed"}
    assert all(row["message"].startswith("Diverged: ") for row in whole if row["state"] == "failed")
    first, second = [row["trial"] for row in whole if row["state"] == "finished"][:2]

    begun = begin("tune", *asked, "hydra.run.dir=broken")
    wait_for_rows(here / "broken" / first / "metrics.csv", 3, begun)
    command_process = find_parent(RunFolder(here / "broken" / first).read_status()["pid"])
    os.killpg(command_process, signal.SIGINT)  # as a terminal's Ctrl-C: to all of them
    stopped = begun.result()
    assert stopped.returncode == 130, stopped.stderr
    assert "resume with: cnnbench tune resume=broken" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert RunFolder(here / "broken" / first).read_status()["state"] == "interrupted"
    assert read_csv(here / "broken/trials.csv")[int(first)]["state"] == "running"
    assert_ended(command_process)

    begun = begin("tune", "resume=broken")
    wait_for_rows(here / "broken" / second / "metrics.csv", 3, begun)
    command_process = find_parent(RunFolder(here / "broken" / second).read_status()["pid"])
    os.kill(command_process, signal.SIGKILL)
    assert begun.result().returncode == -signal.SIGKILL
    assert_ended(command_process)

    done_again = cnnbench("tune", "resume=broken", "tune.workers=2")
    assert done_again.returncode == 0, done_again.stderr
    assert results_of(here / "broken") == whole
    best = max(whole, key=lambda row: float(row["val/accuracy"] or 0))
    check_outputs(here / "whole", best, done.stdout)


def check_outputs(folder, best, printed):
    """The best trial, its command, and pictures, of a study of four trials."""
    assert printed.splitlines()[-1] == "whole"
    rows = RunFolder(folder / best["folder"]).read_metrics()
    assert max(row["val/accuracy"] for row in rows) == float(best["val/accuracy"])
    told = read_yaml(folder / "best.yaml")
    assert (told["trial"], told["of_trials"]) == (int(best["trial"]), 4)
    assert told["command"] in printed.replace("\n", " ")
    assert "looks better here than it is" in printed
    words = shlex.split(told["command"])
    assert words[:3] == ["cnnbench", "train", "-m"]
    jobs = compose.compose_request(words[3:], multirun=True).jobs
    assert [job.config.seed for job in jobs] == [1, 2, 3, 4, 5, 6], "seeds that the search has not seen"
    trained = RunFolder(folder / best["folder"]).read_config()
    assert jobs[0].config.optimizer.lr == trained["optimizer"]["lr"] == float(best["optimizer.lr"])
    assert (folder / "history.png").is_file()
    for number in range(4):
        names = {path.name for path in (folder / str(number)).iterdir()}
        assert not {"predictions.npz", "confusion_matrix.csv", "mistakes.png"} & names, "the test images are not read"


def test_a_search_of_which_no_trial_finishes_fails(here, cnnbench):
    space = {
        "trainer.epochs": {"type": "int", "low": 1, "high": 2},
        "scheduler.warmup_epochs": {"type": "float", "low": 2.5, "high": 3},
    }
    write_yaml(here / "none.yaml", {"overrides": [*SMALL, "trainer.epochs=3"], "space": space})
    done = cnnbench("tune", "tune=none.yaml", "tune.trials=2", "hydra.run.dir=study")
    assert done.returncode == 1
    assert "none of 2 trials finished: study/trials.csv says why" in done.stderr
    assert done.stdout.splitlines()[-1] == "study"
    rows = read_csv(here / "study/trials.csv")
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert all("must be a number from 0 to trainer.epochs" in row["message"] for row in rows)
    assert (here / "study/history.png").is_file()
    assert not (here / "study/best.yaml").exists()


def test_completion_offers_spaces_and_keys_of_a_search_and_of_a_run():
    assert complete_tuning("tune=") == ["tune=lenet5", "tune=mlp"]
    assert "tune.trials=" in complete_tuning("tune.tr")
    assert "optimizer.lr=" in complete_tuning("optimizer.")
    assert "tune=" not in complete_override("tu")
    assert {f"tune.{name}=" for name in vars(TuneSettings())} <= set(complete_tuning(""))

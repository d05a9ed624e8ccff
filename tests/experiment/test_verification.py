"""An honest run is found again, to the bit where that can be expected; any change by hand is named."""

import json
import shutil
import signal
import tempfile
from contextlib import suppress

import pytest
import torch
from test_group import train as train_group
from test_resume import Interrupted, signals  # noqa: F401

from cnnbench.cli.compose import compose_config
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_options import VerifyOptions
from cnnbench.cli.verify import draw_sample, verify
from cnnbench.experiment.measuring.verification import AGREES, DISAGREES, REPRODUCED, UNVERIFIABLE, verify_run
from cnnbench.experiment.resume import apply_overrides
from cnnbench.experiment.run import run_job
from cnnbench.runs.folder import INTERRUPTED, RunFolder
from cnnbench.storage.plain_data import read_json, read_yaml, write_json, write_yaml
from cnnbench.training import checkpoint

FIGURES = ("predictions.npz", "confusion_matrix.csv", "per_class.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of one config with different seeds."""
    folder = tmp_path_factory.mktemp("trained")
    for seed in "01":
        train(folder / seed, "model=mlp", "data.train_limit=200", "trainer.epochs=2", f"seed={seed}")
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def train(path, *overrides, resume=False):
    path.mkdir(exist_ok=True)
    config = apply_overrides(RunFolder(path).read_config(), overrides) if resume else compose_config([*overrides])
    run_job(config, path, [*overrides], resume=resume, draw=lambda pictures, wait=True: None)
    return path


def list_content(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def change_summary(run, **figures):
    path = run / "summary.json"
    write_json(path, read_json(path) | {key.replace("__", "/"): value for key, value in figures.items()})


def edit_accuracy(run, other):
    change_summary(run, test__accuracy=0.9987)


def edit_cost(run, other):
    change_summary(run, macs=5)


def edit_epochs(run, other):
    path = run / "metrics.csv"
    header, first, second = path.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index("train/loss")] = "0.25"
    path.write_text("\n".join([header, ",".join(cells), second, ""]))


def take_weights(run, other):
    shutil.copy(other / "checkpoints/best.safetensors", run / "checkpoints")


def change_weights(run, other):
    tensors, record = checkpoint.load(run / "checkpoints", "best")
    first = next(iter(tensors))
    checkpoint.save(run / "checkpoints", "best", tensors=tensors | {first: 9 * tensors[first]}, record=record)


def take_predictions(run, other):
    for name in FIGURES:
        shutil.copy(other / name, run)
    theirs = read_json(other / "summary.json")
    change_summary(run, **{key: value for key, value in theirs.items() if key.startswith("test")})


def edit_config(run, other):
    config = read_yaml(run / "config.yaml")
    write_yaml(run / "config.yaml", config | {"optimizer": config["optimizer"] | {"lr": 0.5}})


def edit_config_and_weights(run, other):
    edit_config(run, other)
    tensors, record = checkpoint.load(run / "checkpoints", "best")
    record["config"]["optimizer"]["lr"] = 0.5
    checkpoint.save(run / "checkpoints", "best", tensors=tensors, record=record)


def edit_text_of_config(run, other):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("batch_size: 64", "batch_size: 32"))


def cut_predictions(run, other):
    (run / "predictions.npz").write_bytes((run / "predictions.npz").read_bytes()[:-9])


def rename_a_class(run, other):
    for name in ("confusion_matrix.csv", "per_class.csv"):
        lines = (run / name).read_text().replace("true,0,", "true,zero,").splitlines()
        renamed = ["zero" + line[1:] if line.startswith("0,") else line for line in lines]
        (run / name).write_text("\n".join([*renamed, ""]))


def edit_evaluation(run, other):
    shutil.copytree(run, run / "evaluations/digits_test", ignore=shutil.ignore_patterns("evaluations", "*.json"))
    write_json(run / "evaluations/digits_test/metrics.json", {"accuracy": 1.0, "images": 360})


def change_data(run, other):
    data = read_json(run / "data.json")
    tensors, record = checkpoint.load(run / "checkpoints", "best")
    data["splits"]["test"]["values_sha256"] = data["splits"]["test"]["files_sha256"] = "0" * 64
    record["split"]["test"] = "0" * 64
    write_json(run / "data.json", data)
    change_summary(run, test_set_sha256="0" * 64)
    checkpoint.save(run / "checkpoints", "best", tensors=tensors, record=record)


def interrupt(run, other):
    RunFolder(run).set_status(INTERRUPTED, "KeyboardInterrupt")


def lose_weights(run, other):
    (run / "checkpoints/best.safetensors").unlink()


def put_link(run, other):
    (run / "link").symlink_to("/etc/passwd")


@pytest.mark.parametrize("evaluate_only", [False, True], ids=["again", "evaluated"])
def test_an_honest_run_is_confirmed_and_nothing_in_its_folder_changes(evaluate_only, runs, temporary):
    before = list_content(runs)
    found = verify_run(runs / "1", evaluate_only=evaluate_only)
    assert found.describe() == (
        "figures agree within 0.001 (not retrained: --evaluate-only)" if evaluate_only else "reproduced to the bit"
    )
    assert list_content(runs) == before
    assert list(temporary.glob("cnnbench*")) == []


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (edit_accuracy, DISAGREES, "summary.json says 0.9987 for test/accuracy; by predictions.npz it is "),
        (edit_cost, DISAGREES, "summary.json says 5 for macs; by the network it is 101632"),
        (edit_epochs, DISAGREES, "metrics.csv says 0.25 for train/loss in epoch 1; by training again it is "),
        (take_weights, DISAGREES, "config.yaml says 0 for seed; by checkpoints/best.safetensors it is 1"),
        (change_weights, DISAGREES, "by its weights it is "),
        (take_predictions, DISAGREES, "predictions.npz says "),
        (edit_config, DISAGREES, "config.yaml says 0.5 for optimizer.lr; by checkpoints/best.safetensors it is 0.001"),
        (edit_config_and_weights, DISAGREES, "in epoch 1; by training again it is "),
        (edit_text_of_config, DISAGREES, "config.yaml is damaged: its last line is not the SHA-256"),
        (cut_predictions, DISAGREES, "predictions.npz is damaged"),
        (rename_a_class, DISAGREES, "for the name or the number of classes; by the data it is '0'"),
        (edit_evaluation, DISAGREES, "evaluations/digits_test/metrics.json says 1.0 for accuracy; by predictions.npz"),
        (change_data, UNVERIFIABLE, "not the data of this run: the contents or labels differ (test had 360 images"),
        (interrupt, UNVERIFIABLE, "it is not finished (its state: interrupted)"),
        (lose_weights, UNVERIFIABLE, "checkpoints/best.safetensors is missing"),
        (put_link, UNVERIFIABLE, "is a symbolic link"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_run_that_was_changed_by_hand_is_not_confirmed(change, verdict, words, runs):
    change(runs / "0", runs / "1")
    found = verify_run(runs / "0")
    assert (found.verdict, words in found.reason) == (verdict, True), found


def test_a_run_of_another_machine_is_tested_again_and_not_retrained(runs):
    path = runs / "0/env.json"
    write_json(path, read_json(path) | {"torch": "1.0"})
    found = verify_run(runs / "0")
    assert found.describe() == f"figures agree within 0.001 (not retrained: torch 1.0, here {torch.__version__})"
    path.unlink()
    assert "env.json lacks torch" in verify_run(runs / "0").reason
    (runs / "1/predictions.npz").unlink()
    change_summary(runs / "1", device="cuda:7")
    found = verify_run(runs / "1")
    assert (found.verdict, found.reason) == (AGREES, "trained on cuda:7, here cpu"), "its scores alone are compared"


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=conv_autoencoder", "data.train_limit=100"],
        ["model=mlp", "data=waves", "data.train_limit=100"],
    ],
    ids=["reconstruction", "signals"],
)
def test_every_kind_of_run_is_reproduced_also_one_that_was_resumed(overrides, tmp_path):
    run = train(tmp_path / "run", *overrides, "trainer.epochs=1")
    train(run, "trainer.epochs=2", resume=True)
    assert verify_run(run).describe() == "reproduced to the bit"


def test_a_run_trained_together_with_another_and_averaged_is_reproduced_alone(tmp_path):
    train_group(tmp_path, [0, 1])
    assert verify_run(tmp_path / "1").verdict == REPRODUCED


def test_data_that_have_moved_are_found_by_path(tmp_path):
    rows = [f"{k % 7},{k % 11},{k % 3},class {k % 2}" for k in range(60)]
    (tmp_path / "signals.csv").write_text("\n".join(rows))
    given = ["data=csv_signals", f"data.path={tmp_path / 'signals.csv'}", "model=mlp", "trainer.epochs=1"]
    run = train(tmp_path / "run", *given)
    (tmp_path / "signals.csv").rename(tmp_path / "moved.csv")
    assert verify_run(run).verdict == UNVERIFIABLE
    assert verify_run(run, data_path=str(tmp_path / "moved.csv")).verdict == REPRODUCED


def test_the_command_has_a_line_for_each_run_and_fails_if_one_is_not_confirmed(runs, capsys):
    verify(VerifyOptions([runs / "0", runs], evaluate_only=True))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == ["0", "1", "2 runs"]
    assert lines[-1] == "2 runs: 2 agree"
    edit_accuracy(runs / "0", None)
    with pytest.raises(RunFailed, match="1 of 2 runs were not confirmed"):
        verify(VerifyOptions([runs], evaluate_only=True, as_json=True))
    answer = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in answer["results"]] == [DISAGREES, AGREES]
    with suppress(RunFailed):
        verify(VerifyOptions([runs], evaluate_only=True, sample=1, seed=3))
    _, count = capsys.readouterr().out.splitlines()
    assert count.startswith("1 of 2 runs, drawn with --seed 3: 1 ")
    with pytest.raises(ValueError, match="is not a folder"):
        verify(VerifyOptions([runs / "9"]))


def test_a_sample_depends_on_the_seed_alone(tmp_path):
    paths = [tmp_path / str(number) for number in range(40)]
    samples = [draw_sample(paths, 5, seed) for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    assert draw_sample(paths, 99, 0) == paths


def test_an_interrupted_verification_leaves_no_folder(runs, temporary, monkeypatch, signals):  # noqa: F811
    Interrupted(monkeypatch, at=3, number=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as raised:
        verify_run(runs / "0")
    assert str(raised.value) == "", "it names no command that would resume in the folder that is gone"
    assert list(temporary.glob("cnnbench*")) == []

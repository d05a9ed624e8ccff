"""Trackers, read back with their own means; what a tracker does never harms the run."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import ClassVar

import pytest

from cnnbench.cli import compose
from cnnbench.config.keys import flatten
from cnnbench.config.schema import to_dict
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.run import run_job
from cnnbench.registry import list_names, register
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.trackers import TrackedRun, Trackers, open_trackers, store_id

SMALL = ["trainer.epochs=2", "data.train_limit=200", "model=mlp"]
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
FIGURES = {"curves", "confusion_matrix", "mistakes", "reliability", "samples"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run that all three trackers have followed, interrupted after an epoch and resumed; no network."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        connect = socket.socket.connect

        def local_only(self, address):
            assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"connects to {address}"
            return connect(self, address)

        patch.setattr(socket.socket, "connect", local_only)
        config = compose.compose_config(["logger=tensorboard,mlflow,wandb", "name=experiment_7", *SMALL])
        path = folder / "outputs/experiment_7/first"
        path.mkdir(parents=True)

        def interrupt(row):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_job(config, path, [], on_epoch=interrupt)
        run_job(config, path, [], resume=True)
    return RunFolder(path)


def test_a_tracked_run_can_be_evaluated_resumed_and_reported(tracked, cnnbench):
    links = [path for path in tracked.path.rglob("*") if path.is_symlink()]
    assert links, "W&B makes links of its own, which are what this is about"
    assert all(path.is_relative_to(tracked.path / "wandb") for path in links)
    for arguments in (["evaluate", tracked.path], ["train", f"resume={tracked.path}"], ["report", tracked.path]):
        done = cnnbench(*map(str, arguments))
        assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stdout


def test_wandb_follows_no_link_that_was_there_before_it(tmp_path, tracked):
    run, outside = tmp_path / "run", tmp_path / "outside.log"
    shutil.copytree(tracked.path, run, symlinks=True)
    outside.write_text("mine")
    for name in ("debug.log", "debug-internal.log", "latest-run"):
        (run / "wandb" / name).unlink(missing_ok=True)
        (run / "wandb" / name).symlink_to(outside)
    config = compose.compose_config(["logger=wandb", "trainer.epochs=3", *SMALL])
    with open_trackers(config.logger.options, run, to_dict(config), resume=True, problems=[]) as logger:
        logger.log({"epoch": 3, "train/loss": 0.5})
    assert outside.read_text() == "mine"


def test_tensorboard_has_metrics_figures_config_and_tables(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked.path / "tensorboard"))
    events.Reload()
    rows, summary = tracked.read_metrics(), tracked.read_summary()
    for name in ("train/loss", "val/accuracy", "val/f1_macro", "lr"):
        assert [event.step for event in events.Scalars(name)] == [1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx([row[name] for row in rows])
    assert [event.value for event in events.Scalars("test/accuracy")] == pytest.approx([summary["test/accuracy"]])
    assert set(events.Tags()["images"]) == FIGURES
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "| optimizer.lr | 0.001 |" in texts["config/text_summary"]
    assert f"| test/accuracy | {summary['test/accuracy']} |" in texts["summary/text_summary"]
    assert texts["per_class/text_summary"].count("\n") == 1 + 10
    assert "_hparams_/experiment" in events.summary_metadata


def test_mlflow_has_one_run_with_metrics_figures_config_and_tables(tracked):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked.path.parents[1]}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("cnnbench").experiment_id])
    assert (run.info.run_name, run.info.status) == ("experiment_7/first", "FINISHED")
    for row in tracked.read_metrics():
        for name in ("train/loss", "val/f1_macro"):
            history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
            assert history[row["epoch"]] == pytest.approx(row[name])
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 2
    assert run.data.metrics["test/accuracy"] == tracked.read_summary()["test/accuracy"]
    assert run.data.params == {key: str(value) for key, value in flatten(tracked.read_config()).items()}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {f"{name}.png" for name in FIGURES} | {"config.yaml", "summary.json", "per_class.json"}
    folder = tracked.path.parents[1] / "mlflow.artifacts" / run.info.run_id / "artifacts"
    table = json.loads((folder / "per_class.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert rows == read_csv(tracked.path / "per_class.csv")


def wandb_records(path):
    """The records of an offline run: LevelDB's log format, each record a protocol buffer of W&B's."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, block, parts = path.read_bytes(), 7, 32768, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def test_wandb_has_metrics_figures_config_and_tables_and_ran_offline(tracked):
    folders = sorted((tracked.path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2, "one for each time the run was started"
    (identity,) = {folder.name.rpartition("-")[2] for folder in folders}
    records = [record for folder in folders for record in wandb_records(folder / f"run-{identity}.wandb")]
    config = {
        item.key or item.nested_key[0]: json.loads(item.value_json) for r in records for item in r.run.config.update
    }
    assert {key: config[key] for key in ("optimizer.lr", "model.name")} == {"optimizer.lr": 0.001, "model.name": "mlp"}
    logged = {}
    for record in records:
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        logged.setdefault(row.get("_step"), {}).update(row)
    for row in tracked.read_metrics():
        assert logged[row["epoch"]]["val/accuracy"] == pytest.approx(row["val/accuracy"])
    names = {key.partition("/")[0] for key in logged[2]}
    assert names >= FIGURES | {"summary", "per_class"}
    media = [path for path in folders[1].rglob("media/**/*") if path.is_file()]
    assert sorted(path.suffix for path in media) == [".json"] * 2 + [".png"] * len(FIGURES)
    (table,) = (json.loads(path.read_text()) for path in media if path.name.startswith("per_class"))
    assert [row[0] for row in table["data"]] == [str(digit) for digit in range(10)]


class Unsteady:
    """A tracker that fails when it is told to."""

    def __init__(self, failing):
        self.failing, self.rows, self.summary = list(failing), [], None

    def log(self, row):
        if self.failing and self.failing.pop(0):
            raise OSError("\ndatabase is locked\n(details)")
        self.rows.append(row["epoch"])

    def finish(self, summary):
        self.summary = summary

    def close(self, state):
        raise RuntimeError("cannot say goodbye")


@pytest.mark.parametrize(
    ("failing", "received", "warnings"),
    [([True, True], [1, 2, 3, 4], 2), ([True] * 3, [], 3), ([False, True], [1, 2, 3, 4], 1)],
    ids=["recovers", "gives up after three", "sends again what failed"],
)
def test_a_failing_tracker_causes_warnings_and_gets_again_what_it_missed(failing, received, warnings, caplog):
    unsteady = Unsteady(failing)
    all_of_them = Trackers({"unsteady": unsteady})
    with caplog.at_level("WARNING", logger="cnnbench"):
        for epoch in (1, 2, 3, 4):
            all_of_them.log({"epoch": epoch})
        all_of_them.finish({"epochs": 4})
        assert len(caplog.records) == warnings
        assert "logger unsteady failed (OSError: database is locked)" in caplog.text
        all_of_them.close("finished")
    assert "cannot say goodbye" in caplog.text
    assert unsteady.rows == received
    assert (unsteady.summary is not None) == bool(received)


def test_a_tracker_that_cannot_be_opened_does_not_stop_the_run(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    config = compose.compose_config([*SMALL, "logger=mlflow", "logger.mlflow.tracking_uri=sqlite:///file/mlflow.db"])
    with caplog.at_level("WARNING", logger="cnnbench"):
        run_job(config, tmp_path / "run", [])
    assert "logger mlflow failed (" in caplog.text
    status = RunFolder(tmp_path / "run").read_status()
    assert status["state"] == "finished"
    assert status["message"].startswith("logger mlflow failed ("), "which a sweep's terminal shows"


@pytest.mark.parametrize("name", sorted(EXTRAS & set(list_names("logger"))))
def test_a_logger_without_its_package_says_how_to_get_it_before_anything_starts(name, tmp_path, monkeypatch, capsys):
    from cnnbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "train", f"logger={name}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"pip install 'cnnbench[{name}]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger=tensorbord"], "unknown logger 'tensorbord'. Did you mean 'tensorboard'? Valid: mlflow, none"),
        (["logger=[mlflow,tensorbord]"], "unknown logger 'tensorbord'. Did you mean 'tensorboard'?"),
        (["logger=mlflow,tensorbord"], "unknown logger 'tensorbord'. Did you mean 'tensorboard'?"),
        (
            ["logger=wandb", "logger.wandb.mode=onlin"],
            "must be one of offline, online. Did you mean online?",
        ),
        (["logger=wandb", "logger.wandb.project=''"], "logger.wandb.project=: must be text that is not blank"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=runs.db"], "must be sqlite:///FILE or http://HOST:PORT"),
        (["logger.mlflow.experiment=x"], "unknown key in logger"),
        (["logger=wandb", "+logger.wandb.entity=x"], "unknown key in logger.wandb 'entity'"),
        (["+logger.comet={}"], "unknown logger 'comet'"),
        (["+logger.mlflow=3"], "logger.mlflow=3: must be a group of keys"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_loggers_and_options_are_refused_by_name(overrides, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        build_parts(compose.compose_config(overrides), shapes_only=True)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "several", ["logger=tensorboard,wandb", "logger=[tensorboard,wandb]", "logger=[wandb,none,tensorboard]"]
)
def test_several_loggers_are_a_list_and_not_a_sweep(several):
    config = compose.compose_config([several, "logger.wandb.project=mine"])
    assert config.logger.options == {"tensorboard": {}, "wandb": {"mode": "offline", "project": "mine"}}
    assert compose.compose_config(["logger=none"]).logger.options == {}


@register("logger", "recorder")
class Recorder(Unsteady):
    """A tracker that a user registered; it keeps the ids that it was given."""

    ids: ClassVar = []

    def __init__(self, run):
        super().__init__([])
        self.ids.append(run.id)

    def close(self, state):
        pass


def test_an_id_that_is_not_a_name_is_ignored(tmp_path):
    for identity in ("abc123", "../../etc", 7, "a" * 100):
        (tmp_path / "trackers.json").write_text(json.dumps({"recorder": identity}))
        with open_trackers({"recorder": {}}, tmp_path, {"name": "x"}, resume=True, problems=[]):
            pass
    assert Recorder.ids == ["abc123", None, None, None]
    store_id(tmp_path, "wandb", "1")
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "1"}
    assert TrackedRun(tmp_path, "x", {}, None).pictures == []


# Three runs that MLflow follows, each in a process of its own; the first is killed while it creates the database.
AT_ONCE = """
import os, signal, sys
from pathlib import Path
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.trackers import mlflow as module, open_trackers
from mlflow import MlflowClient

options = {"mlflow": {"tracking_uri": "sqlite:///outputs/mlflow.db", "experiment": "cnnbench"}}

def follow(number):
    run = Path(f"run{number}")
    run.mkdir()
    if number == 0:
        module._find_experiment = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    problems = []
    with open_trackers(options, run, to_dict(from_dict({})), problems=problems) as logger:
        for epoch in (1, 2, 3):
            logger.log({"epoch": epoch, "train/loss": 0.5})
    os._exit(len(problems))

def forked(number):
    return os.fork() or follow(number)

os.waitpid(forked(0), 0)
assert not os.path.exists("outputs/mlflow.db"), "it has its name once it is whole"
assert [os.waitpid(pid, 0)[1] for pid in [forked(1), forked(2)]] == [0, 0]
"""


def test_runs_that_start_at_once_share_a_new_database_and_none_is_lost(tmp_path):
    from mlflow import MlflowClient

    subprocess.run([sys.executable, "-c", AT_ONCE], cwd=tmp_path, check=True)
    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("cnnbench").experiment_id])
    assert len(runs) == 2
    assert all(len(client.get_metric_history(run.info.run_id, "train/loss")) == 3 for run in runs)
    assert not list(tmp_path.glob("outputs/.*.tmp"))

import json
import os

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnbench.metrics import count_confusion, score_classes
from cnnbench.runs.contents import read_confusion, read_predictions, write_evaluation
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.storage.arrays import write_npz
from cnnbench.storage.atomic import LOCK, lock_folder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json, write_json, write_yaml


def test_a_folder_that_holds_something_is_not_taken(tmp_path):
    create_folder(tmp_path / "new" / "run")
    create_folder(tmp_path / "new" / "run")
    (tmp_path / "new" / "run" / "x").touch()
    with pytest.raises(ValueError, match="exists already"):
        create_folder(tmp_path / "new" / "run")


def test_only_what_a_killed_start_left_is_taken_over(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "train.log", "env.json", ".config.yaml.7.tmp"):
        (run / name).touch()
    (run / "checkpoints").mkdir()
    assert RunFolder.create(run).path == run
    for name, words in (
        ("config.yaml", f"already holds a run.*cnnbench train resume={run}"),
        ("notes.txt", "exists already"),
        ("checkpoints/last.safetensors", "exists already"),
    ):
        (run / name).touch()
        with pytest.raises(ValueError, match=words):
            RunFolder.create(run)
        (run / name).unlink()
    (run / ".lock").unlink()  # a log of somebody else's
    with pytest.raises(ValueError, match="exists already"):
        RunFolder.create(run)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_lock_that_cannot_be_taken_is_named(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(OSError, match=rf"{tmp_path}/{LOCK} could not be locked: Is a directory"), lock_folder(tmp_path):
        pass


def test_numbers_that_are_not_finite_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [np.float32("inf"), np.int64(3), 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [None, 3, 1.5]}


@example(["true", "false", "a\rb", 'say "no",\r\n$x$'])
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_class_names_of_any_kind_survive_the_confusion_csv(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("c")
    k = len(names)
    confusion = np.arange(k * k).reshape(k, k)
    arrays = {"labels": np.zeros(1, int), "predictions": np.zeros(1, int), "probabilities": np.ones((1, k))}
    write_evaluation(folder, class_names=names, confusion=confusion, per_class=[], **arrays)
    read_names, read = read_confusion(folder)
    assert read_names == names
    np.testing.assert_array_equal(read, confusion)


@pytest.mark.parametrize(
    "name", ["x" * 200, "\N{GRINNING FACE}" * 200, ", '=\"\r\n" * 30], ids=["long", "wide", "quoted"]
)
@pytest.mark.parametrize("classes", [1000, 10_000])
def test_what_is_written_of_many_classes_can_be_read(classes, name, tmp_path):
    names = [f"{name}{k}" for k in range(classes)]
    labels = np.repeat(np.arange(classes), 2)
    predictions = np.random.default_rng(0).permutation(labels)
    top = np.stack([predictions, labels], 1).astype(np.int32)
    confusion = count_confusion(labels, predictions, classes)
    if classes <= 1000:
        confusion = confusion + 1_000_000
    write_evaluation(
        tmp_path,
        class_names=names,
        confusion=confusion,
        per_class=score_classes(confusion, names),
        labels=labels,
        predictions=predictions,
        probabilities=np.full(top.shape, 0.5, np.float32),
        top_classes=top,
    )
    found, read = read_confusion(tmp_path)
    assert found == names
    assert not (read != confusion).sum()
    assert [row["class"] for row in read_csv(tmp_path / "per_class.csv")] == names
    arrays = read_predictions(tmp_path)
    assert np.array_equal(arrays["top_classes"], top)
    assert arrays["num_classes"] == classes
    assert (tmp_path / "confusion_matrix.csv").stat().st_size < 2**24


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="holds Python objects"):
        write_npz(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    np.savez(tmp_path / "predictions.npz", labels=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_predictions(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "!!python/object/apply:os.system ['true']", "\x00"])
def test_damaged_or_hostile_yaml_is_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml is damaged"):
        RunFolder.open_existing(tmp_path).read_config()


def test_what_is_not_a_run_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        RunFolder.open_existing(tmp_path / "none")
    with pytest.raises(ValueError, match=r"it has no config\.yaml"):
        RunFolder.open_existing(tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0/config.yaml").touch()
    with pytest.raises(ValueError, match=r"It is a sweep: name one of its runs, such as .*0"):
        RunFolder.open_existing(tmp_path)
    write_yaml(tmp_path / "0/config.yaml", [1])
    with pytest.raises(ValueError, match="holds no keys"):
        RunFolder.open_existing(tmp_path / "0").read_config()
    with pytest.raises(ValueError, match="not finished"):
        RunFolder(tmp_path / "0").read_summary()


def test_a_key_that_was_renamed_is_read_by_its_current_name(tmp_path):
    RunFolder(tmp_path).start({"seed": 0, "data": {"split_seed": 4, "name": "digits"}}, [])
    assert RunFolder(tmp_path).read_config()["data"] == {"test_seed": 4, "name": "digits"}


def test_a_status_keeps_its_start(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_status() == {}
    run.set_status("running")
    started = run.read_status()["started"]
    run.set_status("failed", "why")
    assert run.read_status() | {"updated": ""} == {
        "state": "failed",
        "message": "why",
        "started": started,
        "updated": "",
        "pid": os.getpid(),
    }


def test_the_config_is_written_last_for_it_makes_the_folder_a_run(tmp_path, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, path: (order.append(path.name), replace(source, path)))
    RunFolder(tmp_path).start({"seed": 0}, ["seed=0"])
    assert order[-1] == "config.yaml"
    assert sorted(order) == ["config.yaml", "overrides.yaml", "status.json"]

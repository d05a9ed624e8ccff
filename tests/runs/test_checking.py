"""A run whose figures do not follow from what lies beside them is named, and costs none of the others."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from run_builders import write_run
from run_copies import trained_pair

from cnnbench import registry
from cnnbench.cli.options import TrainOptions
from cnnbench.cli.report import show_study
from cnnbench.cli.tables import show_run
from cnnbench.cli.train import train
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.report.csv_rows import list_runs
from cnnbench.report.reading import read_study
from cnnbench.report.writing import write_report
from cnnbench.runs.checking import find_contradiction
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.arrays import read_npz, write_npz
from cnnbench.storage.plain_data import SEAL, read_yaml, write_yaml


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two real runs."""
    return trained_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def runs(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "runs")
    return tmp_path / "runs"


def change(path, **figures):
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {key.replace("__", "/"): value for key, value in figures.items()}))


def test_real_runs_agree_with_themselves(runs):
    study = read_study([runs])
    assert [(run.state, run.unchecked) for run in study.runs] == [("finished", [])] * 2


@pytest.mark.parametrize(
    ("figures", "source"),
    [
        ({"test__accuracy": 0.9987}, "predictions.npz"),
        ({"test__f1_macro": 0.9}, "predictions.npz"),
        ({"test__loss": 0.01}, "predictions.npz"),
        ({"test__roc_auc": 0.9999}, "predictions.npz"),
        ({"test__average_precision": "1"}, "predictions.npz"),
        ({"test_images": 359}, "predictions.npz"),
        ({"test_labels_sha256": "0" * 64}, "predictions.npz"),
        ({"seed": 1}, "config.yaml"),
        ({"model": "mlp"}, "config.yaml"),
        ({"data": "mnist"}, "config.yaml"),
        ({"parameters": 1000}, "the weights"),
        ({"weight_bytes": 1000}, "the weights"),
        ({"trainable_parameters": 1000}, "its parameters"),
        ({"epochs": 3}, "metrics.csv"),
        ({"best_epoch": 0}, "metrics.csv"),
        ({"train_seconds": 0.001}, "metrics.csv"),
        ({"images_per_second": 1e6}, "metrics.csv"),
        ({"train_images": 1292}, "data.json"),
        ({"val_images": 1}, "data.json"),
        ({"test_set_sha256": "0" * 64}, "data.json"),
    ],
    ids=str,
)
def test_an_edited_figure_is_not_believed(figures, source, runs):
    change(runs / "1/summary.json", **figures)
    study = read_study([runs])
    (key,) = figures
    assert [run.state for run in study.runs] == ["finished", "damaged"]
    name, value = key.replace("__", "/"), figures[key]
    said = f"summary.json says {repr(value)[:60]} for {name}; by {source} it is "
    assert any(said in note.text for note in study.notes), study.notes
    assert f"contradicts {source}, according to which {name} is " in str(list_runs(study))
    assert "0.9987" not in str(list_runs(study)), "no table repeats a figure that is not believed"


def test_a_share_beyond_the_whole_is_not_believed(runs):
    change(runs / "1/summary.json", dense_share=1.5)
    study = read_study([runs])
    assert [run.state for run in study.runs] == ["finished", "damaged"]
    assert any("dense_share=1.5: must be from 0 to 1" in note.text for note in study.notes)


@pytest.mark.parametrize(
    "value",
    [10**20, 1e20, -1, float("nan"), float("inf"), True, "many", [1], 10**400],
    ids=lambda value: str(value)[:9],
)
@pytest.mark.parametrize(
    "key",
    [
        *("parameters", "macs", "depth", "test/loss", "train_seconds", "images_per_second"),
        *("frozen_parameters", "activation_bytes", "dense_share"),
    ],
)
def test_no_figure_of_one_run_costs_the_others(key, value, tmp_path):
    for number in range(3):
        write_run(tmp_path / f"runs/{number}", number, 900 + number)
    path = tmp_path / "runs/1/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    study = read_study([tmp_path / "runs"])
    assert [run.state for run in study.runs] == ["finished", "damaged", "finished"]
    assert any(key in note.text for note in study.notes), study.notes


def test_a_missing_number_of_frozen_parameters_is_none(runs):
    change(runs / "1/summary.json", frozen_parameters=None)
    assert [run.state for run in read_study([runs]).runs] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("3,0.9", "3,1e308", "train/accuracy=1e+308 is impossible"),
        ("3,0.9", "3,-1e308", "is impossible"),
        ("3,0.9", "3,1.5", "is impossible"),
        ("3,0.9", "3,high", "train/accuracy='high' is impossible"),
        ("3,0.9", "2,0.9", "do not follow one after the other"),
        ("3,0.9", "3000000000000000000000,0.9", "do not follow one after the other"),
        ("3,0.9\n", "", "says 3 for epochs; by metrics.csv it is 2"),
        ("epoch,", "era,", "do not follow one after the other"),
    ],
)
def test_epochs_that_cannot_be_cost_their_run_alone(old, new, words, tmp_path):
    for number in range(2):
        write_run(tmp_path / f"runs/{number}", number, 900 + number)
    path = tmp_path / "runs/1/metrics.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    study = write_report([tmp_path / "runs"], tmp_path / "out", target=0.9)
    assert [run.state for run in study.runs] == ["finished", "damaged"]
    assert words in study.runs[1].message
    assert (tmp_path / "out/report.html").is_file()


def test_files_of_another_run_are_not_taken_for_its_own(runs):
    for name in ("predictions.npz", "confusion_matrix.csv", "per_class.csv", "metrics.csv"):
        folder = runs.parent / name
        shutil.copytree(runs, folder)
        shutil.copy(runs / "0" / name, folder / "1" / name)
        assert [run.state for run in read_study([folder]).runs] == ["finished", "damaged"], name


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        (
            "confusion_matrix.csv",
            "2,0,",
            "2,7,",
            "says 7 for images of '2' predicted as '0'; by predictions.npz it is 0",
        ),
        ("per_class.csv", "1,1.0,", "1,0.5,", "says 0.5 for precision of '1'; by predictions.npz it is "),
        (
            "per_class.csv",
            "3,",
            "three,",
            "says 'three' for the name or the number of classes; by confusion_matrix.csv",
        ),
    ],
)
def test_a_message_names_the_cell_of_a_table_that_does_not_follow(name, old, new, words, tmp_path):
    path = write_run(tmp_path / "0", 0, 1000).path / name
    lines = path.read_text().splitlines()
    changed = [new + line.removeprefix(old) if line.startswith(old) else line for line in lines]
    assert changed != lines
    path.write_text("\n".join(changed))
    assert words in read_study([tmp_path]).runs[0].message


@pytest.mark.parametrize("score", ["specificity", "roc_auc", "average_precision"])
def test_an_edited_score_of_a_class_is_not_believed(score, runs):
    path = runs / "1/per_class.csv"
    header, first, *rest = csv.reader(path.read_text().splitlines())
    first[header.index(score)] = "0.125"
    path.write_text("\n".join(map(",".join, (header, first, *rest))))
    assert f"per_class.csv says 0.125 for {score} of '0'; by predictions.npz it is " in find_contradiction(
        RunFolder(runs / "1")
    )


def test_an_edited_top_5_accuracy_is_not_believed(tmp_path):
    run = write_run(tmp_path / "0", 0, 900)
    arrays = read_npz(run.path / "predictions.npz")
    few = arrays["probabilities"]
    many = np.pad(few, ((0, 0), (0, 12 - few.shape[1])))
    write_npz(run.path / "predictions.npz", **arrays | {"probabilities": many})
    (run.path / "confusion_matrix.csv").unlink()
    change(run.path / "summary.json", test__top5_accuracy=1.0)
    assert "top5_accuracy" not in find_contradiction(run)
    change(run.path / "summary.json", test__top5_accuracy=0.5)
    assert "summary.json says 0.5 for test/top5_accuracy; by predictions.npz it is 1.0" in find_contradiction(run)


def test_evaluate_and_train_do_not_believe_an_edited_figure_either(runs, capsys):
    change(runs / "1/summary.json", test__accuracy=0.9987)
    said = "says 0.9987 for test/accuracy; by predictions.npz it is 0."
    assert said in evaluate_run(runs / "1")[1]["notes"][0]
    train(TrainOptions([f"resume={runs / '1'}"]))
    shown = capsys.readouterr()
    assert said in shown.err
    assert "99.87" not in shown.out


def test_of_many_classes_the_likeliest_bound_the_loss(tmp_path):
    run = write_run(tmp_path / "0", 0, 900)
    top = {"top_classes": read_predictions(run.path)["predictions"][:, None], "num_classes": np.array(4)}
    arrays = read_npz(run.path / "predictions.npz") | {"probabilities": np.full((1000, 1), 0.25, np.float32)}
    write_npz(run.path / "predictions.npz", **arrays | top)
    for loss, state in ((1.5, "finished"), (1.3, "damaged")):  # of four equally likely classes: 1.386
        change(run.path / "summary.json", test__loss=loss)
        assert read_study([tmp_path]).runs[0].state == state


def test_predictions_that_are_not_the_most_probable_class_are_not_believed(tmp_path):
    run = write_run(tmp_path / "runs/0", 0, 900)
    arrays = read_predictions(run.path)
    probabilities = np.full((1000, 4), 0.2, dtype=np.float32)
    probabilities[:, 0] = 0.4
    write_npz(run.path / "predictions.npz", **{**arrays, "probabilities": probabilities})
    (found,) = read_study([tmp_path]).runs
    assert "not the most probable class" in found.message


def test_probabilities_of_zero_give_the_least_that_the_loss_can_be(tmp_path):
    run = write_run(tmp_path / "runs/0", 0, 500)
    arrays = read_predictions(run.path)
    certain = np.eye(4, dtype=np.float32)[arrays["predictions"]]
    write_npz(run.path / "predictions.npz", **{**arrays, "probabilities": certain})
    for loss, state in ((60.0, "finished"), (1.0, "damaged"), (None, "finished")):
        change(run.path / "summary.json", test__loss=loss)
        assert read_study([tmp_path]).runs[0].state == state


def test_without_predictions_the_confusion_matrix_tells_and_without_both_nothing_is_believed(tmp_path):
    run = write_run(tmp_path / "runs/0", 0, 900)
    (run.path / "predictions.npz").unlink()
    change(run.path / "summary.json", test__roc_auc=0.9999)
    study = read_study([tmp_path])
    assert study.groups[0].accuracy == {0: 0.9}
    assert "test/roc_auc" not in study.runs[0].summary, "nothing shows that it is right"
    assert any(
        "checked against confusion_matrix.csv alone (predictions.npz is missing)" in note.text for note in study.notes
    )
    (run.path / "confusion_matrix.csv").unlink()
    (found,) = read_study([tmp_path]).runs
    assert "neither predictions.npz nor confusion_matrix.csv" in found.message


def test_a_reconstruction_is_checked_by_its_losses(tmp_path):
    for number, loss in enumerate((0.25, 0.2)):
        run = write_run(tmp_path / f"runs/{number}", number, None, model__name="conv_autoencoder")
        write_npz(run.path / "reconstruction.npz", losses=np.full(1000, 0.25, dtype=np.float32))
        change(run.path / "summary.json", test__loss=loss)
    study = read_study([tmp_path])
    assert [run.state for run in study.runs] == ["finished", "damaged"]
    assert "says 0.2 for test/loss; by reconstruction.npz it is 0.25" in study.runs[1].message


GONE = ("test/accuracy", "test/f1_macro", "test_set_sha256", "test/loss", "test_images", "test_labels_sha256")


@pytest.mark.parametrize(("first", "state"), [(2, "finished"), (3, "finished"), (6, "damaged")])
def test_a_bad_seed_is_not_hidden_by_figures_taken_out_of_its_summary(first, state, runs):
    path = runs / "1/summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in summary.items() if key not in GONE[:first]}))
    study = read_study([runs])
    run = study.runs[1]
    assert run.state == state
    assert state == "damaged" or run.summary["test/accuracy"] == summary["test/accuracy"]


def test_a_run_without_an_accuracy_among_others_is_named(runs):
    for name in ("predictions.npz", "confusion_matrix.csv"):
        (runs / "1" / name).unlink()
    path = runs / "1/summary.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in GONE[:2]}))
    config = read_yaml(runs / "0/config.yaml") | {"seed": 1}
    write_yaml(runs / "1/config.yaml", config)
    change(path, seed=1, model=config["model"]["name"])
    (runs / "1/checkpoints/best.safetensors").unlink()
    assert "Without an accuracy, and so not compared: 1." in [note.text for note in read_study([runs]).notes]


def test_what_a_missing_file_would_tell_is_said_not_to_be_checked(runs):
    (runs / "1/metrics.csv").unlink()
    for number in range(2):
        (runs / str(number) / "checkpoints/best.safetensors").unlink()
    (runs / "1/checkpoints/best.safetensors").write_bytes(b"x")
    notes = [note.text for note in read_study([runs]).notes]
    assert "1: the parameters are not checked (checkpoints/best.safetensors is damaged)." in notes
    assert "1: the epochs and times are not checked (metrics.csv is missing)." in notes
    assert "0: the parameters are not checked (checkpoints/best.safetensors is missing)." in notes


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"num_classes": np.arange(3)}, "alone"),
        ({"num_classes": np.array(10**12), "top_classes": np.zeros((1000, 4), int)}, "the limit is"),
        ({"probabilities": np.full((1000, 4), np.nan, np.float32)}, "for test/loss; by predictions.npz it is None"),
    ],
    ids=["number", "memory", "nan"],
)
def test_odd_arrays_cost_their_run_alone(arrays, words, tmp_path):
    for seed in range(2):
        run = write_run(tmp_path / f"runs/{seed}", seed, 900)
    write_npz(run.path / "predictions.npz", **read_npz(run.path / "predictions.npz") | arrays)
    study = read_study([tmp_path])
    assert study.runs[0].state == "finished"
    assert words in study.runs[1].message + "".join(study.runs[1].unchecked)


@pytest.mark.parametrize(
    "change_config", [{"trainer": {"monitor": [1]}}, {"x": "0x" + "f" * 5000}], ids=["list", "hex"]
)
def test_an_odd_config_costs_its_run_alone(change_config, runs):
    path = runs / "1/config.yaml"
    write_yaml(path, read_yaml(path) | change_config)
    if "x" in change_config:
        text = path.read_bytes().replace(b"'", b"").rpartition(SEAL.encode())[0]
        path.write_bytes(text + f"{SEAL}{hashlib.sha256(text).hexdigest()}\n".encode())
    assert read_study([runs], strict=False).runs[0].state == "finished"


@pytest.fixture
def error_rate():
    """A metric of one's own, registered for a test."""

    @registry.register("metric", "error_rate", title="errors", percent=True, digits=1, higher_is_better=False)
    def error_rate(confusion: np.ndarray) -> float:
        return 1 - float(np.trace(confusion) / confusion.sum())

    yield
    del registry._parts["metric", "error_rate"]


def test_a_metric_of_ones_own_is_in_every_table(error_rate, tmp_path, capsys):
    for seed, right in enumerate((900, 880, 875)):
        run = write_run(tmp_path / f"runs/{seed}", seed, right)
    change(run.path / "summary.json")
    summary = {key: value for key, value in run.read_summary().items() if key != "test/error_rate"}
    run.write_summary(summary)  # made before there was this metric
    write_report([tmp_path / "runs"], tmp_path / "out", latex=True)
    texts = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert "error_rate_mean,error_rate_std,error_rate_low,error_rate_high" in texts["groups.csv"]
    rates = [row["test/error_rate"] for row in csv.DictReader(texts["results.csv"].splitlines())]
    assert rates.count("0.125") == 1
    assert "| 11.5 ± 1.3 | [8.2, 14.8] |" in texts["report.md"]
    assert "errors \\%" in texts["report.tex"]
    html = " ".join(texts["report.html"].split())
    assert html.count('<b>errors</b> <span class="unit">%</span>') == 2, "of groups, and of runs"
    assert 'data-kind="number"><button class="sort" type="button"><b>errors</b>' in html, "the lowest first"
    for shown in ("11.5 ± 1.3", "12.5"):
        assert shown in html
    show_run(summary | {"test/error_rate": 0.125})
    assert "12.5%" in next(line for line in capsys.readouterr().out.splitlines() if "test errors" in line)
    show_study(read_study([tmp_path / "runs"]))
    assert "errors %" in capsys.readouterr().out

"""`evaluate --calibrate`: what it fits, where it is kept, who uses it, and when it is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_training import run

from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.calibration import fit_run
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import prepare_measurement
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.metrics import OF_PROBABILITIES, score_probabilities
from cnnbench.metrics.calibration import calibrate
from cnnbench.runs.calibration import read_temperature
from cnnbench.runs.contents import read_predictions

NAMES = [metric.name for metric in OF_PROBABILITIES]
FILE = "checkpoints/temperature.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on digits that makes mistakes, to be copied before anything is changed."""
    path = tmp_path_factory.mktemp("calibrated") / "run"
    return path, run(path, "data.train_limit=null", "trainer.epochs=1")


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def test_a_run_has_the_scores_of_its_stored_probabilities(trained):
    path, summary = trained
    found = score_probabilities(read_predictions(path))
    assert {name: summary[f"test/{name}"] for name in NAMES} == found
    assert found["nll"] == pytest.approx(summary["test/loss"], rel=1e-5)


def test_calibrating_fits_validation_images_and_is_the_same_each_time(copy, tmp_path):
    folder, before = evaluate_run(copy)
    plain = json.loads((folder / "metrics.json").read_text())
    again, after = evaluate_run(copy, calibrate=True)
    assert again == folder, "the same measurement, with more figures"
    temperature, content = read_temperature(copy), (copy / FILE).read_bytes()
    assert after["temperature"] == temperature != 1
    assert after["temperature_images"] == len(load_dataset(load_trained(copy).config).val)
    assert {key: after[key] for key in plain} == plain == json.loads(json.dumps(before))
    stored = read_predictions(folder)
    scores = score_probabilities(stored, temperature)
    assert {name: after[f"calibrated/{name}"] for name in NAMES} == scores
    _, on_validation = evaluate_run(copy, DataChoice("val"))
    assert on_validation["calibrated/nll"] < on_validation["nll"]
    assert any("the temperature was fitted on these images" in note for note in on_validation["notes"])
    again, repeated = evaluate_run(copy, calibrate=True)
    assert (again, repeated) == (folder, after)
    assert (copy / FILE).read_bytes() == content
    _, others = evaluate_run(copy, calibrate=True, batch_size=7, out=tmp_path / "out")
    assert others["temperature"] == temperature
    assert (copy / FILE).read_bytes() == content


def test_predict_then_gives_calibrated_probabilities_and_says_so(copy, cnnbench, tmp_path):
    images = load_dataset(load_trained(copy).config).test.images[:3].numpy()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"{number}.png")
    done = cnnbench("evaluate", "run", "--calibrate")
    assert done.returncode == 0, done.stderr
    shown = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert {*NAMES, "temperature", *(f"calibrated/{name}" for name in NAMES)} <= set(shown)
    done = cnnbench("predict", "run", "0.png", "1.png", "2.png", "--top", "10", "--format", "json")
    temperature = read_temperature(copy)
    assert done.stderr == (
        f"probabilities are calibrated: temperature {temperature:g}, fitted on 144 validation images\n"
    )
    expected = calibrate(read_predictions(copy)["probabilities"][:3], temperature)
    for row, each in zip(json.loads(done.stdout), expected, strict=True):
        found = {int(one["class"]): one["probability"] for one in row["predictions"]}
        np.testing.assert_allclose([found[k] for k in range(10)], each, rtol=1e-4, atol=1e-9)


def test_weights_that_were_trained_further_are_not_calibrated(copy):
    evaluate_run(copy, calibrate=True)
    run(copy, "data.train_limit=null", "trainer.epochs=2", resume=True)
    _, metrics = evaluate_run(copy)
    assert "temperature" not in metrics
    assert any("trained further since its temperature was fitted" in note for note in metrics["notes"])
    _, metrics = evaluate_run(copy, calibrate=True)
    assert metrics["temperature"] == read_temperature(copy)
    assert metrics["notes"] == []


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (DataChoice("tset"), "--split tset: the run has no such split"),
        (DataChoice(data="mnist"), "leave out --data mnist"),
    ],
)
def test_a_wrong_command_writes_no_temperature(choice, message, copy):
    with pytest.raises(ValueError, match=message):
        evaluate_run(copy, choice, calibrate=True)
    assert not (copy / FILE).exists()
    assert not (copy / "evaluations").exists()


def test_a_run_without_validation_images_is_never_calibrated_on_test_images(tmp_path):
    run(tmp_path / "a", "data.val_fraction=0", "trainer.epochs=1")
    with pytest.raises(ValueError, match=r"no validation images \(data.val_fraction=0\), and --calibrate never"):
        evaluate_run(tmp_path / "a", calibrate=True)
    assert not (tmp_path / "a" / FILE).exists()


def test_images_of_others_are_not_the_runs_own_validation_images(copy):
    ready = prepare_measurement(copy, DataChoice("val"))
    others = prepare_measurement(copy, DataChoice("test")).found
    with pytest.raises(ValueError, match="--path leads to other images than the run's own validation images"):
        fit_run(replace(ready, found=others))

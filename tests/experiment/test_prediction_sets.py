"""`--abstain`: sets are calibrated on the validation images and kept beside the weights."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import torch
from conformal import draw_characters
from test_predict import export
from test_splits import draw_set, trained
from test_training import run

from cnnbench.cli.prediction_layouts import FORMATS
from cnnbench.experiment.measuring.calibration import find_prediction_sets
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.storage.csv_tables import parse_csv


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on the digits with half of its images for validation, and letters in their frame."""
    folder = tmp_path_factory.mktemp("sets")
    run(folder / "run", "model=lenet5", "trainer.epochs=8", "data.train_limit=null", "data.val_fraction=0.4")
    letters = torch.from_numpy(draw_characters("AEFHKMNPRTUVWXYadehkmnptuwx", 108, side=8))[:, None]
    export(letters, folder / "letters")
    return folder


def test_sets_cover_as_promised_and_letters_are_unknown(digits):
    sets, notes = find_prediction_sets(digits / "run", 0.05)
    assert notes == []
    _, metrics = evaluate_run(digits / "run", sets=sets)
    # 360 test images and about 260 that calibrate: two standard deviations are 3.5 points.
    assert 0.9 < metrics["coverage"] <= 1
    assert metrics["mean_set_size"] < 2
    files = [str(path) for path in sorted((digits / "letters").iterdir())]
    found = [one for batch in Predictor(digits / "run").predict(files, sets=sets, workers=0) for one in batch]
    # Half of them here, at eight pixels a side; benchmarks/conformal.py measures letters of MNIST's size.
    assert np.mean([not one.fits for one in found]) > 0.35


def test_every_format_shows_the_sets(digits, cnnbench):
    predictor, (sets, _) = Predictor(digits / "run"), find_prediction_sets(digits / "run", 0.05)
    files = [f"letters/{path.name}" for path in sorted((digits / "letters").glob("0000*"))]
    with contextlib.chdir(digits):
        found = [one for batch in predictor.predict(files, sets=sets, workers=0) for one in batch]
    texts = {}
    for form, lay_out in FORMATS.items():
        layout = lay_out(predictor.class_names, 1, sets=True)
        texts[form] = layout.head + "".join(map(layout.format_row, found)) + layout.foot
    done = cnnbench("predict", "run", *files, "--abstain", "0.05", "--format", "csv", cwd=digits)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", texts["csv"])
    expected = [[str(number) for number in one.fits] for one in found]  # the classes are called as they are numbered
    rows = json.loads(texts["json"])
    assert [(row["set"], row["unknown"]) for row in rows] == [(names, not names) for names in expected]
    table = parse_csv(texts["csv"].encode(), digits)
    assert [row["set"] for row in table] == ["|".join(names) or "unknown" for names in expected]
    assert [int(row["set_size"]) for row in table] == [len(names) for names in expected]
    header, *lines = texts["table"].splitlines()
    assert header.split() == ["set", "class", "probability", "file"]
    assert all(line.startswith(", ".join(names) or "unknown  ") for line, names in zip(lines, expected, strict=True))


def test_the_calibration_is_kept_for_these_weights_and_the_data_are_not_needed_again(tmp_path):
    photos = draw_set(tmp_path / "photos", 40)
    trained(tmp_path / "run", photos, "data.val_fraction=0.4")
    moved = photos.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="give its new place with --path"):
        find_prediction_sets(tmp_path / "run", 0.05)
    other = draw_set(tmp_path / "other", 40, start=100)
    with pytest.raises(ValueError, match=r"neither the run's own path nor --path .* holds"):
        find_prediction_sets(tmp_path / "run", 0.05, DataChoice(path=str(other)))
    sets, notes = find_prediction_sets(tmp_path / "run", 0.05, DataChoice(path=str(moved)))
    shutil.rmtree(moved)
    again, _ = find_prediction_sets(tmp_path / "run", 0.2)
    np.testing.assert_array_equal(again.scores, sets.scores)
    assert sets.threshold > again.threshold
    assert notes == []
    few, notes = find_prediction_sets(tmp_path / "run", 0.01)
    assert few.find(np.zeros((2, 3))).all(), "all classes"
    assert notes[0].startswith("every class is in every set: ")
    assert notes[0].endswith("--abstain 0.01 needs 99")
    shutil.copy(tmp_path / "run/checkpoints/last.safetensors", tmp_path / "run/checkpoints/best.safetensors")
    with pytest.raises(ValueError, match="give its new place with --path"):
        find_prediction_sets(tmp_path / "run", 0.2)  # other weights


@pytest.mark.parametrize("miss", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(miss, tmp_path):
    with pytest.raises(ValueError, match=r"--abstain .*: must be above 0 and below 1, such as 0.05"):
        find_prediction_sets(tmp_path, miss)


def test_a_run_without_validation_says_so(tmp_path):
    run(tmp_path / "run", "trainer.epochs=1", "data.val_fraction=0")
    with pytest.raises(ValueError, match=r"has no validation images .* never calibrated on test images"):
        find_prediction_sets(tmp_path / "run", 0.05)

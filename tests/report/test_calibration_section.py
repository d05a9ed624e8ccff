"""What a report says of probabilities: for runs of any version, and before and after calibration."""

import csv
import json

import numpy as np
import pytest
from run_builders import CLASSES, labels_of, write_run

from cnnbench.metrics import OF_PROBABILITIES, score_probabilities
from cnnbench.report.writing import write_report
from cnnbench.runs.calibration import Temperature, write_temperature
from cnnbench.runs.contents import read_predictions
from cnnbench.storage.arrays import write_npz
from cnnbench.training import checkpoint

NAMES = [metric.name for metric in OF_PROBABILITIES]


def write_confident(path, seed, temperature=None):
    """A run whose network is more confident than it should be."""
    run = write_run(path, seed, right=800, test__loss=None)
    rng = np.random.default_rng(seed)
    arrays = read_predictions(run.path)
    logits = rng.gamma(2, 2, (1000, 1)) * np.eye(len(CLASSES))[arrays["predictions"]]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    write_npz(run.path / "predictions.npz", **arrays | {"probabilities": probabilities.astype(np.float32)})
    summary = run.read_summary()
    run.write_summary(summary | {"test/loss": float(-np.log(probabilities[np.arange(1000), labels_of(1000)]).mean())})
    if temperature is not None:
        checkpoint.save(run.checkpoints, "best", tensors={}, record={})
        write_temperature(run.path, Temperature(temperature, 100))
    return run


def read_row(path, **wanted):
    with path.open(encoding="utf-8") as file:
        (row,) = (row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items()))
    return row


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    runs = [write_confident(folder / f"runs/{seed}", seed, temperature=2.0 if seed < 2 else None) for seed in range(2)]
    study = write_report([folder / "runs"], folder / "out")
    assert [run.state for run in study.runs] == ["finished"] * 2, [run.message for run in study.runs]
    return folder / "out", runs


def test_earlier_runs_have_the_scores_of_their_predictions_also_after_calibration(reported):
    out, runs = reported
    for run in runs:
        row = read_row(out / "results.csv", seed=str(run.read_config()["seed"]))
        arrays = read_predictions(run.path)
        assert {name: float(row[f"test/{name}"]) for name in NAMES} == score_probabilities(arrays)
        assert {name: float(row[f"calibrated/{name}"]) for name in NAMES} == score_probabilities(arrays, 2.0)
        assert float(row["temperature"]) == 2.0
        assert "test/nll" not in json.loads((run.path / "summary.json").read_text())


def test_page_and_markdown_have_a_section_of_their_own(reported):
    out, _ = reported
    markdown, page = ((out / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    (section,) = (part for part in markdown.split("\n## ") if part.startswith("How far probabilities can be trusted"))
    heading = [cell.strip() for cell in section.split("\n")[2].strip("|").split("|")]
    assert heading == ["group", "n", "NLL", "Brier", "ECE %", "AURC", "NLL, calibrated", "ECE, calibrated %"]
    assert 'id="calibration-table"' in page
    assert page.count("as trained, confidence") >= 5
    assert page.count("calibrated, confidence") >= 5
    assert "The expected calibration error" in page


def test_a_score_that_does_not_follow_from_the_predictions_is_named(tmp_path):
    run = write_confident(tmp_path / "run", 0)
    run.write_summary(run.read_summary() | {"test/ece": 0.001})
    (found,) = write_report([run.path], tmp_path / "out").runs
    assert found.state == "damaged"
    assert "test/ece" in found.message


def test_scores_without_predictions_are_not_believed_and_a_damaged_temperature_is_noted(tmp_path):
    run = write_confident(tmp_path / "run", 0, temperature=2.0)
    (run.checkpoints / "temperature.json").write_text("{}")
    (found,) = write_report([run.path], tmp_path / "out").runs
    assert found.state == "finished"
    assert any("figures after calibration are left out" in text for text in found.unchecked)
    (run.path / "predictions.npz").unlink()
    run.write_summary(run.read_summary() | {"test/ece": 0.001, "temperature": 3.0})
    (found,) = write_report([run.path], tmp_path / "out").runs
    assert not {"test/ece", "temperature"} & found.summary.keys()

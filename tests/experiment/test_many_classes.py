"""Thousands of classes, from training to the report."""

import numpy as np

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.verification import AGREES, verify_run
from cnnbench.experiment.run import run_job
from cnnbench.report.writing import write_report
from cnnbench.runs.contents import read_confusion, read_predictions


def test_thousands_of_classes_are_trained_resumed_evaluated_and_reported(tmp_path):
    classes = 5_800  # times as many test signals: more probabilities than are kept
    rows = [f"{k % 7},{k % 11},{k % 13},class {k:05d}" for k in range(classes)]
    (tmp_path / "signals.csv").write_text("\n".join([*rows, *rows]))
    given = [
        "data=csv_signals",
        f"data.path={tmp_path / 'signals.csv'}",
        "data.test_fraction=0.5",
        "data.val_fraction=0",
    ]
    config = compose_config([*given, "model=mlp", "model.width=0.1", "trainer.epochs=1", "trainer.batch_size=500"])
    run = tmp_path / "run"
    run.mkdir()
    summary = run_job(config, run, given)
    assert sum(path.stat().st_size for path in (run / "checkpoints").iterdir()) < 2**22, "no matrix of 36 million cells"
    written = {name: (run / name).read_bytes() for name in ("confusion_matrix.csv", "predictions.npz")}
    assert run_job(config, run, given, resume=True)["test/loss"] == summary["test/loss"]
    names, confusion = read_confusion(run)
    assert len(names) == classes
    assert confusion.sum() == summary["test_images"] == classes
    assert confusion.trace() == round(summary["test/accuracy"] * classes)
    arrays = read_predictions(run)
    assert arrays["probabilities"].shape == arrays["top_classes"].shape == (classes, 10)
    assert (np.diff(arrays["probabilities"]) <= 0).all(), "likeliest first"
    folder, metrics = evaluate_run(run)
    assert metrics["loss"] == summary["test/loss"]
    for name, content in written.items():
        assert (folder / name).read_bytes() == (run / name).read_bytes() == content
    assert verify_run(run, evaluate_only=True).verdict == AGREES
    study = write_report([run], tmp_path / "report")
    assert [(one.state, one.message) for one in study.runs] == [("finished", "")]
    assert (tmp_path / "report/report.html").exists()

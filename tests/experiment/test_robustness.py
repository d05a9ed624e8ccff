"""`cnnbench robustness` on real runs: what it measures, writes, refuses, and what a report shows of it."""

import csv
import io
import json
from pathlib import Path

import pytest
from run_builders import write_run
from test_training import run

from cnnbench.cli.robustness import robustness
from cnnbench.cli.run_options import RobustnessOptions
from cnnbench.experiment.measuring.robustness import measure_robustness
from cnnbench.report.documents import bind_percent
from cnnbench.report.page import render_page
from cnnbench.report.reading import read_study
from cnnbench.report.robustness import gather_points
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.robustness import Robustness, Row, locate_result, read_robustness, write_robustness


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of an MLP on the digits, a run of signals and one without classes."""
    folder = tmp_path_factory.mktemp("robustness")
    for seed in (0, 1):
        run(folder / f"mlp{seed}", f"seed={seed}")
    run(folder / "signals", "model=sequence_cnn", "data=waves", "trainer.epochs=1")
    run(folder / "autoencoder", "model=conv_autoencoder", "trainer.epochs=1")
    return folder


def test_without_a_change_the_accuracy_is_the_test_accuracy(runs):
    found = measure_robustness(runs / "mlp0")
    neutral = [row for row in found.rows if row.arguments == ()]
    assert [row.kind for row in neutral] == found.kinds
    accuracy = RunFolder(runs / "mlp0").read_summary()["test/accuracy"]
    assert {(row.accuracy, row.consistency) for row in neutral} == {(accuracy, 1.0)}
    assert {row.kind for row in found.rows if row.accuracy < accuracy} == set(found.kinds)


def test_a_sample_and_its_noise_are_the_same_each_time_and_at_any_batch_size(runs):
    first, again = (
        measure_robustness(runs / "mlp0", ["noise", "occlusion"], max_images=50, batch_size=size) for size in (50, 7)
    )
    assert first == again
    assert first.images == 50
    assert {row.accuracy * 50 % 1 for row in first.rows} == {0}


def test_signals_are_shifted_and_get_noise(runs):
    found = measure_robustness(runs / "signals", max_shift=3, max_images=100)
    assert found.kinds == ["shift", "noise"]
    assert [row.strength for row in found.select("shift")] == [0, 1, 1, 2, 2, 3, 3]
    found = measure_robustness(runs / "signals", ["blur", "shift"], max_images=100)
    assert found.kinds == ["shift"]
    assert found.notes == ("blur is left out: waves holds signals, and it changes images",)
    with pytest.raises(ValueError, match="--kind blur changes images, and the run's data are signals"):
        measure_robustness(runs / "signals", ["blur"])


def test_what_a_run_lacks_is_said(runs):
    with pytest.raises(ValueError, match=r"reconstruction run \(conv_autoencoder\): it has no classes"):
        measure_robustness(runs / "autoencoder")
    with pytest.raises(ValueError, match="--max-shift 28: must be less than the 28 pixels of the images"):
        measure_robustness(runs / "mlp0", max_shift=28)
    for kinds in ("", "shift,", ","):
        with pytest.raises(ValueError, match=r"unknown kind of change ''\. Valid: blur, contrast"):
            robustness(RobustnessOptions([Path("nowhere")], kind=kinds))
    with pytest.raises(ValueError, match=r"unknown kind of change 'shfit'. Did you mean 'shift'"):
        measure_robustness(runs / "mlp0", ["shfit"])


def test_the_command_measures_several_runs_side_by_side(runs, cnnbench):
    done = cnnbench(
        "robustness",
        str(runs),
        "--kind",
        "shift,contrast",
        "--max-images",
        "50",
        "--out",
        "out",
        "--format",
        "csv",
        cwd=runs,
    )
    assert done.returncode == 1  # the run without classes
    assert "it has no classes" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.stdout == (runs / "out/robustness.csv").read_text()
    assert (runs / "out/robustness.png").read_bytes().startswith(b"\x89PNG")
    assert {row["run"] for row in rows} == {"mlp0", "mlp1", "signals"}
    every = json.loads((runs / "out/robustness.json").read_text())
    assert every[0]["group"] == every[1]["group"] != every[2]["group"]
    assert not (runs / "mlp0/evaluations").exists()


def test_kinds_measured_one_after_another_are_kept_together_and_reported(runs, cnnbench):
    shifts = [measure_robustness(runs / f"mlp{seed}", ["shift"]) for seed in (0, 1)]
    for seed, found in enumerate(shifts):
        write_robustness(locate_result(runs / f"mlp{seed}", "test"), found)
    done = cnnbench("robustness", "mlp0", "mlp1", "--kind", "noise", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "accuracy (%)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("mlp1/evaluations/robustness_test")
    found = read_robustness(locate_result(runs / "mlp0", "test"))
    assert found == measure_robustness(runs / "mlp0", ["noise"]).extend(shifts[0])
    page = render_page(read_study([runs / "mlp0", runs / "mlp1"]))
    assert '<section id="robustness">' in page
    assert all(f'id="robustness-{number}"' in page for number in (1, 2))


def write_result(path, *accuracies, **changes):
    rows = [
        {"kind": "shift", "strength": strength, "unit": "pixels", "arguments": (strength,), "consistency": 1.0}
        | {"accuracy": accuracy}
        for strength, accuracy in enumerate(accuracies)
    ]
    fields = {"data": "digits", "split": "test", "images": 1000, "images_sha256": "a" * 64, "rows": rows} | changes
    write_robustness(locate_result(path, "test"), Robustness(**fields))


def test_changes_of_one_strength_are_averaged_in_a_run_and_then_over_seeds():
    shared = {"kind": "shift", "unit": "pixels", "arguments": (), "consistency": 1.0}
    results = [
        Robustness(
            data="d",
            split="test",
            images=1,
            images_sha256="",
            rows=[Row(strength=1, accuracy=a, **shared) for a in pair],
        )
        for pair in ((0.2, 0.4), (0.5, 0.7))
    ]
    (point,) = gather_points(results, "shift")
    assert point.accuracy.mean == pytest.approx(0.45)
    assert point.accuracy.std == pytest.approx(0.3 / 2**0.5)
    assert point.accuracy.n == 2


def test_a_report_shows_bands_notes_other_images_and_leaves_damaged_results_out(tmp_path):
    for seed, last in enumerate((0.6, 0.7, 0.8)):
        write_run(tmp_path / str(seed), seed, 900 + seed)
        write_result(tmp_path / str(seed), 0.9, last, images=1000 - seed, images_sha256=str(seed))
    page = render_page(read_study([tmp_path]))
    assert bind_percent("70.00 % [45.16 %, 94.84 %], n = 3") in page
    assert "The runs were not measured on the same images (998, 999, 1,000 images)." in page
    path = locate_result(tmp_path / "2", "test") / "robustness.json"
    path.write_text(path.read_text().replace("0.8", "8"))
    page = render_page(read_study([tmp_path]))
    assert "Robustness of run 2 is left out" in page
    assert "rows.1.accuracy: Input should be less than or equal to 1" in page
    assert "n = 2" in page


def test_hostile_names_in_a_result_stay_text(tmp_path):
    write_run(tmp_path / "a", 0)
    name = "</svg><script>$x$\u202e"
    write_result(
        tmp_path / "a", 0.9, 0.8, rows=[Row(kind=name, strength=0, unit=name, arguments=(), accuracy=1, consistency=1)]
    )
    page = render_page(read_study([tmp_path / "a"]))
    assert "</svg><script>$" not in page
    assert "\u202e" not in page

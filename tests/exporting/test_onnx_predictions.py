"""`cnnbench predict --model FILE.onnx`: no torch, and everything else as with a run."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx_builders import INPUT, METADATA, change, make_onnx
from PIL import Image

from cnnbench.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with model.onnx, whose class is the brightness in ninths, and images of other sizes than its own."""
    (tmp_path / "model.onnx").write_bytes(make_onnx())
    (tmp_path / "images").mkdir()
    for level, size in ((0, (28, 28)), (85, (40, 17)), (255, (5, 5))):
        Image.new("RGB", size, (level,) * 3).save(tmp_path / f"images/{level:03}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predict(here, monkeypatch, capfd):
    def run(*arguments):
        # The limit of the address space would stay with this process.
        monkeypatch.setattr("cnnbench.data.memory.limit_address_space", lambda: None)
        monkeypatch.setattr(sys, "argv", ["cnnbench", "predict", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_it_predicts_without_torch_in_every_form(here):
    code = (
        "import sys, atexit, cnnbench.cli\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "cnnbench.cli.main()"
    )
    given = ["predict", "--model", "model.onnx", "./images", "missing.png", "--top", "2", "--format", "json"]
    done = subprocess.run([sys.executable, "-c", code, *given], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: missing.png: No such file or directory",
        "error: 1 file could not be read, 3 were predicted",
        "False",
    ]
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == [
        *(f"./images/{level}.png" for level in ("000", "085", "255")),
        "missing.png",
    ]
    assert [row["predictions"][0]["class"] for row in rows[:3]] == ["0", "3", "9"]
    assert [len(row["predictions"]) for row in rows[:3]] == [2] * 3


def test_tables_calibration_and_warnings_are_those_of_a_run(here, predict):
    found = change(temperature={"value": 2.0, "images": 144}, input={**INPUT, "polarity": "light_on_dark"})
    (here / "model.onnx").write_bytes(make_onnx(metadata=found))
    drawn = np.full((28, 28), 250, np.uint8)
    drawn[10:18, 10:18] = 0
    Image.fromarray(drawn).save("dark.png")
    code, out, err = predict(
        "--model", "model.onnx", "dark.png", "images/255.png", "--format", "csv", "--batch-size", "1"
    )
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == ["dark.png", "images/255.png"]
    assert rows[1]["class"] == "9"
    assert "probabilities are calibrated: temperature 2, fitted on 144 validation images" in err
    assert "warning: 1 of 2 images are dark on light, and the run was trained on light on dark" in err
    _, inverted, _ = predict("--model", "model.onnx", "images/000.png", "--invert", "--format", "csv")
    assert next(csv.DictReader(io.StringIO(inverted)))["class"] == "9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run, or a file with --model, and images: cnnbench predict RUN PATH…"),
        (["RUN"], "name images after the run or the file"),
        (["--model", "model.onnx"], "name images after the run or the file"),
        (["--model", "nowhere.onnx", "images"], "--model nowhere.onnx cannot be read: No such file or directory"),
        (["--model", "images", "images"], "--model images cannot be read: a folder, not a file"),
        (["--model", "model.onnx", "images", "--top", "11"], "--top 11: must be from 1 to 10"),
        (["--model", "model.onnx", "images", "--abstain", "0.1"], "--abstain needs the run: leave out --model"),
        (["--model", "model.onnx", "images", "--device", "cpu"], "--device needs the run: leave out --model"),
        (["--model", "model.onnx", "images", "--explain", "--out", "x"], "--explain needs the run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_ends_with_2_and_says_why(arguments, message, predict):
    code, out, err = predict(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_missing_package_is_named_with_the_command_that_installs_it(predict, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    code, _, err = predict("--model", "model.onnx", "images")
    assert code == 2
    assert "--model needs the packages onnx and onnxruntime: pip install 'cnnbench[export]'" in err


def test_a_file_with_a_wrong_number_of_classes_is_refused_and_no_row_is_printed(here, predict):
    (here / "model.onnx").write_bytes(make_onnx(metadata={**METADATA, "class_names": ["a", "b"]}))
    code, _, err = predict("--model", "model.onnx", "images")
    assert code == 2
    assert "model.onnx is damaged: it gives float32 (3, 10) for 3 images" in err

"""The file that holds a run's temperature."""

import json

import pytest
import torch

from cnnbench.runs.calibration import Temperature, find_temperature, read_temperature, write_temperature
from cnnbench.runs.folder import BEST_WEIGHTS
from cnnbench.training import checkpoint


def save_weights(run, value):
    checkpoint.save(run / "checkpoints", checkpoint.BEST, tensors={"model.w": torch.tensor(value)}, record={})


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    save_weights(tmp_path, 1.0)
    return tmp_path


def test_the_best_weights_are_where_training_saves_them(tmp_path):
    assert checkpoint.locate(tmp_path / "checkpoints", checkpoint.BEST) == tmp_path / BEST_WEIGHTS


def test_a_temperature_is_read_as_it_was_written_until_the_weights_change(run):
    assert read_temperature(run) is None
    write_temperature(run, Temperature(1.3125, 200))
    assert read_temperature(run) == 1.3125
    save_weights(run, 2.0)
    assert read_temperature(run) is None
    assert find_temperature(run) == Temperature(1.3125, 200, is_current=False)
    save_weights(run, 1.0)
    assert read_temperature(run) == 1.3125
    (run / "checkpoints/best.safetensors").unlink()
    assert read_temperature(run) is None


def change(values):
    values["temperature"] = 1.5


def remove_seal(values):
    del values["sha256"]


@pytest.mark.parametrize("damage", [change, remove_seal, lambda values: values.update(more=1)])
def test_a_changed_file_is_refused(run, damage):
    write_temperature(run, Temperature(1.25, 200))
    path = run / "checkpoints/temperature.json"
    values = json.loads(path.read_text())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"temperature.json is damaged: its sha256 is not that of its other values"):
        read_temperature(run)

"""`cnnbench export`: files that answer as the run's network does, and that do not appear where they would not."""

import importlib.util
import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from test_training import run
from torch import nn

import cnnbench as cb
from cnnbench.cli import main
from cnnbench.data.files.fitting import Decoding, fit
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import prepare_measurement
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.exporting import formats
from cnnbench.exporting.checking import Disagreement, check_test_split, compare
from cnnbench.exporting.description import describe_file, describe_input
from cnnbench.exporting.formats import FORMATS, NotExportable, convert
from cnnbench.exporting.network import PortableNetwork
from cnnbench.exporting.predicting import OnnxPredictor
from cnnbench.exporting.resizing import Fit, is_exact
from cnnbench.exporting.writing import export_run
from cnnbench.runs.calibration import Temperature, write_temperature
from cnnbench.runs.contents import read_predictions

TEST_IMAGES = 360


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A calibrated run on digits, RUN, in bf16 and with averaged weights."""
    folder = tmp_path_factory.mktemp("export") / "RUN"
    small = ("trainer.epochs=1", "model.width=0.5", "data.normalize=dataset")
    run(folder, "model=lenet5", *small, "trainer.precision=bf16", "trainer.ema=0.9")
    write_temperature(folder, Temperature(0.7, 30))
    return folder


def make_predictor(folder):
    """What predicts in float32, as files do."""
    predictor = Predictor(folder)
    predictor.autocast = nullcontext
    return predictor


@pytest.fixture(scope="module")
def onnx_file(trained):
    return export_run(trained, "onnx", DataChoice()).path


@pytest.fixture
def export(trained, monkeypatch, capfd):
    def start(*arguments, run="RUN"):
        monkeypatch.chdir(trained.parent)
        monkeypatch.setattr(sys, "argv", ["cnnbench", "export", str(run), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return start


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_resize_is_pillows_to_the_bit(resize, channels):
    random = np.random.default_rng(0)
    for size in (8, (20, 33)):
        how = Decoding(channels, size, resize, (200, 0, 90))
        module = Fit(how)
        sizes = [*random.integers(1, 120, (20, 2)).tolist(), [1, 1], [300, 7], [3, 400], how.shape[1:]]
        for height, width in sizes:
            pixels = random.integers(0, 256, (height, width, channels), np.uint8)
            image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
            expected = np.array(fit(image, how)).reshape(*how.shape[1:], channels).transpose(2, 0, 1)
            found = module(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()))
            np.testing.assert_array_equal(found[0].numpy(), expected, err_msg=f"{height}×{width} to {size}")
        assert is_exact(how)


def test_an_onnx_file_predicts_any_number_of_images_of_any_size_as_predict_does(trained, onnx_file, tmp_path):
    random = np.random.default_rng(0)
    files = []
    for number, (height, width) in enumerate([(28, 28), (57, 31), (9, 80), (1, 3), (28, 28)]):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(random.integers(0, 256, (height, width), np.uint8)).save(files[-1])
    (expected,) = make_predictor(trained).predict(files, top=10, workers=0)
    session = onnxruntime.InferenceSession(onnx_file)
    for file, one in zip(files, expected, strict=True):
        logits, probabilities = session.run(None, {"images": np.array(Image.open(file))[None, None]})
        assert logits.argmax(1).tolist() == [one.classes[0]]
        np.testing.assert_allclose(probabilities[0, list(one.classes)], one.probabilities, atol=1e-5)
    (found,) = OnnxPredictor(onnx_file).predict(files, top=10, workers=0)
    assert [one.classes for one in found] == [one.classes for one in expected]
    batch = np.zeros((7, 1, 28, 28), np.uint8)
    assert session.run(["probabilities"], {"images": batch})[0].shape == (7, 10)


def test_its_metadata_describe_input_and_output(trained, onnx_file):
    entries = onnxruntime.InferenceSession(onnx_file).get_modelmeta().custom_metadata_map
    found = json.loads(entries["cnnbench"])
    assert found["class_names"] == [str(digit) for digit in range(10)]
    image = {"type": "uint8", "layout": "NCHW", "channels": 1, "colours": "greyscale", "size": [28, 28]}
    image |= {"any_size": True, "resize": "stretch", "background": [255, 255, 255], "polarity": "light_on_dark"}
    assert found["input"] == image
    assert found["temperature"] == {"value": 0.7, "images": 30}
    assert len(found["run"]["weights_sha256"]) == 64
    assert found["run"]["config"]["model"]["name"] == "lenet5"
    assert not {"root", "exclude"} & set(found["run"]["config"]["data"]), (
        "a file for others has no paths of this machine"
    )
    assert 0 < found["normalisation"]["mean"][0] < 1
    assert set(found["versions"]) == {"cnnbench", "torch"}


def test_a_bf16_run_is_exported_in_float32_and_says_how_many_labels_differ(trained, tmp_path):
    made = export_run(trained, "state_dict", DataChoice(), out=tmp_path / "weights.safetensors")
    (note,) = [note for note in made.notes if "bf16" in note]
    ready = prepare_measurement(trained, DataChoice(), device="cpu")
    answer = FORMATS["state_dict"].load(made.path.read_bytes(), ready.trained, PortableNetwork(ready.trained, None))
    logits, _ = answer(ready.found.split.images.numpy())
    differ = int((logits.argmax(1) != read_predictions(trained)["predictions"]).sum())
    assert note.endswith(f"{differ} of {TEST_IMAGES} test images get another label")


@pytest.mark.parametrize(
    ("overrides", "form", "input_", "output"),
    [
        (["data=waves", "model=sequence_cnn"], "exported", "images: float32 (N, 1, 256), signals", "probabilities"),
        (
            ["model=conv_autoencoder", "data.permute_pixels=true"],
            "exported",
            "images: uint8 (N, 1, H, W) of any size",
            "pixels scaled to 0…1",
        ),
    ],
)
def test_signals_and_autoencoders_are_exported_too(overrides, form, input_, output, tmp_path):
    run(tmp_path / "RUN", *overrides, "trainer.epochs=1")
    made = export_run(tmp_path / "RUN", form, DataChoice())
    assert made.facts["input"].startswith(input_)
    assert output in made.facts["output"]
    assert made.agreement.difference < 1e-5


def test_the_printed_loader_loads_the_weights(export, trained, tmp_path):
    file = tmp_path / "weights.safetensors"
    code, out, _ = export("--format", "state_dict", "--out", str(file))
    assert code == 0
    *_, path = out.splitlines()
    assert path == str(file)
    loader = out[out.index("from safetensors") : out.index(str(file) + "\n")]
    assert len(loader.strip().splitlines()) == 5
    (tmp_path / "loader.py").write_text(loader)
    specification = importlib.util.spec_from_file_location("loader", tmp_path / "loader.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(module.network(images), PortableNetwork(load_trained(trained), None).network(images))
    with safe_open(file, "pt") as stored:
        assert json.loads(stored.metadata()["cnnbench"])["class_names"][3] == "3"


def test_a_file_with_other_predictions_is_removed_and_the_worst_image_is_named(export, trained, monkeypatch):
    kind = FORMATS["state_dict"]

    def damage(portable, metadata):
        with torch.no_grad():
            portable.network.head.classes.bias[3] += 5
        return kind.convert(portable, metadata)

    monkeypatch.setitem(formats.FORMATS, "state_dict", replace(kind, convert=damage))
    code, out, err = export("--format", "state_dict", "--out", "wrong.safetensors")
    assert (code, out) == (1, "")
    assert (
        "the file's predictions differ from those of the run's network, so it was not kept. The worst is test image "
        in err
    )
    assert "and 3 (the file): its values differ by " in err
    assert not [path for path in trained.parent.iterdir() if "wrong" in path.name]


def test_the_check_finds_one_wrong_label_and_accepts_a_tie():
    logits = np.array([[2, 1, 0], [1, 1, 0], [0, 3, 1]], np.float32)
    expected = logits, (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    other = logits + np.array([[0, 0, 0], [0, 1e-7, 0], [0, 0, 0]], np.float32)
    differences, labels, given, is_tie = compare(expected, (other, expected[1]))
    assert (labels.tolist(), given.tolist(), is_tie.tolist()) == ([0, 0, 1], [0, 1, 1], [False, True, False])
    assert differences.max() == 0
    unknown = expected[1].copy()
    unknown[2] = np.nan
    assert compare(expected, (logits, unknown))[0].tolist() == [0, 0, np.inf]
    assert compare(expected, (logits[:2], unknown[:2]))[0].tolist() == [np.inf] * 3


@pytest.mark.parametrize("output", [0, 1], ids=["label", "probability"])
def test_every_image_of_the_test_split_is_compared(output, trained):
    ready = prepare_measurement(trained, DataChoice(), device="cpu")
    portable = PortableNetwork(ready.trained, None)
    sizes = []

    def answer(images):
        given = tuple(one.detach().numpy() for one in portable(torch.from_numpy(images)))
        if sum(sizes) <= 300 < sum(sizes) + len(images):
            given[output][300 - sum(sizes)] = np.roll(given[output][300 - sum(sizes)], 1)
        sizes.append(len(images))
        return given

    with pytest.raises(Disagreement, match="The worst is test image 300, labels") as caught:
        check_test_split(ready, portable, answer, ready.trained.info.class_names)
    assert (caught.value.place, sum(sizes)) == (300, TEST_IMAGES)
    assert sizes[:4] == [1, 2, 3, 7], "so many at once, to show that the number is free"


def test_a_network_that_a_format_cannot_hold_is_refused_with_the_operation(trained):
    class Odd(nn.Module):
        def forward(self, images):
            raise NotImplementedError("aten::odd is not implemented\nand more lines")

    ready = prepare_measurement(trained, DataChoice(), device="cpu")
    portable = PortableNetwork(ready.trained, None)
    portable.network = Odd()
    with pytest.raises(NotExportable, match=r"model=odd cannot be .* --format exported: aten::odd is not implemented$"):
        convert("exported", portable, "odd", {})


def test_where_pillow_rounds_otherwise_the_size_is_fixed_and_stated(trained, monkeypatch):
    monkeypatch.setattr("cnnbench.exporting.network.is_exact", lambda how: False)
    found = load_trained(trained)
    portable = PortableNetwork(found, None)
    assert portable.fit is None
    assert describe_input(portable) == "images: uint8 (N, 1, 28, 28), of this size only"
    assert describe_file(found, portable, None)["input"]["any_size"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onxx"], "unknown format 'onxx'. Did you mean 'onnx'? Valid: exported, onnx, state_dict"),
        (["--out", "there.onnx"], "there.onnx exists: --force replaces it, and --out FILE names another file"),
        (["--out", "RUN"], "--out RUN: must be a file, new or, with --force, to be replaced"),
        (["--out", "missing/model.onnx"], "--out missing/model.onnx: its folder does not exist"),
        (["--format", "state_dict", "--out", "/proc/model"], "/proc/model could not be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_ends_with_2_and_says_why(arguments, message, export, trained):
    (trained.parent / "there.onnx").touch()
    code, out, err = export(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert (trained.parent / "there.onnx").read_bytes() == b""


def test_a_missing_package_is_named_with_the_command_that_installs_it(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    code, _, err = export("--out", "new.onnx")
    assert code == 2
    assert "--format onnx needs the packages onnx, onnxruntime and onnxscript: pip install 'cnnbench[export]'" in err


def test_force_replaces_a_file(export, trained):
    shutil.copy(trained / "config.yaml", trained.parent / "old.safetensors")
    code, _, _ = export("--format", "state_dict", "--out", "old.safetensors", "--force")
    assert code == 0
    with safe_open(trained.parent / "old.safetensors", "pt") as stored:
        assert stored.get_tensor("head.classes.bias").shape == (10,)


class Small(nn.Module):
    """A network of a program, as in docs/how-to/python.md."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))

    def forward(self, images):
        return self.layers(images)


def test_the_command_refuses_a_run_of_a_programs_module(export, trained, tmp_path):
    options = {"trainer.epochs": 1, "data.train_limit": 100}
    cb.train(model=Small(), data="digits", folder=tmp_path / "own", progress=False, **options)
    code, out, err = export("--out", "own.onnx", run=tmp_path / "own")
    assert (code, out) == (2, "")
    assert "the folder holds its weights but not its code" in err
    assert not (trained.parent / "own.onnx").exists()

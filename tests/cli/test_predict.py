"""`cnnbench predict` as a user meets it, and its promise: the images of a run's test split give its predictions."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import run

from cnnbench.cli import heat_maps, main
from cnnbench.cli.prediction_layouts import FORMATS
from cnnbench.data import load_source
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import decode_image
from cnnbench.data.preparation import resize
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.measuring.predictions import Prediction
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import write_yaml
from cnnbench.training import checkpoint

COUNT = 360


def export(images, folder):
    """Images (N, C, H, W) as PNG files, in order of their names."""
    folder.mkdir()
    for number, image in enumerate(images.numpy()):
        Image.fromarray(image.squeeze(0) if len(image) == 1 else image.transpose(1, 2, 0)).save(
            folder / f"{number:05}.png"
        )


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a run of the digits, RUN, and its test images, positive and negative."""
    folder = tmp_path_factory.mktemp("predict")
    run(folder / "RUN", "model=lenet5", "trainer.epochs=3", "data.train_limit=null", "data.normalize=dataset")
    images = load_dataset(load_trained(folder / "RUN").config).test.images
    export(images, folder / "test")
    export(255 - images, folder / "negative")
    return folder


@pytest.fixture
def predict(here, cnnbench):
    return lambda *arguments: cnnbench("predict", "RUN", *arguments, cwd=here)


def answers(rows):
    """Predictions (N,) and probabilities (N, 10) of rows that hold all classes of each file."""
    probabilities = np.zeros((len(rows), 10), np.float32)
    for number, row in enumerate(rows):
        for each in row["predictions"]:
            probabilities[number, int(each["class"])] = each["probability"]
    return np.array([int(row["predictions"][0]["class"]) for row in rows]), probabilities


def assert_equals_the_runs_own(rows, folder):
    stored = read_predictions(folder)
    predictions, probabilities = answers(rows)
    np.testing.assert_array_equal(predictions, stored["predictions"])
    np.testing.assert_array_equal(probabilities, stored["probabilities"])


def test_the_test_images_give_the_runs_own_predictions_to_the_bit_and_negatives_a_warning(predict, here):
    done = predict("test", "--top", "10", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == [f"test/{number:05}.png" for number in range(COUNT)]
    assert_equals_the_runs_own(rows, here / "RUN")

    turned = predict("negative", "--top", "10", "--format", "json", "--invert", "--out", "turned.json")
    assert (turned.returncode, turned.stdout, turned.stderr) == (0, "", "")
    assert_equals_the_runs_own(json.loads((here / "turned.json").read_text()), here / "RUN")

    as_they_are = predict("negative/0000[0-3].png", "test/00007.png")
    assert as_they_are.returncode == 0
    assert as_they_are.stderr == (
        "warning: 4 of 5 images are dark on light, and the run was trained on light on dark: "
        "--invert inverts them. The first is negative/00000.png\n"
    )


def test_explain_draws_each_image_beside_its_heat_map(predict, here):
    few = here / "few"
    few.mkdir()
    for number in range(3):
        shutil.copy(here / f"test/0000{number}.png", few)
    (few / "bad.png").write_bytes(b"no image")
    try:
        done = predict("test/00007.png", "few", "--explain", "--out", "few/heat", "--format", "csv")
        again = predict("few", "--explain", "--out", "few/heat")
        plain = predict("test/00007.png", "few", "--format", "csv")  # the pictures are no images of the user's
        rows = read_csv(few / "heat/heat_maps.csv")
        assert [row["picture"] for row in rows] == sorted(path.name for path in (few / "heat").glob("*.png"))
        sizes = set()
        for row in rows:
            with Image.open(few / "heat" / row["picture"]) as picture:
                sizes.add(picture.size)
        assert len(sizes) == 1
    finally:
        shutil.rmtree(few)
    assert done.stdout == plain.stdout
    assert (done.returncode, plain.returncode, again.returncode) == (1, 1, 2)
    assert "wrote 4 pictures to few/heat\n" in done.stderr
    assert "--out few/heat holds other files: must be a new or an empty folder" in again.stderr
    assert [row["picture"] for row in rows] == [f"000{n}_0000{k}.png" for n, k in enumerate((7, 0, 1, 2), 1)]
    answers = [row for row in csv.DictReader(io.StringIO(plain.stdout)) if not row["error"]]
    columns = ("file", "class", "probability")
    assert [[row[key] for key in columns] for row in rows] == [[row[key] for key in columns] for row in answers]


def test_explain_says_what_it_lacks_and_draws_a_thousand_pictures_at_most(here, monkeypatch, capsys, tmp_path):
    with pytest.raises(ValueError, match="--explain: --out DIR must name a new or an empty folder"):
        heat_maps.check_folder(None)
    monkeypatch.setattr(heat_maps, "MOST", 3)
    run(tmp_path / "mlp", "trainer.epochs=1")
    predictor = Predictor(tmp_path / "mlp", batch_size=2)
    drawn = heat_maps.HeatMapFolder(tmp_path / "out", predictor)
    files = [str(here / f"test/{number:05}.png") for number in range(5)]
    assert sum(len(batch) for batch in drawn.follow(predictor.predict(files, keep_pixels=True, workers=0))) == 5
    drawn.close()
    assert len([*(tmp_path / "out").glob("*.png")]) == 3
    said = capsys.readouterr().err
    assert "no layer of mlp has feature maps, so there is no Grad-CAM" in said
    assert "only the first 3 images have pictures, and 2 have none" in said
    monkeypatch.setitem(sys.modules, "captum", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"--explain: .* need the package captum: pip install 'cnnbench\[explain\]'"):
        heat_maps.check_folder(tmp_path / "new")


def test_one_bad_file_has_its_line_and_the_others_succeed(predict, here):
    odd = here / "od\nd"
    odd.mkdir()
    shutil.copy(here / "test/00000.png", odd / '=cmd("a,b").png')
    (odd / "bad\x1b[2J.png").write_bytes(b"no image")
    (odd / ".hidden.png").write_bytes(b"never looked at")
    try:
        done = predict(
            "test/00001.png", "od\nd", "[bold]none.png", "--format", "csv", "--top", "2", "--out", "rows.csv"
        )
    finally:
        shutil.rmtree(odd)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: od\\nd/bad\\x1b[2J.png: not a PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM or AVIF image, or its header is "
        "damaged\n"
        "error: [bold]none.png: No such file or directory\n"
        "error: 2 files could not be read, 2 were predicted\n"
    )
    with open(here / "rows.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "class", "probability", "class_2", "probability_2", "error"]
    names = ["test/00001.png", 'od\nd/=cmd("a,b").png', "od\nd/bad\x1b[2J.png", "[bold]none.png"]
    assert [row[0] for row in rows] == names
    stored = read_predictions(here / "RUN")
    for number, row in ((1, rows[0]), (0, rows[1])):
        best = np.sort(stored["probabilities"][number])[::-1][:2]
        assert [float(row[2]), float(row[4])] == pytest.approx(best.tolist(), abs=1e-5), "of a batch of two, not 360"
        assert (int(row[1]), row[5]) == (stored["predictions"][number], "")
    assert [row[1:5] for row in rows[2:]] == [[""] * 4] * 2
    assert rows[3][5] == "No such file or directory"


def test_a_table_for_a_list_on_standard_input(here):
    names = ["test/00000.png", "new\nline.png"]
    shutil.copy(here / "test/00001.png", here / names[1])
    command = [sys.executable, "-m", "cnnbench", "predict", "RUN", "-", "-0", "--device", "cpu", "--batch-size", "1"]
    done = subprocess.run(command, cwd=here, input="\0".join(names), capture_output=True, text=True, check=True)
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["class", "probability", "file"]
    stored = read_predictions(here / "RUN")
    for number, (line, name) in enumerate(zip(lines, ["test/00000.png", "new\\nline.png"], strict=True)):
        share = stored["probabilities"][number].max()
        assert line.split() == [str(stored["predictions"][number]), f"{share:.2%}", name]
        assert line.index(name) == header.index("file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "nowhere.png"], "'nowhere.png' does not exist: give files, folders, patterns"),
        (["RUN", "nothing*.png"], "'nothing*.png' matches nothing"),
        (["RUN", "empty"], "there are no images in the folders or in the list"),
        (["RUN", "test", "--format", "cvs"], "unknown format 'cvs'. Did you mean 'csv'?"),
        (["RUN", "test", "--top", "11"], "--top 11: must be from 1 to 10, the run's number of classes"),
        (["RUN", "test", "--top", "0"], "--top"),
        (["RUN", "test", "--batch-size", "0"], "--batch-size"),
        (["RUN", "test", "--out", "empty"], "--out empty: must be a file, new or to be replaced"),
        (["RUN", "test", "--out", "missing/rows.csv"], "--out missing/rows.csv: must be a file"),
        (["RUN", "test", "--out", "/dev/null"], "--out /dev/null: must be a file"),
        (["RUN", "test", "--device", "cuda:77"], "cuda:77: this machine has no such device"),
        (["test", "test"], "'test' is not a run folder: it has no config.yaml"),
        (["nowhere", "test"], "'nowhere' is not a folder"),
        (["SIGNALS", "test"], "'SIGNALS' was trained on signals (waves): predict takes images"),
        (["PICTURES", "test"], "'PICTURES' is a reconstruction run (conv_autoencoder): it has no classes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_ends_with_2_and_says_why(arguments, message, here, monkeypatch, capfd):
    (here / "empty").mkdir(exist_ok=True)
    if arguments[0] == "SIGNALS" and not (here / "SIGNALS").exists():
        run(here / "SIGNALS", "data=waves", "model=sequence_cnn", "trainer.epochs=1")
    if arguments[0] == "PICTURES" and not (here / "PICTURES").exists():
        run(here / "PICTURES", "model=conv_autoencoder", "trainer.epochs=1")
    capfd.readouterr()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "predict", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    captured = capfd.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.fixture(scope="module")
def mnist_files(mnist_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist") / "test"
    export(load_source("mnist", root=mnist_root, download=False).test.images, folder)
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    ("override", "workers"), [("model=mlp", 0), ("trainer.precision=bf16", 1), ("trainer.channels_last=false", 2)]
)
def test_mnists_test_images_give_the_runs_own_predictions_to_the_bit(
    override, workers, mnist_root, mnist_files, tmp_path
):
    root = [f"data.root={mnist_root}", "data.download=false", "trainer.eval_batch_size=700"]
    run(tmp_path / "RUN", "data=mnist", *root, "model=lenet5", "trainer.epochs=1", override)
    batches = Predictor(tmp_path / "RUN").predict(mnist_files, top=10, workers=workers)
    found = [each for batch in batches for each in batch]
    stored = read_predictions(tmp_path / "RUN")
    probabilities = np.zeros((10_000, 10), np.float32)
    for number, each in enumerate(found):
        probabilities[number, list(each.classes)] = each.probabilities
    np.testing.assert_array_equal([each.classes[0] for each in found], stored["predictions"])
    np.testing.assert_array_equal(probabilities, stored["probabilities"])


def test_another_batch_size_gives_the_same_but_for_the_last_bits(here):
    files = [str(path) for path in sorted((here / "test").iterdir())]
    ways = [Predictor(here / "RUN", batch_size=size).predict(files, workers=0) for size in (None, 1, 7)]
    whole, *others = ([each for batch in way for each in batch] for way in ways)
    for other in others:
        assert [each.classes for each in other] == [each.classes for each in whole]
        np.testing.assert_allclose(
            [each.probabilities for each in other], [each.probabilities for each in whole], atol=1e-5
        )


def test_bad_files_between_good_ones_shift_nothing(here, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    good = [str(path) for path in sorted((here / "test").iterdir())][:20]
    bad = str(tmp_path / "bad.png")
    mixed = [bad, *good[:7], bad, bad, *good[7:], bad]
    predictor = Predictor(here / "RUN", batch_size=5)
    alone = {each.file: each for batch in predictor.predict(good) for each in batch}
    found = [each for batch in predictor.predict(mixed) for each in batch]
    assert [each.file for each in found] == mixed
    assert all(each.error == "empty: zero bytes" if each.file == bad else each == alone[each.file] for each in found)
    only_bad = list(predictor.predict([bad] * 120))
    assert [len(batch) for batch in only_bad] == [50, 50, 20], "errors do not wait for a batch of images"


def test_an_image_of_another_size_is_within_one_grey_level_of_trainings(here, tmp_path):
    """Training enlarges 8×8 to 28×28 with torch, predict with Pillow; both are bilinear and antialiased."""
    small = load_source("digits", root="", download=False).test
    export(small.images[:50], tmp_path / "small")
    trained = resize(small, 28, 28).images[:50].int()
    decoding = Predictor(here / "RUN").decoding
    found = np.stack([decode_image(path, decoding) for path in sorted((tmp_path / "small").iterdir())])
    assert (torch.from_numpy(found).int() - trained).abs().max() <= 1


def test_an_image_folders_own_options_decide_how_files_are_read(here, tmp_path):
    shutil.copytree(here / "RUN", tmp_path / "RUN")
    assert Predictor(tmp_path / "RUN").decoding == Decoding(1, 28, "stretch", (255, 255, 255))
    config = RunFolder(tmp_path / "RUN").read_config()
    config["data"] |= {"resize": "pad", "background": [0, 10, 20]}
    write_yaml(tmp_path / "RUN/config.yaml", config)
    assert Predictor(tmp_path / "RUN").decoding == Decoding(1, 28, "pad", (0, 10, 20))


@pytest.mark.parametrize("memory", ["null", "1"], ids=["in_memory", "streamed"])
@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_a_folder_of_photographs_gives_the_runs_own_predictions_to_the_bit(resize, memory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "photos" / ("test" if number % 3 == 0 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        height, width = random.integers(10, 60, 2)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{('png', 'jpg', 'webp')[number % 3]}")
    run(
        tmp_path / "RUN",
        *("data=image_folder", f"data.path={tmp_path / 'photos'}", "data.image_size=20", "data.train_limit=null"),
        *(f"data.resize={resize}", "data.background=[200,0,90]", f"data.memory_limit={memory}", "trainer.epochs=1"),
    )
    # The order of the dataset: by the path below the class folder.
    files = sorted(map(str, (tmp_path / "photos/test").glob("*/*")), key=os.path.basename)
    (batch,) = Predictor(tmp_path / "RUN").predict(files, top=2)
    stored = read_predictions(tmp_path / "RUN")
    assert len(batch) == 20
    for each, probabilities in zip(batch, stored["probabilities"], strict=True):
        assert np.array(each.probabilities, np.float32).tolist() == probabilities[list(each.classes)].tolist()
    assert [each.classes[0] for each in batch] == stored["predictions"].tolist()


def test_a_run_without_a_recorded_polarity_causes_no_warning(here, tmp_path):
    shutil.copytree(here / "RUN", tmp_path / "RUN")
    folder = RunFolder(tmp_path / "RUN").checkpoints
    tensors, record = checkpoint.load(folder, "best")
    del record["data"]["polarity"]
    checkpoint.save(folder, "best", tensors=tensors, record=record)
    (batch,) = Predictor(tmp_path / "RUN").predict([str(here / "negative/00000.png")])
    assert not batch[0].is_reversed


HOSTILE = ['=1+1"', "a,b\r\nc", "\x1b[31mred\x07", "[bold]\u202eolc", "-\udcff"]
FILES = ["=cmd()|'x'!A0.png", "+1", "plain.png", "a\rb\nc\t\x00.png", "caf\udce9 😀.png"]


def test_csv_and_json_stay_valid_whatever_the_names_are():
    rows = [Prediction(file, [number, 0], [0.75, 0.25]) for number, file in enumerate(FILES)]
    rows.append(Prediction("@bad.png", error="damaged: =x\n"))
    text = {name: form(HOSTILE, 2) for name, form in FORMATS.items()}
    text = {name: form.head + "".join(map(form.format_row, rows)) + form.foot for name, form in text.items()}

    assert text["json"].isascii()
    for row, prediction in zip(json.loads(text["json"]), rows, strict=True):
        assert row["file"] == prediction.file.replace("\udce9", "\\udce9")
        if prediction.error is None:
            assert row["predictions"][0]["class"] == HOSTILE[prediction.classes[0]].replace("\udcff", "\\udcff")
        else:
            assert row["error"] == prediction.error

    text["csv"].encode()
    lines = list(csv.reader(io.StringIO(text["csv"], newline="")))
    assert {len(line) for line in lines} == {6}
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for line in lines for cell in line if cell != "+1")
    assert [line[0] for line in lines[1:4]] == ["'=cmd()|'x'!A0.png", "+1", "plain.png"]
    assert [line[1].lstrip("'") for line in lines[1:5]] == HOSTILE[:4]
    assert lines[-1] == ["'@bad.png", "", "", "", "", "damaged: =x\n"]

    assert len(text["table"].splitlines()) == 1 + len(FILES)
    assert text["table"].replace("\n", "").isprintable()


def started(here, *arguments, **options):
    command = [sys.executable, "-m", "cnnbench", "predict", "RUN", *arguments]
    return subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, start_new_session=True, **options)


def processes_of(session):
    """The processes of a session, but for those that have ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_prediction_ends_without_traceback_file_or_worker(number, code, word, here, tmp_path):
    out = tmp_path / "rows.csv"
    with started(
        here, "-", "--format", "csv", "--out", str(out), "--batch-size", "50", stdin=subprocess.PIPE
    ) as process:
        for name in islice(cycle(sorted(os.listdir(here / "test"))), 3000):
            process.stdin.write(f"test/{name}\n".encode())
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while len(processes_of(process.pid)) < 2:
            assert time.monotonic() < deadline, "no worker appeared"
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as a terminal does, workers included
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.decode() == f"{word}\n"
    assert processes_of(process.pid) == []
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_ends_it_quietly(here):
    with started(here, *["test"] * 40, "--batch-size", "20", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().split() == [b"class", b"probability", b"file"]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert processes_of(process.pid) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_stays_flat(here):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    files = (f"{here}/test/{name}" for name in cycle(sorted(os.listdir(here / "test"))))
    seen, sizes = 0, []
    for batch in Predictor(here / "RUN", batch_size=500).predict(islice(files, 20_000)):
        seen += len(batch)
        sizes.append(resident())
    assert seen == 20_000
    assert max(sizes) - sizes[10] < 10, "MB more after 20,000 images than after 5,000"

"""`cnnbench check`: planted faults are found, each once, and nothing else; what it writes; what it refuses."""

import json
import re
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench.cli.check import check
from cnnbench.cli.compose import compose_config
from cnnbench.cli.options import CheckOptions
from cnnbench.data.exclusion import read_image_list
from cnnbench.experiment.data_check import check_data
from cnnbench.experiment.loading import load_dataset
from cnnbench.quality.findings import KINDS, ImageName, iterate_excluded, write_check
from cnnbench.quality.outliers import find_far_out, find_suspects
from cnnbench.quality.probes import measure_images
from cnnbench.report.data_check import render_page

CLASSES = ("<b>cat</b>", "dog", "owl")
EXPECTED = {
    "leak": {("train/dog/04.png", "test/dog/leak.bmp")},
    "near_leak": {
        ("train/owl/08.png", "test/owl/jpeg.jpg"),
        ("train/owl/10.png", "test/owl/shift.png"),
        ("train/owl/11.png", "test/owl/bright.png"),
        ("train/owl/12.png", "test/owl/small.png"),
    },
    "conflict": {("train/dog/05.png", "train/owl/dog.png")},
    "near_conflict": set(),
    "duplicate": {("train/dog/05.png", "train/owl/dog.png"), ("train/dog/06.png", "train/dog/again.png")},
    "near_duplicate": {("train/dog/07.png", "train/dog/dark.png")},
    "unreadable": {("train/dog/broken.png",)},
    "constant": {("train/dog/black.png",)},
    "blank": {("train/dog/empty.png",)},
    "size": {("train/dog/large.png",)},
    "shape": {("train/dog/wide.png",)},
    "brightness": {("train/dog/night.png",)},
    "colour": {("train/dog/red.png",)},
    "small_class": {()},
}


def paint(number: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A smooth picture like no other."""
    noise = np.random.default_rng(number).integers(40, 216, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def tint(image: Image.Image, factor: float, plus: tuple[int, ...] = (0, 0, 0)) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(image) * factor + np.array(plus), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    pages = {f"train/owl/{number:02}.png": paint(number) for number in range(8, 60)}
    pages |= {f"train/dog/{number:02}.png": paint(number) for number in range(4, 8)}
    pages |= {f"train/{CLASSES[0].replace('/', '%')}/{number:02}.png": paint(number) for number in range(100, 104)}
    pages |= {f"test/{name.replace('/', '%')}/1.png": paint(200 + at) for at, name in enumerate(CLASSES)}
    pages |= {
        "test/dog/leak.bmp": paint(4),
        "test/owl/jpeg.jpg": paint(8),
        "test/owl/shift.png": Image.fromarray(np.roll(np.asarray(paint(10)), (1, -1), (0, 1))),
        "test/owl/bright.png": tint(paint(11), 1.1),
        "test/owl/small.png": paint(12).resize((29, 29)),
        "train/owl/dog.png": paint(5),
        "train/dog/again.png": paint(6),
        "train/dog/dark.png": tint(paint(7), 0.9),
        "train/dog/black.png": Image.new("RGB", (32, 32)),
        "train/dog/empty.png": Image.fromarray(
            np.random.default_rng(0).integers(250, 253, (32, 32, 3), dtype=np.uint8)
        ),
        "train/dog/large.png": paint(300, (320, 320)),
        "train/dog/wide.png": paint(301, (80, 20)),
        "train/dog/night.png": tint(paint(302), 0.1),
        "train/dog/red.png": tint(paint(303), 0.3, (180, 50, 50)),
    }
    for name, image in pages.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **({"quality": 60} if name.endswith("jpg") else {}))
    (root / "train/dog/broken.png").write_bytes((root / "train/dog/04.png").read_bytes()[:200])
    return root


@pytest.fixture(scope="module")
def checked(folder):
    return check_data(compose_config(["data=image_folder", f"data.path={folder}", "data.workers=0"]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "label"])  # that one needs networks
def test_every_planted_fault_is_found_and_nothing_else(checked, kind):
    finding = checked.check.findings[kind]
    assert {tuple(image.path for image in case.images) for case in finding.cases} == EXPECTED[kind]
    assert finding.count == len(finding.cases)


def test_a_list_names_what_to_leave_out_and_is_read_back(checked, folder, tmp_path):
    write_check(tmp_path, checked.check)
    plain = json.loads((tmp_path / "check.json").read_text())
    assert plain == json.loads(json.dumps(asdict(checked.check))), "everything, for programs"
    assert {path.stem for path in tmp_path.glob("*.csv")} == {
        kind for kind, finding in checked.check.findings.items() if any(iterate_excluded(finding))
    }
    (row,) = read_image_list(str(tmp_path / "leak.csv"), "data.exclude").rows
    leaked = checked.check.findings["leak"].cases[0].images[1]
    assert (row.split, row.index, row.path, row.hash) == ("test", str(leaked.index), "test/dog/leak.bmp", leaked.hash)
    data = [
        "data=image_folder",
        f"data.path={folder}",
        "data.image_size=32",
        "data.on_bad_image=skip",
        "data.cache=null",
    ]
    whole, rest = (
        load_dataset(compose_config([*data, *more])) for more in ([], [f"data.exclude={tmp_path / 'conflict.csv'}"])
    )
    assert len(whole.train) + len(whole.val) - len(rest.train) - len(rest.val) == 2
    write_check(tmp_path, replace(checked.check, findings={}))
    assert not list(tmp_path.glob("*.csv")), "lists of an earlier check go"


def test_the_page_shows_the_pairs_and_escapes_names(checked):
    page = render_page(checked.check, checked.images.read_picture)
    assert page.count("<img ") == sum(len(case) for kind in EXPECTED for case in EXPECTED[kind]) - 1
    assert "<b>" not in page
    assert "&lt;b&gt;cat" in page
    assert not re.search(r"""(src|href)=["'](?!data:image/|#)""", page), "self-contained"
    assert "http" not in page.replace("http-equiv", "")


def test_a_check_depends_on_the_images_alone(checked, folder):
    data = ["data=image_folder", f"data.path={folder}", "data.workers=0"]
    assert check_data(compose_config([*data, "seed=3", "data.image_size=8"])).check == checked.check


def test_a_test_split_that_is_cut_is_checked_too(tmp_path):
    for name, start in (("a", 0), ("b", 20)):
        (tmp_path / name).mkdir()
        for number in range(20):
            paint(start + number).save(tmp_path / name / f"{number}.png")
            paint(start + number).save(tmp_path / name / f"{number}.bmp")
    (tmp_path / "c").mkdir()
    paint(50).save(tmp_path / "c" / "only.png")
    check, _ = check_data(compose_config(["data=image_folder", f"data.path={tmp_path}", "data.workers=0"]))
    assert check.count("leak") + check.count("duplicate") == 40
    assert check.count("leak") > 0
    (small,) = check.findings["small_class"].cases
    assert (small.label, small.detail) == ("c", "1 in train, 0 in test")


def test_sets_in_memory_and_signals_are_checked(tmp_path):
    digits, images = check_data(compose_config(["data=digits"]))
    assert digits.splits == {"train": 1437, "test": 360}
    assert digits.count("leak") == digits.count("duplicate") == digits.count("unreadable") == 0
    assert images.read_picture(ImageName("test", 0)).shape == (1, 8, 8)
    rows = [[*np.sin(np.arange(8) * (1 + number)), number % 2] for number in range(20)]
    rows += [rows[3], [*rows[4][:8], 1], [0.5] * 8 + [1]]
    (tmp_path / "s.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    signals, images = check_data(
        compose_config(["data=csv_signals", f"data.path={tmp_path / 's.csv'}", "data.header=false"])
    )
    assert signals.count("leak") + signals.count("duplicate") == 2
    assert signals.count("conflict") == signals.count("constant") == 1
    assert "near_leak" not in signals.findings
    assert render_page(signals, images.read_picture).count("<img ") >= 5


def test_the_command_ends_with_1_only_for_findings_that_are_named(cnnbench, folder, tmp_path):
    data = ("check", "data=image_folder", f"data.path={folder}", "data.workers=1")
    ended = cnnbench(*data, "--fail-on", "near_conflict,leak", "--out", "found")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: 1 × leak (--fail-on near_conflict,leak)"
    assert ended.stdout.splitlines()[-1] == "found"
    assert json.loads((tmp_path / "found" / "check.json").read_text())["findings"]["leak"]["count"] == 1
    assert (tmp_path / "found" / "check.html").is_file()
    ended = cnnbench("check", "--fail-on", "near_conflict")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "outputs/check/digits")
    ended = cnnbench(*data, "--fail-on", "leek")
    assert ended.returncode == 2
    assert "unknown finding of --fail-on 'leek'. Did you mean 'leak'?" in ended.stderr


@pytest.mark.parametrize(
    ("named", "words"),
    [("label", "--fail-on label needs --labels"), ("", "--fail-on ''"), ("leak,", "--fail-on ''")],
)
def test_fail_on_never_passes_because_nothing_was_looked_for(named, words):
    with pytest.raises(ValueError, match=words):
        check(CheckOptions(overrides=[], fail_on=named))


def test_far_out_is_three_interquartile_ranges_beyond_the_quartiles():
    values = np.array([*range(101), 251.0, 400.0, -149.0])
    first, third = np.percentile(values, (25, 75))
    expected = np.flatnonzero((values > third + 3 * (third - first)) | (values < first - 3 * (third - first)))
    assert find_far_out(values, 1.0).tolist() == sorted(expected.tolist(), key=lambda at: -abs(values[at] - 50))
    assert find_far_out(np.array([5.0] * 50 + [7.0]), floor=1.0).size == 0
    assert find_far_out(np.array([5.0] * 50 + [9.0]), floor=1.0).tolist() == [50]


def test_images_without_any_structure_are_constant_and_nothing_else():
    probes = measure_images(np.full((3, 3, 16, 16), 7, np.uint8), np.arange(6).reshape(3, 2), (16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {kind: [row for row, _ in suspects] for kind, suspects in find_suspects(probes)}
    assert found.pop("constant") == [0, 1, 2]
    assert not any(found.values())

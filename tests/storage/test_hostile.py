"""Files and names that strangers may have made: nothing of theirs runs, leaves its folder or takes all memory."""

import csv
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import hostile_corpus as corpus
import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from onnx_builders import list_hostile
from rich.console import Console
from rich.table import Table

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.run import run_job
from cnnbench.runs.figures import plot_confusion
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.storage import csv_tables, text
from cnnbench.storage.csv_tables import read_csv, write_csv
from cnnbench.storage.plain_data import write_yaml
from cnnbench.training import checkpoint
from conftest import ROOT

RUNNER = ROOT / "tests" / "faults" / "hostile_runner.py"
CANARY, OUTSIDE = Path(corpus.CANARY), Path(corpus.SECRET)


class Reduces:
    """What torch.save would pickle as a call."""

    def __reduce__(self):
        return os.system, (corpus.TOUCH,)


def torch_saved(**options):
    content = io.BytesIO()
    torch.save({"model.weight": Reduces()}, content, **options)
    return content.getvalue()


def safetensors(header, body=b"", length=None):
    said = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(said) if length is None else length) + said + body


CHECKPOINTS = {
    "pickle": corpus.CALLS["os_system"],
    "torch_legacy": torch_saved(_use_new_zipfile_serialization=False),
    "torch_zip": torch_saved(),
    "header_of_an_exabyte": safetensors(b"{}", length=2**60),
    "header_deep": safetensors(b'{"a":' * 50_000),
    "offsets_beyond": safetensors(
        {"model.w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)
    ),
    "offsets_backwards": safetensors({"model.w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8)),
    "shape_beyond_64_bits": safetensors(
        {"model.w": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 8]}}, bytes(8)
    ),
    "unknown_type": safetensors({"model.w": {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "no_tensors": safetensors({}),
    "text": b"hello",
    "empty": b"",
}
RECORDS = {  # of a checkpoint whose hash is right
    "no_data": lambda data: None,
    "data_is_a_list": lambda data: [1],
    "mean_of_text": lambda data: {**data, "mean": ["0"]},
    "mean_not_finite": lambda data: {**data, "mean": [1e999]},
    "std_of_zero": lambda data: {**data, "std": [0.0]},
    "std_of_three": lambda data: {**data, "std": [1.0, 1.0, 1.0]},
    "channels_of_a_billion": lambda data: {**data, "in_channels": 10**9},
    "truth_for_channels": lambda data: {**data, "in_channels": True},
    "image_of_a_gigapixel": lambda data: {**data, "image_size": 10**9},
    "negative_image": lambda data: {**data, "image_size": -8},
    "sides_of_text": lambda data: {**data, "image_size": ["8", 8]},
    "sides_of_truth": lambda data: {**data, "image_size": [True, True]},
    "sides_of_nothing": lambda data: {**data, "image_size": [0, 8]},
    "sides_of_lists": lambda data: {**data, "image_size": [[8], [8]]},
    "side_of_a_gigapixel": lambda data: {**data, "image_size": [8, 10**9]},
    "one_side": lambda data: {**data, "image_size": [8]},
    "three_sides": lambda data: {**data, "image_size": [8, 8, 8]},
    "other_sides": lambda data: {**data, "image_size": [8, 16]},
    "two_sides_of_a_signal": lambda data: {**data, "image_size": [8, 8], "dimensions": 1},
    "image_of_text": lambda data: {**data, "image_size": "8"},
    "classes_of_numbers": lambda data: {**data, "class_names": [1, 2]},
    "a_class_for_each_letter": lambda data: {**data, "class_names": "0123456789"},
    "other_number_of_classes": lambda data: {**data, "class_names": ["a"] * 1_000_000},
    "five_dimensions": lambda data: {**data, "dimensions": 5},
    "dimensions_of_a_list": lambda data: {**data, "dimensions": [2]},
}


def sealed(content):
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    content += b"\n"
    return content + b"# sha256: " + hashlib.sha256(content).hexdigest().encode() + b"\n"


class Built:
    """Writes cases to disk and notes what they are."""

    def __init__(self, root: Path, good: Path) -> None:
        self.root, self.good, self.cases = root, good, []

    def folder(self, kind: str, name: str) -> Path:
        folder = self.root / kind / name
        folder.mkdir(parents=True)
        self.cases.append({"kind": kind, "name": name, "folder": str(folder)})
        return folder

    def files(self, kind: str, files, where: str = "file") -> None:
        for name, content in files.items():
            path = self.folder(kind, name) / where
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def run(self, kind: str, name: str) -> Path:
        """A copy of the good run, of which files may be replaced."""
        folder = self.folder(kind, name)
        shutil.copytree(self.good, folder, copy_function=os.link, dirs_exist_ok=True)
        return folder


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def add_runs(built: Built) -> None:
    """Run folders with one thing wrong."""
    built.run("config", "good")
    built.run("run", "good")
    for name, content in corpus.YAML.items():
        replace(built.run("config", f"yaml_{name}") / "config.yaml", sealed(content))
    replace(built.run("config", "not_sealed") / "config.yaml", b"seed: 1\n")
    known = RunFolder(built.good).read_config
    for name, change in {**corpus.CONFIGS, **corpus.HARMLESS_CONFIGS}.items():
        write_yaml(built.run("config", name) / "config.yaml", change(known()))
    for name, content in CHECKPOINTS.items():
        weights = built.run("run", f"checkpoint_{name}") / "checkpoints"
        replace(weights / "best.safetensors", content)
        if (record := weights / "best.json").exists():
            value = json.loads(record.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
            replace(record, json.dumps(value).encode())
    tensors, record = checkpoint.load(built.good / "checkpoints", "best")
    for name, change in RECORDS.items():
        folder = built.run("run", f"record_{name}") / "checkpoints"
        checkpoint.save(folder, "best", tensors=tensors, record={**record, "data": change(record["data"])})
    for name in ("config.yaml", "summary.json", "checkpoints/best.safetensors", "train.log"):
        path = built.run("run", f"link_{name.replace('/', '_')}") / name
        path.unlink()
        path.symlink_to(OUTSIDE / "secret")
    folder = built.run("run", "link_to_a_folder")
    (folder / "evaluations").symlink_to(OUTSIDE)
    os.mkfifo(replace_with_nothing(built.run("run", "fifo_for_a_config") / "config.yaml"))
    replace_with_nothing(built.run("run", "folder_for_a_summary") / "summary.json").mkdir()


def replace_with_nothing(path: Path) -> Path:
    path.unlink()
    return path


def add_datasets(built: Built) -> None:
    """MNIST with one file wrong, and CIFAR as somebody else made it."""
    images, labels = corpus.idx(2, 28, 28, body=bytes(2 * 784)), corpus.idx(2, body=b"\0\1")
    sets = {"good": (images, labels, ""), "labels_beyond_classes": (images, corpus.idx(2, body=b"\0\x0a"), "")}
    sets |= {name: (content, labels, "") for name, content in corpus.IDX.items()}
    sets |= {f"packed_{name}": (content, labels, ".gz") for name, content in corpus.PACKED_IDX.items()}
    for name, (hostile, beside, suffix) in sets.items():
        raw = built.folder("mnist", name) / "MNIST/raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte{suffix}").write_bytes(hostile)
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(beside)
    raw = Path(shutil.copytree(built.root / "mnist/good", built.folder("mnist", "endless"), dirs_exist_ok=True))
    endless = replace_with_nothing(raw / "MNIST/raw/train-images-idx3-ubyte")
    endless.symlink_to("/dev/zero")
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    for case, content in {"a_call": corpus.CALLS["os_system"], **corpus.GREEDY}.items():
        folder = built.folder("cifar10", case) / "cifar-10-batches-py"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All cases on disk."""
    root = tmp_path_factory.mktemp("hostile")
    good = root / "good run"
    run_job(
        compose_config(["model=mlp", "trainer.epochs=1", "data.train_limit=100", "name=x"]), create_folder(good), []
    )
    built = Built(root, good)
    add_runs(built)
    add_datasets(built)
    built.files("pickle", corpus.CALLS)
    built.files("status", corpus.JSON, "status.json")
    built.files("summary", corpus.JSON, "summary.json")
    built.files("robustness", corpus.JSON | corpus.ROBUSTNESS, "robustness.json")
    built.files("verdict", corpus.JSON, "verdict.json")
    built.files("prediction", corpus.JSON, "prediction.json")
    built.files("temperature", corpus.JSON | corpus.TEMPERATURE, "checkpoints/temperature.json")
    built.files("conformal", corpus.CONFORMAL, "checkpoints/conformal.npz")
    built.files("npz", corpus.NPZ, "predictions.npz")
    built.files("confusion", corpus.CSV, "confusion_matrix.csv")
    for name, content in corpus.CELLS.items():
        folder = built.folder("confusion", name if name == "good" else f"cells_{name}")
        (folder / "confusion_matrix.csv").write_bytes(content)
        (folder / "per_class.csv").write_text("class,f1\n" + "a,1\n" * 5)
    built.files("data", corpus.DATA, "data.json")
    built.files("archive", {f"tar_{name}": content for name, content in corpus.TARS.items()})
    built.files("archive", {f"zip_{name}": content for name, content in corpus.ZIPS.items()})
    for name, content in corpus.PACKED.items():
        (built.folder("packed", name) / name).write_bytes(content)
    built.files("store", corpus.STORE)
    built.files("onnx", list_hostile(str(OUTSIDE)))
    return built


@pytest.fixture(scope="module")
def outcomes(built):
    """What became of each case, and what the audit hook saw."""
    CANARY.unlink(missing_ok=True)
    OUTSIDE.mkdir()
    (OUTSIDE / "secret").write_text("secret")
    try:
        lines = run_watched(built.root, built.cases)
        left = sorted(path.name for path in OUTSIDE.iterdir())
    finally:
        shutil.rmtree(OUTSIDE)
    *each, last = lines
    return {(one["kind"], one["name"]): one for one in each}, last | {"left": left}


def run_watched(root, cases, *flags):
    manifest = root / "manifest.json"
    manifest.write_text(json.dumps(cases))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{ROOT / 'src'}"}
    command = [sys.executable, str(RUNNER), str(manifest), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_corpus_has_what_it_is_meant_to_have(built):
    assert len(built.cases) > 250
    assert len(corpus.CALLS) > 40
    assert len(corpus.NAMES) > 45


def test_nothing_runs_and_nothing_is_opened_outside(outcomes):
    _, last = outcomes
    assert last["seen"] == []
    assert not CANARY.exists()
    assert last["left"] == ["secret"]


def test_every_hostile_file_is_refused_by_a_clear_message(built, outcomes):
    each, _ = outcomes
    assert set(each) == {(case["kind"], case["name"]) for case in built.cases}
    harmless = {("config", name) for name in corpus.HARMLESS_CONFIGS} | {("status", "huge_number"), ("metrics", "good")}
    accepted = {case for case, one in each.items() if one["error"] is None and case[1] != "good"}
    assert accepted <= harmless
    assert not {case: one["message"] for case, one in each.items() if not one["expected"]}
    for case, one in each.items():
        if one["error"]:
            assert text.make_lines_printable(one["message"]) == one["message"] or case[0] == "config", case
            assert one["message"].strip(), case
            assert "Traceback" not in one["message"]
            assert len(one["message"]) < 5000, case


def test_no_hostile_file_takes_long_or_much_memory(outcomes):
    each, last = outcomes
    assert max(one["seconds"] for one in each.values()) < 10
    assert last["peak"] < 1500


def test_nothing_half_written_is_left(outcomes):
    assert not [one["left"] for one in outcomes[0].values() if one["left"]]


def test_the_hook_and_the_canary_see_what_they_are_for(built, tmp_path):
    CANARY.unlink(missing_ok=True)
    try:
        chosen = ("os_system", "builtins_open", "builtins_exec", "stack_global", "ctypes", "inst")
        cases = [case for case in built.cases if case["kind"] == "pickle" and case["name"] in chosen]
        (last,) = run_watched(tmp_path, cases, "--unsafely")
        assert CANARY.exists()
    finally:
        CANARY.unlink(missing_ok=True)
    found = " ".join(last["seen"])
    for event in ("os.system", "open to write", "exec of", "pickle.find_class", "ctypes.dlopen"):
        assert event in found, event


PRINTED = [pytest.param(name, id=key) for key, name in corpus.NAMES.items()]


@pytest.mark.parametrize("name", PRINTED)
def test_a_hostile_name_is_only_text_on_a_terminal(name):
    assert text.make_printable(name).isprintable()
    table = Table("name")
    table.add_row(text.escape_for_table(name))
    console = Console(file=io.StringIO(), width=20_000, force_terminal=True, color_system=None)
    console.print(table, highlight=False)
    shown = console.file.getvalue()
    assert text.make_printable(name).strip() in shown
    assert "\x1b" not in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")  # the header is bold


@pytest.mark.parametrize("name", PRINTED)
def test_a_hostile_name_is_only_text_in_markdown(name):
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    in_a_table = f"| a | b |\n| --- | --- |\n| {text.escape_for_markdown(name)} | end |\n"
    for source, columns in ((in_a_table, 4), (f"- {text.escape_for_markdown(name)}\n", 1)):
        inline = [token for token in parser.parse(source) if token.type == "inline"]
        kinds = {child.type for token in inline for child in token.children}
        assert kinds <= {"text", "text_special"}, source
        assert len(inline) == (columns if name.strip() or columns == 4 else len(inline))
        cell = inline[columns - 2 if columns > 1 else 0] if inline else None
        if cell is not None:
            assert "".join(child.content for child in cell.children) == text.make_printable(name).strip()


@pytest.mark.parametrize("name", PRINTED)
def test_a_hostile_name_is_no_formula_in_a_csv_and_comes_back_exactly(name, tmp_path):
    name = name.encode("utf-8", "backslashreplace").decode()
    write_csv(tmp_path / "a.csv", [{"name": name, name + "x": -1.5}])
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(csv_tables.FORMULA) and cell != "-1.5"]
    assert read_csv(tmp_path / "a.csv") == [{"name": name, name + "x": "-1.5"}]


def test_hostile_names_are_only_text_in_a_figure():
    names = list(corpus.NAMES.values())
    figure = plot_confusion(np.eye(len(names), dtype=int), names)
    figure.canvas.draw()
    for label in figure.axes[0].get_xticklabels():
        shown, is_mathematical = label._preprocess_math(label.get_text())
        assert not is_mathematical
        assert shown.isprintable()

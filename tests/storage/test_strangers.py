"""What is read and unpacked safely is still read and unpacked: archives, IDX, downloads, text; and a run end to end."""

import bz2
import csv
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from hostile_corpus import idx, tar, zipped
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from cnnbench.cli import main
from cnnbench.data import load_source
from cnnbench.data.files.archives import decompress, unpack
from cnnbench.data.files.idx import read_idx
from cnnbench.storage import csv_tables
from cnnbench.storage.plain_data import format_sealed_yaml, parse_yaml, read_sealed_yaml


@given(st.data())
def test_an_idx_file_is_read_as_torchvision_reads_it(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("idx") / "images-idx"
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    kind = data.draw(st.sampled_from([(8, np.dtype("u1")), (12, np.dtype(">i4"))]))
    values = np.random.default_rng(0).integers(0, 200, shape).astype(kind[1])
    path.write_bytes(idx(*shape, kind=kind[0], body=values.tobytes()))
    packed = path.with_name("packed.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    expected = read_sn3_pascalvincent_tensor(str(path))
    for found in (read_idx(path), read_idx(packed)):
        assert torch.equal(torch.from_numpy(found), expected)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_archive_comes_out_as_it_went_in(mode, tmp_path):
    content = {"a": b"", "b/c": os.urandom(2**21 + 5), "b/d.txt": b"x" * 512, "ü/e": b"y" * 511}
    archive = tmp_path / "archive"
    archive.write_bytes(
        tar(("b", {"type": tarfile.DIRTYPE}), *((k, {"content": v}) for k, v in content.items()), mode=mode)
    )
    made = unpack(archive, tmp_path / "out")
    assert {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in made} == content


def test_a_zip_archive_comes_out_as_it_went_in_and_only_what_is_wanted(tmp_path):
    content = {"a": b"", "b/c": os.urandom(2**21 + 5), "b/d.txt": b"x" * 512}
    archive = tmp_path / "archive"
    archive.write_bytes(zipped(("b/", b"", {}), *((name, value, {}) for name, value in content.items())))
    made = unpack(archive, tmp_path / "out")
    assert {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in made} == content
    assert unpack(archive, tmp_path / "some", only=["d.txt"]) == [tmp_path / "some/b/d.txt"]
    assert [path.name for path in (tmp_path / "some").rglob("*") if path.is_file()] == ["d.txt"]


def test_a_refused_archive_leaves_nothing_of_what_it_had_before(tmp_path):
    (tmp_path / "archive").write_bytes(tar(("good", {"content": b"x"}), ("../bad", {"content": b"x"})))
    with pytest.raises(ValueError, match=r"'../bad', which does not stay in its folder"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert [*(tmp_path / "out").iterdir()] == []


def test_nothing_is_unpacked_through_a_link_that_is_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive").write_bytes(tar(("a/b", {"content": b"x"})))
    with pytest.raises(ValueError, match="does not stay in its folder"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert [*(tmp_path / "elsewhere").iterdir()] == []


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_file_comes_out_as_it_went_in(suffix, pack, tmp_path):
    content = os.urandom(2**20 + 7)
    (tmp_path / f"file.{suffix}").write_bytes(pack(content))
    decompress(tmp_path / f"file.{suffix}", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


@pytest.fixture
def served(tmp_path):
    """The address of a web server of this machine, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    server.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


# torchvision does not close the answer that there is no such file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_mnist_is_fetched_compared_unpacked_and_read(served, tmp_path, monkeypatch):
    address, folder = served
    resources = []
    for part, count in (("train", 3), ("t10k", 2)):
        files = {
            "images-idx3": idx(count, 28, 28, body=bytes([count]) * 784 * count),
            "labels-idx1": idx(count, body=b"\7" * count),
        }
        for name, content in files.items():
            packed = gzip.compress(content)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(packed)
            resources.append((f"{part}-{name}-ubyte.gz", md5(packed)))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address + "no/", address])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    source = load_source("mnist", root=str(tmp_path / "data"), download=True)
    assert (len(source.train), int(source.train.images.max()), source.test.labels.tolist()) == (3, 3, [7, 7])
    assert len(torchvision.datasets.MNIST(tmp_path / "data")) == 3  # the files are where torchvision looks for them
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"downloading it failed \(File not found or corrupted"):
        load_source("mnist", root=str(tmp_path / "other"), download=True)


def test_emnist_is_fetched_from_an_archive_of_archives(served, tmp_path, monkeypatch):
    address, folder = served
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for part in ("train", "test"):
            for split in ("digits", "letters"):
                prefix = f"gzip/emnist-{split}-{part}"
                archive.writestr(f"{prefix}-images-idx3-ubyte.gz", gzip.compress(idx(2, 28, 28, body=bytes(2 * 784))))
                archive.writestr(f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(idx(2, body=b"\1\2")))
    (folder / "gzip.zip").write_bytes(content.getvalue())
    monkeypatch.setattr(torchvision.datasets.EMNIST, "url", f"{address}gzip.zip")
    monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", md5(content.getvalue()))
    source = load_source("emnist", root=str(tmp_path / "data"), download=True, options={"split": "digits"})
    assert source.train.labels.tolist() == [1, 2]


def test_an_archive_that_leads_out_is_not_unpacked_though_its_hash_is_right(served, tmp_path, monkeypatch):
    address, folder = served
    content = tar(("../../../escaped", {"content": b"x"}), mode="w:gz")
    (folder / "cifar.tar.gz").write_bytes(content)
    for key, value in {"url": f"{address}cifar.tar.gz", "filename": "cifar.tar.gz", "tgz_md5": md5(content)}.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, key, value)
    with pytest.raises(ValueError, match="does not stay in its folder"):
        load_source("cifar10", root=str(tmp_path / "a/b/data"), download=True)
    assert not [*tmp_path.rglob("escaped")]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_sealed_is_read_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("sealed") / "a.yaml"
    path.write_bytes(format_sealed_yaml(value))
    assert read_sealed_yaml(path) == value
    assert parse_yaml(path.read_text()) == value


@given(st.text(), st.sampled_from(["", "=", "'", "-", "+1", "'='"]))
def test_a_csv_cell_comes_back_whatever_it_holds(value, start):
    cell = csv_tables.escape_formula(start + value)
    assert csv_tables.unescape_formula(cell) == start + value
    assert not cell.startswith(csv_tables.FORMULA) or csv_tables.escape_formula(cell) == cell


def test_numbers_are_not_marked_in_a_csv():
    assert [csv_tables.escape_formula(value) for value in (-1.5, 3, None, True, "-1.5", "+2", "1e-3")] == [
        -1.5, 3, None, True, "-1.5", "+2", "1e-3",
    ]  # fmt: skip


def test_an_edited_config_says_how_to_keep_the_edit(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(format_sealed_yaml({"seed": 1}))
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    with pytest.raises(ValueError, match="has changed since it was written") as caught:
        read_sealed_yaml(path)
    line = str(caught.value).partition("make the last line '")[2].rstrip("'")
    path.write_text(f"seed: 2\n{line}\n")
    assert read_sealed_yaml(path) == {"seed": 2}


def test_hostile_class_and_file_names_do_nothing_from_training_to_prediction(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    classes = ["\x1b]0;pwned\x07[red]", "=cmd()|<script>$x$", "a\nb`"]
    for label, name in enumerate(classes):
        for part in ("train", "test"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(12):
                pixels = np.full((8, 8), 80 * label + number, np.uint8)
                Image.fromarray(pixels).save(folder / f"-\x1b[2J{number}\n.png")
    (tmp_path / "photos/train" / classes[0] / "\x1b[31mbad\r.png").write_bytes(b"no image")
    run = tmp_path / "RUN"
    train = ["data=image_folder", "data.path=photos", "data.on_bad_image=skip", "model=mlp", "trainer.epochs=1"]
    command(monkeypatch, "train", *train, f"hydra.run.dir='{run}'")
    command(monkeypatch, "evaluate", str(run))
    command(monkeypatch, "predict", str(run), "photos/test", "--device", "cpu", "--out", "p.csv", "--format", "csv")
    command(monkeypatch, "predict", str(run), "photos/test", "--device", "cpu")
    printed = capsys.readouterr()
    for shown in (printed.out, printed.err, (run / "train.log").read_text()):
        assert shown.replace("\n", "").isprintable(), shown
    with open("p.csv", newline="") as file:
        rows = [[csv_tables.unescape_formula(cell) for cell in row] for row in csv.reader(file)]
    assert {row[1] for row in rows[1:]} <= set(classes)
    assert all(Path(row[0]).is_file() for row in rows[1:])
    evaluated = json.loads(next(run.rglob("metrics.json")).read_text())
    assert evaluated["images"] == 36


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["cnnbench", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0


def test_evaluating_a_strangers_run_writes_only_inside_of_it(tmp_path, monkeypatch, capsys):
    from cnnbench.cli.compose import compose_config
    from cnnbench.experiment.run import run_job
    from cnnbench.runs.folder import RunFolder, create_folder
    from cnnbench.storage.plain_data import write_yaml

    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for name in ("0", "1"):
        for part in ("train", "test"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for number in range(6):
                image = Image.fromarray(np.full((8, 8), 100 * int(name) + number, np.uint8))
                image.save(tmp_path / "photos" / part / name / f"{number}.png")
    run = RunFolder(create_folder(tmp_path / "RUN"))
    wanted = ["data=image_folder", "data.path=photos", "model=mlp", "trainer.epochs=1", "data.val_fraction=0"]
    run_job(compose_config(wanted), run.path, [])
    shutil.rmtree(home)
    config = run.read_config()
    config["data"] |= {"cache": str(tmp_path / "victim"), "workers": 10_000, "root": str(tmp_path / "victim")}
    write_yaml(run.path / "config.yaml", config)
    command(monkeypatch, "evaluate", str(run.path))
    assert not (tmp_path / "victim").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "RUN", "home"}  # home: the user's own cache
    config["data"] = {**RunFolder(run.path).read_config()["data"], "name": "mnist", "download": True}
    for key in ("path", "channels", "resize", "background", "on_bad_image", "cache", "memory_limit", "workers"):
        config["data"].pop(key, None)
    write_yaml(run.path / "config.yaml", config)
    monkeypatch.setattr("sys.argv", ["cnnbench", "evaluate", str(run.path)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert not (tmp_path / "victim").exists()

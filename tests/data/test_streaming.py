"""Images decoded batch by batch: the same bits as from memory, and processes that never outlive their parent."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
from test_augmentation import STRONG, augmentation
from test_image_folder import draw, load, photos, write_folder

from cnnbench.cli.compose import compose_config
from cnnbench.data import Batches, prepare
from cnnbench.data.files.decoding import ImageFiles
from cnnbench.experiment.factories import make_augmentation
from cnnbench.experiment.loading import load_dataset
from cnnbench.processes.cores import count_cores
from cnnbench.processes.pool import map_in_processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """90 images in two classes, in colour, of several sizes."""
    root = tmp_path_factory.mktemp("images")
    for number in range(60):
        draw(root / f"cat/{number:02}.png", (8 + number % 5, 9), "RGB")
    for number in range(30):
        draw(root / f"dog/{number:02}.jpg", (7, 8 + number % 3), "RGB")
    return root


def batches(source, shuffle=True, **options):
    dataset = prepare(source, seed=3, test_fraction=0.2, val_fraction=0.25, normalization="dataset")
    made = Batches(
        dataset.train if shuffle else dataset.test, 7, mean=dataset.mean, std=dataset.std,
        shuffle_seed=3 if shuffle else None, **options,
    )  # fmt: skip
    return dataset, made


@pytest.mark.parametrize(
    ("overrides", "workers"),
    [
        ([], count_cores()),
        (["trainer.threads=1"], 1),
        (["trainer.threads=1000"], count_cores()),
        (["trainer.threads=1", "data.workers=3"], 3),
    ],
)
def test_as_many_processes_decode_as_the_run_has_threads(overrides, workers, folder):
    given = ["data=image_folder", f"data.path={folder}", "data.image_size=6", "data.memory_limit=1", "data.cache=null"]
    stored = load_dataset(compose_config([*given, *overrides])).train.stored
    assert isinstance(stored, ImageFiles)
    assert stored.workers == workers


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"sampler": "balanced", "channels_last": True}, {"shuffle": False}, {"augmentation": augmentation(**STRONG)}],
    ids=lambda options: " ".join(options) or "plain",
)
def test_streamed_batches_are_those_from_memory_to_the_bit(workers, options, folder):
    inside, memory = batches(load(folder, image_size=6), **options)
    outside, stream = batches(load(folder, image_size=6, memory_limit="1", workers=workers), **options)
    assert isinstance(stream.split.stored, ImageFiles)
    assert isinstance(memory.split.stored, torch.Tensor)
    assert (inside.mean, inside.std) == (outside.mean, outside.std)
    assert (len(memory), memory.batch_size, memory.device) == (len(stream), stream.batch_size, stream.device)
    assert torch.equal(memory.labels, stream.labels)
    for epoch in (0, 1):
        pairs = zip(memory.iterate_epoch(epoch), stream.iterate_epoch(epoch), strict=True)
        for (images, labels), (streamed, streamed_labels) in pairs:
            assert torch.equal(images, streamed)
            assert images.stride() == streamed.stride()
            assert torch.equal(labels, streamed_labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_batches_are_those_from_memory_to_the_bit(workers, folder):
    config = compose_config(["augment=strong", "data=image_folder", "seed=3"])
    made = []
    for options in ({}, {"memory_limit": "1", "workers": workers}):
        source = load(folder, image_size=6, **options)
        augmentation = make_augmentation(config, source.info, torch.device("cpu"))
        made.append(batches(source, augmentation=augmentation)[1])
    for epoch in (0, 1):
        for memory, stream in zip(*(each.iterate_epoch(epoch) for each in made), strict=True):
            assert all(torch.equal(one, other) for one, other in zip(memory, stream, strict=True))


@pytest.mark.parametrize(("limit", "streams"), [("9719", True), ("9720", False), (None, False)])
def test_a_set_is_streamed_when_it_is_larger_than_the_limit(limit, streams, folder):
    source = load(folder, image_size=6, memory_limit=limit)  # 90 images of 3 × 6 × 6 bytes
    assert isinstance(source.train.stored, ImageFiles) == streams


def test_the_default_limit_is_a_third_of_the_memory(folder, monkeypatch):
    for total, streams in ((3 * 9720, False), (3 * 9719, True)):
        monkeypatch.setattr("cnnbench.data.sets.image_folder.measure_memory", lambda total=total: total)
        assert isinstance(load(folder, image_size=6).train.stored, ImageFiles) == streams


def test_large_parts_are_cut_into_units(folder, monkeypatch):
    monkeypatch.setattr("cnnbench.data.files.decoding.BYTES_AHEAD", 500)
    _, memory = batches(load(folder, image_size=6))
    _, stream = batches(load(folder, image_size=6, memory_limit="1", workers=2))
    for (images, _), (streamed, _) in zip(memory.iterate_epoch(), stream.iterate_epoch(), strict=True):
        assert torch.equal(images, streamed)


def test_a_look_at_every_file_comes_first_and_is_remembered(tmp_path, caplog):
    caplog.set_level("INFO", logger="cnnbench")
    write_folder(tmp_path / "set")
    (tmp_path / "set/cat/bad.png").touch()
    options = {"cache": str(tmp_path / "cache"), "memory_limit": "1", "image_size": 6}
    for workers in (2, 0):
        with pytest.raises(ValueError, match="1 of 21 files cannot be read as images"):
            load(tmp_path / "set", workers=workers, **options)
    assert "21 images were read from the cache" in caplog.messages[-1]
    assert load(tmp_path / "set", on_bad_image="skip", **options).train.images.shape == (20, 1, 6, 6)
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size < 1000


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_changes_under_way_is_named(workers, tmp_path):
    write_folder(tmp_path, count=30)
    _, stream = batches(load(tmp_path, memory_limit="1", workers=workers))
    for path in (tmp_path / "dog").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"dog/0\d\d.png: .*\(it could be read before: has it changed\?\)"):
        list(stream.iterate_epoch())


def children():
    return [child for child in multiprocessing.active_children() if child.is_alive()]


def test_an_epoch_that_is_left_half_way_ends_its_processes(folder):
    _, stream = batches(load(folder, image_size=6, memory_limit="1", workers=2))
    for _ in range(2):
        served = stream.iterate_epoch()
        next(served)
        served.close()
    assert children() == []
    list(stream.iterate_epoch())
    assert children() == []


def square_or_die(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_results_come_in_order_and_jobs_are_taken_a_few_at_a_time():
    taken = []

    def jobs():
        for number in range(6, 100):
            taken.append(number)
            yield number

    found = map_in_processes(square_or_die, jobs(), 2)
    assert [next(found) for _ in range(3)] == [36, 49, 64]
    assert len(taken) < 20
    found.close()
    assert list(map_in_processes(square_or_die, range(6, 50), 3)) == [n * n for n in range(6, 50)]
    assert list(map_in_processes(square_or_die, [], 2)) == []


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    with pytest.raises(RuntimeError, match=r"a process that decodes images died.* fewer data.workers need less memory"):
        list(map_in_processes(square_or_die, range(100), 2))
    assert children() == []


def test_processes_need_no_shared_memory():
    code = (
        "from contextlib import closing\nfrom cnnbench.processes.pool import Pool\n"
        "with closing(Pool(abs, 2)) as pool: print(list(pool.map([-1, 2])))"
    )
    mount = "mount -t tmpfs -o ro tmpfs /dev/shm && exec "
    command = ["unshare", "--mount", "sh", "-c", mount + shlex.join([sys.executable, "-c", code])]
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs to be root and to mount")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[1, 2]\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_where_no_process_can_be_started_images_are_decoded_all_the_same():
    code = (
        "import os, resource\nfrom cnnbench.processes.pool import map_in_processes\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 2,) * 2)\n"
        "print(list(map_in_processes(abs, [-1, 2], 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[1, 2]\n", done.stderr
    assert "Too many open files" in done.stderr
    assert "as with data.workers=0" in done.stderr


def ignored(number):
    return signal.getsignal(number) is signal.SIG_IGN


def test_the_processes_leave_signals_to_the_one_that_started_them():
    assert list(map_in_processes(ignored, [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], 1)) == [True] * 3


def test_work_under_way_ends_when_nobody_waits_for_it():
    def jobs():
        yield from (60, 60)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(map_in_processes(time.sleep, jobs(), 2))
    assert time.monotonic() - started < 30


STREAMS = ("data.image_size=300", "data.memory_limit=1", "model=mlp", "trainer.epochs=500", "data.test_fraction=0.25")


def descendants(pid):
    """The processes below one, as the kernel lists them."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as text:
            for child in map(int, text.read().split()):
                found += [child, *descendants(child)]
    return found


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as text:
            return text.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("sent", "to_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGKILL, False, -signal.SIGKILL)],
)
def test_no_process_outlives_a_run(sent, to_all, code, tmp_path):
    photos(tmp_path / "photos", count=50)
    command = [
        sys.executable,
        "-m",
        "cnnbench",
        "train",
        "data=image_folder",
        "data.path=photos",
        "data.workers=2",
        "data.cache=home",
    ]
    run = subprocess.Popen(
        [*command, *STREAMS, "hydra.run.dir=run"], cwd=tmp_path, start_new_session=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/metrics.csv").exists() and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.1)
        below: list[int] = []
        while len(below) < 2 and time.monotonic() < deadline:
            below = descendants(run.pid)
        # A terminal's Ctrl-C reaches every process of the group.
        os.killpg(run.pid, sent) if to_all else run.send_signal(sent)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == code, errors.decode()
        assert b"Traceback" not in errors
        while any(map(is_running, below)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_running, below))
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_decoding_that_is_interrupted_leaves_no_cache(sent, tmp_path):
    for number in range(80):
        draw(tmp_path / f"photos/{number % 2}/{number}.png", (1500, 1500), value=number)
    command = [sys.executable, "-m", "cnnbench", "train", "data=image_folder", "data.path=photos", "data.cache=home"]
    run = subprocess.Popen([*command, "data.image_size=500"], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("home/.*.tmp")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(sent)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent], errors.decode()
    assert list((tmp_path / "home").iterdir()) == []


def test_a_streamed_run_is_the_one_from_memory_and_draws_its_mistakes(cnnbench, tmp_path):
    from conftest import assert_same_tensors

    photos(tmp_path / "photos", count=20)
    common = ("data=image_folder", "data.path=photos", "data.image_size=12", "model=mlp", "trainer.epochs=2")
    folders = []
    for limit in ("null", "1KB"):
        done = cnnbench("train", *common, f"data.memory_limit={limit}", "data.cache=null", "optimizer.lr=1e-9")
        assert done.returncode == 0, done.stderr
        folders.append(tmp_path / done.stdout.splitlines()[-1])
    assert_same_tensors(*folders)
    first, second = (run / "mistakes.png" for run in folders)
    assert first.read_bytes() == second.read_bytes()

"""Full, broken and forbidden disks: no success is reported without its files, and what was saved is kept."""

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from faulted_runs import FINAL, SAVE, TINY, Case, Tally
from run_checks import find_damage, find_differences, list_temporary

from cnnbench.runs.folder import RunFolder
from faults import Fault

SAVED = ["optimizer.lr=1e-4", "trainer.ema=0.9", "trainer.keep=1"]
READ = stat.S_IRUSR | stat.S_IXUSR


@pytest.fixture(scope="module")
def case(faults, tmp_path_factory):
    """A small run without errors, with which runs with errors are compared."""
    return Case(faults, tmp_path_factory.mktemp("errors") / "runs", Tally("mlp", "ema, keep"), [*TINY, *SAVED])


def test_a_failed_call_of_a_save_ends_the_run_with_a_message_and_loses_nothing(case):
    errors, calls = (errno.ENOSPC, errno.EIO, errno.EACCES), case.find_save_calls()
    left = [Fault(number, "error", errors[number % 3], SAVE) for number in range(1, len(calls) + 1, 2)]
    while left:
        case.run_with_faults(left)
    assert case.tally.strikes == len(calls) // 2 + len(calls) % 2
    assert case.tally.bad == []


def test_results_that_cannot_be_written_are_no_success(case):
    before, calls = case.tally.strikes, case.find_result_calls()
    wanted = {f".{name}": None for name in ("predictions.npz", "per_class.csv", "summary.json", "status.json")}
    chosen = [
        next(i for i, c in enumerate(calls, 1) if c.name == name and c.path.name.startswith(hidden))
        for hidden, name in zip(wanted, ("fsync", "write", "open", "write"), strict=True)
    ]
    left = [Fault(number, "error", errno.EIO, FINAL) for number in chosen]
    left += [Fault(chosen[0], "errors", errno.ENOSPC, FINAL)]
    while left:
        case.run_with_faults(left)
    assert case.tally.strikes == before + 5
    assert case.tally.bad == []


def test_a_short_write_is_continued(case, faults, tmp_path):
    writes = [i for i, c in enumerate(case.find_save_calls(), 1) if c.name == "write" and "last" in c.path.name]
    ended = faults.run(
        "train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, fault=Fault(writes[-1], "short", 0, SAVE)
    )
    assert ended.code == 0
    assert [call.errno for call in ended.calls if call.errno] == [-1]
    assert find_differences(case.folder / "whole", tmp_path / "run") == []


def test_a_log_that_cannot_be_written_does_not_stop_a_run(case, faults, tmp_path):
    log = next(i for i, c in enumerate(case.calls, 1) if c.name == "write" and c.path.name == "train.log")
    watch = tmp_path / "run"
    fault = Fault(log, "error", errno.EIO)
    ended = faults.run("train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, watch=watch, fault=fault)
    assert ended.code == 0
    assert [call.path.name for call in ended.calls if call.errno] == ["train.log"]
    assert "Traceback" not in ended.err, ended.err
    assert find_differences(case.folder / "whole", watch) == []


@pytest.fixture
def small_disk():
    """A mounted file system with room for a few checkpoints."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


def fill(path):
    """Leave no room on a file system."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(case, faults, small_disk):
    begun = faults.run(
        "train", *case.overrides, "hydra.run.dir=run", cwd=small_disk, fault=Fault(30, "signal", signal.SIGTERM, SAVE)
    )
    assert begun.code == 143
    filler, run = small_disk / "filler", small_disk / "run"
    fill(filler)
    good = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    full = faults.run("train", "resume=run", cwd=small_disk)
    assert full.code == 1
    assert "No space left on device" in full.err
    assert "What was saved before is intact: free some space" in full.err
    assert "Traceback" not in full.err
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == good
    assert list_temporary(run) == find_damage(run) == []
    filler.unlink()
    assert faults.run("train", "resume=run", cwd=small_disk).code == 0
    assert find_differences(case.folder / "whole", run) == []


def test_a_sweep_on_a_full_disk_resumes_once_there_is_room(cnnbench, small_disk):
    command = ["train", "-m", "model=mlp", "trainer.epochs=1", "data.train_limit=200", "seed=0,1", "hydra.sweep.dir=s"]
    filler = small_disk / "filler"
    fill(filler)
    full = cnnbench(*command, cwd=small_disk)
    assert full.returncode == 1
    assert "No space left on device: free some space, then repeat the command" in full.stderr
    os.truncate(filler, filler.stat().st_size - 700_000)  # room for a run's first files, and for no checkpoint
    full = cnnbench(*command, cwd=small_disk)
    assert full.returncode == 1
    assert "No space left on device. What was saved before is intact: free some space" in full.stderr
    assert "2 of 2 runs failed (0, 1): the status.json of each says why. The same command tries them" in full.stderr
    filler.unlink()
    again = cnnbench(*command, cwd=small_disk)
    assert again.returncode == 0, again.stderr
    assert not (small_disk / "s/set_aside").exists()


def test_a_read_only_disk_is_refused_at_once(case, faults, small_disk):
    (small_disk / "run").mkdir()
    shutil.copytree(case.folder / "whole", small_disk / "run", dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for arguments in ([*case.overrides, "hydra.run.dir=other"], ["resume=run", "trainer.epochs=31"]):
        ended = faults.run("train", *arguments, cwd=small_disk)
        assert ended.code in (1, 2)
        assert "Read-only file system" in ended.err
        assert "Traceback" not in ended.err


def test_a_read_only_folder_is_refused_and_unchanged(case, faults, tmp_path):
    shutil.copytree(case.folder / "whole", tmp_path / "run")
    paths = [tmp_path, *tmp_path.rglob("*")]
    for path in paths:
        path.chmod(READ)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    for arguments in ([*case.overrides, "hydra.run.dir=other"], ["resume=run", "trainer.epochs=31"]):
        ended = faults.run("train", *arguments, cwd=tmp_path, powerless=True)
        assert ended.code in (1, 2), ended
        assert "Permission denied" in ended.err
        assert "Traceback" not in ended.err
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    for path in paths:
        path.chmod(READ | stat.S_IWUSR)


def test_checkpoints_that_become_read_only_fail_the_run_and_are_kept(case, faults, tmp_path):
    run = tmp_path / "run"
    begun = faults.run(
        "train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, fault=Fault(30, "signal", signal.SIGTERM, SAVE)
    )
    assert begun.code == 143
    (run / "checkpoints").chmod(READ)
    refused = faults.run("train", "resume=run", cwd=tmp_path, powerless=True)
    (run / "checkpoints").chmod(READ | stat.S_IWUSR)
    assert refused.code == 1
    assert "could not be written: Permission denied" in refused.err
    assert RunFolder(run).read_status()["state"] == "failed"
    assert faults.run("train", "resume=run", cwd=tmp_path, powerless=True).code == 0
    assert find_differences(case.folder / "whole", run) == []


@pytest.mark.parametrize("where", ["n" * 300, "/".join(["deep" * 20] * 60)], ids=["name", "path"])
def test_a_path_too_long_is_a_wrong_command(where, case, faults, tmp_path):
    ended = faults.run("train", *case.overrides, f"hydra.run.dir={where}", cwd=tmp_path)
    assert ended.code == 2
    assert "File name too long" in ended.err
    assert "Traceback" not in ended.err
    assert "deep" in where or list(tmp_path.iterdir()) == []


def test_a_file_larger_than_the_limit_of_the_process_is_named(case, faults, tmp_path):
    ended = faults.run("train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, limits={"FSIZE": 100_000})
    assert ended.code == 1
    assert "last.safetensors could not be written: File too large" in ended.err
    assert "Traceback" not in ended.err
    assert list_temporary(tmp_path) == []
    assert faults.run("train", "resume=run", cwd=tmp_path).code == 0
    assert find_differences(case.folder / "whole", tmp_path / "run") == []


@pytest.mark.parametrize(
    "greedy",
    [
        ["model=vgg_mini", "data.image_size=256", "trainer.batch_size=1293"],
        ["model=mlp", "model.width=1000", "data.image_size=256"],
    ],
    ids=["batch", "width"],
)
def test_the_message_on_too_little_memory_names_what_to_lower(greedy, faults, tmp_path):
    ended = faults.run("train", *greedy, "hydra.run.dir=run", cwd=tmp_path, limits={"AS": 2**30})
    assert ended.code == 1, ended.err
    assert "not enough memory for trainer.batch_size=" in ended.err
    assert "lower them, model.width=" in ended.err
    assert "Traceback" not in ended.err
    assert RunFolder(tmp_path / "run").read_status()["state"] == "failed"
    assert list_temporary(tmp_path) == []

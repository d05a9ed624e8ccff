"""A run that is killed with SIGKILL at any time resumes to the same bits; `make kill` has a thousand more kills."""

import os
import random
import signal
import subprocess
import sys

import pytest
from faulted_runs import FINAL, KILL, SAVE, TINY, Case, Tally, label
from run_checks import find_damage, find_differences

import faults as faulty
from cnnbench.runs.folder import RunFolder
from cnnbench.training import checkpoint
from faults import Fault

ALL_OF_IT = ["optimizer.lr=1e-4", "trainer.ema=0.9", "trainer.keep=2", "augment.mixup=0.4", "model.dropout=0.3"]


@pytest.fixture(scope="module")
def case(faults, tmp_path_factory):
    """LeNet-5 with most of the fields that a checkpoint can have."""
    return Case(faults, tmp_path_factory.mktemp("kills") / "lenet5", Tally("lenet5", "all of it"), [*TINY, *ALL_OF_IT])


def test_a_run_killed_twenty_times_equals_an_uninterrupted_one(case):
    draw, calls = random.Random(0), case.find_save_calls()
    # Each kill that strikes is removed from the list.
    left = [Fault(number, "signal", KILL, SAVE) for number in sorted(draw.sample(range(1, len(calls) + 1), 14))]
    left += [draw.uniform(0, case.seconds / 2) for _ in range(4)]
    left += [Fault(number, "signal", KILL, FINAL) for number in (8, 40)]
    while left:
        case.run_with_faults(left)
    assert case.tally.strikes == 20
    assert case.tally.bad == []


def test_no_file_has_its_name_before_it_is_on_the_disk_nor_success_before_the_name_is(case):
    """The order of the calls, which matters when the machine fails: after a kill, the system keeps what was written."""
    named = 0
    for number, call in enumerate(case.calls):
        if call.name != "rename" or case.calls[number - 1].name == "link":
            continue
        named += 1
        steps = [label(c).split()[0] for c in case.calls[:number] if label(c).endswith(f" {call.path.name}*")]
        last = steps[len(steps) - 1 - steps[::-1].index("open") :]
        assert list(dict.fromkeys(last)) == ["open", "write", "fsync", "close"], call
        after = case.calls[number + 1 : number + 4]
        assert [c.name for c in after] == ["open", "fsync", "close"], call
        assert {c.path for c in after} == {call.path.parent}, call
    added = [n for n, call in enumerate(case.calls) if (call.name, call.path.name) == ("write", "metrics.csv")]
    assert len(added) == 29, "a row an epoch, after the first"
    assert {(call.name, call.path.name) for n in added for call in case.calls[n + 1 : n + 2]} == {
        ("fsync", "metrics.csv")
    }
    assert named > 60  # thirty epochs' checkpoints, their bests, and the rest


def test_the_real_command_killed_in_a_save_resumes_to_the_same_bits(case, faults, tmp_path):
    command = [sys.executable, "-m", "cnnbench", "train"]
    library = faulty.compile_library(tmp_path)
    fault = Fault(len(case.find_save_calls()) // 4, "signal", KILL, SAVE)
    environment = faulty.make_environment(library, tmp_path / "run", fault, tmp_path / "calls")
    killed = subprocess.run(
        [*command, *case.overrides, "hydra.run.dir=run"], cwd=tmp_path, env=os.environ | environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert label(faulty.read_calls(tmp_path / "calls")[-1]) == label(case.find_save_calls()[fault.at - 1])
    assert find_damage(tmp_path / "run") == []
    assert faults.run("train", "resume=run", cwd=tmp_path).code == 0
    assert find_differences(case.folder / "whole", tmp_path / "run") == []


def test_a_run_killed_before_its_first_checkpoint_starts_again(case, faults, tmp_path):
    renamed = {call.path.name: call.number for call in reversed(case.calls) if call.name == "rename"}
    for name, at in (("before", renamed["config.yaml"]), ("within", renamed["last.safetensors"])):
        run = tmp_path / name
        arguments = [*case.overrides, f"hydra.run.dir={name}"]
        assert faults.run("train", *arguments, cwd=tmp_path, watch=run, fault=Fault(at, "signal", KILL)).code == -KILL
        assert (run / "config.yaml").exists() == (name == "within")
        resumed = faults.run("train", f"resume={name}", cwd=tmp_path)
        if name == "before":
            assert resumed.code == 2
            assert "is not a run folder: it has no config.yaml" in resumed.err
            assert faults.run("train", *arguments, cwd=tmp_path).code == 0, "the same command has the folder"
        else:
            assert resumed.code == 0
            assert "no checkpoint yet: starting from the beginning" in resumed.err
        assert find_differences(case.folder / "whole", run) == []
        assert checkpoint.load(run / "checkpoints", "last")[1]["epoch"] == 30
        assert RunFolder(run).read_status()["state"] == "finished"


def test_the_files_of_the_last_epoch_are_written_after_a_kill_between_them(case, faults, tmp_path):
    one = [*case.overrides, "trainer.epochs=1"]
    assert faults.run("train", *one, "hydra.run.dir=whole", cwd=tmp_path).code == 0
    for name in ("best.safetensors", "epoch_", "metrics.csv"):
        cut, fault = tmp_path / name, Fault(1, "signal", KILL, f".{name}")
        killed = faults.run("train", *one, f"hydra.run.dir={name}", cwd=tmp_path, watch=cut, fault=fault)
        assert killed.code == -KILL
        assert checkpoint.load(cut / "checkpoints", "last")[1]["epoch"] == 1
        assert faults.run("train", f"resume={name}", cwd=tmp_path).code == 0
        assert find_differences(tmp_path / "whole", cut) == []

"""SIGINT, SIGTERM, SIGHUP and SIGUSR1 to a process group while a run starts, saves, evaluates, draws and decodes."""

import shutil
import signal
import subprocess
import sys

import pytest
from faulted_runs import FINAL, SAVE, TINY, Case, Tally, make_images
from run_checks import find_damage, find_differences, list_temporary

from cnnbench.processes import signals
from cnnbench.runs.folder import RunFolder
from faults import Fault

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
STREAMED = ["data=image_folder", "data.memory_limit=1kB", "data.cache=null", "data.workers=1"]


@pytest.fixture(scope="module")
def case(faults, tmp_path_factory):
    """A run whose images are decoded by other processes in each epoch."""
    folder = tmp_path_factory.mktemp("signals")
    make_images(folder)
    own = [*STREAMED, f"data.path={folder / 'images'}", "trainer.epochs=6", "trainer.keep=1", "optimizer.lr=1e-4"]
    return Case(faults, folder / "runs", Tally("mlp", "streamed"), [*TINY, *own])


def assert_left_in_order(ended, run, number):
    assert ended.code == CODES[number], ended.err
    assert ended.left == [], "processes that outlive the command"
    assert "Traceback" not in ended.err
    assert "ignored" not in ended.err, "Python's message about an exception that it could not raise"
    assert list_temporary(run) == find_damage(run) == []


def test_a_signal_at_any_call_leaves_a_whole_folder_that_resumes_to_the_bit(case, faults):
    run = case.folder / "cut"
    save, results = case.find_save_calls(), case.find_result_calls()
    # Pictures are drawn by other processes, which have begun before the summary is written.
    drawn = next(number for number, call in enumerate(results, 1) if call.path.name.startswith(".summary.json"))
    # In the start, only after the files without which there is no run to resume.
    moments = [(len(case.find_start_calls()) - 2, "")]
    moments += [(number, SAVE) for number in range(1, len(save), 8)]
    moments += [(1, FINAL), (drawn - 1, FINAL), (drawn, FINAL), (len(results) - 20, FINAL)]
    for turn, (at, begin) in enumerate(moments):
        number = (signal.SIGTERM, signal.SIGINT)[turn % 2]
        arguments = [f"resume={run}"] if turn else [*case.overrides, f"hydra.run.dir={run}"]
        ended = faults.run("train", *arguments, cwd=case.folder, watch=run, fault=Fault(at, "group", number, begin))
        assert_left_in_order(ended, run, number)
        assert RunFolder(run).read_status()["state"] == "interrupted", (at, begin)
        assert f"train resume={run}" in RunFolder(run).read_status()["message"]
    # Just before the status gets its name: `finished` must still be written.
    renames = [n for n, call in enumerate(results, 1) if (call.name, call.path.name) == ("rename", "status.json")]
    last = Fault(renames[-1] - 1, "group", signal.SIGTERM, FINAL)
    ended = faults.run("train", f"resume={run}", cwd=case.folder, watch=run, fault=last)
    assert_left_in_order(ended, run, signal.SIGTERM)
    assert RunFolder(run).read_status()["state"] == "finished", "a signal in the last moment comes too late"
    assert faults.run("train", f"resume={run}", cwd=case.folder).code == 0
    assert find_differences(case.folder / "whole", run) == []


@pytest.mark.parametrize("part", ["save", "results"])
def test_usr1_to_every_process_never_stops_a_run(part, case, faults, tmp_path):
    at, begin = {"save": (6, SAVE), "results": (4, FINAL)}[part]
    fault = Fault(at, "group", signal.SIGUSR1, begin)
    ended = faults.run("train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, fault=fault)
    assert ended.code == 0
    said = {"save": "saved after epoch", "results": "SIGUSR1: nothing is being trained"}[part]
    assert said in ended.err
    assert ended.left == []
    assert find_differences(case.folder / "whole", tmp_path / "run") == []


def test_a_signal_during_the_final_test_ends_it(faults, tmp_path):
    # With one image at a time, the test takes seconds, and the signal comes before its end.
    slow = ["model=vgg_mini", "trainer.epochs=1", "data.train_limit=20", "trainer.eval_batch_size=1", "model.width=2"]
    run = tmp_path / "run"
    metrics = Fault(1, "later", 200 * 100 + signal.SIGTERM, ".metrics.csv")
    ended = faults.run("train", *slow, "hydra.run.dir=run", cwd=tmp_path, fault=metrics)
    assert_left_in_order(ended, run, signal.SIGTERM)
    assert "epoch 1/1" in ended.err
    assert not (run / "confusion_matrix.csv").exists()
    assert RunFolder(run).read_status()["state"] == "interrupted"


@pytest.mark.parametrize("number", CODES)
def test_a_signal_to_evaluate_leaves_the_run_unchanged(number, case, faults, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(case.folder / "whole", run)
    fault = Fault(5, "group", number, ".predictions.npz")
    ended = faults.run("evaluate", str(run), cwd=tmp_path, watch=run, fault=fault)
    assert_left_in_order(ended, run, number)
    assert find_differences(case.folder / "whole", run)[0].startswith("files: evaluations")
    assert RunFolder(run).read_status()["state"] == "finished"


def test_after_a_signal_before_the_run_exists_the_same_command_starts_it(case, faults, tmp_path):
    run = tmp_path / "run"
    command = ["train", *case.overrides, f"hydra.run.dir={run}"]
    ended = faults.run(*command, cwd=tmp_path, watch=run, fault=Fault(1, "group", signal.SIGTERM, ".lock"))
    assert_left_in_order(ended, run, signal.SIGTERM)
    assert RunFolder(run).read_status()["state"] == "interrupted"
    assert "give the same command again" in ended.err
    assert "resume=" not in ended.err
    assert faults.run(*command, cwd=tmp_path).code == 0
    assert find_differences(case.folder / "whole", run) == []


def test_a_closed_terminal_ends_a_run_as_sigterm_does(case, faults, tmp_path):
    hangup = Fault(6, "group", signal.SIGHUP, SAVE)
    ended = faults.run("train", *case.overrides, "hydra.run.dir=run", cwd=tmp_path, fault=hangup)
    assert_left_in_order(ended, tmp_path / "run", signal.SIGTERM)
    assert RunFolder(tmp_path / "run").read_status()["state"] == "interrupted"
    assert faults.run("train", "resume=run", cwd=tmp_path).code == 0
    assert find_differences(case.folder / "whole", tmp_path / "run") == []


def test_a_hangup_that_was_ignored_stays_so():
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]  # as nohup does it
    try:
        signals.listen()
        assert [signal.getsignal(number) is signal.SIG_IGN for number in numbers] == [False, False, True, False]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_ctrl_c_within_text_that_is_evaluated_ends_with_130(tmp_path):
    # As when a dataclass is created: `python -m` would then kill itself with SIGINT, whatever its exit code.
    (tmp_path / "module.py").write_text(
        "from cnnbench.cli.errors import ExitCodes\nwith ExitCodes():\n    exec('raise KeyboardInterrupt')\n"
    )
    ended = subprocess.run([sys.executable, "-m", "module"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")

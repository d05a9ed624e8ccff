"""The command line as a user meets it: a process, its exit code, its output, its files."""

import contextlib
import fcntl
import functools
import importlib
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import typing

import pytest
import yaml
from run_builders import write_run

from cnnbench import __version__
from cnnbench.cli import choices, compose
from cnnbench.cli.app import COMMANDS
from cnnbench.config.schema import from_dict
from cnnbench.runs.folder import RunFolder, format_resume_command
from conftest import assert_same_tensors, wait_until

QUICK = ["trainer.epochs=1", "data.train_limit=200"]
WRONG = [
    (["model=lennet5"], "unknown model 'lennet5'. Did you mean 'lenet5'? Valid: alexnet_mini, all_conv"),
    (["modle=mlp"], "unknown key 'modle'. Did you mean 'model'?"),
    (["lr=0.1"], "unknown key 'lr'. Did you mean 'optimizer.lr'?"),
    (["trainer.epoch=3"], "unknown key in trainer 'epoch'. Did you mean 'epochs'?"),
    (["tune.workers=2"], "tune.workers is a key of searches: cnnbench tune tune.workers=… takes it"),
    (["trainr.epochs=3"], "unknown key 'trainr.epochs'. Did you mean 'trainer.epochs'?"),
    (["optimizer.momentum=0.9"], "unknown key in optimizer 'momentum'. Valid: betas"),
    (["+optimizer.momentum=0.9"], "unknown key in optimizer 'momentum'. Valid: betas"),
    (["optimizer=sgd", "optimizer.momentum=fast"], "optimizer.momentum=fast: must be a number from 0 and below 1"),
    (
        ["optimizer.rates=[features]"],
        "optimizer.rates=[features]: must be module paths or globs with numbers above 0, up to 1,000, such as "
        "{features: 0.1}. Did you mean optimizer.rates={features: VALUE}?",
    ),
    (
        ["optimizer.rates={features: -1.0}"],
        "optimizer.rates={features: -1}: must be module paths or globs",
    ),
    (["optimizer.rates=[head: 0.5]"], "such as {features: 0.1}. Did you mean optimizer.rates={head: 0.5}?"),
    (
        ["model=torchvision", "model.args=[dropout]"],
        "must be keys with values. Did you mean model.args={dropout: VALUE}?",
    ),
    (["experiment=mlp_vs_lenet"], "unknown experiment 'mlp_vs_lenet'. Did you mean 'mlp_vs_lenet5'?"),
    (["trainer.epochs=many"], "trainer.epochs=many: must be a whole number"),
    (["optimizer.lr=-1"], "optimizer.lr=-1: must be a number above 0"),
    (["trainer.device=gpu"], "trainer.device=gpu: must be auto, cpu, cuda, cuda:N or mps"),
    (["trainer.device=cuda:77"], "trainer.device=cuda:77: this machine has no such device"),
    (["model"], "'model' is not an override: write KEY=VALUE"),
    (["mnsit"], "'mnsit' is not an override: write KEY=VALUE, such as data=mnist"),
    (["model.width=[1"], "'model.width=[1' cannot be read as KEY=VALUE"),
    (["model=mlp,lenet5"], "model=mlp,lenet5 names several values: add -m"),
    (["-m", "model=mlp,lenet5", "optimizer.lr=0.1,-1"], "optimizer.lr=-1: must be"),
    (["-m", "trainer.epoch=3,4"], "unknown key in trainer 'epoch'. Did you mean 'epochs'?"),
    (["-m", "model=mlp,lenet6"], "unknown model 'lenet6'. Did you mean 'lenet5'?"),
    (["data.image_size=8"], "data of 1×8×8 are too small for this network: layer stage2.0.conv"),
    (["data=mnist", "data.download=false"], "data=mnist is not in"),
    (["scheduler=one_cycle", "scheduler.peak_at=2"], "scheduler.peak_at=2: must be"),
    (["resume=nowhere"], "'nowhere' is not a folder"),
    (["resume=nowhere", "resume=there"], "a command resumes one run"),
    (["model=vgg_mini", "model.groups=3"], "groups=3 does not divide a convolution's 16 input and 16 output channels"),
    (["model=vgg_mini", "model.padding=valid"], "data of 1×28×28 are too small for this network: layer stage3.1.conv"),
    (["model=conv_autoencoder", "trainer.monitor=val/accuracy"], "for reconstruction it must be null or val/loss"),
    (["model=conv_autoencoder", "trainer.label_smoothing=0.1"], "reconstruction has no labels: must be 0"),
    (["model=sequence_cnn"], "model=sequence_cnn takes signals, and the data are images: use data=waves"),
    (["sweep.seeds=2", "seed=3"], "sweep.seeds=2 and seed=3 both name seeds: leave one of them out"),
    (["sweep.seeds=2", "sweep.alone=[init]", "seeds.init=1"], "sweep.seeds=2 and seeds.init=1 both name seeds"),
    (["-m", "sweep.alone=[init]"], "sweep.alone=[init] needs a number of seeds: add sweep.seeds=N"),
    (["sweep.seeds=2", "sweep.alone=[weights]"], "must be a list, each one of init, order, augment, split, dropout"),
    (["seeds=3"], "seeds=3: seeds is a group of keys, such as seeds.init; sweep.seeds=N runs each config"),
    (["sweep.seeds=0"], "sweep.seeds=0: must be null or a whole number from 1"),
    (["-m", "sweep.seeds=1,2"], "sweep.seeds=1,2 names several values: give one for the whole sweep"),
    (["sweep.restart=true"], "sweep.restart=true is for sweeps: add -m or sweep.seeds=N"),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decided", "seed=0,1"],
        "takes the seeds 0, 1, 2, … by itself: leave seed=0,1 out",
    ),
    (["-m", "model=mlp,lenet5", "sweep.until=decided", "sweep.seeds=6"], "by itself: leave sweep.seeds=6 out"),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decidet"],
        "sweep.until=decidet: must be null or decided. Did you mean decided?",
    ),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decided", "sweep.delta=0"],
        "sweep.delta=0: must be null or a number above 0 and below 1",
    ),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decided", "sweep.max_seeds=3"],
        "sweep.max_seeds=3: must be a whole number from 7",
    ),
    (
        ["-m", "model=mlp,lenet5", "sweep.delta=0.01"],
        "sweep.delta=0.01 is for sweep.until=decided: add that, or leave it out",
    ),
    (["-m", "model=mlp,lenet5", "sweep.until=decided", "seeds.init=3"], "by itself: leave seeds.init out"),
    (["model=mlp", "sweep.until=decided"], "compares configs, and this command has only one: name two or more"),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decided", "sweep.together=true"],
        "and sweep.until=decided adds them one by one: leave one of them out",
    ),
    (
        ["-m", "model=mlp,lenet5", "sweep.until=decided", "hydra/launcher=joblib"],
        "which hydra/launcher=joblib cannot do: leave the launcher out",
    ),
    (["sweep.jobs=0", "-m", "seed=0,1"], "sweep.jobs=0: must be a whole number from 1 to 1,000,000,000 or auto"),
    (["trainer.timeout_minutes=5"], "trainer.timeout_minutes=5 is a limit for the jobs of a sweep"),
    (["-m", "hydra/launcher=jobib"], "unknown launcher 'jobib'. Did you mean 'joblib'? Valid: basic, joblib, ray"),
    (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: must be a whole number"),
    (["name=../elsewhere"], "name=../elsewhere: must be text of letters"),
    (
        ["--frobnicate"],
        "--frobnicate is not an option of cnnbench train: cnnbench train -h shows its arguments and options",
    ),
    (["--epochs", "5"], "keys are written without dashes: trainer.epochs=5"),
    (["--lr=0.1", "model=mlp"], "keys are written without dashes: optimizer.lr=0.1"),
    (["--model", "mlp"], "keys are written without dashes: model=mlp"),
    (["--cfg", "job"], "cnnbench config KEY=VALUE… prints the composed config"),
    (["--config-name", "x"], "experiment=NAME chooses a config"),
    (["model=resnet18"], "torchvision has it: model=torchvision model.arch=resnet18"),
    (["model=LeNet5"], "Did you mean 'lenet5'?"),
    (["data.path=photos"], "It is a key of data=csv_signals and data=image_folder"),
    (["resume="], "resume= has no value: must be the folder of a run"),
    (["data=cifar-10"], "Did you mean 'cifar10'?"),
    (["dataset=mnist"], "Did you mean 'data'?"),
    (["epochs=5"], "Did you mean 'trainer.epochs'?"),
    (["learning_rate=5"], "Did you mean 'optimizer.lr'?"),
    (["mnist"], "write KEY=VALUE, such as data=mnist"),
    (["trainer.epochs", "=", "5"], "write KEY=VALUE, such as trainer.epochs=…"),
    (["optimizer.lr=0,1"], "(or, as one number: optimizer.lr=0.1): add -m"),
]
# Of other commands, each with its name.
WRONG_ELSEWHERE = [
    (["trian"], "unknown command 'trian'. Did you mean 'train'? Valid: train, tune, find-lr, evaluate"),
    (["help"], "Did you mean '-h'?"),
    (["model=mlp", "data=mnist"], "put a command first: cnnbench train model=mlp data=mnist"),
    (["--frob"], "No such option: --frob. cnnbench -h shows its arguments and options"),
    (["evaluate"], "Missing argument 'RUN'"),
    (["evaluate", "nowhere"], "'nowhere' is not a folder"),
    (["evaluate", "x", "data=mnist"], "cnnbench evaluate takes options, not KEY=VALUE: --data mnist"),
    (["evaluate", "x", "--batch-size", "a"], "--batch-size=a: must be a whole number"),
    (["predict", "x", "y", "--top", "0"], "--top=0: must be a whole number from 1"),
    (["report", "x", "--target=0,98"], "--target=0,98: must be a number, such as 0.98"),
    (["tune", "tune.timeout=0,5"], "(or, as one number: tune.timeout=0.5): give one"),
    (["predict", "x"], "name images after the run or the file: files, folders, patterns"),
    (["predict", "nowhere", "photo.png"], "'photo.png' does not exist: give files"),
    (["report"], "Missing argument 'DIR'"),
    (["report", "nowhere"], "'nowhere' is not a folder"),
    (["list", "model"], "Did you mean 'models'?"),
    (["summary", "--width", "2"], "keys are written without dashes: model.width=2"),
    (["summary", "--compare", "nothing"], "unknown model 'nothing'"),
    (["tune", "--trials", "5"], "keys are written without dashes: tune.trials=5"),
    (["tune", "tune=nothing"], "unknown tune 'nothing'. Valid: lenet5, mlp"),
    (["tune", "trials=5"], "Did you mean 'tune.trials'?"),
    (["config", "resume=x"], "which is in RUN/config.yaml"),
    (["config", "model=mlp,lenet5"], "names several values: add -m"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [*((["train", *arguments], message) for arguments, message in WRONG), *WRONG_ELSEWHERE],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_ends_with_2_and_one_message_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    # In this process, for speed: the same main() that the console script calls; two run as real processes below.
    from cnnbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["cnnbench", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) <= 3
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_command_in_a_process_of_its_own(fresh_cnnbench, tmp_path):
    done = fresh_cnnbench("train", "model=lennet5")
    assert (done.returncode, done.stdout) == (2, "")
    valid = ", ".join(choices.list_groups()["model"])
    assert done.stderr == f"error: unknown model 'lennet5'. Did you mean 'lenet5'? Valid: {valid}\n"
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" in fresh_cnnbench("train", "model=lennet5", "--debug").stderr


def test_train_evaluate_and_resume_a_finished_run(fresh_cnnbench, cnnbench, tmp_path):
    done = fresh_cnnbench("train", *QUICK, "model=mlp", "tags=[a,b]")
    assert done.returncode == 0, done.stderr
    assert re.match(r"digits: 10 classes, [\d,]+ training, .* 360 test images of 8×8", done.stderr), "its first line"
    assert "epoch 1/1  loss" in done.stderr
    assert "it/s" not in done.stderr, "no progress bar where there is no terminal"
    last = done.stdout.splitlines()[-1]
    assert last.startswith("outputs/mlp_digits/")
    run = RunFolder(tmp_path / last)
    assert run.read_status()["state"] == "finished"
    assert run.read_overrides()[-1] == "tags=[a,b]"
    accuracy, low, high = (run.read_summary()[f"test/accuracy{end}"] for end in ("", "_low", "_high"))
    assert low < accuracy < high
    shown = f"{100 * accuracy:.2f}%  [{100 * low:.2f}%, {100 * high:.2f}%]"
    assert shown in done.stdout
    assert "one run, which covers the sampling of the test images" in " ".join(done.stdout.split())

    measured = fresh_cnnbench("evaluate", last)
    assert measured.returncode == 0, measured.stderr
    assert measured.stdout.splitlines()[-1] == f"{last}/evaluations/digits_test"
    assert re.search(rf"^accuracy +{re.escape(shown)}$", measured.stdout, re.MULTILINE)
    assert {"ranking.png", "thresholds.csv"} <= {path.name for path in (run.path / "evaluations/digits_test").iterdir()}

    other = cnnbench("evaluate", last, "--data", "emnist")
    assert other.returncode == 2
    assert "emnist does not fit the run: it has 47 classes" in other.stderr

    again = cnnbench("train", f"resume={last}")
    assert again.returncode == 0
    assert "is finished: nothing to resume" in again.stderr
    assert again.stdout.splitlines()[-1] == last


def test_a_sweep_makes_a_folder_a_job_and_a_table(cnnbench, tmp_path):
    done = cnnbench("train", *QUICK, "model=mlp,lenet5", "-m", "seed=0,1", "data=digits")
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / done.stdout.splitlines()[-1]
    assert sweep.parent == tmp_path / "outputs/sweep"
    names = {path.name for path in sweep.iterdir()} - {".lock"}
    assert names == {*"0123", "sweep.yaml", "jobs.json", "results.csv", "groups.csv", "report.md", "report.html"}
    assert "model=lenet5" in done.stdout
    assert "a verdict needs 6 seeds" in done.stdout
    assert "sweep.seeds=6" in done.stdout
    summaries = [RunFolder(sweep / str(i)).read_summary() for i in range(4)]
    assert [(s["model"], s["seed"]) for s in summaries] == [("mlp", 0), ("mlp", 1), ("lenet5", 0), ("lenet5", 1)]


def test_a_job_of_a_sweep_equals_the_run_alone(cnnbench, tmp_path):
    sweep = tmp_path / cnnbench("train", *QUICK, "-m", "seed=3,4").stdout.splitlines()[-1]
    alone = tmp_path / cnnbench("train", *QUICK, "seed=4").stdout.splitlines()[-1]
    assert_same_tensors(sweep / "1", alone)


def test_one_failed_job_leaves_the_others_and_ends_with_1(cnnbench, tmp_path):
    done = cnnbench("train", *QUICK, "model=mlp", "optimizer=sgd", "-m", "optimizer.lr=0.01,1e20")
    assert done.returncode == 1
    assert "1 of 2 runs failed" in done.stderr
    assert done.stderr.count("digits: 10 classes") == 1, "once for the data, not for every job"
    assert "Traceback" not in done.stderr
    sweep = tmp_path / done.stdout.splitlines()[-1]
    assert [RunFolder(sweep / str(i)).read_status()["state"] for i in range(2)] == ["finished", "failed"]
    assert "1 of 2 runs failed and is not counted: 1." in done.stdout
    assert "Traceback" in (sweep / "1/train.log").read_text()


@pytest.mark.parametrize("flags", [[], ["--debug"]])
def test_a_run_that_diverges_ends_with_1_and_names_the_step(flags, cnnbench):
    done = cnnbench("train", *QUICK, "model=mlp", "optimizer=sgd", "optimizer.lr=1e20", *flags)
    assert done.returncode == 1
    assert "the loss became" in done.stderr
    assert "at epoch 1, step" in done.stderr
    assert ("Traceback" in done.stderr) == bool(flags)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_run_exits_with_its_code_and_resumes_to_the_bit(number, code, word, begin, cnnbench, tmp_path):
    overrides = ["model=mlp", "trainer.epochs=15", "hydra.run.dir=run"]
    begun = begin("train", *overrides)
    wait_until((tmp_path / "run/checkpoints/last.safetensors").exists, begun)
    os.kill(RunFolder(tmp_path / "run").read_status()["pid"], number)
    done = begun.result()
    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert RunFolder(tmp_path / "run").read_status()["state"] == "interrupted"
    resumed = cnnbench("train", "resume=run")
    assert resumed.returncode == 0, resumed.stderr
    assert cnnbench("train", *overrides[:2], "hydra.run.dir=whole").returncode == 0
    assert_same_tensors(tmp_path / "run", tmp_path / "whole")


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left(tmp_path):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "cnnbench", "train", "trainer.epochs=4"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    assert re.search(r"epoch \d/4: .*\[\d+:\d+<\d+:\d+, .*img/s, loss=\d", shown.decode()), shown.decode()


def test_a_folder_that_is_not_empty_is_refused(cnnbench, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/precious.txt").write_text("mine")
    done = cnnbench("train", *QUICK, "hydra.run.dir=run")
    assert done.returncode == 2
    assert "exists already and is not an empty folder" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious.txt"]


def test_the_folder_of_a_run_is_refused_with_the_command_that_resumes_it(cnnbench, tmp_path):
    run = tmp_path / "run"
    assert cnnbench("train", *QUICK, f"hydra.run.dir={run}").returncode == 0
    config = (run / "config.yaml").read_bytes()
    done = cnnbench("train", *QUICK, "seed=1", f"hydra.run.dir={run}")
    assert done.returncode == 2
    assert f"{run} already holds a run" in done.stderr
    assert f"cnnbench train resume={run}" in done.stderr
    assert (run / "config.yaml").read_bytes() == config


def shell(command, cwd):
    command = command.replace("cnnbench", f"{sys.executable} -m cnnbench")
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("streams", ["2>/dev/full", "2> >(true)", "<&- >&- 2>&-"])
def test_a_run_finishes_when_its_output_cannot_be_written(streams, tmp_path):
    done = shell(f"cnnbench train {' '.join(QUICK)} hydra.run.dir=run {streams}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").read_status()["state"] == "finished"
    assert "epoch 1/1" in (tmp_path / "run/train.log").read_text()


def test_a_reader_that_goes_away_does_not_fail_the_command(tmp_path):
    done = shell(f"cnnbench train {' '.join(QUICK)} hydra.run.dir=run | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout == "0\n"
    assert "error" not in done.stderr
    assert "Broken" not in done.stderr
    assert RunFolder(tmp_path / "run").read_status()["state"] == "finished"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_on_standard_error_is_written_at_once(unbuffered):
    code = """
import os, sys
from cnnbench.cli.streams import prepare_streams
prepare_streams()
print("x", file=sys.stderr)
os._exit(0)
"""
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "x\n"


def test_too_little_address_space_is_explained(tmp_path):
    done = shell("ulimit -v 2000000; cnnbench evaluate run", tmp_path)
    assert done.returncode == 1
    assert "error: not enough memory" in done.stderr
    assert done.stderr.count("ulimit -v unlimited lifts the limit") == 2  # before, too, where C++ may say nothing


def test_a_table_is_printed_in_any_encoding(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"sweep/{seed}", seed)
    done = shell("PYTHONIOENCODING=ascii cnnbench report sweep", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy %" in done.stdout


def test_a_folder_whose_name_is_not_utf8_and_one_that_is_gone_are_refused(tmp_path):
    name = os.fsdecode(b"r\xfen")
    done = shell(f"cnnbench train {' '.join(QUICK)} hydra.run.dir=\\'{name}\\'", tmp_path)
    assert done.returncode == 2
    assert "the path must be UTF-8, as the files of a run are" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; cnnbench train {' '.join(QUICK)}", tmp_path)
    assert done.returncode == 2
    assert "the current folder no longer exists" in done.stderr


@pytest.mark.parametrize(("name", "options", "function"), COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_the_function_of_a_command_takes_its_options(name, options, function):
    module, _, attribute = function.rpartition(".")
    hints = typing.get_type_hints(getattr(importlib.import_module(f"cnnbench.cli.{module}"), attribute))
    assert [kind for argument, kind in hints.items() if argument != "return"] == [options]


def test_the_command_that_resumes_is_quoted_for_a_shell(tmp_path):
    folder = tmp_path / "a 'b' $(touch c)"
    assert format_resume_command("train", folder).startswith("cnnbench train ")
    assert shlex.split(format_resume_command("train", folder)) == ["cnnbench", "train", f"resume={folder}"]
    assert format_resume_command("train", tmp_path / "plain") == f"cnnbench train resume={tmp_path / 'plain'}"


def test_two_runs_of_one_second_get_folders_of_their_own(tmp_path):
    folders = {str(compose.compose_request(QUICK).folder) for _ in range(20)}
    assert len(folders) == 20


def test_help_and_completion_answer_without_torch_or_hydra():
    code = (
        "import sys\nfrom cnnbench.cli.app import main\nfrom cnnbench.cli.completion import complete_override\n"
        "assert 'model=mlp' in complete_override('model=')\nassert 'optimizer.lr=' in complete_override('opt')\n"
        "try: main()\nfinally: assert not {'torch', 'hydra', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["train", "--help"], ["predict", "--help"], ["--version"], ["list", "models"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "keys"],
        ["config", "model=mlp"],
        ["report", "nowhere"],
        ["train", "model=lenet6"],
        ["train", "trainer.epochs=many"],
        ["trian"],
    ],
)
def test_commands_that_compute_nothing_and_wrong_ones_do_not_import_torch(arguments, tmp_path):
    code = "import sys\nfrom cnnbench.cli.app import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_version(fresh_cnnbench):
    assert fresh_cnnbench("--version").stdout == f"cnnbench {__version__}\n"


@pytest.mark.parametrize("what", choices.LISTED)
def test_list_describes_every_choice_in_a_line(what, cnnbench):
    lines = cnnbench("list", what).stdout.splitlines()
    claims = sorted(path.stem for path in (choices.find_config_dir() / "claim").glob("*.yaml"))
    valid = choices.list_groups() | {"tune": list(choices.list_spaces()), "claim": claims}
    assert [line.split()[0] for line in lines] == valid[choices.LISTED[what]]
    assert all(len(line.split()) > 2 for line in lines)


def test_list_without_a_kind_shows_the_kinds_and_no_command_shows_the_help(cnnbench):
    lines = cnnbench("list").stdout.splitlines()
    assert [line.split()[2] for line in lines] == list(choices.LISTED)
    done = cnnbench()
    assert done.returncode == 0
    assert "config" in done.stdout.split()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.pool=maxx", "model.pool=maxx: must be one of max, avg, stride, none. Did you mean max?"),
        ("+model.kernal_size=3", "unknown key in model 'kernal_size'. Did you mean 'kernel_size'?"),
        ("+scheduler.gamma=0.5", "unknown key in scheduler 'gamma'"),
    ],
)
def test_config_refuses_an_option_that_its_part_does_not_accept(override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compose.compose_config(["model=lenet5", override])


def test_config_prints_what_a_run_would_be_without_torch(tmp_path):
    code = "import sys\nfrom cnnbench.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "config", "model=mlp", "name=it's é", "name=1e3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert from_dict(yaml.safe_load(done.stdout)) == compose.compose_config(["model=mlp", "name=1e3"])
    done = subprocess.run([*command, "-m", "seed=3,4"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [config["seed"] for config in yaml.safe_load_all(done.stdout)] == [3, 4]
    assert list(tmp_path.iterdir()) == []


def test_summary_needs_no_files_for_a_known_dataset(cnnbench):
    done = cnnbench("summary", "model=lenet5", "data=cifar100", "--json")
    described = json.loads(done.stdout)
    assert (described["in_channels"], described["image_size"], described["num_classes"]) == (3, 32, 100)
    given = cnnbench(
        "summary", "model=lenet5", "--channels", "3", "--image-size", "32", "--num-classes", "100", "--json"
    )
    assert json.loads(given.stdout)["parameters"] == described["parameters"]


@functools.cache
def compose_experiment(name):
    """An experiment with one seed: its other jobs differ in nothing else."""
    return compose.compose_request([f"experiment={name}", "sweep.seeds=1" if "variance" in name else "seed=0"])


def test_every_experiment_composes():
    for name in choices.list_groups()["experiment"]:
        asked = compose_experiment(name)
        assert all(job.config.name == name for job in asked.jobs)
        assert asked.is_sweep == (name not in ("lenet5_fast", "resnet_cifar10", "cifar10_fast", "finetune_photographs"))


def test_the_zoo_experiment_holds_every_image_classifier():
    jobs = compose_experiment("zoo_mnist").jobs
    models = {job.config.model.name for job in jobs}
    assert set(choices.list_groups()["model"]) - models == {"conv_autoencoder", "sequence_cnn", "torchvision"}
    assert all(job.config.trainer.epochs <= 5 for job in jobs)


def test_the_course_experiment_is_its_protocol_and_an_override_replaces_an_axis():
    asked = compose.compose_request(["experiment=mlp_vs_lenet5"])
    assert len(asked.jobs) == 12
    config = asked.jobs[-1].config
    assert (config.model.name, config.seed, config.data.name) == ("lenet5", 5, "mnist")
    assert (config.trainer.epochs, config.trainer.batch_size, config.data.val_fraction) == (5, 64, 0)
    assert (config.optimizer.name, config.optimizer.lr, config.data.normalize) == ("adam", 1e-3, "half")
    assert (config.model.activation, config.optimizer.weight_decay, config.scheduler.name) == ("relu", 0, "constant")
    assert len(compose.compose_request(["experiment=mlp_vs_lenet5", "seed=7"]).jobs) == 2


def test_the_exercise_is_width_by_depth():
    jobs = compose_experiment("lenet5_width_depth").jobs
    shapes = {(job.config.model.width, job.config.model.depth) for job in jobs}
    assert shapes == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_a_recipe_comes_before_the_overrides_of_the_command():
    recipe = compose.compose_config(["model=resnet_mini"]).model.recipe
    plain, by_recipe = (
        compose.compose_config(["model=resnet_mini", *recipe]),
        compose.compose_config(["model=resnet_mini", "recipe=true"]),
    )
    assert by_recipe.model_copy(update={"recipe": False}) == plain
    assert compose.compose_config(["model=resnet_mini"]).trainer.epochs == 20, "a recipe is asked for, never silent"
    mine = compose.compose_config(["model=resnet_mini", "recipe=true", "trainer.epochs=7", "optimizer=sgd"])
    assert (mine.trainer.epochs, mine.optimizer.name, mine.scheduler.name) == (7, "sgd", plain.scheduler.name)


def test_each_job_of_a_sweep_has_the_recipe_of_its_model(cnnbench, tmp_path):
    done = cnnbench("train", "recipe=true", "-m", "model=mlp,lenet5_1998", *QUICK)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / done.stdout.splitlines()[-1]
    for number, name in enumerate(("mlp", "lenet5_1998")):
        config = compose.compose_config([f"model={name}", "recipe=true", *QUICK])
        assert from_dict(RunFolder(sweep / str(number)).read_config()).optimizer == config.optimizer


def test_recipe_is_refused_for_a_model_without_one():
    with pytest.raises(ValueError, match="recipe=true, but the YAML file of model=mlp has no recipe"):
        compose.compose_config(["model=mlp", "recipe=true", "model.recipe=[]"])


@pytest.mark.parametrize(
    ("model", "data", "made_for"),
    [
        ("lenet5", "image_folder", "digits,mnist,fashion_mnist,kmnist,emnist,qmnist,usps"),
        ("mlp", "waves", "digits,mnist,fashion_mnist,kmnist,emnist,qmnist,usps"),
        ("sequence_cnn", "csv_signals", "waves"),
    ],
)
def test_a_recipe_is_refused_on_data_that_it_was_not_made_for(model, data, made_for):
    with pytest.raises(
        ValueError, match=rf"was made for data={made_for}; on data={data} it may do worse .* optimizer="
    ):
        compose.compose_config([f"model={model}", f"data={data}", "recipe=true"])
    given = [f"model={model}", f"data={data}", "recipe=true", f"model.recipe_data=[{data}]"]
    assert compose.compose_config(given).optimizer.lr > 0.001, "whoever has found that it suits says so"


def test_a_command_ends_only_once_its_threads_and_exit_handlers_have_run():
    program = """
import atexit, sys, threading
from cnnbench.__main__ import main
atexit.register(print, "handler")
threading.Timer(0.5, print, ["thread"]).start()
sys.argv[1:] = ["--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "thread" in done.stdout
    assert done.stdout.endswith("handler\n")

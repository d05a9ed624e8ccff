"""Completion as a user meets it: real shells in a pseudo-terminal, a tabulator, and the command that comes of it."""

import os
import resource
import shutil
import subprocess
import sys

import pexpect
import pytest

from cnnbench.cli.choices import list_keys
from cnnbench.cli.completion import SHELLS, complete_override

# What is typed after `cnnbench`, and the arguments that the program gets when the line is entered.
TYPED = [
    ("eval\tRUN", ["evaluate", "RUN"]),
    ("train model=le\t", ["train", "model=lenet5"]),
    ("train model=resn\tseed=1", ["train", "model=resnet_mini", "seed=1"]),
    ("train experiment=zoo\t", ["train", "experiment=zoo_mnist"]),
    ("train trainer.ep\t5", ["train", "trainer.epochs=5"]),
    ("train -m model=mlp,resn\tseed=1", ["train", "-m", "model=mlp,resnet_mini", "seed=1"]),
    ("train data.path=PHO\tx", ["train", "data.path=PHOTOS/x"]),
    ("evaluate RUN --split v\t--device cpu", ["evaluate", "RUN", "--split", "val", "--device", "cpu"]),
    ("list exp\t", ["list", "experiments"]),
]


def there(shell):
    if shutil.which(shell) is None:
        missing = f"{shell} is not installed: apt-get install {shell}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


@pytest.fixture
def home(tmp_path):
    """A home with a `cnnbench` on its path that completes as ours does, and else prints what it was given."""
    program = tmp_path / "bin/cnnbench"
    program.parent.mkdir()
    ours = f'exec "{sys.executable}" -m cnnbench "$@"'
    shown = """printf 'GOT'; printf '<%s>' "$@"; echo"""
    program.write_text(f'#!/bin/sh\nif [ -n "$_CNNBENCH_COMPLETE" ]; then {ours}; fi\n{shown}\n')
    program.chmod(0o755)
    (tmp_path / "work/PHOTOS").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tabulator_completes(shell, home):
    there(shell)
    path = f"{home}/bin:{os.environ['PATH']}"
    environment = {"HOME": str(home), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8", "PS1": "> "}
    install = [sys.executable, "-m", "cnnbench", "--install-completion", shell]
    for _ in range(2):  # the second time changes nothing
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=True)
    assert "installed in" in done.stdout
    terminal = pexpect.spawn(shell, ["-i"], env=environment, cwd=str(home / "work"), timeout=60, dimensions=(40, 200))
    terminal.sendline("cnnbench ready")
    terminal.expect_exact("GOT<ready>")
    for typed, arguments in TYPED:
        terminal.send(f"cnnbench {typed}")
        terminal.send("\r")
        terminal.expect(r"GOT(<[^\r\n]*>)\r?\n")
        assert terminal.match[1].decode() == "".join(f"<{argument}>" for argument in arguments), typed
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()


def test_completion_and_help_answer_at_once():
    asked = {"_CNNBENCH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    for words in (None, "cnnbench ", "cnnbench train trainer.ep"):
        environment = os.environ | (asked | {"_TYPER_COMPLETE_ARGS": words} if words else {})
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "cnnbench", *([] if words else ["--help"])]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The time of its own: the machine may be busy with something else.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7


def test_every_key_of_a_part_is_completed():
    assert {"data.path", "optimizer.momentum", "logger.mlflow.experiment", "model.norm", "trainer.epochs"} <= set(
        list_keys()
    )
    assert complete_override("optimizer.mom") == ["optimizer.momentum="]
    assert complete_override("model=mlp,vg") == ["model=mlp,vgg_mini"]


def test_a_shell_without_a_script_is_named(cnnbench):
    done = cnnbench("--show-completion", "tcsh")
    assert done.returncode == 2
    assert "unknown shell 'tcsh'. Did you mean 'zsh'? Valid: bash, fish, zsh" in done.stderr

"""The wheel that the sdist builds, installed elsewhere, and the README's commands."""

import os
import re
import shlex
import subprocess
import sys

import matplotlib
import pytest
from PIL import Image

from cnnbench.cli.compose import request
from cnnbench.data import load_source
from cnnbench.results import RunFolder
from conftest import ROOT


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder into which pip installed the wheel that the sdist builds; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)  # an sdist, then a wheel from it
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return target


def test_the_wheel_holds_the_configs_and_nothing_foreign(installed):
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    configs = {f"cnnbench/configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs <= names
    assert {f"cnnbench/report/templates/report.{end}" for end in ("html.j2", "css", "js")} <= names
    assert all(name.startswith(("cnnbench/", "cnnbench-", "bin/cnnbench")) for name in names)


def test_the_wheel_trains_in_any_directory(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import cnnbench; print(cnnbench.__file__)"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.strip() == str(installed / "cnnbench/__init__.py")
    command = [str(installed / "bin/cnnbench"), "train", "trainer.epochs=1", "data.train_limit=100"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert RunFolder(tmp_path / done.stdout.splitlines()[-1]).status()["state"] == "finished"


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page):
    return [
        line.partition("  #")[0].strip()
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith("#")
    ]


COMMANDS = commands(PAGES[0])
FURTHER = [
    line for line in dict.fromkeys(line for page in PAGES[1:] for line in commands(page)) if line not in COMMANDS
]
TRAINING = [line for line in FURTHER if line.startswith("cnnbench train ") and "resume=" not in line]


def test_the_readme_opens_with_the_two_commands():
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_every_make_command_of_the_readme_has_its_target(line):
    subprocess.run(["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which RUN is a finished run, PHOTOS holds images of the same classes, and digit.png shows a digit."""
    folder = tmp_path_factory.mktemp("readme")
    for number in range(120):
        path = folder / f"PHOTOS/{number % 10}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 50), (2 * number, 25 * (number % 10), 99)).save(path)
    command = [sys.executable, "-m", "cnnbench", "train", "trainer.epochs=1", "hydra.run.dir=RUN"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    images = load_source("digits", root="", download=False).test.images
    Image.fromarray(images[0, 0].numpy()).save(folder / "digit.png")
    return folder


@pytest.mark.parametrize("line", TRAINING)
def test_the_guides_commands_that_train_name_what_there_is(line, tmp_path, monkeypatch):
    # Composed and checked, not run: those of the README are run, and training is tested elsewhere.
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)[2:]
    asked = request([a for a in arguments if a != "-m"], multirun="-m" in arguments)
    assert asked.jobs


@pytest.mark.parametrize(
    "line", [line for line in [*COMMANDS, *FURTHER] if line.startswith("cnnbench ") and line not in TRAINING]
)
def test_every_cnnbench_command_of_the_readme_works(line, finished, request):
    # Training is shortened: the whole of it takes minutes, and the recorded runs are in benchmarks/.
    # The user's cache stays as it is, and matplotlib finds its list of fonts all the same.
    environment = os.environ | {"XDG_CACHE_HOME": str(finished / "cache"), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    arguments = shlex.split(line)[1:]
    if arguments[0] == "tune":
        arguments += ["trainer.epochs=1", "data.train_limit=200", "tune.trials=2"]
    if arguments[0] == "train" and not any(a.startswith("resume=") for a in arguments):
        arguments += ["trainer.epochs=1", "data.train_limit=200"]
        if "data=mnist" in arguments or any(a.startswith("experiment=") for a in arguments):
            environment["CNNBENCH_DATA"] = request.getfixturevalue("mnist_root")
            arguments += ["data.download=false"]
        if any(a.startswith("experiment=") for a in arguments) and "experiment=lenet5_fast" not in arguments:
            if "experiment=zoo_mnist" in arguments:
                arguments += ["model=mlp,lenet5_1998,mobilenet_mini"]
            arguments += ["seed=0,1" if "experiment=mlp_vs_lenet5" in arguments else "seed=0"]
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments],
        cwd=finished, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target

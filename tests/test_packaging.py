"""The wheel that the sdist builds, installed elsewhere, and the commands of the README and the documentation."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import matplotlib
import pytest
from onnx_builders import make_onnx
from PIL import Image
from run_builders import write_run

from cnnbench import registry
from cnnbench.cli.choices import list_groups, list_keys
from cnnbench.cli.compose import compose_request
from cnnbench.data import load_source
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.plain_data import write_yaml
from cnnbench.tuning.settings import TuneSettings
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
    assert {"cnnbench/draw/kernels.js", "cnnbench/draw/network.js", "cnnbench/draw/templates/page.js"} <= names
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
    assert RunFolder(tmp_path / done.stdout.splitlines()[-1]).read_status()["state"] == "finished"


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}


def commands(page):
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
    return [
        line.partition("  #")[0].strip()
        for block in blocks
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
        if line and not line.startswith("#")
    ]


# Commands that take long are tested by others of their kind: claims that train by one that counts.
ALIKE = {"C01": "C10", "C04": "C10", "C17": "C10", "all": "C10"}


def commands_of(pages):
    return list(dict.fromkeys(find_alike(line) for page in pages for line in commands(page)))


def find_alike(line):
    if line.startswith("cnnbench claim run "):
        return " ".join(dict.fromkeys(ALIKE.get(word, word) for word in line.split()))
    return line.replace("cnnbench explain latest", "cnnbench explain RUN")


# tests/plugins runs the commands of how-to/plugins.md, with the files that the page shows.
COMMANDS = commands_of(page for page in PAGES if page.stem != "plugins")
# Training commands of these pages are run. Those of others are only composed, because training is tested elsewhere.
RUN = commands_of(page for page in PAGES if NAMES[page] in ("README.md", "docs/tutorial.md"))
COMPOSED = [
    line for line in COMMANDS if line.startswith("cnnbench train ") and "resume=" not in line and line not in RUN
]


def test_the_readme_opens_with_the_two_commands():
    assert commands(PAGES[0])[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith("cnnbench ")])
def test_every_other_command_of_the_pages_names_what_there_is(line, tmp_path):
    words = shlex.split(line)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[:1] == ["pip"] or words[:3] == ["python", "-m", "pip"]:
        extras = {extra for names in re.findall(r"\[(.*?)\]", line) for extra in names.split(",")}
        assert extras <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
        options = [word for word in words if word.startswith("--")]
        help_ = subprocess.run(
            [sys.executable, "-m", "pip", words[words.index("pip") + 1], "--help"], check=True, capture_output=True
        )
        assert all(option in help_.stdout.decode() for option in options)
    else:
        assert line in ("python -m venv .venv", "source .venv/bin/activate")
        make = [sys.executable, "-m", "venv", "--without-pip", ".venv"]
        subprocess.run(make, cwd=tmp_path, check=True)
        subprocess.run(["bash", "-ec", "source .venv/bin/activate"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_no_command_of_a_page_stands_where_no_test_finds_it(page):
    text = page.read_text()
    plain = re.findall(r"```\n(.*?)```", re.sub(r"```\w+\n.*?```", "", text, flags=re.DOTALL), re.DOTALL)
    lines = [*re.findall(r"^(?: {4}|\t)(.*)", text, re.MULTILINE), *"\n".join(plain).splitlines()]
    assert not [line for line in lines if re.match(r"(cnnbench|python|pip|make|source) ", line)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_the_keys_that_a_page_names_exist(page):
    known = {
        "key",
        "group",
        *list_keys(),
        *list_groups(),
        *(f"tune.{name}" for name in TuneSettings.model_fields),
        "tune",
    }
    named = set(re.findall(r"`(?:\+)?([a-z][a-z_.0-9]+)=[^`]*`", page.read_text()))
    assert {key for key in named if not key.startswith("hydra.")} <= known


def test_the_generated_reference_has_every_key_part_and_command():
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs/reference/generate.py")
    hook = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hook)
    texts = {page.name: hook.on_page_markdown(page.read_text()) for page in PAGES if page.parent.name == "reference"}
    assert not [name for name, text in texts.items() if hook.MARKER.search(text)]
    assert {key for key in list_keys() if f"`{key}`" not in texts["keys.md"]} == set()
    parts = {name for names in list_groups().values() for name in names} - {"default"}
    assert {name for name in parts if f"`{name}`" not in texts["parts.md"]} == set()
    assert {name for name in registry.list_names("metric") if f"`{name}`" not in texts["parts.md"]} == set()
    assert {
        name for name in ("train", "tune", "report", "list") if f"## cnnbench {name}\n" not in texts["commands.md"]
    } == set()


def test_make_cases_runs_every_case_and_fails_where_one_does(tmp_path):
    def cases():
        make = ["make", "--silent", "--assume-old=.venv/.developing", "cases", f"CASES={tmp_path / 'c'}"]
        return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "No cases here" in cases().stdout
    (tmp_path / "c").mkdir()
    (tmp_path / "c/_common.sh").write_text("exit 7")
    (tmp_path / "c/first.sh").write_text('echo noise; echo "ok: $CB"')
    done = cases()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"right  first: ok: {ROOT}/.venv/bin/cnnbench\n1 of 1 cases right\n"
    (tmp_path / "c/second.sh").write_text("echo FAULT: wrong; exit 1")
    (tmp_path / "c/third.sh").write_text("echo nothing to tell; exit 2")
    done = cases()
    assert done.returncode != 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["right", "first:"], ["WRONG", "second:"], ["WRONG", "third:"], ["1", "of"],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command_server):
    """Finished runs, RUN and `latest`, a SWEEP, images of the same classes in PHOTOS, digit.png, and lists."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("list.csv", "leak.csv"):
        (folder / name).write_text("split,index\ntest,0\n")
    for number in range(120):
        path = folder / f"PHOTOS/{number % 10}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 50), (2 * number, 25 * (number % 10), 99)).save(path)
    # Enough validation images for some to be wrong, also after 40 epochs: a temperature needs that.
    few = ["data.train_limit=500", "data.val_fraction=0.3"]
    command = ["train", "trainer.epochs=1", *few, "hydra.run.dir=outputs/first/run"]
    if command_server is None:
        subprocess.run([sys.executable, "-m", "cnnbench", *command], cwd=folder, check=True, capture_output=True)
    else:
        assert command_server.run(*command, cwd=folder).code == 0
    shutil.copytree(folder / "outputs/first/run", folder / "RUN")
    for seed in range(6):
        write_run(folder / f"SWEEP/mlp{seed}", seed, 900 + seed, model__name="mlp")
        write_run(folder / f"SWEEP/lenet5{seed}", seed, 950 - seed)
    write_yaml(folder / "SWEEP/sweep.yaml", {"jobs": [[]] * 12})
    (folder / "digits.onnx").write_bytes(make_onnx())
    images = load_source("digits", root="", download=False).test.images
    Image.fromarray(images[0, 0].numpy()).save(folder / "digit.png")
    return folder


@pytest.mark.parametrize("line", COMPOSED)
def test_the_guides_commands_that_train_name_what_there_is(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").touch()  # of weights, only the hash is read
    arguments = shlex.split(line)[2:]
    asked = compose_request([a for a in arguments if a != "-m"], multirun="-m" in arguments)
    assert asked.jobs


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("cnnbench ") and line not in COMPOSED])
def test_every_other_cnnbench_command_works(line, finished, request, cnnbench, tmp_path):
    # Training is shortened: the whole of it takes minutes, and the recorded runs are in benchmarks/.
    # The user's cache stays as it is, and matplotlib finds its list of fonts all the same.
    environment = {"XDG_CACHE_HOME": str(finished / "cache"), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    environment["HOME"] = str(finished)
    arguments = shlex.split(line)[1:]
    folder = finished
    if arguments[:2] in (["claim", "run"], ["claim", "report"]):
        folder = tmp_path  # a verdict of another command would come before a prediction
    if arguments[:2] == ["claim", "report"]:
        assert cnnbench("claim", "run", "C10", cwd=folder, **environment).returncode == 0
        shutil.copytree(folder / "outputs/claims", folder / "class/ada")
        arguments[2] = "class/ada"
    if arguments[0] == "robustness" and "--max-images" not in arguments:
        arguments += ["--max-images", "20"]
    if "--labels" in arguments:
        arguments += ["trainer.epochs=1", "model=mlp"]
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
    done = cnnbench(*arguments, cwd=folder, **environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target

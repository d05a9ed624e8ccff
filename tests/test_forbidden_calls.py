"""Nothing in the repository can run what a file holds: read from the syntax of every Python file."""

import ast
from collections.abc import Iterator

import pytest

from conftest import ROOT

FORBIDDEN = {
    *(f"{module}.load{s}" for module in ("pickle", "_pickle", "dill", "cloudpickle", "marshal") for s in ("", "s")),
    *(f"yaml.{call}{many}" for call in ("load", "unsafe_load", "full_load") for many in ("", "_all")),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.CFullLoader", "yaml.CUnsafeLoader"),
    *("eval", "exec", "__import__", "shelve.open", "joblib.load", "pandas.read_pickle", "runpy.run_path"),
    *("torch.export.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_class", "hydra.utils.get_method"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "shutil.unpack_archive"),
    *(f"os.{call}{how}" for call in ("exec", "spawn") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}
# Wherever these come from: `archive.extractall(…)`, `loader.instantiate(…)`.
FORBIDDEN_ATTRIBUTES = {"extractall", "extract", "instantiate", "unsafe_load", "full_load", "Unpickler"}
FORBIDDEN_KEYWORDS = {("weights_only", False), ("allow_pickle", True), ("shell", True)}
# What a file may do all the same, and why.
ALLOWED = {
    (
        "src/cnnbench/data/files/cifar_files.py",
        "pickle.Unpickler",
    ),  # the restricted reader: gives no class back
    ("src/cnnbench/exporting/formats.py", "torch.export.load"),  # of what it has just exported itself, to check it
    ("tests/faults/hostile_runner.py", "pickle.loads"),  # to show that what it watches with sees what pickle does
    ("tests/storage/test_hostile.py", "os.system"),  # named in what torch.save writes, never called
    ("tests/api/test_api.py", "runpy.run_path"),  # of the code in the pages of this repository
    ("tests/data/test_images.py", "pickle.loads"),  # of what it has pickled itself, as processes do
}


def forbidden(source: str) -> Iterator[tuple[int, str]]:
    """The lines and names of what a Python source must not use."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # `import torch.jit` makes `torch` known, `import torch.jit as t` makes `t` stand for all of it.
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = dotted(node, known)
            last = name.rpartition(".")[2]
            is_attribute = isinstance(node, ast.Attribute) or "." in name
            if name in FORBIDDEN or (is_attribute and last in FORBIDDEN_ATTRIBUTES):
                yield node.lineno, name
        if isinstance(node, ast.Call):
            given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            yield from ((node.lineno, f"{key}={value}") for key, value in given.items() & FORBIDDEN_KEYWORDS)
            if dotted(node.func, known) == "compile":  # called only: arguments have that name
                yield node.lineno, "compile"
            if dotted(node.func, known) == "torch.load" and given.get("weights_only") is not True:
                yield node.lineno, "torch.load without weights_only=True"


def dotted(node: ast.AST, known: dict[str, str]) -> str:
    """A name with its modules, such as `pickle.loads` for `p.loads` after `import pickle as p`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def python_files():
    places = ("src", "tests", "benchmarks", "configs")
    return sorted(path for place in places for path in (ROOT / place).rglob("*.py")) + sorted(ROOT.glob("*.py"))


def test_nothing_in_the_repository_can_run_what_a_file_holds():
    files = python_files()
    assert len(files) > 100
    found = {(str(path.relative_to(ROOT)), what, line) for path in files for line, what in forbidden(path.read_text())}
    assert not {one for one in found if one[:2] not in ALLOWED}
    assert {one[:2] for one in found} == ALLOWED, "an exception that is not used is none"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle; pickle.load(file)",
        "import pickle as p; p.loads(text)",
        "from pickle import loads as read; read(text)",
        "from pickle import Unpickler\nclass Mine(Unpickler): pass",
        "import pickle; pickle.Unpickler(file).load()",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "from torch import load; load(path)",
        "import torch; torch.export.load(path)",
        "import torch.jit; torch.jit.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "from yaml import full_load; full_load(text)",
        "import yaml\nclass Mine(yaml.UnsafeLoader): pass",
        "eval(text)",
        "exec(text)",
        "run = eval",
        "compile(text, '', 'exec')",
        "import tarfile; tarfile.open(path).extractall(folder)",
        "import zipfile; zipfile.ZipFile(path).extract(name)",
        "import shutil; shutil.unpack_archive(path)",
        "from hydra.utils import instantiate; instantiate(config)",
        "import hydra; hydra.utils.instantiate(config)",
        "import subprocess; subprocess.run(text, shell=True)",
        "import os; os.system(text)",
        "from os import execvp; execvp(name, [])",
        "import marshal; marshal.loads(text)",
        "import shelve; shelve.open(path)",
        "import joblib; joblib.load(path)",
    ],
)
def test_each_forbidden_call_is_found_however_it_is_written(source):
    assert list(forbidden(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import torch; torch.load(path, weights_only=True)",
        "import re; re.compile(text)",
        "import torch; torch.compile(model)",
        "import json; json.load(file)",
        "import yaml; yaml.safe_load(text)",
        "import subprocess; subprocess.run([name])",
        "import safetensors.torch; safetensors.torch.load(content)",
        "compile = True",
    ],
)
def test_what_is_harmless_is_not_found(source):
    assert not list(forbidden(source))

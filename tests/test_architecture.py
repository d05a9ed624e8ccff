"""The floors of CONTRIBUTING.md, checked in the source."""

import ast
import graphlib
import io
import re
import subprocess
import sys
import tokenize
from functools import cache

import pytest
from mutants import list_mutants

from conftest import ROOT

SOURCE = ROOT / "src" / "cnnbench"
# From the bottom up; a room imports only rooms of the floors below its own.
FLOORS = (
    {"__init__"},
    {"registry", "reproducibility", "processes", "bars"},
    {"config", "storage"},
    {"plugins"},
    {"data", "models", "metrics", "analysis"},
    {"runs", "quality"},
    {"trackers"},
    {"training"},
    {"experiment"},
    {"report", "sweeps", "tuning", "exporting"},
    {"claims", "draw"},
    {"conformance"},
    {"cli"},
    {"api"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(SOURCE.rglob("*.py"))


def place(path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def parse(path) -> ast.Module:
    return ast.parse(path.read_text())


def all_names(path) -> set[str]:
    """Whatever a file imports from cnnbench, also under `TYPE_CHECKING` and inside functions."""
    nodes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names if node.module}


def imports(path) -> set[str]:
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = f"{node.module}." if node.module == "cnnbench" else ""
            found |= {f"{inner}{alias.name}" if inner else str(node.module) for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_below_it(path):
    own = {
        name.split(".")[1] if "." in name else "__init__" for name in imports(path) if name.split(".")[0] == "cnnbench"
    }
    here = place(path)
    assert {room for room in own - {here} if FLOOR[room] >= FLOOR[here]} == set()


def test_no_file_imports_itself_through_others():
    modules = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        found = all_names(path)
        graph[module] = modules.keys() & (found | {name.rpartition(".")[0] for name in found})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_command_line_sees_hydra(path):
    if place(path) != "cli":
        assert not {name for name in imports(path) if name.split(".")[0] in ("hydra", "typer")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable(path):
    assert path.stem not in ("utils", "helpers", "common")
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_stay_readable(path):
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef)]
    for node in functions:
        given = [one for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
        given += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
        assert node.end_lineno - node.lineno < 60, node.name
        assert len(given) <= 8, node.name


def test_results_and_report_need_no_torch():
    code = "import sys, cnnbench.report.writing, cnnbench.runs.figures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_watches_over_a_sweep_needs_no_torch():
    code = "import sys, cnnbench.cli.train, cnnbench.cli.sweep.launchers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_mutant_fits_the_source_as_it_is():
    for mutant in list_mutants():
        text = (SOURCE / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.removed


# What comments name of Python, of other libraries, and as examples.
FOREIGN = {"add_hparams", "affine_grid", "exec", "f1_score", "seg_test", "seg_train"}


def split_prose(path) -> tuple[str, set[str]]:
    """The comments and docstrings of a file, and every word of its code."""
    text = path.read_text()
    bodies = [node.body for node in ast.walk(ast.parse(text)) if isinstance(getattr(node, "body", None), list)]
    docstrings = {body[0].lineno for body in bodies if body and isinstance(body[0], ast.Expr)}
    prose, words = [], set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.start[0] in docstrings):
            prose.append(token.string)
        else:
            words |= set(re.findall(r"\w+", token.string))
    return "\n".join(prose), words


def test_comments_and_docstrings_name_only_what_exists():
    configs = [path for kind in ("yaml", "j2") for path in SOURCE.rglob(f"*.{kind}")]
    known = {word for path in configs for word in re.findall(r"\w+", path.read_text())} | FOREIGN
    known |= {part for path in (*FILES, *configs) for part in path.relative_to(SOURCE.parent).with_suffix("").parts}
    split = {path: split_prose(path) for path in FILES}
    known = known.union(*(words for _, words in split.values()))
    unknown = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path, (prose, _) in split.items()
        for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*?\))?`", prose)
        if not set(name.split(".")) <= known
    }
    assert unknown == set()

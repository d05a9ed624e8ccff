"""The import table of DESIGN.md, read from the source."""

import ast
import subprocess
import sys

import pytest
from mutants import listed

from conftest import ROOT

SOURCE = ROOT / "src" / "cnnbench"
BASE = {"registry", "reproducibility", "results", "text", "regular_files", "plain_files", "run_checks"}
BASE |= {"written_files", "whole_files", "interruption"}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli", "interruption"},
    "registry": set(),
    "reproducibility": {"__init__"},
    "text": set(),
    "whole_files": set(),
    "interruption": set(),
    "regular_files": {"text"},
    "plain_files": {"regular_files", "text"},
    "run_checks": {"plain_files"},
    "written_files": {"plain_files", "run_checks", "text", "whole_files"},
    "results": {"written_files", "plain_files", "regular_files", "run_checks", "text", "whole_files"},
    "typed": {"registry"},
    "config": {"registry", "typed", "config_checks"},
    "config_checks": {"registry", "config"},
    "key_types": {"config"},
    "data": BASE | {"processors"},
    "models": BASE,
    "metrics": BASE,
    "trackers": BASE,
    "training": BASE | {"metrics", "trackers"},
    "analysis": BASE | {"metrics"},
    "report": {"__init__", "metrics", "registry", "results", "text", "plain_files", "whole_files", "interruption"},
    "record": BASE | {"data", "metrics", "training", "report"},
    "parts": BASE | {"processors", "config", "data", "models", "training", "trackers", "analysis"},
    "run_data": BASE | {"data"},
    "resume": {"config", "key_types", "registry", "training"},
    "lifetime": BASE | {"config", "exhaustion", "training"},
    "exhaustion": {"config", "results"},
    "loaded": BASE | {"config", "data", "processors"},
    "job": BASE | {"config", "data", "training", "trackers", "parts", "record", "resume", "lifetime", "run_data"},
    "tuning": BASE | {"config", "data", "training", "job", "registry", "typed", "interruption", "whole_files"},
    "trained": BASE | {"loaded", "config", "data", "training", "parts"},
    "evaluation": BASE | {"config", "data", "training", "record", "parts", "trained", "run_data"},
    "prediction": BASE | {"data", "training", "trained"},
    "processors": set(),
    "sweep": {
        "processors",
        "config",
        "results",
        "whole_files",
        "regular_files",
        "interruption",
        "parts",
        "job",
        "record",
        "report",
        "text",
    },
    "cli": BASE
    | {"__init__", "config", "data", "models", "metrics", "training", "analysis", "report"}
    | {"loaded", "parts", "job", "evaluation", "prediction", "resume", "tuning", "typed", "sweep", "processors"}
    | {"key_types", "lifetime"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def place(path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = f"{node.module}." if node.module == "cnnbench" else ""
            found |= {f"{inner}{alias.name}" if inner else str(node.module) for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_design_table(path):
    own = {
        name.split(".")[1] if "." in name else "__init__" for name in imports(path) if name.split(".")[0] == "cnnbench"
    }
    assert own <= ALLOWED[place(path)] | {place(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_command_line_sees_hydra(path):
    if place(path) != "cli":
        assert not {name for name in imports(path) if name.split(".")[0] in ("hydra", "typer")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable(path):
    assert path.stem not in ("utils", "helpers", "common")
    assert len(path.read_text().splitlines()) <= 320


def test_results_and_report_need_no_torch():
    code = "import sys\nfrom cnnbench.report import figures, page, writing\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_watches_over_a_sweep_needs_no_torch():
    code = "import sys, cnnbench.cli.train, cnnbench.cli.launchers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_mutant_fits_the_source_as_it_is():
    for mutant in listed():
        text = (SOURCE / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.removed

"""Mutation testing: remove each saved field and each safety call, one at a time: `make mutants`.

    python tests/faults/mutants.py [--only TEXT…] [--unchecked] [--json FILE]

A mutant is a small edit of the source, listed in `mutants.toml`. It is applied to a copy, where one of the tests that
are named with it must fail; a mutant that passes them all survives. Before, the same tests must pass without a mutant.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "configs", "tests", "benchmarks", "pyproject.toml", "README.md")
PATIENCE = 900  # seconds
LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Mutant:
    """An edit that removes one thing.

    Attributes:
        removed: what it removes, in words.
        file: below `src/cnnbench`.
        old, new: text that occurs there once, and its replacement.
        tests: one of them must fail.
    """

    removed: str
    file: str
    old: str
    new: str
    tests: list[str]


def list_mutants() -> list[Mutant]:
    """The mutants of `mutants.toml`, saved fields before safety calls."""
    groups = tomllib.loads(LIST.read_text())
    return [Mutant(**entry) for name in ("field", "safety") for entry in groups[name]]


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[bool, str]:
    """Run tests in a copy; returns whether they pass, and the name of the first one that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as pytest:  # fmt: skip
        try:
            out, _ = pytest.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(pytest.pid, signal.SIGKILL)
            return False, "it does not end"
    first = re.search(r"^(?:FAILED|ERROR) \S+?::(\w+)", out, re.MULTILINE)
    if pytest.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {pytest.returncode}: {out[-1000:]}")
    if not pytest.returncode and not re.search(r"\b\d+ passed\b", out):  # or a skip would look like a surviving mutant
        raise RuntimeError(f"no test ran, all were skipped: {out[-1000:]}")
    return not pytest.returncode, first.group(1) if first else ""


def find_noticing_test(copy: Path, mutant: Mutant) -> str:
    """The name of the test that notices a mutant; empty if none does.

    Raises:
        ValueError: the text to replace does not occur exactly once.
    """
    path = copy / "src/cnnbench" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.removed}: {mutant.old!r} occurs {text.count(mutant.old)} times in {mutant.file}")
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        return run_tests(copy, mutant.tests)[1]
    finally:
        path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="mutants whose name contains one of these")
    parser.add_argument("--json", type=Path, help="a file for the test that noticed each mutant")
    parser.add_argument("--unchecked", action="store_true", help="skip the run of the tests without a mutant")
    options = parser.parse_args()
    began, found = time.monotonic(), {}
    mutants = [mutant for mutant in list_mutants() if any(text in mutant.removed for text in options.only)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        passed, first = (True, "") if options.unchecked else run_tests(copy, tests)
        if not passed:
            raise SystemExit(f"{first} fails without a mutant")
        print("| removed | in | noticed by |\n| --- | --- | --- |")
        for mutant in mutants:
            found[mutant.removed] = find_noticing_test(copy, mutant)
            noticed = f"`{found[mutant.removed]}`" if found[mutant.removed] else "**no test**"
            print(f"| {mutant.removed} | `{mutant.file}` | {noticed} |", flush=True)
    survivors = [removed for removed, test in found.items() if not test]
    print(f"{len(found) - len(survivors)} of {len(found)} noticed, in {(time.monotonic() - began) / 60:.0f} minutes")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(bool(survivors))


if __name__ == "__main__":
    main()

"""Do the tests bite? Each saved field and each safety call is removed, one at a time: `make mutants`.

    python tests/faults/mutants.py [--only TEXT…] [--unchecked] [--json FILE]

A mutant is a small edit of the source, listed in `mutants.toml` and made in a copy. The tests named with it run there
and must fail; one that passes them all survives, which means that nobody would notice. First the same tests run on the
copy as it is, and must pass.
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
        removed: what is gone.
        file: below `src/cnnbench`.
        old, new: `old` stands there once.
        tests: those that are to notice.
    """

    removed: str
    file: str
    old: str
    new: str
    tests: list[str]


def listed() -> list[Mutant]:
    """Those of `mutants.toml`, saved fields before safety calls."""
    groups = tomllib.loads(LIST.read_text())
    return [Mutant(**entry) for name in ("field", "safety") for entry in groups[name]]


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[bool, str]:
    """Whether tests pass in a copy, and the first that does not."""
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
    return not pytest.returncode, first.group(1) if first else ""


def killed_by(copy: Path, mutant: Mutant) -> str:
    """The test that notices a mutant; empty where none does.

    Raises:
        ValueError: the text to replace does not stand in the source once.
    """
    path = copy / "src/cnnbench" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.removed}: {mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}")
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        return run_tests(copy, mutant.tests)[1]
    finally:
        path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="mutants whose name holds one of these")
    parser.add_argument("--json", type=Path, help="where to write which test noticed which")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without a mutant first")
    asked = parser.parse_args()
    began, found = time.monotonic(), {}
    mutants = [mutant for mutant in listed() if any(text in mutant.removed for text in asked.only)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        passed, first = (True, "") if asked.unchecked else run_tests(copy, tests)
        if not passed:
            raise SystemExit(f"without a mutant, {first} fails already")
        print("| removed | in | noticed by |\n| --- | --- | --- |")
        for mutant in mutants:
            found[mutant.removed] = killed_by(copy, mutant)
            noticed = f"`{found[mutant.removed]}`" if found[mutant.removed] else "**nobody**"
            print(f"| {mutant.removed} | `{mutant.file}` | {noticed} |", flush=True)
    survivors = [removed for removed, test in found.items() if not test]
    print(f"{len(found) - len(survivors)} of {len(found)} noticed, in {(time.monotonic() - began) / 60:.0f} minutes")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(bool(survivors))


if __name__ == "__main__":
    main()

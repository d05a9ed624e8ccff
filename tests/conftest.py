"""Fixtures: real data where it is at hand, a real process for the command line, small configs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from cnnbench.runs.folder import RunFolder
from cnnbench.training import checkpoint
from faults import NoCompiler, Server

os.environ["OMP_NUM_THREADS"] = "1"  # two test workers on two cores; processes started by tests inherit it
torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
# The machine is shared: how long an example takes says nothing about the code.
settings.register_profile("cnnbench", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cnnbench")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def same_random_numbers_each_time() -> None:
    """A test that draws weights or images draws the same ones in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder that holds MNIST, named by CNNBENCH_DATA."""
    root = os.environ.get("CNNBENCH_DATA", "")
    if not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("needs MNIST: set CNNBENCH_DATA to a folder that holds MNIST/raw")
    return root


@pytest.fixture(scope="session")
def report_pages(tmp_path_factory: pytest.TempPathFactory):
    """The pages of three sweeps by name, as files, and their studies; see `run_copies.study_pages`."""
    from run_copies import study_pages

    return study_pages(tmp_path_factory.mktemp("report"))


@pytest.fixture
def cnnbench(tmp_path: Path) -> Run:
    """Runs the command line as a process of its own, in an empty folder."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "CNNBENCH_DATA"} | environment
        command = [sys.executable, "-m", "cnnbench", *arguments]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def faults() -> Iterator[Server]:
    """Runs commands that are killed, or whose calls fail, at a moment of one's choice."""
    try:
        server = Server()
    except NoCompiler as error:
        pytest.skip(str(error))
    with server:
        yield server


def without_times(path: Path) -> list[dict[str, object]]:
    """A run's metrics without what differs between two runs of the same command."""
    times = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in RunFolder(path).read_metrics()]


def assert_same_tensors(first: Path, second: Path, name: str = "last") -> None:
    """Two runs have the same weights, optimizer state, averages and generators, to the bit."""
    (left, _), (right, _) = (checkpoint.load(path / "checkpoints", name) for path in (first, second))
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key

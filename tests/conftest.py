"""Fixtures: real data where it is at hand, a real process for the command line, small configs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import to_dict
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.server import JobServer
from cnnbench.training import checkpoint
from faults import NoCompiler, Server

os.environ["OMP_NUM_THREADS"] = "1"  # two test workers on two cores; processes started by tests inherit it
torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
# The machine is shared: how long an example takes says nothing about the code. Each run draws other examples.
settings.register_profile("cnnbench", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
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
def fresh_cnnbench(tmp_path: Path) -> Run:
    """Runs the command line in an empty folder, in a new interpreter: seconds of imports, like a user's."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cnnbench", *arguments]
        env = make_environment(environment)
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def cnnbench(command_server: Server | None, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Runs the command line in an empty folder, in a process forked from one that has imported everything."""
    if command_server is None:
        return request.getfixturevalue("fresh_cnnbench")

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        ended = command_server.run(*arguments, cwd=cwd, environment=make_environment(environment), killed_after=300)
        return subprocess.CompletedProcess(arguments, ended.code, ended.out, ended.err)

    return run


@pytest.fixture
def begin(cnnbench: Run) -> Iterator[Callable[..., Future[subprocess.CompletedProcess[str]]]]:
    """Runs a command beside the test, which watches its files and signals it; its result is that of `cnnbench`."""
    with ThreadPoolExecutor() as threads:
        yield partial(threads.submit, cnnbench)


def wait_until(is_done: Callable[[], bool], begun: Future[subprocess.CompletedProcess[str]]) -> None:
    """Wait for something that a command does; it must not end before."""
    while not is_done():
        assert not begun.done(), begun.result()
        time.sleep(0.01)


def is_gone(process: int, *, reaped: bool = False) -> bool:
    """Whether a process ends within ten seconds and, if required, its parent has taken note of it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z" and not reaped:
            return True
        time.sleep(0.02)
    return False


def find_parent(process: int) -> int:
    """The process that started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def make_environment(changes: dict[str, str]) -> dict[str, str]:
    """The variables of a command that knows no folder of data unless a test names it."""
    return {key: value for key, value in os.environ.items() if key != "CNNBENCH_DATA"} | changes


@pytest.fixture(scope="session")
def command_server() -> Iterator[Server | None]:
    """The process that commands are forked from; None without a C compiler."""
    try:
        server = Server()
    except NoCompiler:
        yield None
        return
    with server:
        yield server


@pytest.fixture(scope="session")
def faults(command_server: Server | None) -> Server:
    """Runs commands that are killed, or whose calls fail, at a moment of one's choice."""
    if command_server is None:
        pytest.skip("faults.c needs a C compiler (cc, gcc or clang), and there is none on the path")
    return command_server


@pytest.fixture(scope="session")
def job_server() -> Iterator[JobServer]:
    """A sweep's server, which takes four seconds of processor time to start, for tests that do it no harm."""
    with JobServer() as server:
        (check,) = server.check([to_dict(compose_config(["model=mlp"]))])
        assert check.need.threads == 1
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

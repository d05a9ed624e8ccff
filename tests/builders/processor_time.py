"""What each test costs in seconds of processor time, with the processes that it started: `make test-times`.

Unlike its duration, this hardly depends on what else the machine does.
"""

import os
import resource
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TICK = os.sysconf("SC_CLK_TCK")
NAME = "processor_seconds"
SHOWN = 60  # tests


class ProcessorTime:
    """Measures tests in the processes that run them, and adds up in the one that reports."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.tests: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Begin with what the fixtures of the test take."""
        self.begun = measure()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        """Give the figure to the last report of a test."""
        if call.when == "teardown":
            item.user_properties.append((NAME, measure() - self.begun))
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the figures of all processes."""
        if report.when == "teardown":
            # Cases of one test count together.
            self.tests[report.nodeid.partition("[")[0]] += dict(report.user_properties).get(NAME, 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the files, and the tests that cost most."""
        files: dict[str, float] = defaultdict(float)
        for test, seconds in self.tests.items():
            files[test.partition("::")[0]] += seconds
        terminalreporter.section(f"processor time: {sum(files.values()):.0f} s")
        for costs in (files, dict(sorted(self.tests.items(), key=lambda one: -one[1])[:SHOWN])):
            for name, seconds in sorted(costs.items(), key=lambda one: -one[1]):
                terminalreporter.write_line(f"{seconds:7.1f}  {name}")
            terminalreporter.write_line("")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in this process."""
    config.pluginmanager.register(ProcessorTime())


def measure() -> float:
    """The processor time of this process and its children, those that run included."""
    ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in ended) + _measure_running(os.getpid())


def _measure_running(process: int) -> float:
    total = 0.0
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in file.read_text().split():
            try:
                # After the name, which stands in brackets and may hold anything.
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / TICK + _measure_running(int(child))
            except OSError:
                pass  # it has ended
    return total

"""A run that becomes slow, or starts beside a busy program, says so once; one interrupted for a moment does not."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from cnnbench.processes.cores import count_processors, measure_use
from cnnbench.training import pace as pace_module
from cnnbench.training.pace import Pace

SPIN = [sys.executable, "-c", "while True: pass"]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who uses the processors")


def run_epochs(pace, seconds_per_step, steps=65):
    """Epochs of so many steps, checked at the first step and at the end, as training does."""
    for seconds in seconds_per_step:
        pace.check(1, 10.0)  # whatever the first step takes
        pace.check(steps, 10.0 + (steps - 1) * seconds)


@pytest.mark.parametrize(
    ("later", "messages"), [([0.02] * 8, 0), ([0.05] * 4, 1), ([0.05] * 40, 1), ([0.05] * 2 + [0.01] * 20, 0)]
)
def test_a_run_whose_steps_stay_more_than_three_times_slower_says_so_once(later, messages, caplog):
    with caplog.at_level(logging.WARNING, "cnnbench"):
        run_epochs(Pace(2), [0.01] * 4 + later)
    assert len(caplog.messages) == messages
    assert all("5.0 times as long" in text and "trainer.threads=1" in text for text in caplog.messages)


@ON_LINUX
@pytest.mark.parametrize("threads", [1, count_processors()])
def test_a_run_of_several_threads_that_starts_beside_a_busy_program_says_so_once(threads, caplog, monkeypatch):
    monkeypatch.setattr(pace_module, "BEGINNING", 0.3)
    command = ["sh", "-c", '"$@" > /dev/null & echo $!', "sh", *SPIN]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    try:  # the shell has ended, so that the program is none that this process started
        pace = Pace(threads)
        with caplog.at_level(logging.WARNING, "cnnbench"):
            for _ in range(10):
                pace.check(0, 0.0)
                time.sleep(0.05)
    finally:
        os.kill(int(started.stdout), signal.SIGKILL)
    assert len(caplog.messages) == (threads > 1)
    assert all("other programs take" in text and "trainer.threads=1" in text for text in caplog.messages)


@ON_LINUX
def test_the_time_of_processes_that_this_one_started_is_its_own():
    before, least = measure_use(), measure_use()[1] + 0.2
    with subprocess.Popen(SPIN) as started:
        while (now := measure_use())[1] < least:
            time.sleep(0.05)
        started.kill()
    assert now[0] - before[0] >= 0.1
    assert measure_use()[1] >= now[1]  # also after they have ended

"""A run that becomes slow says so once; one that is interrupted for a moment does not."""

import logging

import pytest
import torch

from cnnbench.training.pace import Pace


def run_epochs(pace, seconds_per_step, steps=65):
    """Epochs of so many steps, checked at the first step and at the end, as training does."""
    for seconds in seconds_per_step:
        pace.check(1, 10.0)  # whatever the first step takes
        pace.check(steps, 10.0 + (steps - 1) * seconds)


@pytest.mark.parametrize(
    ("later", "messages"), [([0.02] * 8, 0), ([0.05] * 4, 1), ([0.05] * 40, 1), ([0.05] * 2 + [0.01] * 20, 0)]
)
def test_a_run_whose_steps_stay_more_than_three_times_slower_says_so_once(later, messages, caplog, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with caplog.at_level(logging.WARNING, "cnnbench"):
        run_epochs(Pace(), [0.01] * 4 + later)
    assert len(caplog.messages) == messages
    assert all("5.0 times as long" in text and "trainer.threads=1" in text for text in caplog.messages)

"""Runs that differ only in their seeds, trained by one step: their weights are stacked, and `torch.func.vmap` maps the
network over them.

Each run keeps its own weights, order of images, augmentation and noise. No operation adds up values of two runs, and
the height of a stack is fixed, or at least two where that is enough. Therefore a run has the same bits whichever runs
are trained beside it. They differ from those of the run alone by rounding.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from cnnbench.processes import signals
from cnnbench.reproducibility import seed_model_noise
from cnnbench.training.epoch import CHECK_EVERY, TrainingPass
from cnnbench.training.graph import set_lr
from cnnbench.training.progress import Diverged, Progress
from cnnbench.training.stack import Stack


def train_together(passes: Sequence[TrainingPass]) -> Iterator[dict[str, float] | Diverged]:
    """Train the same epoch of several runs, each from the same step of it.

    Yields:
        For each run in turn what `TrainingPass.run` returns, or the error that ends the run.

    Raises:
        KeyboardInterrupt, Terminated: by a signal, between two steps; `save_all` then saves the runs.
    """
    first = passes[0]
    state, epoch = first.state, first.epoch
    stack = Stack([each.state for each in passes])
    losses, correct = _stack_progress([each.state.progress for each in passes])
    start, (_, steps) = state.progress.steps, losses.shape
    served = [each.batches.iterate_epoch(epoch, start) for each in passes]
    clock, saved = time.perf_counter(), time.monotonic()
    before = state.progress.seconds
    for number in range(start, steps):
        set_lr(stack.optimizer, first.settings.lr * first.schedule(epoch * steps + number))
        keys = [each.make_key(number) for each in passes]
        loss, counted = stack.step([next(batches) for batches in served], keys, epoch * steps + number)
        losses[:, number] = loss
        if correct is not None and counted is not None:
            correct += counted
        for each in passes:
            each.state.progress.steps = number + 1
            each.state.progress.seconds = before + (time.perf_counter() - clock) / len(passes)  # its share of the time
        minutes = first.settings.checkpoint_minutes
        due = minutes is not None and time.monotonic() - saved > 60 * minutes
        if due or signals.is_requested():
            stack.scatter()  # before the check, because the caller saves the runs when it raises
            signals.check()
            save_all(passes)
            saved = time.monotonic()
            signals.confirm_save()
        if number % CHECK_EVERY == 0 and not bool(losses[:, : number + 1].isfinite().any(0).all()):
            break  # all runs have diverged
    for batches in served:
        next(batches, None)  # lets the loader finish
    stack.scatter()
    for each in passes:
        # The caller validates this run next; its model may draw as if no other run had been trained.
        _restore_noise(each)
        try:
            each.state.progress.check_losses(epoch)
            yield each.state.progress.summarize()
        except Diverged as error:
            yield error


def save_all(passes: Iterable[TrainingPass]) -> None:
    """Save each run at its current step, except those that have diverged, whose earlier checkpoint is kept."""
    for each in passes:
        _restore_noise(each)
        try:
            each.state.save()
        except Diverged:
            continue  # it is reported at the end of the epoch


def _restore_noise(request: TrainingPass) -> None:
    if steps := request.state.progress.steps:
        seed_model_noise(request.make_key(steps - 1), request.state.device)


def _stack_progress(several: Sequence[Progress]) -> tuple[Tensor, Tensor | None]:
    """The losses of several runs, (runs, steps), and correct predictions, (runs,); those of each run become views."""
    losses = torch.stack([each.losses for each in several])
    counts = [each.correct for each in several if each.correct is not None]
    correct = torch.stack(counts) if counts else None
    for number, each in enumerate(several):
        each.losses = losses[number]
        if correct is not None:
            each.correct = correct[number]
    return losses, correct

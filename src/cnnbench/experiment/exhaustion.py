"""What to do when memory or disk space runs out."""

from pathlib import Path

import torch

from cnnbench.config.schema import Config
from cnnbench.runs.folder import format_resume_command
from cnnbench.storage.atomic import NO_SPACE


class OutOfMemory(RuntimeError):
    """There was not enough memory for the requested batches."""


def explain_exhaustion(error: Exception, folder: Path, config: Config) -> Exception:
    """Return the error or, if memory or disk space ran out, one that says what to lower or to free."""
    if is_out_of_memory(error):
        trainer = config.trainer
        detail = str(error).strip().partition("\n")[0][:200]
        return OutOfMemory(
            f"not enough memory for trainer.batch_size={trainer.batch_size} (training) and "
            f"trainer.eval_batch_size={trainer.eval_batch_size} (evaluation): lower them, "
            f"model.width={config.model.width:g} or data.image_size; "
            f"trainer.accumulate=N makes one step of N small batches{f' ({detail})' if detail else ''}"
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = f"{error.filename}: " if error.filename else ""
        command = format_resume_command("train", folder)
        help_ = f"What was saved before is intact: free some space, then resume with: {command}"
        return OSError(error.errno, f"{where}{error.strerror}. {help_}")
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator, and CUDA outside torch's allocator, raise a plain RuntimeError; only its text tells.
    words = (
        *("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc"),
        *("CUDA error: out of memory", "STATUS_ALLOC_FAILED"),
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)

"""The device of a run, and the precision it can compute in there."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch

from cnnbench.processes.cores import count_processors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The torch device of a `trainer.device`; `auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: this machine does not have the device; the message lists those that it has.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda:0" if cuda else "mps" if mps else "cpu")
    present = ["cpu", *(f"cuda:{number}" for number in range(cuda)), *(["mps"] if mps else [])]
    chosen = "cuda:0" if name == "cuda" else name
    if chosen not in present:
        raise ValueError(
            f"trainer.device={name}: this machine has no such device. Use one of auto, {', '.join(present)}"
        )
    return torch.device(chosen)


def check_devices(first: torch.device, count: int) -> None:
    """Check that a run can use this many devices.

    Raises:
        ValueError: this machine has fewer, or there is only one of the kind; the message says what is accepted.
    """
    if count == 1:
        return
    if first.type == "mps":
        raise ValueError(f"trainer.devices={count}: there is one MPS device. Use 1, or trainer.device=cpu")
    if first.index:
        raise ValueError(
            f"trainer.devices={count} uses cuda:0 to cuda:{count - 1}, but trainer.device={first} names one "
            "card: use trainer.device=cuda"
        )
    here = torch.cuda.device_count() if first.type == "cuda" else count_processors()
    if count > here:
        kind = "GPU" if first.type == "cuda" else "core"
        raise ValueError(
            f"trainer.devices={count}: this machine has {here} {kind}{'s' if here > 1 else ''} to use. "
            f"It must be from 1 to {here}"
        )


def make_autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """A function that makes the context of a forward pass: mixed precision for bf16 and fp16, nothing for fp32.

    Raises:
        ValueError: fp16 on anything but CUDA.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(f"trainer.precision=fp16 needs trainer.device=cuda; on {device.type} use fp32 or bf16")
    enabled = precision != "fp32"
    dtype = DTYPES[precision] if enabled else torch.bfloat16
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled)

"""The device of a run, and the precision it can compute in there."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch

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
    device = torch.device(name)
    missing = device.type == "cuda" and (device.index or 0) >= cuda
    if missing or (device.type == "mps" and not mps):
        here = ["auto", "cpu", *(f"cuda:{i}" for i in range(cuda)), *(["mps"] if mps else [])]
        raise ValueError(f"trainer.device={name}: this machine has no such device. Use one of {', '.join(here)}")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


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

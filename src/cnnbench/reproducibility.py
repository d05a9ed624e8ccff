"""Randomness as a pure function, deterministic switches, and a record of the environment.

Every random draw has a generator that is keyed by (seed, purpose, epoch, step). Nothing depends on how far another
generator has run, so a resumed run, another number of workers and a single batch agree to the bit.
"""

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from threadpoolctl import threadpool_limits

# Entries of `describe_environment` that the last bits of a sum depend on; on those of the GPU, only if it computes.
DECIDES_BITS = {"torch": "torch", "cpu_capability": "processor features", "torch_threads": "threads"}
DECIDES_TRAINING = {"cnnbench": "cnnbench", "torchvision": "torchvision"}
DECIDES_BITS_ON_GPU = {"cuda": "CUDA", "gpus": "GPUs"}
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_is_guest: ContextVar[bool] = ContextVar("_is_guest", default=False)


def derive_key(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit number that depends on all of its arguments and on nothing else.

    Args:
        seed: the run's seed.
        purpose: what the draw is for, such as `"shuffle"`; two purposes never share a stream.
        position: where the draw stands, such as the epoch and the step.
    """
    text = f"{seed}/{purpose}/{'/'.join(map(str, position))}".encode()
    # Without its lowest bit, so that it also fits into torch's signed 64-bit integers.
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, purpose: str, *position: int) -> torch.Generator:
    """A CPU generator seeded with `derive_key(seed, purpose, *position)`."""
    return torch.Generator().manual_seed(derive_key(seed, purpose, *position))


def seed_model_noise(value: int, device: torch.device) -> None:
    """Re-seed the generator that dropout and other in-model noise draw from on `device`."""
    # `torch.manual_seed` seeds every device, but takes 150 µs a call: a fifth of an MLP's step.
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)


@contextmanager
def seed_initialisation(seed: int) -> Iterator[None]:
    """Draw the weights made inside from (seed, "init"); the caller's global generator does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_key(seed, "init"))
        yield


def set_deterministic(enabled: bool, *, compiled: bool = False) -> None:
    """Make torch and cuDNN use algorithms that give the same bits each time, or let them choose the fastest.

    On the CPU the training path is deterministic either way. An operation that has no deterministic form warns.

    Args:
        compiled: also set up torch's compiler, whose import takes more than a second.
    """
    if enabled:  # cuBLAS reads it once, when CUDA starts
        os.environ.setdefault(WORKSPACE, ":4096:8")
    if compiled:
        torch.use_deterministic_algorithms(enabled, warn_only=True)
    else:
        torch.set_deterministic_debug_mode("warn" if enabled else "default")
    # Filling new memory helps to find bugs in kernels, and costs time in every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = enabled
    torch.backends.cudnn.benchmark = not enabled


@contextmanager
def preserve_torch_settings() -> Iterator[None]:
    """Restore torch's threads, generators and deterministic switches at the end, for the program that called us."""
    cudnn, fill = torch.backends.cudnn, torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    deterministic, benchmark, workspace = cudnn.deterministic, cudnn.benchmark, os.environ.get(WORKSPACE)
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    token = _is_guest.set(True)
    try:
        with torch.random.fork_rng(devices), threadpool_limits():
            yield
    finally:
        _is_guest.reset(token)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


def use_threads(number: int) -> None:
    """Set the number of threads: torch's, also those that run operations beside each other, and numpy's."""
    torch.set_num_threads(number)
    if torch.get_num_interop_threads() != number and not _is_guest.get():  # it can be set only once in a process
        with suppress(RuntimeError):  # they are in use already, and no result depends on them
            torch.set_num_interop_threads(number)
    threadpool_limits(number, user_api="blas")


def describe_environment() -> dict[str, Any]:
    """What is needed to judge or repeat a measurement: versions, hardware, threads, command."""
    import cnnbench

    record: dict[str, Any] = {
        "cnnbench": cnnbench.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": importlib.metadata.version("torchvision"),
        "platform": platform.platform(),
        "cpu": _read_cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
    }
    if torch.cuda.is_available():
        record["cuda"] = torch.version.cuda
        record["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return record


def describe_differences(record: Mapping[str, Any], device: torch.device, *, training: bool = False) -> list[str]:
    """What differs here from a recorded environment and may change the last bits of a result computed on a device.

    Args:
        training: also list what may change how a network is trained.
    """
    here = describe_environment()
    names = DECIDES_BITS | (DECIDES_TRAINING if training else {})
    names |= DECIDES_BITS_ON_GPU if device.type == "cuda" else {}
    return [
        f"{name} {record[key]}, here {here[key]}"
        for key, name in names.items()
        if key in record and key in here and record[key] != here[key]
    ]


def _read_cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()

"""One run on several devices: gradients by torch's DistributedDataParallel, sums and batch norms over all ranks.

Rank 0 decides everything: it saves, measures and ends the run. The other ranks compute their part of each step, and
wait for rank 0 in the exchange of gradients; they keep nothing that rank 0 does not have.
"""

import inspect
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from cnnbench.processes.ranks import Rank

HERE = "127.0.0.1"
MEETS = timedelta(minutes=5)  # for the connections, once every rank has loaded its data
# Timeouts of an exchange: rank 0 may test for hours meanwhile, the others only compute. A rank that ends is noticed
# without them.
WAITS_FOR_RANK_0, WAITS_FOR_OTHERS = timedelta(days=7), timedelta(minutes=30)


class ExchangeTimedOut(RuntimeError):
    """Another rank has not taken part in an exchange for too long."""


def open_store() -> tuple[dist.TCPStore, int]:
    """A store on this machine's loopback interface, through which the ranks find one another, and its port."""
    with socket.create_server((HERE, 0)) as listener:
        _, port = listener.getsockname()
        # The store closes the descriptor that it is given.
        store = dist.TCPStore(
            HERE, port, is_master=True, wait_for_workers=False, timeout=MEETS, master_listen_fd=listener.detach()
        )
    return store, port


def join_ranks(rank: Rank, device: torch.device, *, port: int, store: dist.TCPStore | None = None) -> None:
    """Connect this process with the other ranks; returns when all have called it.

    Args:
        port: of the store.
        store: the store itself, in rank 0.
    """
    if hasattr(socket, "if_nameindex"):  # otherwise gloo takes the address of the host's name, if there is one
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = store or dist.TCPStore(HERE, port, is_master=False, timeout=MEETS)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    waits = WAITS_FOR_RANK_0 if rank.number else WAITS_FOR_OTHERS
    dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.count, timeout=waits)


def leave_ranks() -> None:
    """Close the connections without waiting for the other ranks, which may have ended."""
    if not dist.is_initialized():
        return
    if dist.get_backend() == "nccl":  # destroying would wait for the others
        abort_exchange()
    else:
        dist.destroy_process_group()


def abort_exchange() -> None:
    """End the collective that another thread waits in: NCCL does not notice that a rank has ended, unlike gloo."""
    dist.distributed_c10d._abort_process_group()


@contextmanager
def notice_timeout() -> Iterator[None]:
    """Raise ExchangeTimedOut for an exchange inside that timed out."""
    started = time.monotonic()
    try:
        yield
    except RuntimeError as error:
        # gloo raises the same error for an exchange that failed, so only the time distinguishes them.
        if time.monotonic() - started < WAITS_FOR_OTHERS.total_seconds():
            raise
        raise ExchangeTimedOut(str(error)) from error


def wait_for_ranks() -> None:
    """Return when every rank has called this."""
    dist.barrier()


def distribute(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients that are means over the ranks, starting with the weights of rank 0."""
    _synchronise_norms(model, device)
    # Synchronised norms keep the same buffers on every rank. Newer versions of torch have another name for the option.
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {option: False, "device_ids": [device] if device.type == "cuda" else None}
    return DistributedDataParallel(model, **options)


def sum_over_ranks(values: Sequence[Tensor | float | None], device: torch.device) -> list[Any]:
    """The sum of each value over all ranks, as tensors, () of the same type; None stays None."""
    # One message for all of them: each costs as long as a small step.
    given = [torch.as_tensor(value, device=device) for value in values if value is not None]
    summed = torch.stack([value.double() for value in given])
    dist.all_reduce(summed)
    sums = iter([total.to(value.dtype) for total, value in zip(summed, given, strict=True)])
    return [None if value is None else next(sums) for value in values]


def _synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Let batch norms use the images of all ranks; parameters, buffers and their names stay."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                if device.type == "cuda":
                    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(child)
                else:
                    synchronised = SynchronisedNorm(child)
                setattr(module, name, synchronised)


class SynchronisedNorm(_BatchNorm):
    """A batch norm over the images of all ranks on the CPU, where torch's SyncBatchNorm does not run.

    Args:
        norm: the batch norm whose parameters and buffers it takes over.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # torch's base class calls it; both images and signals are accepted

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) to the same shape; a rank's part of a batch may be empty."""
        if not self.training:
            return super().forward(x)
        over = [0, *range(2, x.dim())]
        per_channel = (1, -1, *[1] * (x.dim() - 2))
        values = x.float()  # as torch's own norms: sums in bf16 would be coarse
        count = values.new_tensor([values.numel() / self.num_features])
        sums = _SumOverRanks.apply(torch.cat([values.sum(over), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean.view(per_channel)
        variance = _SumOverRanks.apply(centred.square().sum(over)) / count
        # Running statistics take the unbiased variance, as torch's do.
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return torch.addcmul(self.bias.view(per_channel), centred, scale.view(per_channel)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _SumOverRanks(torch.autograd.Function):
    """The sum over all ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Also a sum, because each rank's loss is a part of the whole.
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return summed

"""The keys of training: the optimizer, its schedule, and the loop."""

from typing import Annotated, Literal

from pydantic import Field

from cnnbench.config.keys import PartSection, Section, key
from cnnbench.config.value_types import Rates
from cnnbench.processes.cores import MOST_THREADS


class OptimizerConfig(PartSection):
    """The optimizer."""

    name: str = key("The optimizer", "adam")
    lr: float = key("Learning rate", 1e-3, gt=0)
    weight_decay: float = key("Weight decay", 0.0, ge=0)
    decay_bias_and_norm: bool = key("Apply weight decay to biases and norms too", False)
    rates: Rates = key(
        "Factors of the learning rate of parts of the network, by module path or glob; the longest that matches counts",
        {},
        accepted="module paths or globs with numbers above 0, up to 1,000, such as {features: 0.1}",
    )


class SchedulerConfig(PartSection):
    """The schedule of the learning rate, by batch."""

    name: str = key("The schedule of the learning rate", "constant")
    warmup_epochs: float = key("Epochs of linear warm-up of the learning rate", 0.0, ge=0)


class TrainerConfig(Section):
    """How long, how, and on which device to train."""

    # The limit keeps metrics.csv readable. More epochs continue the same run if the schedule does not depend on them.
    epochs: int = key("Passes over the training images", 20, ge=1, le=100_000, may_change=True)
    batch_size: int = key("Images per batch", 64, ge=1)
    accumulate: int = key("Batches per step (gradient accumulation): a larger batch in the same memory", 1, ge=1)
    # Without gradients, larger batches fit into the same memory.
    eval_batch_size: int = key("Images per batch in validation and test", 1000, ge=1)
    # Another device, or compiled code, rounds differently. But an interrupted run may have to continue elsewhere.
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = key(
        "Device to train on", "auto", may_change=True, accepted="auto, cpu, cuda, cuda:N or mps"
    )
    devices: int = key("GPUs, or processes on the CPU, that share each batch", 1, ge=1, le=64, may_change=True)
    precision: Literal["fp32", "bf16", "fp16"] = key("Number format of the forward pass", "fp32")
    # The number of threads that share a sum changes its last bits.
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | Literal["auto"] = key(
        "Threads of torch on each device; auto: one per 100 million multiply-accumulates of a batch there", "auto"
    )
    deterministic: bool = key("Use deterministic algorithms only", True)
    compile: bool = key("Compile the model with torch.compile", False, may_change=True)
    # A result key, because the graph keeps the learning rate as float32, which rounds differently.
    graph: bool = key("Replay the training step as a CUDA graph, which launches it at once", False, may_change=True)
    channels_last: bool = key("Keep images and filters in channels-last memory order", True)
    label_smoothing: float = key("Share of each label that is spread over all classes", 0.0, ge=0, lt=1)
    clip_norm: float | None = key("Largest L2 norm of all gradients together", None, gt=0)
    monitor: Literal["val/loss", "val/accuracy", "val/f1_macro"] | None = key(
        "The metric that chooses the best epoch; null: val/accuracy, or val/loss without classes", None
    )
    patience: int | None = key("Stop after this many epochs without a better monitor", None, ge=1)
    ema: float | None = key(
        "Decay of a moving average of the weights, which is then validated and tested", None, gt=0, lt=1
    )
    checkpoint_minutes: float | None = key(
        "Also save this often within an epoch; null: after each epoch only", None, gt=0, role="control"
    )
    keep: int = key("Checkpoints of past epochs to keep beside last and best", 0, ge=0, role="control")
    # A timer of Python takes at most 292 years.
    timeout_minutes: float | None = key(
        "Stop a job of a sweep that takes longer than this; it counts as failed", None, gt=0, le=10**6, role="control"
    )

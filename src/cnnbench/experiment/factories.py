"""Make parts of a run from its config: its network, the augmentation and the batches of its images, the schedule."""

import math

import torch
from torch import nn

from cnnbench.analysis import summarize
from cnnbench.config.data import AugmentConfig
from cnnbench.config.schema import Config
from cnnbench.config.trainer import SchedulerConfig
from cnnbench.data import (
    Augmentation,
    Batches,
    Change,
    Dataset,
    DatasetInfo,
    RegisteredAugmentation,
    Split,
    find_transform,
)
from cnnbench.models import NetworkSpec, build_model
from cnnbench.processes.memory import keep_freed_memory
from cnnbench.registry import describe_unknown
from cnnbench.training.optim import Schedule, build_schedule


def make_model(config: Config, info: DatasetInfo, device: str = "cpu") -> nn.Module:
    """The config's model, fitted to the data's channels, size and classes.

    Raises:
        ValueError: an unknown model or option, or data it cannot take.
    """
    model = config.model
    return build_model(
        model.name,
        make_spec(config, info),
        init=model.init,
        init_std=model.init_std,
        options=model.options,
        seed=config.all_seeds.init,
        device=device,
    )


def make_spec(config: Config, info: DatasetInfo) -> NetworkSpec:
    """The arguments of the config's model that all families share."""
    model = config.model
    return NetworkSpec(
        info.in_channels, info.size, info.num_classes, model.width, model.depth, model.activation, model.dropout
    )


def count_values(config: Config, info: DatasetInfo) -> float:
    """The number of weights and buffers of a config's model, which is not built; infinite if it is beyond 64 bits."""
    try:
        return sum(value.numel() for value in make_model(config, info, "meta").state_dict().values())
    except (RuntimeError, OverflowError):  # torch counts bytes in 64 bits
        return math.inf


def estimate_bytes_per_image(config: Config, info: DatasetInfo) -> int:
    """A lower bound for the memory of one image in a forward pass: the largest layer's output, in float32."""
    described = summarize(make_model(config, info, "meta"), info.input_shape)
    shapes = [info.input_shape, *(layer.output_shape for layer in described.layers if layer.output_shape)]
    return 4 * max(map(math.prod, shapes))


def place_model(model: nn.Module, device: torch.device, config: Config) -> nn.Module:
    """The model on a device, in the config's memory format."""
    if device.type == "cpu":
        keep_freed_memory()  # each training step needs the same blocks again
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device, memory_format=memory_format)  # type: ignore[call-overload]


def make_augmentation(config: Config, info: DatasetInfo, device: torch.device) -> Change | None:
    """The augmentation of training images; None if `augment` asks for nothing.

    Raises:
        ValueError: the data are signals, the crop is as large as the images, or an option that does not exist.
    """
    augment, seed = config.augment, config.all_seeds.augment
    transform = find_transform(augment.name, augment.options)
    unchanged = AugmentConfig(name=augment.name)
    knobs = augment.model_dump(include=AugmentConfig.model_fields.keys() - {"name"})
    changed = [f"augment.{key}={value}" for key, value in knobs.items() if value != getattr(unchanged, key)]
    if transform is None and augment.options:
        raise ValueError(describe_unknown("key in augment", next(iter(augment.options)), AugmentConfig.model_fields))
    if transform is None and not changed:
        return None
    if info.dimensions != 2:
        what = f"{changed[0]} (augment={augment.name})" if changed else f"augment={augment.name}"
        raise ValueError(f"{what} changes images, but data={config.data.name} holds signals: use augment=none")
    if augment.crop >= min(info.size):
        raise ValueError(f"augment.crop={augment.crop}: must be less than the {min(info.size)} pixels of the images")
    own = Augmentation(seed=seed, num_classes=info.num_classes, device=device, **knobs) if changed else None
    return own if transform is None else RegisteredAugmentation(augment.name, transform, own, seed)


def make_batches(
    split: Split,
    *,
    dataset: Dataset,
    config: Config,
    device: torch.device,
    shuffle: bool = False,
    change: Change | None = None,
) -> Batches:
    """A split's batches on a device: for training (shuffled, augmented) or, in order, for evaluation.

    Args:
        change: what to do to the images in an evaluation.
    """
    return Batches(
        split.to(device),
        config.trainer.batch_size if shuffle else config.trainer.eval_batch_size,
        mean=dataset.mean,
        std=dataset.std,
        shuffle_seed=config.all_seeds.order if shuffle else None,
        sampler=config.data.sampler,
        channels_last=config.trainer.channels_last,
        augmentation=make_augmentation(config, dataset.info, device) if shuffle else change,
    ).with_permuted_pixels(config.data.permute_pixels)


def make_schedule(scheduler: SchedulerConfig, epochs: int, steps_per_epoch: int) -> Schedule:
    """The factor of the learning rate at each step."""
    return build_schedule(
        scheduler.name,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=scheduler.warmup_epochs,
        options=scheduler.options,
    )

"""What every key of the config accepts: ranges and choices that need no data and no torch."""

import math
import re
from typing import Any

from cnnbench.registry import nearest

NORMALIZATIONS = ("half", "dataset", "none")
PRECISIONS = ("fp32", "bf16", "fp16")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLERS = ("uniform", "balanced")
NOT_IN_NAMES = '/\\:*?"<>|$'  # which separate folders, or which Windows or a config would read as something else
MONITORS = ("val/loss", "val/accuracy", "val/f1_macro")
# The largest values of augment's keys. Shear beyond 60 degrees and crops beyond the image leave nothing to see.
AUGMENT_LIMITS = dict.fromkeys(("flip", "shift", "erase", "brightness", "contrast"), 1)
AUGMENT_LIMITS |= {"rotate": 180, "shear": 60, "crop": 1024, "mixup": 100, "cutmix": 100}


def validate(config: Any) -> None:
    """Check every range and choice that needs no data and no torch.

    Raises:
        ValueError: names the key, the value and what is accepted.
    """
    model, data, optimizer, trainer = config.model, config.data, config.optimizer, config.trainer
    _require("seed", config.seed, 0 <= config.seed < 2**63, "a whole number from 0")
    _require(
        "name",
        config.name,
        _is_folder_name(config.name),
        f"letters, digits, blanks and signs other than {' '.join(NOT_IN_NAMES)}; no dot or blank first or last, and up "
        "to 200 bytes",
    )
    _require("model.width", model.width, 0 < model.width <= 1000, "a number above 0, up to 1000")
    _require("model.depth", model.depth, 1 <= model.depth <= 100, "a whole number from 1 to 100")
    _require("model.init_std", model.init_std, 0 < model.init_std < math.inf, "a number above 0")
    _require("model.dropout", model.dropout, 0 <= model.dropout < 1, "a number from 0 up to, not including, 1")
    accepted = "a number from 0 up to, not including, 1"
    _require("data.val_fraction", data.val_fraction, 0 <= data.val_fraction < 1, accepted)
    accepted = "a number above 0 and below 1"
    _require("data.test_fraction", data.test_fraction, 0 < data.test_fraction < 1, accepted)
    _require("data.split_seed", data.split_seed, 0 <= data.split_seed < 2**63, "a whole number from 0")
    limited = data.train_limit is None or data.train_limit >= 1
    _require("data.train_limit", data.train_limit, limited, "null or a whole number from 1")
    sides = data.image_size if isinstance(data.image_size, list | tuple) else [data.image_size] * 2
    fits = len(sides) == 2 and all(type(side) is int and 1 <= side <= 1024 for side in sides)
    accepted = "null, a whole number from 1 to 1024, or [HEIGHT, WIDTH] of such numbers"
    _require("data.image_size", data.image_size, data.image_size is None or fits, accepted)
    _choice("data.normalize", data.normalize, NORMALIZATIONS)
    _choice("data.class_weights", data.class_weights, CLASS_WEIGHTS)
    _choice("data.sampler", data.sampler, SAMPLERS)
    _validate_augment(config.augment)
    _require("optimizer.lr", optimizer.lr, 0 < optimizer.lr < math.inf, "a number above 0")
    _require(
        "optimizer.weight_decay",
        optimizer.weight_decay,
        0 <= optimizer.weight_decay < math.inf,
        "a number from 0",
    )
    _require(
        "scheduler.warmup_epochs",
        config.scheduler.warmup_epochs,
        0 <= config.scheduler.warmup_epochs <= trainer.epochs,
        "a number from 0 to trainer.epochs",
    )
    # So many rows of metrics.csv can be read again.
    _require("trainer.epochs", trainer.epochs, 1 <= trainer.epochs <= 100_000, "a whole number from 1 to 100,000")
    _require("trainer.accumulate", trainer.accumulate, trainer.accumulate >= 1, "a whole number from 1")
    _validate_checkpoints(trainer)
    seeds = config.sweep.seeds
    _require("sweep.seeds", seeds, seeds is None or seeds >= 1, "null or a whole number from 1")
    _require("trainer.batch_size", trainer.batch_size, trainer.batch_size >= 1, "a whole number from 1")
    _require(
        "trainer.eval_batch_size",
        trainer.eval_batch_size,
        trainer.eval_batch_size >= 1,
        "a whole number from 1",
    )
    _require(
        "trainer.device",
        trainer.device,
        re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", trainer.device) is not None,
        "auto, cpu, cuda, cuda:N or mps",
    )
    threads = trainer.threads
    holds = threads == "auto" or (isinstance(threads, int) and 1 <= threads <= 1024)
    _require("trainer.threads", threads, holds, "auto or a whole number from 1 to 1024")
    _choice("trainer.precision", trainer.precision, PRECISIONS)
    _require(
        "trainer.label_smoothing",
        trainer.label_smoothing,
        0 <= trainer.label_smoothing < 1,
        "a number from 0 up to, not including, 1",
    )
    _require(
        "trainer.clip_norm",
        trainer.clip_norm,
        trainer.clip_norm is None or trainer.clip_norm > 0,
        "null or a number above 0",
    )
    if trainer.monitor is not None:
        _choice("trainer.monitor", trainer.monitor, MONITORS)
    _require(
        "trainer.patience",
        trainer.patience,
        trainer.patience is None or trainer.patience >= 1,
        "null or a whole number from 1",
    )
    if trainer.patience is not None and data.val_fraction == 0:
        raise ValueError(
            f"trainer.patience={trainer.patience} needs a validation split, but data.val_fraction=0: "
            "early stopping never looks at the test set"
        )


def _validate_checkpoints(trainer: Any) -> None:
    ema, minutes, timeout = trainer.ema, trainer.checkpoint_minutes, trainer.timeout_minutes
    accepted = "null or a number above 0 and below 1"
    _require("trainer.ema", ema, ema is None or 0 < ema < 1, accepted)
    accepted = "null or a number above 0"
    _require("trainer.checkpoint_minutes", minutes, minutes is None or 0 < minutes < math.inf, accepted)
    _require("trainer.timeout_minutes", timeout, timeout is None or 0 < timeout < math.inf, accepted)
    _require("trainer.keep", trainer.keep, trainer.keep >= 0, "a whole number from 0")


def _validate_augment(augment: Any) -> None:
    for name, most in AUGMENT_LIMITS.items():
        value = getattr(augment, name)
        _require(f"augment.{name}", value, 0 <= value <= most, f"a number from 0 to {most}")
    for name, most in (("scale", 10), ("erase_area", 1)):
        values = getattr(augment, name)
        holds = len(values) == 2 and 0 < values[0] <= values[1] <= most
        _require(f"augment.{name}", values, holds, f"[LOW, HIGH] with 0 < LOW ≤ HIGH ≤ {most}")


def _require(key: str, value: object, holds: bool, accepted: str) -> None:
    if not holds:
        raise ValueError(f"{key}={value}: accepted is {accepted}")


def _choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = nearest(value, choices)
        hint = f" Did you mean {near}?" if near else ""
        raise ValueError(f"{key}={value}: accepted is {', '.join(choices)}.{hint}")


def _is_folder_name(name: str) -> bool:
    clean = name.isprintable() and not set(name) & set(NOT_IN_NAMES)
    return clean and 0 < len(name.encode()) <= 200 and name == name.strip() and name == name.strip(".")

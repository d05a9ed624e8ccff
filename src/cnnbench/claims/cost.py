"""How long a claim takes on this machine, from its multiply-accumulates and the runs of claims so far."""

import json
from pathlib import Path

from cnnbench.claims.measuring import Plan
from cnnbench.claims.subjects import Network
from cnnbench.processes.cores import count_cores
from cnnbench.runs.folder import RunFolder
from cnnbench.sweep.jobs import hash_config

IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "kmnist": 60_000, "cifar10": 50_000, "digits": 1_437}


def measure_rate(folder: Path) -> float | None:
    """Seconds per multiply-accumulate of the finished runs below a folder; None without any."""
    seconds = work = 0.0
    for path in folder.glob("*/runs/*/summary.json"):
        try:
            summary = RunFolder(path.parent).read_summary()
        except (ValueError, OSError):
            continue
        parts = [summary.get(key) for key in ("macs", "train_images", "epochs", "train_seconds")]
        if all(isinstance(part, int | float) for part in parts):
            macs, images, epochs, spent = (float(part) for part in parts if part is not None)
            seconds, work = seconds + spent, work + macs * images * epochs
    return seconds / work if work else None


def estimate_minutes(plan: Plan, rate: float) -> str:
    """The minutes of training that a claim takes, in words; `?` where the number of images is not known."""
    seconds = 0.0
    for config in {json.dumps(hash_config(c.model_dump())): c for c in plan.configs.values()}.values():
        images = config.data.train_limit or IMAGES.get(config.data.name)
        if images is None:
            return "?"
        seconds += rate * Network(config).summary.macs * images * config.trainer.epochs * plan.seeds
    return f"{seconds / 60 / count_cores():.1f}"

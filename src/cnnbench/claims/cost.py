"""How long a claim takes on this machine, from its multiply-accumulates and earlier runs of claims."""

import json
from pathlib import Path

from cnnbench.claims.measuring import Plan
from cnnbench.claims.subjects import Network
from cnnbench.processes.cores import count_cores
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.jobs import hash_config


def measure_rate(folder: Path) -> float | None:
    """Seconds per multiply-accumulate of the finished runs below a folder; None without any."""
    seconds = work = 0.0
    for path in folder.glob("*/runs/*/summary.json"):
        try:
            summary = RunFolder(path.parent).read_summary()
        except (ValueError, OSError):
            continue
        parts = [summary.get(key) for key in ("macs", "train_images", "epochs", "train_seconds")]
        numbers = [float(part) for part in parts if isinstance(part, int | float)]
        if len(numbers) == len(parts):
            macs, images, epochs, spent = numbers
            seconds, work = seconds + spent, work + macs * images * epochs
    return seconds / work if work else None


def count_work(plan: Plan) -> float | None:
    """The multiply-accumulates of a claim's training, forward; None where the number of images is not known."""
    from cnnbench.data import find_train_images

    work = 0.0
    trained = [plan.configs[group] for group in plan.claim.list_trained_groups()]
    # Groups of equal configs share their runs.
    for config in {json.dumps(hash_config(c.model_dump())): c for c in trained}.values():
        images = find_train_images(config.data.name)
        if images is None:
            return None
        images = min(round(images * (1 - config.data.val_fraction)), config.data.train_limit or images)
        work += Network(config).summary.macs * images * config.trainer.epochs * plan.seeds
    return work


def estimate_minutes(work: float, rate: float) -> float:
    """The minutes of training on all cores."""
    return rate * work / 60 / count_cores()

"""Processor time of a training step: nothing frozen, the first half, all features, or a lower rate for features.

    python benchmarks/freeze_time.py [--rounds 5]

A step has 64 images of random pixels, 32×32×3, and one thread; the ways take turns. It is processor time, which other
programs change little.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from figures import record
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.experiment.factories import make_batches
from cnnbench.runs.folder import RunFolder
from cnnbench.training.graph import set_lr
from cnnbench.training.parts import set_training_mode

NETWORKS = {
    "vgg_mini": ["experiment=finetune_photographs"],
    "resnet18": ["model=torchvision", "model.arch=resnet18"],
}
FIRST_HALF = {"vgg_mini": "[features.stage1,features.stage2]", "resnet18": "[conv1,bn1,layer1,layer2]"}
IMAGES, BATCH = 640, 64


def write_images(folder: Path) -> None:
    for number in range(IMAGES):
        path = folder / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def measure(overrides: list[str], folder: Path) -> float:
    """Milliseconds of processor time per step, without the first two."""
    run = RunFolder(tempfile.mkdtemp(dir=folder))
    config = compose_config(overrides)
    parts = build_parts(config, test=False)
    state, _ = prepare_training(config, run, parts, test=False)
    set_training_mode(state.model)
    served = make_batches(parts.dataset.train, dataset=parts.dataset, config=config, device=parts.device, shuffle=True)
    batches = [[batch] for batch in islice(served.iterate_epoch(0, 0), IMAGES * 3 // 4 // BATCH)]
    set_lr(parts.optimizer, config.optimizer.lr)
    for batch in batches[:2]:
        state.stepper(batch, BATCH)
    started = time.process_time()
    for batch in batches[2:]:
        state.stepper(batch, BATCH)
    return 1000 * (time.process_time() - started) / len(batches[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images")
        given = ["data=image_folder", f"data.path={folder / 'images'}", f"data.cache={folder}", "data.workers=0"]
        given += ["data.check=off", f"trainer.batch_size={BATCH}", "trainer.threads=1", "augment=none"]
        for network, own in NETWORKS.items():
            ways = {
                "nothing frozen": [],
                "a rate for features": [f"optimizer.rates={{{FIRST_HALF[network][1:].split(',')[0]}: 0.1}}"],
                "first half frozen": [f"model.freeze={FIRST_HALF[network]}"],
                "features frozen": ["model.freeze=features"],
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, more in ways.items():
                    times[way].append(measure([*own, *given, *more], folder))
            for way, found in times.items():
                record(f"step of {network}, {way}", found, "ms")


if __name__ == "__main__":
    main()

"""Images per second of `cnnbench predict`, compared with a bare loop over the same PNG files.

    CNNBENCH_DATA=DIR python benchmarks/predict_rate.py --rounds 7

MNIST's 10,000 test images as PNG files, LeNet-5, batches of the run's evaluation size. Bare loop: Pillow decodes each
file, and the network classifies the scaled batch; once in one process, and once with as many decoding processes as
predict uses (`multiprocessing.Pool.imap`). predict: the same files are found in their folder, checked, decoded,
predicted, and written as CSV rows with probabilities. The ways take turns in each round. The start of Python and
loading the network, which are the same for all, are not included.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.cli.inputs import find_images
from cnnbench.cli.predict import Tally, write
from cnnbench.cli.prediction_layouts import lay_out_csv
from cnnbench.data import load_source
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.run import run_job


def decode(file: str) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


@torch.no_grad()
def classes_of(decoded: Iterable[np.ndarray], predictor: Predictor) -> list[int]:
    found: list[int] = []
    batch: list[np.ndarray] = []
    for image in decoded:
        batch.append(image)
        if len(batch) == predictor.batch_size:
            found += predictor.model((torch.from_numpy(np.stack(batch)[:, None]) / 255 - 0.5) / 0.5).argmax(1).tolist()
            batch = []
    assert not batch, "the batch size divides 10,000"
    return found


def ways(folder: Path) -> dict[str, Callable[[], None]]:
    files = [str(path) for path in sorted((folder / "images").iterdir())]
    predictor = Predictor(folder / "RUN")
    cores = len(os.sched_getaffinity(0))

    def one_process() -> None:
        classes_of(map(decode, files), predictor)

    def pool() -> None:
        with multiprocessing.Pool(cores) as workers:
            classes_of(workers.imap(decode, files, chunksize=64), predictor)

    def cnnbench() -> None:
        tally = Tally()
        named = find_images([str(folder / "images")], null=False, complain=tally.fail)
        with closing(predictor.predict(named)) as batches, open(os.devnull, "wb") as file:
            write(file, lay_out_csv(predictor.class_names, 1), batches, tally.add)
        assert tally.predicted == len(files)

    return {"bare, 1 process": one_process, f"bare, {cores} more processes": pool, "cnnbench": cnnbench}


def prepare(folder: Path, images: int) -> None:
    root = os.environ["CNNBENCH_DATA"]
    (folder / "RUN").mkdir()
    (folder / "images").mkdir()
    overrides = ["data=mnist", f"data.root={root}", "data.download=false", "data.train_limit=5000", "trainer.epochs=1"]
    run_job(compose_config([*overrides, "trainer.device=cpu"]), folder / "RUN", overrides)
    test = load_source("mnist", root=root, download=False).test
    assert test is not None
    pixels = test.images.numpy()
    for number in range(images):
        Image.fromarray(pixels[number % len(pixels), 0]).save(folder / "images" / f"{number:06}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments.images)
        timed = ways(folder)
        seconds: dict[str, list[float]] = {way: [] for way in timed}
        for number in range(arguments.rounds + 1):
            for way, run in timed.items():
                started = time.perf_counter()
                run()
                if number:  # the first round warms up
                    seconds[way].append(time.perf_counter() - started)
    for way, values in seconds.items():
        print(f"{way:<26} {arguments.images / statistics.median(values):>8,.0f} images/s")
    for way in list(seconds)[:2]:
        ratios = sorted(bare / own for bare, own in zip(seconds[way], seconds["cnnbench"], strict=True))
        print(f"cnnbench ÷ {way}: {statistics.median(ratios):.2f} ({ratios[0]:.2f}…{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()

"""Time of training LeNet-5 on MNIST with cnnbench and with other libraries: an epoch, and the whole command.

    CNNBENCH_DATA=DIR python benchmarks/peers.py --rounds 3

Every way trains the same network on the same 60,000 images, with batch 64, Adam at 1e-3 and one thread, for two epochs,
and ends with the accuracy on the 10,000 test images. Each runs in a process of its own, as its documentation shows, and
they take turns. The epoch is the last one, because the first also loads code. The whole command lasts from the start of
Python to its end. `--in-memory` gives skorch, fastai and Lightning tensors in memory instead of torchvision's dataset,
which decodes each image with PIL; this isolates the cost of their loops. A library that is not installed is skipped;
`make peers` installs them.
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import describe, record

BATCH, LEARNING_RATE, EPOCHS = 64, 1e-3, 2
IN_MEMORY = "in memory"
Trained = tuple[list[float], float]  # seconds of each epoch, accuracy on the test images


def build_network() -> Any:
    """LeNet-5 as cnnbench builds it, in plain torch."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def load_sets(root: str, in_memory: bool) -> tuple[Any, Any]:
    """The training and the test set, each of scaled images with their labels.

    Args:
        in_memory: as tensors; otherwise torchvision's datasets, which open and scale an image at a time.
    """
    import torch
    from torch.utils.data import TensorDataset
    from torchvision import datasets, transforms

    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train, test = (datasets.MNIST(root, train=part, transform=scale) for part in (True, False))
    if not in_memory:
        return train, test
    tensors = ((part.data[:, None].to(torch.float32).div(127.5).sub(1), part.targets) for part in (train, test))
    first, second = (TensorDataset(*pair) for pair in tensors)
    return first, second


def train_bare(root: str, _always: bool) -> Trained:
    """A loop over tensors in memory that measures and shows nothing."""
    import torch
    import torch.nn.functional as F

    (images, labels), test = (part.tensors for part in load_sets(root, in_memory=True))
    model = build_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    seconds = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        for indices in torch.randperm(len(labels)).split(BATCH):
            loss = F.cross_entropy(model(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in test[0].split(1000)])
    return seconds, float((found == test[1]).float().mean())


def train_course(root: str, _never: bool) -> Trained:
    """The course's script: DataLoader, PIL and a loss that is shown at each step."""
    import torch
    from course_way import accuracy, loaders, train_epoch

    model = build_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    train, test = loaders(root, BATCH)
    seconds = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        train_epoch(model, optimizer, train)
        seconds.append(time.perf_counter() - started)
    return seconds, accuracy(model, test)


def train_skorch(root: str, in_memory: bool) -> Trained:
    """skorch: a scikit-learn estimator, without its own validation split."""
    import torch
    from skorch import NeuralNetClassifier

    train, test = load_sets(root, in_memory)
    net = NeuralNetClassifier(
        build_network(),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=BATCH,
        max_epochs=EPOCHS,
        train_split=None,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=1000,
    )
    net.fit(train, y=None)
    labels = (test.tensors[1] if in_memory else test.targets).numpy()
    return list(net.history[:, "dur"]), float((net.predict(test) == labels).mean())


def train_fastai(root: str, in_memory: bool) -> Trained:
    """fastai: a Learner, which also measures the accuracy on the test images after each epoch."""
    import torch
    from fastai.basics import Adam, Callback, DataLoaders, Learner
    from fastai.metrics import accuracy

    class Clock(Callback):
        def before_train(self) -> None:
            self.began = time.perf_counter()

        def after_train(self) -> None:
            seconds.append(time.perf_counter() - self.began)

    seconds: list[float] = []
    batches = DataLoaders.from_dsets(*load_sets(root, in_memory), bs=BATCH, val_bs=1000, num_workers=0, device="cpu")
    learner = Learner(
        batches, build_network(), loss_func=torch.nn.CrossEntropyLoss(), opt_func=Adam, metrics=accuracy, cbs=Clock()
    )
    learner.fit(EPOCHS, LEARNING_RATE)
    return seconds, float(learner.recorder.values[-1][-1])


def train_lightning(root: str, in_memory: bool) -> Trained:
    """Lightning: a LightningModule and a Trainer with its defaults: progress bar, logger, checkpoints."""
    import lightning
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_network()

        def training_step(self, batch: Any) -> Any:
            images, labels = batch
            loss = F.cross_entropy(self.network(images), labels)
            self.log("train/loss", loss, prog_bar=True)
            return loss

        def test_step(self, batch: Any) -> None:
            images, labels = batch
            self.log("test/accuracy", (self.network(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    seconds: list[float] = []
    train, test = load_sets(root, in_memory)
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=[Clock()])
    model = Classifier()
    trainer.fit(model, DataLoader(train, batch_size=BATCH, shuffle=True))
    (scores,) = trainer.test(model, DataLoader(test, batch_size=1000))
    return seconds, scores["test/accuracy"]


PEERS: dict[str, Callable[[str, bool], Trained]] = {
    "bare loop": train_bare,
    "course's way": train_course,
    "skorch": train_skorch,
    "fastai": train_fastai,
    "lightning": train_lightning,
}
OURS = "cnnbench"
LIBRARIES = ("skorch", "fastai", "lightning")


@dataclass(frozen=True)
class Measured:
    """A run of one way: the last epoch's seconds, those of the whole command, its processor time, the accuracy."""

    epoch: float
    whole: float
    processor: float
    accuracy: float


def measure(way: str, root: str) -> Measured:
    """Run a way in a process of its own, in an empty folder, with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        ours = ["-m", "cnnbench", "train", "data=mnist", "data.val_fraction=0", "data.download=false"]
        ours += [f"trainer.epochs={EPOCHS}", f"trainer.batch_size={BATCH}", "trainer.device=cpu", "hydra.run.dir=run"]
        command = ours if way == OURS else [str(Path(__file__).resolve()), "--run", way]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CNNBENCH_DATA": root}
        began, used = time.perf_counter(), sum(os.times()[2:4])
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        whole, processor = time.perf_counter() - began, sum(os.times()[2:4]) - used
        if done.returncode:
            sys.exit(f"{way} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        seconds, accuracy = (read_our_run if way == OURS else read_peer)(Path(folder))
    return Measured(seconds[-1], whole, processor, accuracy)


def read_our_run(folder: Path) -> Trained:
    """The epochs and the accuracy of the run in a folder."""
    with (folder / "run/metrics.csv").open(newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return seconds, json.loads((folder / "run/summary.json").read_text())["test/accuracy"]


def read_peer(folder: Path) -> Trained:
    """The result that `run_peer` wrote."""
    seconds, accuracy = json.loads((folder / "trained.json").read_text())
    return seconds, accuracy


def run_peer(way: str) -> None:
    """Train in this process, in the current folder, and leave the figures there."""
    name = way.removesuffix(f", {IN_MEMORY}")
    Path("trained.json").write_text(json.dumps(PEERS[name](os.environ["CNNBENCH_DATA"], name != way)))


def name_version(way: str) -> str:
    """The way with the version of its package, if it has one."""
    name, _, rest = way.partition(", ")
    if name not in (*LIBRARIES, OURS):
        return way
    return f"{name} {importlib.metadata.version(name)}{', ' + rest if rest else ''}"


def list_ways(in_memory: bool) -> list[str]:
    """The ways that can run here; prints a line for each that cannot."""
    ways = [OURS]
    for name in PEERS:
        if name in LIBRARIES and importlib.util.find_spec(name) is None:
            print(f"{name} is not installed, so it is skipped: `make peers` installs it")
            continue
        ways += [name, f"{name}, {IN_MEMORY}"] if in_memory and name in LIBRARIES else [name]
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-memory", action="store_true", help="also give the libraries tensors in memory")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        return run_peer(arguments.run)
    root = str(Path(os.environ.get("CNNBENCH_DATA", "data")).resolve())
    ways = list_ways(arguments.in_memory)
    print(f"torch {importlib.metadata.version('torch')}, one thread, {os.cpu_count()} cores, {arguments.rounds} rounds")
    rounds = [{way: measure(way, root) for way in ways} for _ in range(arguments.rounds)]
    print("| way | an epoch, s | whole command, s | its processor time, s | accuracy % |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way in ways:
        found = [one[way] for one in rounds]
        cells = [describe([getattr(one, kind) for one in found]) for kind in ("epoch", "whole", "processor")]
        accuracy = 100 * statistics.fmean(one.accuracy for one in found)
        print(f"| {name_version(way)} | {' | '.join(cells)} | {accuracy:.2f} |")
    for way in ways[1:]:
        record(f"{way} ÷ cnnbench, epoch", [one[way].epoch / one[OURS].epoch for one in rounds])
        record(f"{way} ÷ cnnbench, whole command", [one[way].whole / one[OURS].whole for one in rounds])


if __name__ == "__main__":
    main()

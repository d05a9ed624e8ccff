"""Compare the predictions of `cnnbench draw`'s page with torch's, in headless Chromium, and measure their time.

    CNNBENCH_DATA=DIR python benchmarks/draw_check.py [--models NAME…] [--rounds N]

Each model is trained for one epoch on MNIST and compiled. The browser and torch (float32, CPU) predict the same test
images: all 10,000 for LeNet-5 and the MLP, the first 500 for the other families, which are trained by their recipes on
6,000 images. Labels must be equal, and probabilities within 1e-4. A time is that of one call of `Network.run`.
"""

import argparse
import base64
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import record
from screenshot import start_browser

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.draw.program import Program, compile_run, read_script
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import prepare_measurement
from cnnbench.experiment.run import run_job

TOLERANCE = 1e-4
WHOLE = ("lenet5", "mlp")  # answer all test images
FEW = 500
DRAWN = [
    name for name in registry.list_names("model") if name not in ("conv_autoencoder", "sequence_cnn", "torchvision")
]
ANSWER = """
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const network = new Network(JSON.parse(arguments[0]), decode(arguments[1]).buffer);
const [pixels, size] = [decode(arguments[2]), network.image.length];
const [probabilities, logits, times] = [[], [], []];
for (let at = 0; at < pixels.length; at += size) {
  const begun = performance.now();
  const found = network.run(pixels.subarray(at, at + size));
  times.push(performance.now() - begun);
  probabilities.push([...found.probabilities]);
  logits.push([...found.activations[found.activations.length - 1]]);
}
return [probabilities, logits, times];
"""


@dataclass(frozen=True)
class Answers:
    """The predictions of the page.

    Attributes:
        probabilities, logits: float64 (N, K).
        milliseconds: of each image.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    milliseconds: list[float]


def open_page(driver: Any, folder: Path) -> None:
    """Open an empty page with the class `Network`."""
    page = folder / "network.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><title>draw</title><script>{read_script()}</script>")
    driver.get(page.as_uri())


def answer(driver: Any, program: Program, images: np.ndarray) -> Answers:
    """Let the open page predict images, uint8 (N, C, H, W)."""
    coded = [base64.b64encode(data).decode() for data in (program.weights, images.tobytes())]
    probabilities, logits, times = driver.execute_script(ANSWER, program.as_json(), *coded)
    return Answers(np.array(probabilities), np.array(logits), times)


def train(name: str, folder: Path) -> Path:
    root = os.environ["CNNBENCH_DATA"]
    overrides = [f"model={name}", "data=mnist", f"data.root={root}", "data.download=false", "trainer.epochs=1"]
    overrides += ["trainer.device=cpu"] + ([] if name in WHOLE else ["recipe=true", "data.train_limit=6000"])
    (folder / name).mkdir()
    run_job(compose_config(overrides), folder / name, overrides)
    return folder / name


def compare(driver: Any, name: str, run: Path) -> tuple[bool, float]:
    """Compare a run's page with torch, and print a row; returns whether they agree, and the milliseconds per image."""
    ready = prepare_measurement(run, DataChoice(), device="cpu")
    split = ready.found.split
    if name not in WHOLE:
        split = split[torch.arange(FEW)]
    logits = np.concatenate([some for some, _ in ready.iterate_logits(split)])
    expected = torch.from_numpy(logits).softmax(1).numpy()
    program = compile_run(ready.trained)
    found = answer(driver, program, split.images.numpy())
    different = int((found.probabilities.argmax(1) != expected.argmax(1)).sum())
    distance = float(np.abs(found.probabilities - expected).max())
    time, slow = statistics.median(found.milliseconds), np.quantile(found.milliseconds, 0.99)
    right = (expected.argmax(1) == split.labels.numpy()).mean()
    size = len(program.weights) / 2**20
    cells = [
        f"{len(split):,}",
        f"{right:.1%}",
        different,
        f"{distance:.1e}",
        f"{time:.2f}",
        f"{slow:.2f}",
        f"{size:.2f}",
    ]
    print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
    return different == 0 and distance <= TOLERANCE, time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=DRAWN, default=DRAWN, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[bool, float]]] = {}
    driver = start_browser(800)
    try:
        print(f"torch {torch.__version__}, Chromium {driver.capabilities['browserVersion']}")
        print("| model | images | right | other label | largest difference | ms, median | ms, 99 % | MB of weights |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        with tempfile.TemporaryDirectory() as folder:
            open_page(driver, Path(folder))
            for name in arguments.models:
                run = train(name, Path(folder))
                found[name] = [compare(driver, name, run) for _ in range(arguments.rounds)]
    finally:
        driver.quit()
    for name, rounds in found.items():
        record(f"{name}: the page's answer", [time for _, time in rounds], "ms")
    sys.exit(0 if all(agrees for rounds in found.values() for agrees, _ in rounds) else 1)


if __name__ == "__main__":
    main()

"""Export every family of networks to every format, check the files, and time one image in onnxruntime and torch.

    make export-check
    python benchmarks/export_zoo.py --only lenet5 resnet18 --rounds 300

Each network is trained for a step or two on 100 digits (sequence_cnn on waves), because accuracy does not matter here;
torchvision's networks start from random weights too. `cnnbench export` compares each file with the network for all test
images; a difference beyond its tolerance ends the script with exit code 1.

Time: the median processor time of one image of the network's size, from uint8 to probabilities, with one thread.
onnxruntime and torch take turns. Torch runs eagerly in inference mode: it casts and normalises pixels, and computes the
network and the softmax. The faster of the run's memory format and the contiguous one counts.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from figures import record

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.trained import Trained, load_trained
from cnnbench.experiment.run import run_job
from cnnbench.exporting.checking import Disagreement
from cnnbench.exporting.formats import FORMATS
from cnnbench.exporting.network import PortableNetwork
from cnnbench.exporting.onnx_files import INPUT, start_session
from cnnbench.exporting.writing import export_run

TORCHVISION = ("resnet18", "mobilenet_v2")
TINY = ("trainer.epochs=1", "data.train_limit=100", "trainer.threads=1", "trainer.device=cpu")


def list_networks() -> dict[str, list[str]]:
    names = [name for name in registry.list_names("model") if name != "torchvision"]
    networks = {name: [f"model={name}", *(["data=waves"] if name == "sequence_cnn" else [])] for name in names}
    return networks | {arch: ["model=torchvision", f"model.arch={arch}"] for arch in TORCHVISION}


def make_eager(trained: Trained) -> list[Callable[[torch.Tensor], object]]:
    """The network in torch, in both memory formats."""
    contiguous = PortableNetwork(trained, None)
    contiguous.fit = None  # images of the network's own size
    own = PortableNetwork(trained, None)
    own.fit, own.network = None, trained.load_model(torch.device("cpu")).eval()
    return [contiguous, own]


@torch.inference_mode()
def measure(file: Path, trained: Trained, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of an image in onnxruntime and in the faster of torch's memory formats, for each round."""
    session = start_session(file.read_bytes(), 1)
    shape = (1, *trained.info.input_shape)
    image = torch.randint(256, shape, dtype=torch.uint8) if trained.info.dimensions == 2 else torch.randn(shape)
    pixels = image.numpy()
    eager = make_eager(trained)
    ways: list[Callable[[], object]] = [lambda: session.run(None, {INPUT: pixels})]
    ways += [lambda network=network: network(image) for network in eager]  # type: ignore[misc]
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 20):  # the first ones warm up
        for way, spent in zip(ways, times, strict=True):
            started = time.process_time()
            way()
            if number >= 20:
                spent.append(1000 * (time.process_time() - started))
    return times[0], min(times[1:], key=statistics.median)


def check(name: str, overrides: list[str], folder: Path, rounds: int) -> bool:
    run = folder / name
    run.mkdir()
    run_job(compose_config([*overrides, *TINY]), run, overrides)
    cells = []
    for form in FORMATS:
        try:
            made = export_run(run, form, DataChoice())
        except (ValueError, Disagreement) as error:
            print(f"{name}: {form}: {error}", file=sys.stderr)
            return False
        cells.append(f"{made.agreement.difference:.1e}")
    onnx, eager = measure(run / "exported/model.onnx", load_trained(run), rounds)
    images = made.agreement.images
    own, other = statistics.median(onnx), statistics.median(eager)
    print(f"| {name} | {images} | {' | '.join(cells)} | {own:.3f} | {other:.3f} | {other / own:.2f} |", flush=True)
    record(f"{name}: torch ÷ onnxruntime, one image", [other / own])
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="Names of networks.")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    print(
        "| network | test images | onnx | exported | state_dict | onnxruntime, ms | torch, ms | torch ÷ onnxruntime |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    networks = {name: given for name, given in list_networks().items() if name in (arguments.only or list_networks())}
    with tempfile.TemporaryDirectory() as folder:
        results = [check(name, given, Path(folder), arguments.rounds) for name, given in networks.items()]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()

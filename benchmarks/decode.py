"""Time from a folder of image files to splits in memory: two ways with torchvision, cnnbench, and its second start.

    python benchmarks/decode.py FOLDER          # FOLDER/train/<class>/…, FOLDER/test/<class>/…

Every measurement runs in a process of its own. They take turns within each round, so that a slow minute of a shared
machine affects all of them. The script prints medians of the times and of the ratios within each round.

    image_folder  torchvision.datasets.ImageFolder, PILToTensor, DataLoader with a worker per core: the usual way
    decode_jpeg   the same with torchvision.io.decode_jpeg instead of Pillow: the minimum
    cnnbench      load_source with an empty cache: find, decode, check, store and map every image
    again         load_source with the cache of the measurement before

For cnnbench it also prints the peak memory of the main process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 256
WAYS = ("image_folder", "decode_jpeg", "cnnbench", "again")


def torchvision_way(folder: str, way: str) -> dict[str, float]:
    from torch.utils.data import ConcatDataset, DataLoader, Dataset
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import PILToTensor

    def decode(path: str) -> Any:
        return decode_jpeg(read_file(path), ImageReadMode.RGB)

    started = time.perf_counter()
    # ImageFolder returns what `loader` returns; by default, it opens the file with Pillow.
    how: dict[str, Any] = {"loader": decode} if way == "decode_jpeg" else {"transform": PILToTensor()}
    splits: list[Dataset[Any]] = [ImageFolder(os.path.join(folder, split), **how) for split in ("train", "test")]
    loader: DataLoader[Any] = DataLoader(ConcatDataset(splits), BATCH, num_workers=len(os.sched_getaffinity(0)))
    images = sum(len(labels) for _, labels in loader)
    return {"images": images, "seconds": time.perf_counter() - started}


def cnnbench_way(folder: str, cache: str) -> dict[str, float]:
    from cnnbench.cli.compose import compose_config
    from cnnbench.data import load_source

    config = compose_config(["data=image_folder", "data.path=" + json.dumps(folder), "data.cache=" + json.dumps(cache)])
    started = time.perf_counter()
    source = load_source("image_folder", root="", download=False, options=config.data.options)
    seconds = time.perf_counter() - started
    assert source.test is not None
    decoded = sum(len(split) * split.images[0].numel() for split in (source.train, source.test))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"images": len(source.train) + len(source.test), "seconds": seconds, "decoded": decoded, "peak": peak}


def measure(way: str, folder: str, cache: str) -> dict[str, float]:
    """Measure one way in a process of its own; `process` is the duration of that process."""
    started = time.perf_counter()
    command = [sys.executable, __file__, folder, "--way", way, "--cache", cache]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {**json.loads(done.stdout), "process": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help="measure only this way, in this process, and print JSON")
    parser.add_argument("--cache", default="")
    options = parser.parse_args()
    if options.way:
        torchvision = options.way in ("image_folder", "decode_jpeg")
        found = (
            torchvision_way(options.folder, options.way) if torchvision else cnnbench_way(options.folder, options.cache)
        )
        print(json.dumps(found))
        return
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            rounds.append({way: measure(way, str(Path(options.folder).resolve()), cache) for way in WAYS})
        print(number + 1, {way: round(one["seconds"], 2) for way, one in rounds[-1].items()}, flush=True)
    for way in WAYS:
        seconds = statistics.median(one[way]["seconds"] for one in rounds)
        whole = statistics.median(one[way]["process"] for one in rounds)
        print(
            f"{way:<13} {seconds:7.2f} s  {rounds[0][way]['images'] / seconds:8,.0f} images/s  process {whole:6.2f} s"
        )
    for way in ("image_folder", "decode_jpeg"):
        ratios = [one[way]["seconds"] / one["cnnbench"]["seconds"] for one in rounds]
        print(f"cnnbench ÷ {way}, rates: {statistics.median(ratios):.2f} ({min(ratios):.2f}…{max(ratios):.2f})")
    for way in ("cnnbench", "again"):
        over = max(one[way]["peak"] - one[way]["decoded"] for one in rounds)
        print(f"{way}: at most {over / 1e6:.0f} MB beyond the {rounds[0][way]['decoded'] / 1e6:.0f} MB of pixels")


if __name__ == "__main__":
    main()

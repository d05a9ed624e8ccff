"""Time of decoding one image file, compared with plain Pillow: the cost of reading untrusted files safely.

    python benchmarks/decode_time.py [--folder DIR]

Without a folder, files of smoothed noise are created, which JPEG compresses like a photograph.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import decode_image

# Mode, ending, width, height, size wanted, files.
KINDS = (("RGB", "jpg", 32, 32, 32, 500), ("L", "png", 28, 28, 28, 500), ("RGB", "jpg", 640, 480, 224, 20))


def make(folder: Path, mode: str, ending: str, width: int, height: int, count: int) -> list[Path]:
    random = np.random.default_rng(0)
    files = [folder / f"{width} {index}.{ending}" for index in range(count)]
    for file in files:
        noise = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        noise.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(file)
    return files


def bare(file: Path, mode: str, size: int) -> np.ndarray:
    """Decode with a few lines of Pillow."""
    with Image.open(file) as image:
        pixels = image.convert(mode)
        if pixels.size != (size, size):
            pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
        return np.array(pixels)


def compare(files: list[Path], mode: str, size: int, rounds: int) -> str:
    how = Decoding(len(mode), size)
    seconds: dict[str, list[float]] = {"bare": [], "cnnbench": []}
    for _ in range(rounds + 1):
        for name, times in seconds.items():
            began = time.process_time()
            for file in files:
                decode_image(file, how) if name == "cnnbench" else bare(file, mode, size)
            times.append((time.process_time() - began) / len(files))
    del seconds["bare"][0], seconds["cnnbench"][0]  # the first round fills caches
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    cells = [f"{statistics.median(times) * 1e6:.0f} µs" for times in seconds.values()]
    return f"{cells[0]} | {cells[1]} | {statistics.median(ratios):.3f} ({ratios[0]:.3f}…{ratios[-1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="with colour images of 32 × 32 pixels, at any depth")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print("| files | bare Pillow | cnnbench | cnnbench ÷ bare |\n| --- | ---: | ---: | ---: |")
    if given.folder:
        files = sorted(file for file in given.folder.rglob("*") if file.is_file())[:1000]
        print(f"| {len(files)} of {given.folder.name} | {compare(files, 'RGB', 32, given.rounds)} |")
        return
    with tempfile.TemporaryDirectory() as folder:
        for mode, ending, width, height, size, count in KINDS:
            files = make(Path(folder), mode, ending, width, height, count)
            words = f"{ending}, {width} × {height}, {mode}, to {size}"
            print(f"| {words} | {compare(files, mode, size, given.rounds)} |", flush=True)


if __name__ == "__main__":
    main()

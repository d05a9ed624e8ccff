"""How many planted faults `cnnbench check` finds, and how many findings are false.

    python benchmarks/check_planted.py --data mnist            # or --folder DIR, an image folder
    python benchmarks/check_planted.py --data mnist --mirror   # only the second question

`--images` of the training images are written as PNG files. For each fault, `--faults` different images are copied with
that fault into the test split: the same pixels in another file format, JPEG of quality 60, a shift by one pixel (the
edge is repeated), brightness × 0.9 and × 1.1, 90 % of the size. A fault counts as found if its copy is named together
with its original. Other pairs are those among the originals.

With `--mirror`, the test split has the mirror images of `--images` other images. These are distinct, but have the
statistics of real images, so every pair across the splits is false.
"""

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.data_check import check_data
from cnnbench.experiment.loading import load_dataset
from cnnbench.quality.findings import write_check
from cnnbench.report.data_check import write_page

Edit = Callable[[Image.Image, int], Image.Image]


def shift(image: Image.Image, number: int) -> Image.Image:
    """Shift by one pixel, in one of eight directions."""
    down, across = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)][number % 8]
    pixels = np.asarray(image)
    rows, columns = (
        np.clip(np.arange(size) + by, 0, size - 1) for size, by in zip(pixels.shape, (down, across), strict=False)
    )
    return Image.fromarray(pixels[rows][:, columns])


def brighten(factor: float) -> Edit:
    return lambda image, _: image.point(lambda value: min(255, round(factor * value)))


def shrink(image: Image.Image, _: int) -> Image.Image:
    return image.resize((round(0.9 * image.width), round(0.9 * image.height)), Image.Resampling.BICUBIC)


def keep(image: Image.Image, _: int) -> Image.Image:
    return image


FAULTS: dict[str, tuple[Edit, str, dict[str, Any]]] = {
    "exact copy": (keep, "bmp", {}),
    "JPEG, quality 60": (keep, "jpg", {"quality": 60}),
    "shift by one pixel": (shift, "png", {}),
    "brightness × 0.9": (brighten(0.9), "png", {}),
    "brightness × 1.1": (brighten(1.1), "png", {}),
    "resized to 90 %": (shrink, "png", {}),
}


def save(image: Image.Image, folder: Path, label: int, name: str, **options: Any) -> None:
    (folder / str(label)).mkdir(parents=True, exist_ok=True)
    image.save(folder / str(label) / name, **options)


def plant(root: Path, images: list[Image.Image], labels: np.ndarray, faults: int) -> dict[str, tuple[str, str]]:
    """Write the originals and the copies; return the fault and the original of each copy, by its path."""
    for number, image in enumerate(images):
        save(image, root / "train", labels[number], f"{number:05}.png")
    chosen = np.random.default_rng(17).permutation(len(images))[: faults * len(FAULTS)]
    planted = {}
    for at, number in enumerate(chosen.tolist()):
        fault = [*FAULTS][at // faults]
        edit, ending, options = FAULTS[fault]
        name = f"{number:05}.{ending}"
        save(edit(images[number], number), root / "test", labels[number], name, **options)
        planted[f"test/{labels[number]}/{name}"] = (fault, f"train/{labels[number]}/{number:05}.png")
    return planted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=200, help="of each kind")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--out", type=Path, help="write check.json and check.html here")
    given = parser.parse_args()
    data = ["data=image_folder", f"data.path={given.folder}"] if given.folder else [f"data={given.data}"]
    train = load_dataset(compose_config([*data, "data.val_fraction=0"])).train
    order = np.random.default_rng(0).permutation(len(train))
    order = order[: given.images * (1 + given.mirror)]
    part = train[train.labels.new_tensor(order)]
    images = [Image.fromarray(one[0] if len(one) == 1 else one.transpose(1, 2, 0)) for one in part.images.numpy()]
    labels = part.labels.numpy()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted: dict[str, tuple[str, str]] = {}
        if given.mirror:
            for number, image in enumerate(images):
                turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number >= given.images else image
                split = "test" if number >= given.images else "train"
                save(turned, root / split, labels[number], f"{number:05}.png")
        else:
            planted = plant(root, images, labels, given.faults)
        config = compose_config(["data=image_folder", f"data.path={root}", "data.cache=null"])
        began, used = time.perf_counter(), time.process_time()
        check, read = check_data(config)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        if given.out:
            write_check(given.out, check)
            write_page(given.out, check, read.read_picture)
    pairs = [
        tuple(str(image.path) for image in case.images)
        for kind in ("duplicate", "near_duplicate", "leak", "near_leak")
        for case in check.findings[kind].cases
    ]
    if not given.mirror:
        found = Counter(planted[other][0] for one, other in pairs if planted.get(other, ("", ""))[1] == one)
        print("| fault | planted | found |\n| --- | ---: | ---: |")
        for fault in FAULTS:
            print(f"| {fault} | {given.faults} | {found[fault]} ({100 * found[fault] / given.faults:.1f} %) |")
    within = sum(one.startswith("train") and other.startswith("train") for one, other in pairs)
    across = sum(other not in planted and one.split("/")[0] != other.split("/")[0] for one, other in pairs)
    wrong = sum(other in planted and planted[other][1] != one for one, other in pairs)
    print(
        f"other pairs among {len(images):,} images: {within} in train, {across} with mirror images, {wrong} with copies"
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds:.1f} s, {cpu:.1f} s of the main process's processor time, {memory:.2f} GiB at most")


if __name__ == "__main__":
    main()

"""Measurements of each image: hashes, size, brightness, colour, and a thumbnail by which images are compared.

Files are decoded in their own size by worker processes; only the thumbnails stay in memory.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cnnbench.bars import open_bar
from cnnbench.data.files.images import BadImage, decode_unchanged, read_file
from cnnbench.data.hashing import compute_short_hash, to_numbers
from cnnbench.processes.pool import map_in_processes

LARGEST_THUMBNAIL = 32  # pixels of a side
FEW_FILES = 64  # that a process receives at a time
CHUNK_VALUES = 2**22  # pixels that are measured together, as float32
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow converts


@dataclass
class Probes:
    """Measurements of images, in their order."""

    hashes: np.ndarray  # int64 (N, 2), of the file and of the pixels in their own size; equal without a file
    sizes: np.ndarray  # int32 (N, 2), height and width
    colours: np.ndarray  # float32 (N, 3), the mean red, green and blue, from 0 to 255
    ranges: np.ndarray  # uint8 (N,), the largest pixel less the smallest
    deviations: np.ndarray  # float32 (N,), the standard deviation of the grey pixels
    are_grey: np.ndarray  # bool (N,), whether red, green and blue are equal in every pixel
    thumbnails: np.ndarray  # uint8 (N, h, w), grey
    bad: dict[int, str] = field(default_factory=dict)  # why an image is unreadable, by row; its measurements are 0

    @classmethod
    def allocate(cls, count: int, thumbnail: tuple[int, int]) -> "Probes":
        """Probes of `count` images, all 0."""
        return cls(
            np.zeros((count, 2), np.int64),
            np.zeros((count, 2), np.int32),
            np.zeros((count, 3), np.float32),
            np.zeros(count, np.uint8),
            np.zeros(count, np.float32),
            np.zeros(count, bool),
            np.zeros((count, *thumbnail), np.uint8),
        )

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def are_good(self) -> np.ndarray:
        """Which images are readable: bool (N,)."""
        good = np.ones(len(self), bool)
        good[[*self.bad]] = False
        return good

    def insert(self, start: int, other: "Probes") -> None:
        """Put the measurements of other images in the rows from `start` on."""
        rows = slice(start, start + len(other))
        for name in ("hashes", "sizes", "colours", "ranges", "deviations", "are_grey", "thumbnails"):
            getattr(self, name)[rows] = getattr(other, name)
        self.bad |= {start + row: reason for row, reason in other.bad.items()}


def measure_images(images: np.ndarray, hashes: np.ndarray, thumbnail: tuple[int, int]) -> Probes:
    """Measure images of one size, uint8 (N, C, H, W); `thumbnail` is height and width."""
    count, channels, height, width = images.shape
    found = Probes.allocate(count, thumbnail)
    found.hashes[:], found.sizes[:] = hashes, (height, width)
    several = max(1, CHUNK_VALUES // (channels * height * width))
    for start in range(0, count, several):
        rows = slice(start, start + several)
        flat = images[rows].reshape(-1, channels, height * width)
        found.ranges[rows] = (flat.max(2) - flat.min(2)).max(1)
        found.are_grey[rows] = (flat == flat[:, :1]).all((1, 2))
        pixels = flat.astype(np.float32)
        found.colours[rows] = pixels.mean(2)
        grey = pixels[:, 0] if channels == 1 else np.tensordot(pixels, GREY, ([1], [0]))
        found.deviations[rows] = grey.std(1)
        found.thumbnails[rows] = make_thumbnails(grey.reshape(-1, height, width), thumbnail)
    return found


def measure_signals(signals: np.ndarray, hashes: np.ndarray) -> Probes:
    """Measure signals, float32 (N, C, L): beside their hashes, only whether they are constant."""
    found = Probes.allocate(len(signals), (1, 1))
    found.hashes[:], found.sizes[:] = hashes, signals.shape[1:]
    found.ranges[:] = (signals.max(2) > signals.min(2)).any(1)
    return found


def make_thumbnails(grey: np.ndarray, thumbnail: tuple[int, int]) -> np.ndarray:
    """Resize grey images, float32 (N, H, W), to uint8 (N, h, w), stretched and antialiased."""
    images = grey.round().astype(np.uint8)
    if images.shape[1:] == thumbnail:
        return images
    height, width = thumbnail
    made = np.empty((len(images), *thumbnail), np.uint8)
    for image, place in zip(images, made, strict=True):
        place[:] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return made


@dataclass(frozen=True)
class Prober:
    """What each process does with its files."""

    thumbnail: tuple[int, int]
    background: tuple[int, int, int]

    def __call__(self, files: Sequence[str]) -> Probes:
        """Measure some files."""
        found = Probes.allocate(len(files), self.thumbnail)
        for row, file in enumerate(files):
            try:
                content = read_file(file)
                pixels = decode_unchanged(content, file, self.background)
            except BadImage as error:
                found.bad[row] = error.reason
                continue
            # With the shape, because the same bytes may be the pixels of a wide and of a tall image.
            digest = compute_short_hash(repr(pixels.shape).encode() + pixels.tobytes())
            hashes = to_numbers(compute_short_hash(content) + digest)
            found.insert(row, measure_images(pixels[None], hashes, self.thumbnail))
        return found


def probe_files(files: Sequence[str], prober: Prober, workers: int) -> Probes:
    """Measure files in worker processes, or with 0 workers in this one, with a progress bar."""
    found = Probes.allocate(len(files), prober.thumbnail)
    jobs = (
        [files[row] for row in range(at, min(at + FEW_FILES, len(files)))] for at in range(0, len(files), FEW_FILES)
    )
    processes = 0 if len(files) <= FEW_FILES else workers
    with (
        closing(map_in_processes(prober, jobs, processes)) as parts,
        open_bar(total=len(files), desc="checking", unit="img", unit_scale=True) as bar,
    ):
        row = 0
        for part in parts:
            found.insert(row, part)
            row += len(part)
            bar.update(len(part))
    return found

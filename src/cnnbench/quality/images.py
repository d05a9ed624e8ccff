"""The images of a dataset, split by split, with their measurements."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnbench import registry
from cnnbench.data import Source, load_source
from cnnbench.data.dataset import FILE, VALUES
from cnnbench.data.files.decoding import probe_some
from cnnbench.data.files.images import BadImage, decode_unchanged, read_file
from cnnbench.data.files.listing import ListedFiles
from cnnbench.quality.findings import ImageName
from cnnbench.quality.probes import LARGEST_THUMBNAIL, Prober, Probes, measure_images, measure_signals, probe_files
from cnnbench.storage.text import format_path, to_unicode

FORMAT = 1  # of a check; raise it when the same images would give other findings
PROBED = 100  # files by which the size of thumbnails is chosen


@dataclass(frozen=True)
class CheckedImages:
    """Images to check; rows count through all splits, `train` first. The first fields are those of `DataCheck`."""

    data: str
    path: str | None
    key: str
    class_names: tuple[str, ...]
    splits: dict[str, range]  # the rows of each split
    labels: np.ndarray  # int64 (N,), indices into `class_names`
    paths: Sequence[str] | None  # of the files, below the dataset's folder; None without files
    probes: Probes
    # Returns the image in a row, uint8 (C, H, W), or the signal, float32 (C, L); None if unreadable.
    read_pixels: Callable[[int], np.ndarray | None]
    dimensions: int = 2  # of images; 1 for signals
    notes: tuple[str, ...] = ()

    def locate_splits(self, rows: np.ndarray) -> np.ndarray:
        """The number of the split of each row."""
        return np.searchsorted([part.stop for part in self.splits.values()], rows, side="right")

    def name_image(self, row: int) -> ImageName:
        """The name of the image in a row."""
        split, part = next((name, part) for name, part in self.splits.items() if row in part)
        path = None if self.paths is None else to_unicode(self.paths[row])
        digest = "" if row in self.probes.bad else self.probes.hashes[row, 0].astype("<i8").tobytes().hex()
        return ImageName(split, row - part.start, path, self.class_names[self.labels[row]], digest)

    def read_picture(self, image: ImageName) -> np.ndarray | None:
        """The pixels of a named image, as from `read_pixels`."""
        return self.read_pixels(self.splits[image.split].start + image.index)


def _compute_key(files: ListedFiles) -> str:
    """The key of a check of these files, none of which is opened."""
    listing = files.listing
    found = hashlib.sha256(repr((FORMAT, listing.class_names, listing.splits, files.background)).encode())
    found.update(os.fsencode("\0".join(listing.paths)))
    found.update(listing.versions.tobytes())
    found.update(np.array(listing.labels, "<i8").tobytes())
    return found.hexdigest()


def read_images(
    name: str, *, root: str, download: bool, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> CheckedImages:
    """Read and measure all images of a dataset: files in their own size, others as in their source.

    Arguments and errors are those of `load_source`, but a file that cannot be read is a finding and no error.
    """
    if name in registry.list_names("data_files"):
        wanted = {key: settings[key] for key in ("test_fraction", "test_seed", "threads") if key in settings}
        return _read_files(name, registry.build("data_files", name, options=options, **wanted))
    source = load_source(name, root=root, download=download, options=options, settings=settings)
    return measure_source(source, options.get("path"))


def _read_files(name: str, files: ListedFiles) -> CheckedImages:
    listing = files.listing
    paths = listing.make_paths(range(len(listing.paths)))
    found = [shape for _, shape in probe_some(paths, PROBED)] or [(1, 1, 1)]
    width, height = (min(LARGEST_THUMBNAIL, int(np.median(sides))) for sides in list(zip(*found, strict=True))[1:])

    def read_pixels(row: int) -> np.ndarray | None:
        try:
            return decode_unchanged(read_file(paths[row]), paths[row], files.background)
        except BadImage:
            return None

    return CheckedImages(
        data=name,
        path=to_unicode(listing.path),
        key=_compute_key(files),
        class_names=listing.class_names,
        splits=dict(listing.splits),
        labels=np.array(listing.labels, np.int64),
        paths=listing.paths,
        probes=probe_files(paths, Prober((height, width), files.background), files.workers),
        read_pixels=read_pixels,
        notes=tuple(f"{format_path(listing.path)}: {remark}" for remark in listing.remarks),
    )


def measure_source(source: Source, path: str | None = None) -> CheckedImages:
    """The readable images of a source with marks, as it decodes them; `path` is that of one's own data."""
    splits = {name: split for name, split in source.splits.items() if len(split)}
    info, ends = source.info, np.cumsum([0, *map(len, splits.values())]).tolist()
    # A signal has no thumbnail to compare.
    height, width = (min(LARGEST_THUMBNAIL, side) for side in info.size) if info.dimensions == 2 else (1, 1)
    probes = Probes.allocate(ends[-1], (height, width))
    key = hashlib.sha256(repr((FORMAT, info, [*splits])).encode())
    for start, split in zip(ends, splits.values(), strict=False):
        assert split.marks is not None
        row, hashes = start, split.marks[:, [FILE, VALUES]].numpy()
        for chunk in split.iterate_chunks():
            part = hashes[row - start : row - start + len(chunk)]
            if info.dimensions == 2:
                probes.insert(row, measure_images(chunk.numpy(), part, (height, width)))
            else:
                probes.insert(row, measure_signals(chunk.numpy(), part))
            row += len(chunk)
        key.update(hashes.astype("<i8").tobytes() + split.labels.numpy().astype("<i8").tobytes())

    def read_pixels(row: int) -> np.ndarray | None:
        number = int(np.searchsorted(ends, row, side="right")) - 1
        split = [*splits.values()][number]
        at = split.labels.new_tensor([row - ends[number]])
        return split[at].images[0].numpy()

    return CheckedImages(
        data=info.name,
        path=path,
        key=key.hexdigest(),
        class_names=info.class_names,
        splits={name: range(*ends[at : at + 2]) for at, name in enumerate(splits)},
        labels=np.concatenate([split.labels.numpy() for split in splits.values()]),
        paths=None,
        probes=probes,
        read_pixels=read_pixels,
        dimensions=info.dimensions,
        notes=source.notes,
    )

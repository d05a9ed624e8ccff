"""The user's own images: a folder with a subfolder for each class, or a CSV file of paths and labels.

`listing.py` and `listing_csv.py` find the files, their classes and splits; `images.py` decodes a file. Decoded images
are kept in memory and in a cache (`pixel_store.py`). A dataset larger than `data.memory_limit` stays in its files, and
each batch is decoded from them (`decoding.py`).
"""

import errno
import functools
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from cnnbench.config.keys import Options, key
from cnnbench.data.dataset import DatasetInfo, Source, Split, to_image_size
from cnnbench.data.files.decoding import Decoder, ImageFiles, probe_some
from cnnbench.data.files.fitting import Decoding, Resize
from cnnbench.data.files.images import OtherSize
from cnnbench.data.files.listing import ListedFiles, Listing, list_folder
from cnnbench.data.files.listing_csv import list_csv
from cnnbench.data.files.pixel_store import Part, Stored, read_part
from cnnbench.data.memory import measure_memory, parse_bytes
from cnnbench.data.preparation import cut_test, refuse_single_images
from cnnbench.processes.cores import count_cores
from cnnbench.registry import register
from cnnbench.storage.text import format_path, join_some

log = logging.getLogger("cnnbench")

PROBED = 100  # files by which channels and size are chosen
SHOWN = 20  # bad files in an error
Size = int | tuple[int, int]


class ImageFolderOptions(Options):
    """What `configs/data/image_folder.yaml` sets."""

    path: str | None = key(
        "DIR/train/<class>/… with val and test if there are any, DIR/<class>/…, or a CSV file of path,label[,split]",
        may_change=True,
    )
    channels: Literal[1, 3] | None = key(
        "1 for greyscale, 3 for colour; null = 3 if any of 100 sampled files is in colour"
    )
    resize: Resize = key(
        "How images are fitted to data.image_size: stretched, padded with background, or cropped to the centre"
    )
    background: list[Annotated[int, Field(ge=0, le=255)]] = key(
        "Red, green and blue below transparency and around padded images", length=3
    )
    on_bad_image: Literal["fail", "skip"] = key("Whether a file that cannot be read stops the run", role="control")
    cache: str | None = key(
        "The folder for decoded images; auto = $XDG_CACHE_HOME/cnnbench or ~/.cache/cnnbench; null = none", role="place"
    )
    memory_limit: str | None = key(
        "Such as 2GB: a larger set is decoded batch by batch; null = a third of the memory", role="speed"
    )
    workers: int | None = key(
        "Decoding processes; null = trainer.threads if it is a number, else one per core; 0 = none", role="speed", ge=0
    )


@register("data_kept", "image_folder")
@register("data", "image_folder")
def image_folder(
    options: ImageFolderOptions,
    image_size: int | Sequence[int] | None = None,
    test_fraction: float | None = None,
    test_seed: int = 0,
    with_test: bool = True,
    classes: list[str] | None = None,
    threads: int | None = None,
) -> Source:
    """The user's own images, decoded once in their final size.

    Args:
        image_size: height and width, or one number for both; None is the size that all images share.
        test_fraction: the share of each class to test on, if the files have no test split; None cuts none.
        with_test: whether files of the test split are opened; otherwise the source's test split is empty.
        classes: those of the run that is measured on the images, which may lack some, and a split to train on.

    Raises:
        ValueError: an unknown layout, or images that cannot be read or differ in size.
    """
    listing = _list_files(options.path, classes, test_fraction, test_seed)
    _refuse_single_files(listing)
    count = len(listing.paths)
    training = range(listing.splits["test"].start if "test" in listing.splits else count)
    size = image_size if image_size is None or isinstance(image_size, int) else to_image_size(*image_size)
    how = _choose_decoding(listing.make_paths(training or range(count)), options, size)
    limit = options.memory_limit
    most = measure_memory() // 3 if limit is None else parse_bytes("data.memory_limit", limit)
    streams = count * math.prod(how.shape) > most
    decoder = Decoder(how, resizes=image_size is not None, hashes=True, drops=streams)
    splits: dict[str, Split] = {}
    bad: list[tuple[str, str]] = []
    # Test images are read separately, so that a search, which may not look at them, opens none of their files.
    for rows in filter(None, (training, range(training.stop, count if with_test else 0))):
        workers = _count_workers(options, threads)
        part = Part.from_listing(listing, rows, decoder, options.cache, workers, (listing.cut, rows.start > 0))
        try:
            stored = read_part(part)
        except OtherSize as error:
            wanted = f"{how.shape[2]} × {how.shape[1]}"
            raise ValueError(_ask_for_size(f"{error.name!r} has {error.reason}, others {wanted}")) from None
        bad += [(listing.paths[rows.start + row], reason) for row, reason in stored.bad.items()]
        images = ImageFiles(part.paths, how, part.workers) if streams else torch.from_numpy(stored.pixels)
        splits |= _split(listing, rows, stored, images)
    _refuse_bad(options, listing, sorted(bad))
    _refuse_empty(listing, splits, classes)
    some = next(iter(splits.values()))
    for name in ("train", "test") if "test" in listing.splits else ():
        splits.setdefault(name, some[torch.arange(0)])
    return Source(
        DatasetInfo("image_folder", how.channels, how.image_size, listing.class_names),
        splits["train"],
        splits.get("test"),
        splits.get("val"),
        skipped=tuple((format_path(file), reason) for file, reason in sorted(bad)),
        paths=listing.make_paths(range(count)),
        notes=tuple(f"{format_path(listing.path)}: {remark}" for remark in listing.remarks),
    )


@register("data_files", "image_folder")
def find_image_files(
    options: ImageFolderOptions,
    test_fraction: float | None = None,
    test_seed: int = 0,
    threads: int | None = None,
) -> ListedFiles:
    """The files that `image_folder` reads for the same arguments; none is opened."""
    listing = _list_files(options.path, None, test_fraction, test_seed)
    red, green, blue = options.background
    return ListedFiles(listing, (red, green, blue), _count_workers(options, threads))


def _list_files(
    path: str | None, classes: Sequence[str] | None, test_fraction: float | None, test_seed: int
) -> Listing:
    if not path:
        raise ValueError(
            f"data.path={'null' if path is None else repr(path)}: must be a folder that holds a folder of images "
            "for each class, or a CSV file of path,label"
        )
    where = os.path.expanduser(path)
    is_table = os.path.isfile(where)
    if not is_table and not os.path.isdir(where):
        kind = "is neither a folder nor a file" if os.path.exists(where) else "does not exist"
        raise ValueError(f"data.path={format_path(path)!r} {kind}: looked for {format_path(os.path.abspath(where))!r}")
    listing = list_csv(where, classes) if is_table else list_folder(where, classes)
    if listing.ignored:
        names = ", ".join(map(format_path, listing.ignored[:5]))
        _log_once(f"{format_path(path)}: {len(listing.ignored)} entries outside any class are ignored: {names}")
    if test_fraction is None or "test" in listing.splits:
        return listing
    return _cut_test_split(listing, test_fraction, test_seed)


def _refuse_single_files(listing: Listing) -> None:
    if listing.cut:
        labels = torch.tensor(listing.labels)
        train, test = (labels[[*listing.splits.get(name, ())]] for name in ("train", "test"))
        refuse_single_images(listing.class_names, train, test)


@functools.lru_cache(maxsize=32)
def _log_once(text: str) -> None:
    # A run lists its folder more than once.
    log.info(text)


def _cut_test_split(listing: Listing, fraction: float, test_seed: int) -> Listing:
    """The listing with a share of each class as its test split, chosen by the files' names alone."""
    train, val = listing.splits["train"], listing.splits.get("val", range(0))
    labels = torch.tensor(listing.labels)[train.start : train.stop]
    tested, rest = cut_test(labels, (os.fsencode(listing.paths[row]) for row in train), fraction, test_seed)
    parts = {"train": rest.tolist(), "val": [*val], "test": tested.tolist()}
    order = [row for rows in parts.values() for row in rows]
    ends = np.cumsum([0, *map(len, parts.values())]).tolist()
    return replace(
        listing,
        paths=[listing.paths[row] for row in order],
        labels=[listing.labels[row] for row in order],
        versions=listing.versions[order],
        splits={name: range(*ends[at : at + 2]) for at, (name, rows) in enumerate(parts.items()) if rows},
        cut=(fraction, test_seed),
    )


def _choose_decoding(paths: Sequence[str], options: ImageFolderOptions, image_size: Size | None) -> Decoding:
    """Choose how files are decoded; channels and size that are not set follow some of the files."""
    red, green, blue = options.background
    how = Decoding(options.channels or 1, image_size or 1, options.resize, (red, green, blue))
    if options.channels is not None and image_size is not None:
        return how
    # If no file can be read, any size will do: the decoder will say why.
    found = probe_some(paths, PROBED) or [(format_path(paths[0]), (1, 1, 1))]
    name, (_, width, height) = found[0]
    for other, (_, w, h) in found if image_size is None else ():
        if (w, h) != (width, height):
            raise ValueError(_ask_for_size(f"{name!r} has {width} × {height} pixels, {other!r} {w} × {h}"))
    channels = options.channels or max(shape[0] for _, shape in found)
    return replace(how, channels=channels, image_size=image_size or to_image_size(height, width))


def _ask_for_size(problem: str) -> str:
    hint = "Set a whole number of pixels or [HEIGHT, WIDTH]; data.resize says how images are resized"
    return f"data.image_size=null, but {problem}. {hint}"


def _split(listing: Listing, part: range, stored: Stored, images: torch.Tensor | ImageFiles) -> dict[str, Split]:
    """The splits in a part of the listing, without bad images."""
    hashes, labels = torch.from_numpy(stored.hashes), torch.tensor(listing.labels)
    bad = part.start + np.array([*stored.bad], np.int64)
    splits = {}
    for name, rows in listing.splits.items():
        if rows.start < part.start or rows.stop > part.stop:
            continue
        places = torch.from_numpy(np.setdiff1d(np.arange(rows.start, rows.stop), bad))
        good = places - part.start
        marks = torch.cat((hashes[good], places[:, None]), 1)
        if isinstance(images, torch.Tensor) and len(good) == len(rows):
            whole = images[rows.start - part.start : rows.stop - part.start]
            splits[name] = Split(whole, labels[places], marks=marks)
        else:
            splits[name] = Split(images, labels[places], good, marks)
    return splits


def _refuse_empty(listing: Listing, splits: dict[str, Split], classes: Sequence[str] | None) -> None:
    """Refuse splits, and classes to train on, of which `on_bad_image=skip` left no image."""
    counts = splits["train"].labels.bincount(minlength=len(listing.class_names)).tolist() if classes is None else ()
    empty = [f"class {name!r}" for name, count in zip(listing.class_names, counts, strict=False) if not count]
    empty += [split for split, images in splits.items() if not len(images)]
    if empty:
        raise ValueError(f"data.path={format_path(listing.path)!r}: no image of {empty[0]} can be read")


def _count_workers(options: ImageFolderOptions, threads: int | None) -> int:
    """The number of processes that decode."""
    return min(threads or count_cores(), count_cores()) if options.workers is None else options.workers


def _refuse_bad(options: ImageFolderOptions, listing: Listing, bad: Sequence[tuple[str, str]]) -> None:
    if not bad or options.on_bad_image != "fail":
        return
    lines = join_some([f"{format_path(file)}: {reason}" for file, reason in bad[:SHOWN]], SHOWN, "\n  ", total=len(bad))
    absent = sum(reason == os.strerror(errno.ENOENT) for _, reason in bad)
    hint = ""
    if absent and listing.path != listing.root:
        hint = f" ({absent} not there: paths start from {format_path(listing.root)!r}, the CSV file's own folder)"
    raise ValueError(
        f"data.path={format_path(listing.path)!r}: {len(bad)} of {len(listing.paths)} files cannot be read as images"
        f"{hint}; data.on_bad_image=skip leaves them out\n  {lines}"
    )

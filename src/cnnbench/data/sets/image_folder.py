"""One's own images: a folder with a folder for each class, or a CSV file that names files and labels.

Layouts and order: listing.py, listing_csv.py. What a file must be: images.py. Where decoded images are kept:
pixel_store.py. A set that is larger than `data.memory_limit` stays in its files, and batches are decoded from them.
"""

import errno
import functools
import hashlib
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
import torch
from tqdm import tqdm

from cnnbench.data.dataset import DatasetInfo, Source, Split, image_size_of
from cnnbench.data.files.hashing import as_numbers
from cnnbench.data.files.image_files import ImageFiles, Paths, Reader, WrongSize, probed, read_blocks
from cnnbench.data.files.images import Decoding
from cnnbench.data.files.listing import Listing, list_folder
from cnnbench.data.files.listing_csv import list_csv
from cnnbench.data.files.pixel_store import Damaged, Stored, Writer, open_store
from cnnbench.data.files.signatures import FORMATS
from cnnbench.data.memory import parse_bytes, total_memory
from cnnbench.data.sets.test_cut import with_test as with_test_cut
from cnnbench.processes.cores import cores
from cnnbench.registry import register, unknown
from cnnbench.storage.text import format_path

log = logging.getLogger("cnnbench")

FORMAT = 2  # of what the cache holds; to be raised when the same files would decode to other pixels
PROBED = 100  # files that are looked at to find out channels and size
SHOWN = 20  # bad files that an error lists
ON_BAD_IMAGE = ("fail", "skip")


@register("data_kept", "image_folder")
@register("data", "image_folder")
def image_folder(
    root: str,
    download: bool,
    path: str | None,
    channels: int | None,
    resize: str,
    background: list[int],
    on_bad_image: str,
    cache: str | None,
    memory_limit: str | None,
    workers: int | None,
    image_size: int | Sequence[int] | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    with_test: bool = True,
    classes: list[str] | None = None,
) -> Source:
    """Images from files of one's own, decoded once at their final size.

    Args:
        root, download: not used; `path` says it all.
        path: `DIR/train/<class>/…` with `val` and `test` if there are any, `DIR/<class>/…`, or a CSV file.
        channels: 1 or 3; None is 3 if one of the probed images is in colour: 100, evenly spread over all.
        resize, background: as in `Decoding`.
        on_bad_image: `fail`, or `skip` to leave out what cannot be read.
        cache: the folder for decoded images; `auto` is the user's cache folder, None is none.
        memory_limit: decoded images that are larger together are decoded anew for each batch; None is a third of
            the memory.
        workers: processes that decode; None is one for each core, 0 decodes in this one.
        image_size: height and width, or one number for both; None is that of all images, if it is the same.
        test_fraction: the share of each class that is tested on, where the files have no test split; None cuts none.
        split_seed: which share.
        with_test: whether the files of the test split are opened; without, the source's test split is empty.
        classes: those of a run that is to be measured on the images, which may lack some, and a split to train on.

    Raises:
        ValueError: an option out of its range, a layout that is none, images that cannot be read or differ in size.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise ValueError(unknown("data.on_bad_image", on_bad_image, ON_BAD_IMAGE))
    if workers is not None and workers < 0:
        raise ValueError(f"data.workers={workers}: accepted is null or a whole number from 0")
    limit = total_memory() // 3 if memory_limit is None else parse_bytes("data.memory_limit", memory_limit)
    listing, cut = _listing(path, classes), None
    if test_fraction is not None and "test" not in listing.splits:
        cut = test_fraction, split_seed
        listing = with_test_cut(listing, test_fraction, split_seed)
    count, training = len(listing.paths), _training(listing)
    size = image_size if image_size is None or isinstance(image_size, int) else image_size_of(*image_size)
    how = _decoding(_paths(listing, training or range(count)), channels, size, resize, background)
    workers = cores() if workers is None else workers
    fits = count * math.prod(how.shape) <= limit
    splits: dict[str, Split] = {}
    bad: dict[int, str] = {}
    # Apart, so that who may not look at the test images opens none of their files.
    for rows in (training, range(training.stop, count) if with_test else range(0)):
        if rows:
            reader = Reader(_paths(listing, rows), how, one_size=image_size is None, keep=fits)
            where = _cache_file(cache, listing, reader, (cut, rows.start > 0))
            versions = listing.versions[rows.start : rows.stop]
            stored = _stored(_Wanted(_key(versions, reader), reader, versions[:, 0], where, workers))
            bad |= {rows.start + row: reason for row, reason in stored.bad.items()}
            splits |= _splits(listing, rows, stored, None if fits else ImageFiles(reader, workers))
    skipped = sorted((listing.paths[row], reason) for row, reason in bad.items())
    if skipped and on_bad_image == "fail":
        raise ValueError(_bad_images(listing, skipped))
    _refuse_empty(listing, splits, classes)
    some = next(iter(splits.values()))
    for split in ("train", "test") if "test" in listing.splits else ():
        splits.setdefault(split, some[torch.arange(0)])
    info = DatasetInfo("image_folder", how.channels, how.image_size, listing.class_names)
    left_out = tuple((format_path(file), reason) for file, reason in skipped)
    paths = _paths(listing, range(count))
    notes = tuple(f"{format_path(listing.path)}: {remark}" for remark in listing.remarks)
    return Source(info, splits["train"], splits.get("test"), splits.get("val"), left_out, paths, notes)


def _training(listing: Listing) -> range:
    """The rows that come before those of the test split."""
    return range(listing.splits["test"].start if "test" in listing.splits else len(listing.paths))


def _paths(listing: Listing, rows: range) -> Paths:
    return Paths(listing.root, listing.paths[rows.start : rows.stop])


def _listing(path: str | None, classes: Sequence[str] | None) -> Listing:
    if not path:
        raise ValueError(
            f"data.path={'null' if path is None else repr(path)}: accepted is a folder that holds a folder of images "
            "for each class, or a CSV file of path,label"
        )
    where = os.path.expanduser(path)
    is_table = os.path.isfile(where)
    if not is_table and not os.path.isdir(where):
        kind = "is neither a folder nor a file" if os.path.exists(where) else "does not exist"
        raise ValueError(f"data.path={format_path(path)!r} {kind}: looked for {format_path(os.path.abspath(where))!r}")
    listing = list_csv(where, classes) if is_table else list_folder(where, classes)
    if listing.ignored:
        named = ", ".join(format_path(name) for name in listing.ignored[:5])
        _say_once(f"{format_path(path)}: {len(listing.ignored)} entries outside any class are ignored: {named}")
    return listing


@functools.lru_cache(maxsize=32)
def _say_once(text: str) -> None:
    """A run looks at its folder more than once."""
    log.info(text)


def _decoding(
    paths: Paths, channels: int | None, image_size: int | tuple[int, int] | None, resize: str, background: Sequence[int]
) -> Decoding:
    """How files are decoded, as far as the user has not said it by a look at some of them."""
    colour = (background[0], background[1], background[2]) if len(background) == 3 else tuple(background)
    checked = Decoding(channels or 1, image_size or 1, resize, colour)  # type: ignore[arg-type]
    if channels is not None and image_size is not None:
        return checked
    found = probed(paths, PROBED)
    if not found:
        found = [(format_path(paths[0]), (1, 1, 1))]  # nothing can be read, and the decoder will say why
    if channels is None:
        channels = max(shape[0] for _, shape in found)
    if image_size is None:
        name, (_, width, height) = found[0]
        for other, (_, w, h) in found:
            if (w, h) != (width, height):
                raise ValueError(_ask_for_size(f"{name!r} has {width} × {height} pixels, {other!r} {w} × {h}"))
        image_size = image_size_of(height, width)
    return Decoding(channels, image_size, resize, checked.background)


def _ask_for_size(problem: str) -> str:
    accepted = "Accepted is a whole number of pixels, or [HEIGHT, WIDTH], and data.resize says how"
    return f"data.image_size=null, but {problem}. {accepted}"


@dataclass(frozen=True)
class _Wanted:
    """Files to be decoded, known by a key that changes with any of them."""

    key: str
    reader: Reader = field(compare=False)
    sizes: np.ndarray = field(compare=False)
    cache: Path | None = field(compare=False)
    workers: int = field(compare=False)


@functools.lru_cache(maxsize=4)
def _stored(wanted: _Wanted) -> Stored:
    """The decoded images: from the cache, or decoded now; the last two sets are kept, their test images apart."""
    count = len(wanted.sizes)
    if wanted.cache is not None:
        try:
            found = open_store(wanted.cache, wanted.key)
        except Damaged as damage:
            log.warning("the decoded images in %s are damaged: %s. Decoding them again", wanted.cache, damage)
        else:
            if found is not None and len(found.hashes) == 16 * count:
                log.info("%d images: decoded before, in %s", count, wanted.cache)
                return found
    shape = (count if wanted.reader.keep else 0, *wanted.reader.how.shape)
    writer = Writer(wanted.cache, shape)
    blocks = read_blocks(wanted.reader, wanted.sizes, wanted.workers)
    try:
        writer.start()
        # disable=None: a bar on a terminal, silence elsewhere.
        with tqdm(total=count, desc="decoding", unit="img", unit_scale=True, disable=None) as bar:
            for block in blocks:
                writer.add(block)
                bar.update(block.files)
        return writer.finish(wanted.key)
    except WrongSize as error:
        raise ValueError(_ask_for_size(str(error))) from None
    finally:
        blocks.close()
        writer.close()


def _key(versions: np.ndarray, reader: Reader) -> str:
    """Changes with the decoder, with what is asked of it, and with any file's name, size, times or inode."""
    asked = f"{FORMAT} {PIL.__version__} {FORMATS} {reader.how} {reader.one_size} {reader.keep} {len(versions)}"
    digest = hashlib.sha256(asked.encode())
    digest.update(reader.paths.content)
    digest.update(reader.paths.ends.tobytes())
    digest.update(versions.tobytes())
    return digest.hexdigest()


def _cache_file(cache: str | None, listing: Listing, reader: Reader, part: tuple[object, ...]) -> Path | None:
    """Where a set of images is kept: one file for each part of a folder and way of decoding, replaced when they change.

    Args:
        part: how the test split is cut, and whether this is it.
    """
    if cache is None:
        return None
    folder = Path(cache).expanduser()
    if cache == "auto":
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = Path(home) / "cnnbench"
    asked = f"{reader.how} {reader.one_size} {reader.keep} {part}"
    identity = hashlib.sha256(asked.encode() + os.fsencode(os.path.realpath(listing.path))).hexdigest()
    return folder / f"{identity[:24]}.pixels"


def _splits(listing: Listing, part: range, stored: Stored, files: ImageFiles | None) -> dict[str, Split]:
    """The splits that lie in a part of the listing: in memory, or in files."""
    images = torch.from_numpy(stored.pixels) if files is None else files
    hashes = torch.from_numpy(as_numbers(stored.hashes)).view(-1, 2)
    labels = torch.tensor(listing.labels)
    bad = part.start + np.array([*stored.bad], np.int64)
    found = {}
    for name, rows in listing.splits.items():
        if rows.start < part.start or rows.stop > part.stop:
            continue
        places = torch.from_numpy(np.setdiff1d(np.arange(rows.start, rows.stop), bad))
        good = places - part.start
        marks = torch.cat((hashes[good], places[:, None]), 1)
        if isinstance(images, torch.Tensor) and len(good) == len(rows):
            whole = images[rows.start - part.start : rows.stop - part.start]
            found[name] = Split(whole, labels[places], marks=marks)
        else:
            found[name] = Split(images, labels[places], good, marks)
    return found


def _refuse_empty(listing: Listing, splits: dict[str, Split], classes: Sequence[str] | None) -> None:
    """A class may have lost all of its images to `skip`."""
    counts = splits["train"].labels.bincount(minlength=len(listing.class_names)) if classes is None else torch.ones(1)
    for name, count in zip(listing.class_names, counts.tolist(), strict=False):
        if count == 0:
            raise ValueError(f"data.path={format_path(listing.path)!r}: no image of class {name!r} can be read")
    for split, images in splits.items():
        if not len(images):
            raise ValueError(f"data.path={format_path(listing.path)!r}: no image of {split} can be read")


def _bad_images(listing: Listing, bad: Sequence[tuple[str, str]]) -> str:
    lines = [f"\n  {format_path(file)}: {reason}" for file, reason in bad[:SHOWN]]
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    absent = sum(reason == os.strerror(errno.ENOENT) for _, reason in bad)
    hint = ""
    if absent and listing.path != listing.root:
        hint = f" ({absent} not there: paths start from {format_path(listing.root)!r}, the CSV file's own folder)"
    return (
        f"data.path={format_path(listing.path)!r}: {len(bad)} of {len(listing.paths)} files cannot be read as images"
        f"{hint}; data.on_bad_image=skip leaves them out{''.join(lines)}{more}"
    )

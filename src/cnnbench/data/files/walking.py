"""Find the files below a folder, without hidden files, system files and this program's own output."""

import os
import re
from collections.abc import Callable, Collection, Iterator

Complain = Callable[[str, str], None]

CACHE = ".pixels"  # of decoded images
OUTPUTS = "outputs"  # where runs go by default
IMAGE_ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".heic", ".heif"),
)
# Of Windows, macOS, network drives of Synology and QNAP, and MLflow.
_LITTER = re.compile(
    r"\..*|e?h?thumbs(_vista)?\.db(:.*)?|desktop\.ini|picasa\.ini|icon\r|.*:zone\.identifier|.*\.pixels|__macosx"
    r"|__pycache__|ipynb_checkpoints|@eadir|@__thumb|@recycle|#recycle|#snapshot|\$recycle\.bin|recycler"
    r"|system volume information|lost\+found|network trash folder|temporary items|mlruns|mlartifacts|.*\.artifacts",
    re.IGNORECASE | re.DOTALL,
)
# Files that together show a folder of this program: a run, one that has just begun, a sweep, a study, a report,
# figures, heat maps, an explanation, a check.
_OURS = (
    {"config.yaml", "overrides.yaml"},
    {"train.log", ".lock"},
    {"jobs.json", "sweep.yaml"},
    {"study.yaml"},
    {"report.md", "results.csv", "groups.csv"},
    {"metrics.json", "predictions.npz"},
    {"metrics.json", "reconstructions.png"},
    {"heat_maps.csv"},
    {"explanation.html", "feature_maps_1.png"},
    {"check.json", "check.html"},
)
_PREVIEW = {"augmented.png"}


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, belongs to the system, or is a cache of this program."""
    return _LITTER.fullmatch(name) is not None


def is_ours(names: Collection[str]) -> bool:
    """Whether this program wrote a folder that holds these names."""
    found = {*names}
    return any(files <= found for files in _OURS) or found == _PREVIEW


def has_image_ending(name: str) -> bool:
    """Whether a file has an image's ending; others may still be images by content."""
    return name.lower().endswith(IMAGE_ENDINGS)


def walk_files(folder: str, complain: Complain, ours: list[str] | None = None) -> Iterator[str]:
    """Walk through all files in and below a folder, sorted by name; a folder's files take its place in the order.

    Litter and folders that this program wrote are left out. Links to folders are followed, each folder once.

    Args:
        complain: called with a folder that cannot be read, and the reason.
        ours: receives the paths of the folders that this program wrote.
    """
    seen: set[tuple[int, int]] = set()  # links can lead in circles
    waiting = [("", True)]
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        where = os.path.join(folder, path) if path else folder
        try:
            found = os.stat(where)
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            entries = scan(where)
        except OSError as error:
            complain(where, error.strerror or str(error))
            continue
        if path and is_ours([entry.name for entry in entries]):
            if ours is not None:
                ours.append(path)
            continue
        # On a stack: pushed in reverse, entries are popped by name, each folder followed by its content.
        counted = (entry for entry in reversed(entries) if not is_litter(entry.name))
        waiting += ((f"{path}/{entry.name}" if path else entry.name, leads_to_folder(entry)) for entry in counted)


def scan(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, by name."""
    with os.scandir(folder) as inside:
        return sorted(inside, key=lambda entry: entry.name)


def holds_only_ours(folder: str) -> bool:
    """Whether this program wrote a folder, or the folder holds such folders and no images beside them."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    is_outputs = os.path.basename(folder) == OUTPUTS
    if is_ours(names):
        return True
    if not is_outputs and any(map(has_image_ending, names)):
        return False
    ours: list[str] = []
    # A list, not a generator, because only a complete walk fills `ours`.
    if any([has_image_ending(file) for file in walk_files(folder, lambda *_: None, ours)]):
        return is_outputs and bool(ours)
    return bool(ours) or is_outputs or any(name.endswith(CACHE) for name in names)


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False

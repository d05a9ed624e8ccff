"""From the measurements of images to findings."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding
from cnnbench.quality.images import CheckedImages
from cnnbench.quality.near import find_near_pairs
from cnnbench.quality.outliers import BLANK, find_suspects

FEWEST = 5  # training images of a class, where validation images are cut from them
OF_IMAGES = ("near_leak", "near_conflict", "near_duplicate", "blank", "size", "shape", "brightness", "colour")
EXACT = "the same pixels"

Cases = dict[str, list[Case]]


def check_images(images: CheckedImages) -> DataCheck:
    """Look for every kind of finding; the result depends on the images alone."""
    cases: Cases = {kind: [] for kind in KINDS if kind != "label"}  # `add_label_suspects` finds those
    groups = list(_group_equal(images))
    _add_equal(cases, images, groups)
    notes = [*images.notes]
    if images.dimensions == 2:
        _add_near(cases, images, groups)
        for kind, suspects in find_suspects(images.probes):
            cases[kind] = [_make_case(images, [row], [0], detail) for row, detail in suspects]
    else:
        constant = np.flatnonzero(images.probes.ranges == 0).tolist()
        cases["constant"] = [_make_case(images, [row], [0], "every value is the same") for row in constant]
        notes.append("these are signals: only images are checked for near duplicates and unusual ones")
        cases = {kind: found for kind, found in cases.items() if kind not in OF_IMAGES}
    cases["unreadable"] = [_make_case(images, [row], [0], why) for row, why in sorted(images.probes.bad.items())]
    cases["small_class"] = [*_find_small_classes(images)]
    return DataCheck(
        data=images.data,
        path=images.path,
        key=images.key,
        splits={name: len(rows) for name, rows in images.splits.items()},
        class_names=images.class_names,
        findings={kind: Finding(len(found), tuple(found)) for kind, found in cases.items()},
        notes=tuple(notes),
    )


def _make_case(images: CheckedImages, rows: Sequence[int], excluded: Sequence[int], detail: str) -> Case:
    names = tuple(images.name_image(row) for row in rows)
    return Case(names, tuple(excluded), detail, names[-1].label)


def _group_equal(images: CheckedImages) -> Iterator[np.ndarray]:
    """The rows of images that share their pixels, ascending; a group may be a single image."""
    good = np.flatnonzero(images.probes.are_good)
    order = good[np.argsort(images.probes.hashes[good, 1], kind="stable")]
    pixels = images.probes.hashes[order, 1]
    ends = [0, *(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1), len(order)]
    groups = (order[start:stop] for start, stop in pairwise(ends) if stop > start)
    return iter(sorted(groups, key=lambda rows: int(rows[0])))


def _add_equal(cases: Cases, images: CheckedImages, groups: Iterable[np.ndarray]) -> None:
    """Add duplicates, leaks and conflicts among images with the same pixels."""
    for rows in groups:
        if len(rows) == 1:
            continue
        splits, labels = images.locate_splits(rows), images.labels[rows]
        for at in range(1, len(rows)):
            same = int(np.argmax(splits == splits[at]))
            if same < at:
                cases["duplicate"].append(_make_case(images, rows[[same, at]].tolist(), [1], EXACT))
            if splits[0] != splits[at]:
                cases["leak"].append(_make_case(images, rows[[0, at]].tolist(), [1], EXACT))
        if labels.min() < labels.max():
            pairs = {tuple(sorted((at, int(np.argmax(labels != labels[at]))))) for at in range(len(rows))}
            for pair in sorted(pairs):
                cases["conflict"].append(_make_case(images, rows[[*pair]].tolist(), [0, 1], EXACT))


def _add_near(cases: Cases, images: CheckedImages, groups: Iterable[np.ndarray]) -> None:
    """Add pairs of nearly equal images; each later image with the one before it that is most like it."""
    rows = np.array([group[0] for group in groups], np.int64)
    # Images without structure cannot be compared, and are findings themselves.
    rows = rows[images.probes.deviations[rows] >= BLANK]
    seen: set[tuple[str, int]] = set()
    for first, second, distance in find_near_pairs(images.probes, rows):
        splits, labels = images.locate_splits(np.array((first, second))), images.labels[[first, second]]
        kinds = ["near_duplicate" if splits[0] == splits[1] else "near_leak"]
        kinds += ["near_conflict"] if labels[0] != labels[1] else []
        for kind in kinds:
            if (kind, second) not in seen:
                seen.add((kind, second))
                excluded = [0, 1] if kind == "near_conflict" else [1]
                cases[kind].append(_make_case(images, (first, second), excluded, f"distance {distance:.3f}"))


def _find_small_classes(images: CheckedImages) -> Iterator[Case]:
    counts = {
        name: np.bincount(images.labels[rows.start : rows.stop], minlength=len(images.class_names))
        for name, rows in images.splits.items()
    }
    for label, name in enumerate(images.class_names):
        few = [split for split, found in counts.items() if not found[label]]
        if few or ("val" not in counts and counts["train"][label] < FEWEST):
            yield Case((), (), ", ".join(f"{found[label]} in {split}" for split, found in counts.items()), name)

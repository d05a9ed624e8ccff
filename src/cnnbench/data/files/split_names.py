"""Recognise splits by the names of folders or the words of a table, in all usual spellings."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NoReturn

from cnnbench.storage.text import format_path, join_some

WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
SHOWN = 5  # names in an error
# Words without meaning: train_set, TestImages, validation-data.
_FILLERS = {"set", "sets", "dataset", "data", "images", "image", "imgs", "img", "photos", "pictures", "folder", "split"}
_SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})({'|'.join(sorted(_FILLERS))})")
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\da-zA-Z_]+")
FORM = "train/<class>/… with val/<class>/… and test/<class>/… beside it"


def parse_split(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a name means and its other words, ("train", ("seg",)) for seg_train; None for none or several."""
    tokens = [part for token in _TOKEN.findall(name) for part in _divide(token.casefold())]
    splits = [_SPLIT_OF[token] for token in tokens if token in _SPLIT_OF]
    if len(splits) != 1:
        return None
    return splits[0], tuple(token for token in tokens if token not in _SPLIT_OF and token not in _FILLERS)


def _divide(token: str) -> Sequence[str]:
    joined = _JOINED.fullmatch(token)
    return joined.groups() if joined else (token,)


def choose_split_folders(
    where: str,
    folders: Sequence[str],
    *,
    is_flat: Callable[[str], bool],
    has_images: Callable[[str], bool],
    needs_train: bool = True,
) -> dict[str, str]:
    """The folder of each split; empty if all folders are classes.

    Splits hold folders, and their names differ only in the split's own word (`Train` and `Test`, `seg_train` and
    `seg_test`).

    Args:
        where: the name of the dataset in errors.
        is_flat: whether a folder holds files and no folders.
        has_images: whether there are images in a folder or below.
        needs_train: whether splits without one to train on are refused.

    Raises:
        ValueError: a folder may be a split or a class, or a split has two folders.
    """
    named = {folder: found for folder in folders if (found := parse_split(folder))}
    groups: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for folder, (split, rest) in named.items():
        groups[rest][split].append(folder)
    evident = [group for rest, group in groups.items() if not rest or len(group) > 1]
    if not evident:
        return {}
    group = evident[0]
    if len(evident) > 1:
        refuse_ambiguous(where, [folder for one in evident for found in one.values() for folder in found])
    for several in group.values():
        if len(several) > 1:
            raise ValueError(f"{where} has {_join(several)}: keep one of them")
    chosen = {split: group[split][0] for split in WORDS if split in group}
    if "train" not in chosen and needs_train:
        refuse_ambiguous(
            where, [*chosen.values()], f"has a folder {next(iter(chosen.values()))!r} but none called 'train'"
        )
    others = [folder for folder in folders if folder not in chosen.values()]
    if "train" in chosen and is_flat(chosen["train"]):
        refuse_ambiguous(where, [*chosen.values()], f"has no class folders in {chosen['train']!r}")
    if len(chosen) == 1 and (beside := [folder for folder in others if has_images(folder)]):
        only = next(iter(chosen.values()))
        refuse_ambiguous(where, [only], f"has {_join(beside)} beside {only!r}")
    if doubtful := [folder for folder in others if folder in named and named[folder][0] not in chosen]:
        refuse_ambiguous(where, doubtful, f"has {_join(doubtful)} beside {_join([*chosen.values()])}")
    return chosen


def refuse_ambiguous(where: str, folders: Sequence[str], found: str | None = None) -> NoReturn:
    """Refuse folders that may be splits or classes, and say how to write each."""
    names, one = _join(folders), len(folders) == 1
    raise ValueError(
        f"{where} {found or f'has {names}'}: {names} may be {'a split or a class' if one else 'splits or classes'}. "
        f"Splits must be {FORM}, and no other folder; for {'a class' if one else 'classes'}, another name, or "
        "all class folders together in one called train"
    )


def _join(names: Sequence[str]) -> str:
    shown = [format_path(name) for name in names]
    if not 1 < len(shown) <= SHOWN:
        return join_some(shown, SHOWN)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"

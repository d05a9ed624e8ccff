"""Normalise the spelling of labels, and find different labels that look alike."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

from cnnbench.storage.text import format_path, join_some

_DECIMAL = re.compile(r"[+-]?\d+\.\d*(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LARGEST = 2**53  # above it, a float is no longer the whole number that was written
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
SHOWN = 5
LONGEST = 1_000  # characters, because a run writes the name of each class into several tables


def normalize_label(label: str) -> str:
    """The label without surrounding blanks, its accents composed as keyboards write them (NFC)."""
    text = unicodedata.normalize("NFC", label)
    while text != (text := text.strip().strip(_INVISIBLE)):
        pass
    return text


def find_label_problem(label: str) -> str | None:
    """What is wrong with a label of a table; None if nothing is."""
    form = normalize_label(label)
    if len(form) > LONGEST:
        return f"has {len(form):,} characters, the limit is {LONGEST:,}"
    return None if form else "is empty"


def unify_labels(labels: Iterable[str]) -> dict[str, str]:
    """The normal form of each label of a table; if all are whole numbers, without decimals."""
    forms = {label: normalize_label(label) for label in {*labels}}
    if not all(map(_is_whole, forms.values())):
        return forms
    # Programs write the class 1 as `1`, `1.0` or `1.000000000000000000e+00`, sometimes in one column.
    return {label: str(int(float(form))) if _DECIMAL.fullmatch(form) else form for label, form in forms.items()}


def _is_whole(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and float(text).is_integer() and abs(float(text)) < _LARGEST


def group_alike(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case, blanks, hyphens, accents' encoding, or the way a number is written."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_make_key(name)].append(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def describe_alike(names: Iterable[str]) -> str:
    """A warning about names that look alike; empty if none do."""
    if not (alike := _format_groups(group_alike(names))):
        return ""
    return (
        f"{alike} are separate classes, although they differ only in spelling: if they are one, write them the same way"
    )


def hint_at_alike(names: Collection[str], known: Collection[str]) -> str:
    """A hint for an error, which unknown names look like known ones; empty if none does."""
    pairs = [pair for pair in group_alike([*names, *known]) if {*pair} & {*names} and {*pair} & {*known}]
    return f" ({_format_groups(pairs)} differ in spelling alone: write them the same way)" if pairs else ""


def _format_groups(groups: Collection[Collection[str]]) -> str:
    return join_some([" and ".join(repr(format_path(name)) for name in group) for group in groups], SHOWN, "; ")


def _make_key(name: str) -> str:
    text = normalize_label(name)
    if _NUMBER.fullmatch(text):
        return repr(float(text))
    text = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c) != "Cf")
    return " ".join(re.split(r"[\s_-]+", text)).strip()

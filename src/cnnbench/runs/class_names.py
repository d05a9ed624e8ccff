"""Class names as pictures show them: short, all different, and in letters that a font has."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib import font_manager, ft2font, rcParams

from cnnbench.storage.text import make_printable

LONGEST = 16  # characters of a name in a picture
HEAD = 4  # characters that a name keeps in front of where it differs from others
_SHAPED = hasattr(ft2font, "__libraqm_version__")  # matplotlib 3.11 joins and orders letters, those before it do not
# Scripts whose letters join, turn round or change places: one by one, in the order of the text, nobody can read them.
_JOINED = ((0x0590, 0x08FF), (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF))
_VARIATIONS = dict.fromkeys((0xFE0E, 0xFE0F))  # ask for an emoji in colour or not, and have no shape


@dataclass(frozen=True)
class Names:
    """Names ready for a picture.

    Attributes:
        shown: at most `LONGEST` characters each, all different, no mathematical text; `#k` for class k, counted from 0,
            where no installed font has its letters.
        fonts: the families to write them in; the first that has a letter writes it.
        numbered: the classes that are numbers.
    """

    shown: list[str]
    fonts: list[str]
    numbered: list[int]

    def key(self, where: str = "of per_class.csv") -> list[str]:
        """A line for the picture that says what its numbers are; none where it has none."""
        return [f"#k: class k {where}, from 0 (no font here has its letters)"] if self.numbered else []

    @property
    def width(self) -> float:
        """Of the longest, in letters of the Latin alphabet."""
        return max(map(cells, self.shown), default=0)


def cells(text: str) -> int:
    """How wide a text is, in letters of the Latin alphabet."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def for_figure(names: Sequence[str], longest: int = LONGEST) -> Names:
    """The names as a picture shows them."""
    letters = frozenset(letter for name in names for letter in _letters(name))
    written = _families(letters)
    numbered = [k for k, name in enumerate(names) if not _letters(name) <= written.keys()]
    shown = apart(names, longest)
    for k in numbered:
        shown[k] = f"#{k}"
    fonts = [*rcParams["font.family"], *dict.fromkeys(written.values())]
    return Names([_isolated(name).replace("$", r"\$") for name in shown], fonts, numbered)


def apart(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """The names on one line, cut in the middle where they are too long; those that differ still do."""
    whole = [_line(name) for name in names]
    shown = [shorten(name, longest) for name in whole]
    for _ in range(3):
        for alike in _alike(shown):
            first, last = min(whole[k] for k in alike), max(whole[k] for k in alike)
            start = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
            for k in alike:
                shown[k] = _from(whole[k], start, longest)
    for alike in _alike(shown):
        for k in alike:
            shown[k] = f"{shorten(whole[k], longest - len(f' #{k}'))} #{k}"
    return shown


def _isolated(name: str) -> str:
    """A name between marks, if it runs from right to left: what stands before and after it would else change places."""
    return f"\u200e{name}\u200e" if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name) else name


def _line(name: str) -> str:
    """A name on one line; a letter and its accent are one, as fonts have them."""
    return make_printable(" ".join(unicodedata.normalize("NFC", name).translate(_VARIATIONS).split()))


def shorten(name: str, longest: int) -> str:
    """The text, its middle left out if it is too long."""
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[len(name) - tail :]}"


def _from(name: str, start: int, longest: int) -> str:
    """The name's beginning, and what follows from where it differs from others."""
    if start <= HEAD + 1:
        return name if len(name) <= longest else f"{name[: longest - 1]}…"
    rest, room = name[start:], longest - HEAD - 1
    return f"{name[:HEAD]}…{rest if len(rest) <= room else f'{rest[: room - 1]}…'}"


def _alike(shown: Sequence[str]) -> Iterator[list[int]]:
    """The indices of each text that there is more than once."""
    places = defaultdict(list)
    for k, name in enumerate(shown):
        places[name].append(k)
    yield from (found for found in places.values() if len(found) > 1)


def _letters(name: str) -> set[str]:
    """What a font may lack of a name."""
    return set() if name.isascii() else {letter for letter in _line(name) if not letter.isascii()}


@cache
def _families(letters: frozenset[str]) -> dict[str, str]:
    """Which font family writes each letter; those that none can write are not in it."""
    if not _SHAPED:
        letters = frozenset(c for c in letters if not any(low <= ord(c) <= high for low, high in _JOINED))
    found: dict[str, str] = {}
    own = font_manager.findfont(font_manager.FontProperties())
    # Asked of the system, not of matplotlib's list, which is as old as its cache.
    for path in [own, *sorted(font_manager.findSystemFonts(), key=_preference)] if letters else []:
        missing = letters - found.keys()
        if not missing:
            break
        try:
            font = font_manager.get_font(path)
            written = [letter for letter in missing if _writes(font, letter)]
            if written and path != own:
                font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):
            continue  # a broken file, or a kind that matplotlib does not read
        found |= dict.fromkeys(written, font.family_name)
    return found


def _preference(path: str) -> tuple[bool, str]:
    """Plain letters before bold or slanted ones."""
    name = os.path.basename(path).lower()
    return any(word in name for word in ("bold", "italic", "oblique", "black", "light", "thin", "mono")), name


def _writes(font: ft2font.FT2Font, letter: str) -> bool:
    """Whether the font has a shape for a letter: not a box for any, and not a picture in colour."""
    if not font.scalable or "lastresort" in font.fname.lower() or not font.get_char_index(ord(letter)):
        return False
    font.set_size(10, 100)
    return letter.isspace() or unicodedata.combining(letter) > 0 or font.load_char(ord(letter)).width > 0

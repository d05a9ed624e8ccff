"""Class names for pictures: short, distinct, and in letters that an installed font has."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cnnbench.storage.text import make_printable

if TYPE_CHECKING:  # takes half a second, and only pictures need fonts
    from matplotlib.ft2font import FT2Font

LONGEST = 16  # characters of a name in a picture
HEAD = 4  # characters kept in front of the place where a name differs from others
# Scripts whose letters join or change places. Drawn one by one in the order of the text, they are unreadable.
_JOINED = ((0x0590, 0x08FF), (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF))
_VARIATIONS = dict.fromkeys((0xFE0E, 0xFE0F))  # ask for an emoji in colour or not; they have no shape


@dataclass(frozen=True)
class Names:
    """Names ready for a picture.

    Attributes:
        shown: at most `LONGEST` characters each, all different, no mathematical text; `#k` for class k, counted from 0,
            if no installed font has its letters.
        fonts: the families to write them in; the first that has a letter writes it.
        numbered: the classes that are shown as numbers.
    """

    shown: list[str]
    fonts: list[str]
    numbered: list[int]

    def explain_numbers(self, where: str = "of per_class.csv") -> list[str]:
        """A line for the picture that says what its numbers are; none if it has no numbers."""
        return [f"#k: class k {where}, from 0 (no font here has its letters)"] if self.numbered else []

    @property
    def width(self) -> float:
        """The width of the longest name, in Latin letters."""
        return max(map(count_cells, self.shown), default=0)


def count_cells(text: str) -> int:
    """The width of a text, in Latin letters."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def fit_names(names: Sequence[str], longest: int = LONGEST) -> Names:
    """The names as a picture shows them."""
    from matplotlib import rcParams

    letters = frozenset(letter for name in names for letter in _find_rare_letters(name))
    families = _find_families(letters)
    numbered = [k for k, name in enumerate(names) if not _find_rare_letters(name) <= families.keys()]
    shown = shorten_distinctly(names, longest)
    for k in numbered:
        shown[k] = f"#{k}"
    fonts = [*rcParams["font.family"], *dict.fromkeys(families.values())]
    return Names([_isolate(name).replace("$", r"\$") for name in shown], fonts, numbered)


def shorten_distinctly(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """The names on one line each, cut in the middle if they are too long; names that differ stay different."""
    whole = [_to_line(name) for name in names]
    shown = [shorten_text(name, longest) for name in whole]
    for _ in range(3):  # names cut anew may equal others
        for alike in _find_equal(shown):
            first, last = min(whole[k] for k in alike), max(whole[k] for k in alike)  # the rest lies between them
            start = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
            for k in alike:
                shown[k] = _show_from(whole[k], start, longest)
    # What no cut can distinguish, its number does.
    for alike in _find_equal(shown):
        for k in alike:
            shown[k] = f"{shorten_text(whole[k], longest - len(f' #{k}'))} #{k}"
    return shown


def _isolate(name: str) -> str:
    # Without these left-to-right marks, a right-to-left name would change places with its neighbours.
    return f"\u200e{name}\u200e" if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name) else name


def _to_line(name: str) -> str:
    """A name on one line; a letter and its accent become one character, as fonts have them."""
    return make_printable(" ".join(unicodedata.normalize("NFC", name).translate(_VARIATIONS).split()))


def shorten_text(text: str, longest: int) -> str:
    """The text, without its middle if it is too long."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def _show_from(name: str, start: int, longest: int) -> str:
    """The name's beginning, and what follows from the place where it differs from others."""
    if start <= HEAD + 1:
        return name if len(name) <= longest else f"{name[: longest - 1]}…"
    rest, room = name[start:], longest - HEAD - 1
    return f"{name[:HEAD]}…{rest if len(rest) <= room else f'{rest[: room - 1]}…'}"


def _find_equal(shown: Sequence[str]) -> list[list[int]]:
    """The places of each text that occurs more than once."""
    places = defaultdict(list)
    for k, name in enumerate(shown):
        places[name].append(k)
    return [found for found in places.values() if len(found) > 1]


def _find_rare_letters(name: str) -> set[str]:
    """The letters of a name that a font may lack."""
    return set() if name.isascii() else {letter for letter in _to_line(name) if not letter.isascii()}


@cache
def _find_families(letters: frozenset[str]) -> dict[str, str]:
    """The font family that writes each letter; letters that none can write are left out."""
    from matplotlib import font_manager, ft2font

    if not hasattr(ft2font, "__libraqm_version__"):  # matplotlib joins and orders letters from 3.11 on
        letters = frozenset(c for c in letters if not any(low <= ord(c) <= high for low, high in _JOINED))
    found: dict[str, str] = {}
    own = font_manager.findfont(font_manager.FontProperties())
    # Fonts are listed by the system, not by matplotlib, whose list is as old as its cache.
    for path in [own, *sorted(font_manager.findSystemFonts(), key=_prefer_plain)] if letters else []:
        missing = letters - found.keys()
        if not missing:
            break
        try:
            font = font_manager.get_font(path)
            written = [letter for letter in missing if _has_shape(font, letter)]
            if written and path != own:
                font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):
            continue  # a broken file, or a kind that matplotlib does not read
        found |= dict.fromkeys(written, font.family_name)
    return found


def _prefer_plain(path: str) -> tuple[bool, str]:
    """A sort key that puts plain letters before bold or slanted ones."""
    name = os.path.basename(path).lower()
    return any(word in name for word in ("bold", "italic", "oblique", "black", "light", "thin", "mono")), name


def _has_shape(font: "FT2Font", letter: str) -> bool:
    """Whether the font has a shape for a letter that is neither a box for any letter nor a picture in colour."""
    if not font.scalable or "lastresort" in font.fname.lower() or not font.get_char_index(ord(letter)):
        return False
    font.set_size(10, 100)
    return letter.isspace() or unicodedata.combining(letter) > 0 or font.load_char(ord(letter)).width > 0

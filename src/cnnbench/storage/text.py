r"""Names that anybody may have chosen (classes, files, runs), put where they may be read but do nothing.

A terminal obeys escape sequences, a table breaks at a line feed, Markdown and HTML have marks, a spreadsheet computes
what begins with `=`. Each function here is for one such place; `report.names` is for pictures.
"""

import os
import re
import sys

# What makes a spreadsheet take a cell for a formula, also in full-width forms.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Between letters an underscore is only an underscore. A colon or an @ could make a link of what stands around it.
_MARKDOWN = re.compile(r"[\\`*\[\]{}|~$#!:@]|(?<![^\W_])_|_(?![^\W_])")
_LIST = re.compile(r"^(\s*)(\d*)([-+.)=])")


def shown_name(file: str | bytes | os.PathLike) -> str:
    r"""A path as it may be printed: control and format characters (newlines, bidi marks) and bad UTF-8 as \x…, \u…."""
    return printable(os.fsdecode(file))


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """A message of several lines, with nothing in it but line feeds that a terminal would obey."""
    return "\n".join(map(printable, text.split("\n")))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how os.fsdecode carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def for_output(path: object) -> str:
    """A path for standard output: exact for programs that read it, printable where it is a terminal."""
    return printable(str(path)) if sys.stdout.isatty() else str(path)


def for_table(value: object) -> str:
    """A cell of a rich table: printable, and no markup such as `[red]`."""
    from rich.markup import escape

    return escape(printable(str(value)))


def for_markdown(value: object) -> str:
    """Text of one line that Markdown, in a table too, shows as it is: no marks, no links, no HTML."""
    text = printable(str(value)).replace("&", "&amp;")
    text = _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return _LIST.sub(r"\1\2\\\3", text)


def for_csv(value: object) -> object:
    """A cell of a CSV file that no spreadsheet computes: text that looks like a formula gets an apostrophe in front.

    Numbers stay as they are, and so does text that is one. `from_csv` takes back exactly the apostrophes put here.
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def from_csv(cell: str) -> str:
    """The text that `for_csv` made a cell of."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    # Apostrophes in front may be one of ours, and would be taken for it if a formula follows.
    return text.lstrip("'").startswith(FORMULA) and not _NUMBER.fullmatch(text)


def percent(share: float, digits: int = 2, *, sign: str = "%") -> str:
    """A share such as `98.71%`: what is not all never reads 100, and what is not nothing never 0."""
    for more in range(digits, digits + 4):
        text = f"{100 * share:.{more}f}"
        if not (0 < share < 1 and float(text) in (0, 100)):
            break
    else:
        text = f"<{10**-more:.{more}f}" if share < 0.5 else f">{100 - 10**-more:.{more}f}"
    return text + sign

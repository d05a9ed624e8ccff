r"""Make names from strangers (of classes, files, runs) safe to show.

A terminal obeys escape sequences, a line feed breaks a table, and Markdown and rich have markup. Each function here
serves one medium; `csv_tables` serves spreadsheets, and `runs.class_names` pictures.
"""

import os
import re
import sys
from collections.abc import Sequence

# An underscore between letters is not emphasis. A colon or an @ could turn the text around it into a link.
_MARKDOWN = re.compile(r"[\\`*\[\]{}|~$#!:@]|(?<![^\W_])_|_(?![^\W_])")
_LIST = re.compile(r"^(\s*)(\d*)([-+.)=])")


def make_printable(text: str) -> str:
    """The text on one line, with what a terminal would obey escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def make_lines_printable(text: str) -> str:
    """`make_printable` for each line of a message."""
    return "\n".join(map(make_printable, text.split("\n")))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's form of a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def format_path(file: str | bytes | os.PathLike) -> str:
    r"""A path for messages; control and format characters (newlines, bidi marks) and bad UTF-8 become \x…, \u…."""
    return make_printable(os.fsdecode(file))


def format_output_path(path: object) -> str:
    """A path for standard output: printable on a terminal, exact for a program that reads it."""
    return make_printable(str(path)) if sys.stdout.isatty() else str(path)


def escape_for_table(value: object) -> str:
    """A cell of a rich table: printable, without markup such as `[red]`."""
    from rich.markup import escape

    return escape(make_printable(str(value)))


def escape_for_markdown(value: object) -> str:
    """One line of text that Markdown, also in a table, shows literally: no markup, links or HTML."""
    text = make_printable(str(value)).replace("&", "&amp;")
    text = _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return _LIST.sub(r"\1\2\\\3", text)


def join_some(words: Sequence[str], most: int, separator: str = ", ", *, total: int | None = None) -> str:
    """The first few words, and how many more there are: `a, b and 3 more`, or with semicolons `a; b; and 3 more`.

    Args:
        total: how many there are, if `words` are only the first of them.
    """
    more = (len(words) if total is None else total) - most
    last = " and" if separator == ", " else f"{separator}and"
    return separator.join(words[:most]) + (f"{last} {more:,} more" if more > 0 else "")


def format_percent(share: float, digits: int = 2, *, sign: str = "%") -> str:
    """A share such as `98.71%`, with more digits where it would wrongly round to 0 or 100."""
    for more in range(digits, digits + 4):  # 99.996 % must not read 100.00 %
        text = f"{100 * share:.{more}f}"
        if not (0 < share < 1 and float(text) in (0, 100)):
            break
    else:
        text = f"<{10**-more:.{more}f}" if share < 0.5 else f">{100 - 10**-more:.{more}f}"
    return text + sign


def to_unicode(name: str) -> str:
    r"""Return a name as Unicode; the byte 0xff of a path that is not UTF-8 becomes \udcff, as Python shows it."""
    return name.encode("utf-8", "backslashreplace").decode()


def get_first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank; without one, the error's type."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

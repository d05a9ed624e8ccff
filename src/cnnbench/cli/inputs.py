"""Find the images that a command line names: files, folders, patterns, and a list on standard input."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

from cnnbench.data.files.signatures import looks_like_image
from cnnbench.data.files.walking import Complain, has_image_ending, is_litter, is_ours, walk_files

LeaveOut = Callable[[str], None]


def find_images(
    arguments: Sequence[str], *, null: bool, complain: Complain, leave_out: LeaveOut = lambda _: None
) -> Iterator[str]:
    """Yield every file that the arguments name, in their order.

    A folder means all images in it and below it, sorted by name as `walk_files` finds them; a symlink to a folder is
    followed once. A pattern (`*`, `?`, `[…]`, `**`) that the shell has not expanded is expanded here, without the
    files that a folder would leave out. `-` reads files and folders from standard input. An argument that does not
    exist and matches nothing is yielded unchanged, so that its error appears with those of other files.

    Args:
        null: paths on standard input end with a null byte, not with a line feed.
        complain: called with each folder that cannot be read, and the reason.
        leave_out: called with each file in a folder that is not an image by name or content.

    Raises:
        ValueError: none of the arguments exists.
    """
    expanded = [(argument, _match(argument)) for argument in arguments]
    if not any(matches for _, matches in expanded):
        reason = "matches nothing" if glob.has_magic(arguments[0]) else "does not exist"
        raise ValueError(f"{arguments[0]!r} {reason}: give files, folders, patterns, or - for standard input")
    return _expand(expanded, null, partial(_find_below, complain=complain, leave_out=leave_out))


def _expand(expanded: list[tuple[str, list[str]]], null: bool, below: Callable[[str], Iterator[str]]) -> Iterator[str]:
    for argument, matches in expanded:
        if argument == "-":
            for path in _read_paths(b"\0") if null else _clean_lines(_read_paths(b"\n")):
                yield from below(path)
        elif "**" in argument and matches != [argument]:
            # `**` matches both a folder and its contents, which would otherwise come twice.
            yield from (match for match in matches if not os.path.isdir(match))
        else:
            for match in matches or [argument]:
                yield from below(match)


def _match(argument: str) -> list[str]:
    if argument == "-" or os.path.lexists(argument):
        return [argument]
    if not glob.has_magic(argument):
        return []
    # The leading parts without a pattern are what the user named; litter and run folders in there are meant.
    named = [glob.has_magic(part) for part in argument.split("/")].index(True)

    @cache
    def is_wanted(parts: tuple[str, ...]) -> bool:
        if len(parts) <= named:
            return True
        return not is_litter(parts[-1]) and not is_ours(_list_names("/".join(parts))) and is_wanted(parts[:-1])

    return sorted(match for match in glob.glob(argument, recursive=True) if is_wanted((*match.split("/"),)))


def _list_names(path: str) -> list[str]:
    """The names in a folder; none if it is a file or cannot be read."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read_paths(end: bytes) -> Iterator[str]:
    """Yield the paths on standard input as they arrive."""
    rest = b""  # the start of a path whose end has not arrived yet
    while part := os.read(0, 2**16):
        *whole, rest = (rest + part).split(end)
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def _clean_lines(paths: Iterable[str]) -> Iterator[str]:
    """Remove the byte order mark and the carriage returns of a list that was written on Windows."""
    for number, path in enumerate(paths):
        # The byte order marks of UTF-16, as `os.fsdecode` writes bytes that are not UTF-8.
        if number == 0 and ("\0" in path or path.startswith(("\udcff\udcfe", "\udcfe\udcff"))):
            raise ValueError("the list on standard input is UTF-16 or not text: write paths in UTF-8, one per line")
        path = path.removeprefix("\ufeff") if number == 0 else path
        bare = path.rstrip("\r")
        if bare:
            yield path if bare != path and os.path.lexists(path) else bare  # a name may end with a carriage return


def _find_below(path: str, complain: Complain, leave_out: LeaveOut) -> Iterator[str]:
    """Yield the file itself, or all images in a folder and below it."""
    if not os.path.isdir(path):
        yield path
        return
    for file in (os.path.join(path, name) for name in walk_files(path, complain)):
        if has_image_ending(file) or looks_like_image(file):
            yield file
        else:
            leave_out(file)

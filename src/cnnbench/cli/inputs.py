"""The files that a command line names: files, folders, patterns, and a list on standard input."""

import glob
import os
from collections.abc import Iterator, Sequence

from cnnbench.data.left_out import Complain, files_below


def image_files(arguments: Sequence[str], *, null: bool, complain: Complain) -> Iterator[str]:
    """Every file that the arguments name, in their order.

    A folder stands for all files in it and below, by name, hidden ones left out; a symlink to a folder is followed
    once. A pattern (`*`, `?`, `[…]`, `**`) that the shell has left alone is expanded, `-` is a list of files and
    folders on standard input, and an argument that is neither there nor a pattern that matches stays as it is.

    Args:
        null: the paths on standard input end with a null byte, not with a line feed.
        complain: told a folder that cannot be read, and why.

    Raises:
        ValueError: no argument is there; the message names the first.
    """
    expanded = [(argument, _matches(argument)) for argument in arguments]
    if not any(matches for _, matches in expanded):
        reason = "matches nothing" if glob.has_magic(arguments[0]) else "is not there"
        raise ValueError(f"{arguments[0]!r} {reason}: accepted are files, folders, patterns, and - for standard input")
    return _files(expanded, null, complain)


def _files(expanded: list[tuple[str, list[str]]], null: bool, complain: Complain) -> Iterator[str]:
    for argument, matches in expanded:
        if argument == "-":
            for path in _listed(b"\0" if null else b"\n"):
                yield from _below(path, complain)
        elif "**" in argument and matches != [argument]:
            # It matches what is in a folder beside the folder itself.
            yield from (match for match in matches if not os.path.isdir(match))
        else:
            for match in matches or [argument]:
                yield from _below(match, complain)


def _matches(argument: str) -> list[str]:
    if argument == "-" or os.path.lexists(argument):
        return [argument]
    return sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []


def _listed(end: bytes) -> Iterator[str]:
    """The paths on standard input, as they come."""
    rest = b""
    while part := os.read(0, 2**16):
        *whole, rest = (rest + part).split(end)
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def _below(path: str, complain: Complain) -> Iterator[str]:
    """The file itself, or all files in a folder and below."""
    if not os.path.isdir(path):
        return iter((path,))
    return (os.path.join(path, file) for file in files_below(path, complain))

"""Saves whose calls fail, one after another, as on a full, broken or forbidden disk: part of `make kill`.

    python tests/faults/io_errors.py [--json FILE]

Each call of a save, of the first files of a run and of its results fails once with ENOSPC, EIO, EACCES and EDQUOT;
each write of them is once cut short; and from each on, all fail with ENOSPC. The command must end with 0, its run
complete, or with 1 or 2 and a message that names a file and the reason; nothing half-written may stay, and what was
saved before must load. It is then resumed, to the next error, and the run must equal in the end one without any, to
the bit.
"""

import argparse
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faulted_runs import SLOW, TINY, Case, Tally, report

from faults import Server

ERRORS = {
    **{errno.errorcode[code]: ("error", code) for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)},
    "ENOSPC from there on": ("errors", errno.ENOSPC),
    "short write": ("short", 0),
}


def fail(folder: Path) -> Iterator[Tally]:
    """Run them all."""
    with Server() as server:
        overrides = [*TINY, *SLOW, "trainer.ema=0.9", "trainer.keep=2"]
        case = Case(server, folder / "runs", Tally("lenet5", ""), overrides)
        for error, fault in ERRORS.items():
            for part, calls in (
                ("a save", case.calls_of_a_save()),
                ("until the first save", case.calls_of_the_start()),
                ("the results", case.calls_of_the_results()),
            ):
                case.tally = Tally("lenet5", f"{error}: {part}")
                case.at_every_call(calls, fault, only="write" if error == "short write" else "")
                yield case.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write each case's counts")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="io-errors-") as folder:
        report(fail(Path(folder)), "errors", asked.json)


if __name__ == "__main__":
    main()

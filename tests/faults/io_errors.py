"""I/O errors at the system calls of a save, as on a full, broken or forbidden disk: part of `make kill`.

    python tests/faults/io_errors.py [--json FILE]

Each call of a save, of the first files of a run and of its results fails once with ENOSPC, EIO, EACCES and EDQUOT; each
of their writes is cut short once; and once all calls from it on fail with ENOSPC. The command must exit with 0 and a
complete run, or with 1 or 2 and a message that names a file and the reason. No incomplete file may be left, and what
was saved before must load. The run is then resumed until the next error. In the end it must equal, to the bit, a run
without errors.
"""

import argparse
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faulted_runs import SLOW, TINY, Case, Tally, print_report

from faults import Server

ERRORS = {
    **{errno.errorcode[code]: ("error", code) for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)},
    "ENOSPC from there on": ("errors", errno.ENOSPC),
    "short write": ("short", 0),
}


def run_cases(folder: Path) -> Iterator[Tally]:
    """Run all cases."""
    with Server() as server:
        overrides = [*TINY, *SLOW, "trainer.ema=0.9", "trainer.keep=2"]
        case = Case(server, folder / "runs", Tally("lenet5", ""), overrides)
        for error, fault in ERRORS.items():
            for part, calls in (
                ("a save", case.find_save_calls()),
                ("until the first save", case.find_start_calls()),
                ("the results", case.find_result_calls()),
            ):
                case.tally = Tally("lenet5", f"{error}: {part}")
                case.fault_every_call(calls, fault, only="write" if error == "short write" else "")
                yield case.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="a file for the counts of each case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="io-errors-") as folder:
        print_report(run_cases(Path(folder)), "errors", options.json)


if __name__ == "__main__":
    main()

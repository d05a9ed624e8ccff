"""`python -m cnnbench` is the same as the console script `cnnbench`."""

from typing import NoReturn

from cnnbench.processes import signals


def main() -> NoReturn:
    """Run the command line."""
    signals.quit_at_once()  # the import takes a moment, in which Ctrl-C should leave no traceback
    from cnnbench.cli import main as run

    run()


if __name__ == "__main__":
    main()

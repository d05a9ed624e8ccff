"""`python -m cnnbench` is the same as the console script `cnnbench`."""

from typing import NoReturn

from cnnbench.processes import signals


def main() -> NoReturn:
    """Run the command line; what it imports takes a moment, in which Ctrl-C leaves no traceback."""
    signals.quit_at_once()
    from cnnbench.cli import main as command

    command()


if __name__ == "__main__":
    main()

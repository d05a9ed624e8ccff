"""The errors of the Python API, with the words of the commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.cli import errors
from cnnbench.plugins.loading import describe_error, locate_error
from cnnbench.quality.findings import RefusedData


class Error(Exception):
    """The base of all errors that cnnbench raises."""


class InvalidRequest(Error, ValueError):
    """The call is wrong: an unknown name, a value that is not accepted, a folder that is no run, a damaged file."""


class DataRefused(Error, ValueError):
    """The check of the data that `data.check=fail` requests found a problem; nothing was trained."""


class FileError(Error, OSError):
    """A file cannot be read or written."""


class RunFailed(Error):
    """A run, or some run of a sweep, started and did not finish.

    Attributes:
        folder: of the run or the sweep, which records the reason and can be resumed; None if there is none.
    """

    def __init__(self, message: str, folder: Path | None = None) -> None:
        super().__init__(message)
        self.folder = folder


@contextmanager
def translate_errors() -> Iterator[None]:
    """A context that raises the errors of the commands as those of the API."""
    try:
        yield
    except Error:
        raise
    except RefusedData as error:
        raise DataRefused(str(error)) from None
    except ValueError as error:
        raise InvalidRequest(f"{locate_error(error)}{error}") from None
    except OSError as error:
        if error.errno is None:  # raised with a message alone
            raise FileError(str(error)) from error
        raise FileError(error.errno, error.strerror, error.filename) from error
    except errors.RunFailed as error:
        raise RunFailed(str(error), error.folder) from error
    except Exception as error:
        if not locate_error(error):
            raise
        raise InvalidRequest(describe_error(error)) from error  # a plug-in may raise anything

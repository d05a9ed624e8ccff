"""The log and the status of a run, and the advice to the user when memory, disk space or a signal ends it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import torch

from cnnbench.config.schema import Config
from cnnbench.plugins.loading import describe_error
from cnnbench.processes import signals
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, PRUNED, RUNNING, RunFolder, format_resume_command
from cnnbench.storage.atomic import NO_SPACE, NoneReadable, write_bytes
from cnnbench.storage.regular import open_to_append
from cnnbench.storage.text import make_lines_printable
from cnnbench.training.checkpoint import LAST, locate
from cnnbench.training.progress import Diverged
from cnnbench.training.trainer import Pruned

log = logging.getLogger("cnnbench")
MOST_WAITING = 10_000  # messages
_current: "ContextVar[Lifetime | None]" = ContextVar("_current", default=None)


class CannotGoOn(ValueError):
    """A run cannot be resumed in this way; nothing has been written."""


class OutOfMemory(RuntimeError):
    """There was not enough memory for the requested batches."""


class Lifetime:
    """The log and the status of a run. Messages are held back until `begin`, so that a refused run leaves no trace."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.begun = False
        self.notes: list[str] = []  # added to the last status message, such as a tracker that failed
        self._originals: dict[str, bytes] = {}
        self._checkpoint: tuple[int, int] | None = None
        self._file = _LogFile(run.log, encoding="utf-8", delay=True)
        self._file.setFormatter(_PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
        self._waiting = MemoryHandler(MOST_WAITING, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        # Runs that are trained together take turns in one process, so the context tells whose message it is.
        _current.set(self)
        for handler in (self._waiting, self._file):
            handler.addFilter(lambda record: _current.get() in (None, self))
        log.addHandler(self._waiting)

    def begin(self) -> None:
        """Start writing the log and, when the run ends, its status.

        Raises:
            ValueError: the log is not a regular file.
            OSError: it cannot be written.
        """
        self._file.open()
        self.begun = True
        log.addHandler(self._file)
        log.removeHandler(self._waiting)
        self._waiting.setTarget(self._file)
        self._waiting.flush()

    def resume(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Begin, and log that the run is resumed."""
        with signals.defer():
            self.begin()
        # `end` restores these files if the run ends before it saves anything. The status of an unfinished run is not
        # among them, because it records how this attempt ended.
        names = ["config.yaml", "overrides.yaml"]
        if self.run.find_status().get("state") == FINISHED:
            names.append("status.json")
        self._originals = {name: path.read_bytes() for name in names if (path := self.run.path / name).is_file()}
        self._checkpoint = self._identify_checkpoint()
        self.run.resume(config, overrides)

    def end(self, state: str, message: str, *, diverged: bool = False) -> None:
        """Set the status, if possible. The files of a resumed run that has saved nothing are first restored."""
        try:
            # The attempt has saved nothing: the folder gets back the config that its checkpoint was trained with.
            if self._identify_checkpoint() == self._checkpoint:
                for name, content in self._originals.items():
                    write_bytes(self.run.path / name, content)
            if self.run.find_status().get("state") != FINISHED:
                self.run.set_status(state, message, diverged=diverged)
        except OSError as error:  # what stopped the run, such as a full disk, may prevent this too
            log.error("status.json could not be written: %s", error)

    def _identify_checkpoint(self) -> tuple[int, int] | None:
        try:
            found = locate(self.run.checkpoints, LAST).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def close(self) -> None:
        """Stop logging."""
        _current.set(None)
        for handler in (self._waiting, self._file):
            log.removeHandler(handler)
            with suppress(OSError):
                handler.close()


@contextmanager
def track_lifetime(run: RunFolder, config: Config) -> Iterator[Lifetime]:
    """A context that logs a run and records how it ended.

    Raises:
        CannotGoOn: an error before `begin`.
    """
    life = Lifetime(run)
    try:
        yield life
    except Pruned as error:
        run.set_status(PRUNED, str(error))
        raise
    except Exception as error:
        explained = explain_exhaustion(error, run.path, config)
        if not life.begun:
            if isinstance(error, NoneReadable):  # a sweep then starts the job again in a new folder
                raise
            raise CannotGoOn(str(explained) or type(explained).__name__) from error
        log.exception("the run failed")
        message = "; ".join([describe_error(explained), *life.notes])
        life.end(FAILED, message, diverged=isinstance(error, Diverged))
        raise explained from error
    except BaseException as error:
        log.info("interrupted by %s", type(error).__name__)
        has_config = (run.path / "config.yaml").exists()  # it makes the folder a run, which can be resumed
        resume = f"resume with: {format_resume_command('train', run.path)}"
        advice = resume if has_config else "give the same command again to start the run"
        # Before `begin`, a status of RUNNING is that of an earlier process, which was killed.
        if life.begun or run.find_status().get("state") == RUNNING:
            life.end(INTERRUPTED, f"{type(error).__name__}: {advice}")
        if isinstance(error, KeyboardInterrupt | signals.Terminated):
            raise type(error)(advice) from error  # the command prints it
        raise
    else:
        with signals.defer():  # a signal in between would leave the status "running"
            run.set_status(FINISHED, "; ".join(life.notes))
    finally:
        life.close()


class _LogFile(logging.FileHandler):
    """A run's log. On a full disk its lines are lost, but still shown on the terminal, and the run continues."""

    def open(self) -> None:
        """Open the file now, so that a folder that cannot be written is noticed at once."""
        self.stream = self._open()

    def _open(self) -> Any:
        return open(open_to_append(self.baseFilename), "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a failed log line must not hide the error that stops the run."""


class _PrintableFormatter(logging.Formatter):
    """Escapes control characters: names of classes and files may hold some, and logs are read on terminals."""

    def format(self, record: logging.LogRecord) -> str:
        return make_lines_printable(super().format(record))


def explain_exhaustion(error: Exception, folder: Path, config: Config) -> Exception:
    """Return the error or, if memory or disk space ran out, one that says what to lower or to free."""
    if is_out_of_memory(error):
        trainer = config.trainer
        detail = str(error).strip().partition("\n")[0][:200]
        return OutOfMemory(
            f"not enough memory for trainer.batch_size={trainer.batch_size} (training) and "
            f"trainer.eval_batch_size={trainer.eval_batch_size} (evaluation): lower them, "
            f"model.width={config.model.width:g} or data.image_size; "
            f"trainer.accumulate=N makes one step of N small batches{f' ({detail})' if detail else ''}"
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = f"{error.filename}: " if error.filename else ""
        command = format_resume_command("train", folder)
        help_ = f"What was saved before is intact: free some space, then resume with: {command}"
        return OSError(error.errno, f"{where}{error.strerror}. {help_}")
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator, and CUDA outside torch's allocator, raise a plain RuntimeError; only its text tells.
    words = (
        *("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc"),
        *("CUDA error: out of memory", "STATUS_ALLOC_FAILED"),
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)

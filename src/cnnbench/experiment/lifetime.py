"""What a run's folder says of its life: the log, and the status, from the moment at which there is something to say."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from typing import Any

from cnnbench.config.schema import Config
from cnnbench.experiment.exhaustion import explained
from cnnbench.processes import signals
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, PRUNED, RUNNING, RunFolder, format_resume_command
from cnnbench.storage.atomic import NoneReadable, write_bytes
from cnnbench.storage.regular import open_to_append
from cnnbench.storage.text import make_lines_printable
from cnnbench.training.trainer import Pruned

log = logging.getLogger("cnnbench")
MOST_WAITING = 10_000  # messages


class CannotGoOn(ValueError):
    """A run cannot go on as it was asked to; nothing has been written."""


class Lifetime:
    """The log and the status of a run: what is logged before `begin` waits for it.

    Attributes:
        notes: what else its last message is to say, such as a tracker that failed.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.begun = False
        self.notes: list[str] = []
        self._kept: dict[str, bytes] = {}
        self._checkpoint: tuple[int, int] | None = None
        self._file = _LogFile(run.log, encoding="utf-8", delay=True)
        self._file.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        self._waiting = MemoryHandler(MOST_WAITING, flushLevel=logging.CRITICAL + 1, flushOnClose=False)

    def begin(self) -> None:
        """From here on, the folder says what becomes of the run.

        Raises:
            ValueError: its log is no regular file.
            OSError: it cannot be written.
        """
        self._file.open()
        self.begun = True
        log.addHandler(self._file)
        log.removeHandler(self._waiting)
        self._waiting.setTarget(self._file)
        self._waiting.flush()

    def resume(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write down that the run goes on.

        Where it then ends before it has saved anything, config and overrides are put back as they were, and the status
        of a run that was finished too.
        """
        names = ["config.yaml", "overrides.yaml"]
        if self.run.find_status().get("state") == FINISHED:
            names.append("status.json")
        self._kept = {name: path.read_bytes() for name in names if (path := self.run.path / name).is_file()}
        self._checkpoint = self._last_checkpoint()
        self.run.resume(config, overrides)

    def say(self, state: str, message: str) -> None:
        """Set the status, if that can be done: what stopped the run may stop this too, and is the error to tell."""
        try:
            if self._last_checkpoint() == self._checkpoint:
                for name, content in self._kept.items():
                    write_bytes(self.run.path / name, content)
            if self.run.find_status().get("state") != FINISHED:
                self.run.set_status(state, message)
        except OSError as error:
            log.error("status.json could not say so: %s", error)

    def _last_checkpoint(self) -> tuple[int, int] | None:
        try:
            found = (self.run.checkpoints / "last.safetensors").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def listen(self) -> None:
        """Keep what is logged from now on."""
        log.addHandler(self._waiting)

    def close(self) -> None:
        """Log no more."""
        for handler in (self._waiting, self._file):
            log.removeHandler(handler)
            with suppress(OSError):
                handler.close()


@contextmanager
def lifetime(run: RunFolder, config: Config) -> Iterator[Lifetime]:
    """Within it, the run lives; at its end, the status says how it ended.

    Raises:
        CannotGoOn: an error that came before `begin`.
    """
    life = Lifetime(run)
    life.listen()
    try:
        yield life
    except Pruned as error:
        run.set_status(PRUNED, str(error))
        raise
    except Exception as error:
        told = explained(error, run.path, config)
        if not life.begun:
            if isinstance(error, NoneReadable):
                raise
            raise CannotGoOn(str(told) or type(told).__name__) from error
        log.exception("the run failed")
        life.say(FAILED, "; ".join([f"{type(told).__name__}: {told}", *life.notes]))
        raise told from error
    except BaseException as error:
        begun = (run.path / "config.yaml").exists()
        error.args = (
            f"go on with: {format_resume_command('train', run.path)}" if begun else "the same command begins it again",
        )
        log.info("interrupted by %s", type(error).__name__)
        if life.begun or run.find_status().get("state") == RUNNING:  # which a killed process left
            life.say(INTERRUPTED, f"{type(error).__name__}: {error}")
        raise
    else:
        with signals.defer():  # a signal in the midst would leave it said to be running
            run.set_status(FINISHED, "; ".join(life.notes))
    finally:
        life.close()


class _LogFile(logging.FileHandler):
    """A run's log; on a full disk its lines are lost, which the terminal shows too, and the run decides what else."""

    def open(self) -> None:
        """Open it now."""
        self.stream = self._open()

    def _open(self) -> Any:
        return open(open_to_append(self.baseFilename), "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the error that stops the run is the one to tell."""


class _Printable(logging.Formatter):
    """Names of classes and files may hold what a terminal would obey, and logs are looked at there."""

    def format(self, record: logging.LogRecord) -> str:
        return make_lines_printable(super().format(record))

"""The process that a sweep's jobs are forked from: torch is imported and data are decoded once, for all of them.

`python -m cnnbench.sweep.server SOCKET` answers on a Unix socket, a line of JSON each way. The first line of a
connection says what it is for:

- `{"check": [CONFIG, …], "argv": …}`: whether the configs can run; the answer has for each its `data` and its number of
  `threads`, or a `problem`. The data they name are in memory from then on.
- `{"threads": N, "cores": N, "argv": …}`: a process for jobs, forked from this one, which takes over the connection. It
  says `{"pid": N}`, then answers each `{"folder", "config", "overrides", "resume"}` with `{"state", "message"}`.
  However it ends, the last line is `{"exit": CODE}`, of a signal the negative of its number.

The server ends with the process that started it, and the jobs end with the server or with whoever asked for them.
Where nothing can be forked, a process started with `--connect PORT` answers on its one connection, and then does jobs.
"""

import contextlib
import ctypes
import errno
import faulthandler
import gc
import json
import logging
import os
import queue
import select
import shutil
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.processes import signals
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.storage.atomic import InUse, NoneReadable
from cnnbench.storage.regular import open_to_append
from cnnbench.sweep.fresh import connected
from cnnbench.sweep.painters import PICTURES, Painters

if TYPE_CHECKING:
    from cnnbench.experiment.record import Picture

CAN_FORK = sys.platform == "linux" and hasattr(
    os, "fork"
)  # elsewhere a fork of a process that has used torch may not live
PR_SET_PDEATHSIG = 1
EXPENDABLE = 500  # of 1000: what the kernel ends first when memory runs out is a job, not who watches over it
UNREADABLE = "unreadable"  # the state of a job whose checkpoints are all damaged
DUMP = getattr(signal, "SIGUSR2", None)  # on it, a job writes where it stands into its log
MODULE = "cnnbench.sweep.server"
PREFIX = "cnnbench-"  # of the folders that hold the servers' sockets
ABANDONED = 60.0  # seconds


def main() -> None:
    """Serve on the socket that the first argument names, or with `--jobs FD` do the jobs of one connection."""
    os.dup2(2, 1)  # what libraries print is no result
    # What is sent to all processes of a sweep is for the jobs, which handle it, and for who watches over them.
    signals.leave_to_others()
    if DUMP is not None:
        signal.signal(DUMP, signal.SIG_IGN)
    if sys.argv[1] == "--jobs":
        connection = socket.socket(fileno=int(sys.argv[2]))
        stream = connection.makefile("rwb")
        _do_jobs(stream, json.loads(sys.argv[3]), os.getppid())
    if sys.argv[1] == "--connect":
        _answer_alone(connected(sys.argv[2]))
        return
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(128)
    end_with(os.getppid())
    Server(listener).serve()


class Server:
    """Answers connections one after the other, and tells each how its process ended.

    Args:
        listener: a listening socket.
    """

    def __init__(self, listener: socket.socket) -> None:
        import torch

        import cnnbench.experiment.run
        import cnnbench.runs.figures  # noqa: F401

        self.listener = listener
        self.children: dict[int, socket.socket] = {}
        # A pool of threads does not survive a fork: the jobs get theirs once they are processes of their own.
        torch.set_num_threads(1)
        # From Python 3.12 on it is said of any thread, also of those that a GPU's driver keeps and no job needs.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        logging.getLogger("cnnbench").propagate = False
        # What is here by now stays: looking through it for garbage would take a tenth of a second, every other job.
        gc.collect()
        gc.freeze()

    def serve(self) -> None:
        """Until standard input closes, which it does with the process that started this one."""
        ended, wake = os.pipe()
        for descriptor in (ended, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        watched: list[Any] = [self.listener, 0, ended]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if ended in ready:
                os.read(ended, 4096)
                self._reap()
            if 0 in ready and not os.read(0, 4096):
                for pid in self.children:
                    os.kill(pid, signal.SIGKILL)
                return
            if self.listener in ready:
                with contextlib.suppress(OSError, ValueError):  # who asked has gone
                    self._answer(self.listener.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        request = json.loads(stream.readline())
        if "check" in request:
            with connection:
                _send(stream, {"checked": [_check(config) for config in request["check"]]})
            return
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.listener.close()
            for other in self.children.values():
                other.close()
            try:
                _begin_jobs(connection, stream, request, server)
            finally:
                os._exit(1)
        self.children[pid] = connection

    def _reap(self) -> None:
        for pid, connection in list(self.children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.children[pid]
                with connection, contextlib.suppress(OSError):
                    code = os.waitstatus_to_exitcode(status)
                    connection.sendall(b"\n" + json.dumps({"exit": code}).encode() + b"\n")


def _answer_alone(connection: socket.socket) -> None:
    """Answer checks, then do the jobs, in this process."""
    stream = connection.makefile("rwb")
    logging.getLogger("cnnbench").propagate = False
    import cnnbench.experiment.run  # noqa: F401 - two seconds in which the sweep is composed

    while line := stream.readline():
        request = json.loads(line)
        if "check" not in request:
            _do_jobs(stream, request, os.getppid())
        _send(stream, {"checked": [_check(config) for config in request["check"]]})


def remove_abandoned(where: Path) -> None:
    """Remove the sockets of servers that were killed together with their sweeps, and so could not do it themselves."""
    for folder in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            old = time.time() - folder.stat().st_mtime > ABANDONED  # a new one may be about to be listened to
            if old and asking.connect_ex(str(folder / "server")) == errno.ECONNREFUSED:
                shutil.rmtree(folder)


def end_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, even if it is stopped then; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that was said
        os._exit(1)


def _check(plain: dict[str, Any]) -> dict[str, Any]:
    from cnnbench.config.schema import from_dict
    from cnnbench.experiment.build import build_parts, threads_of

    try:
        config = from_dict(plain)
        parts = build_parts(config, shapes_only=True)
        said = [parts.dataset.describe(), *(f"warning: {note}" for note in parts.dataset.notes)]
        return {"data": said, "threads": threads_of(config, parts.complexity)}
    except (ValueError, OSError) as error:
        return {"problem": str(error)}


def _begin_jobs(connection: socket.socket, stream: BufferedRWPair, request: dict[str, Any], server: int) -> None:
    import torch

    if CAN_FORK and not torch.cuda.is_initialized():  # CUDA does not survive a fork
        _do_jobs(stream, request, server)
    os.set_inheritable(connection.fileno(), True)
    arguments = ["-m", MODULE, "--jobs", str(connection.fileno()), json.dumps(request)]
    os.execv(sys.executable, [sys.executable, *arguments])


def _do_jobs(stream: BufferedRWPair, request: dict[str, Any], server: int) -> None:
    end_with(server)
    from cnnbench.experiment.record import draw_in_turn
    from cnnbench.processes.cores import cores, limit_cores, limit_threads

    draw = draw_in_turn
    if request["cores"] is None and CAN_FORK and cores() > 1:  # nobody else needs them
        with contextlib.suppress(OSError):  # without a /dev/shm to write to, the job draws by itself
            draw = Painters(PICTURES, end_with).draw
    limit_threads(request["threads"])
    limit_cores(request["cores"])
    sys.argv = request["argv"]  # what the record of a run calls its command
    logging.getLogger("cnnbench").setLevel(logging.INFO)
    faulthandler.enable()
    if DUMP is not None:
        faulthandler.register(DUMP)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE))
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(stream, inbox), daemon=True).start()
    _send(stream, {"pid": os.getpid()})
    while True:
        _send(stream, _do(inbox.get(), draw))


def _receive(stream: BufferedRWPair, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(ConnectionError):
        for line in stream:
            message = json.loads(line)
            if "interrupt" in message:  # as Ctrl-C, where no signal can be sent
                signal.raise_signal(signal.SIGINT)
            else:
                inbox.put(message)
    os._exit(1)  # nobody waits for the result any more


def _do(job: dict[str, Any], draw: Callable[[Sequence["Picture"]], None]) -> dict[str, str]:
    from cnnbench.config.schema import from_dict
    from cnnbench.experiment.run import run_job

    folder = Path(job["folder"])
    try:
        with _errors_into(folder / "train.log"):
            signals.listen()
            try:
                run_job(from_dict(job["config"]), folder, job["overrides"], resume=job["resume"], draw=draw)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
    except InUse as error:
        return {"state": RUNNING, "message": str(error)}
    except NoneReadable as error:
        return {"state": UNREADABLE, "message": str(error)}
    except Exception as error:
        return {"state": FAILED, "message": f"{type(error).__name__}: {error}"}
    except BaseException as error:
        return {"state": INTERRUPTED, "message": type(error).__name__}
    return {"state": FINISHED, "message": ""}


@contextmanager
def _errors_into(path: Path) -> Iterator[None]:
    """What is written on standard error, also by a crash, goes to a file."""
    kept = os.dup(2)
    log = open_to_append(path)
    try:
        os.dup2(log, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(log)


def _send(stream: BufferedRWPair, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    main()

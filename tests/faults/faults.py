"""Fault injection: run cnnbench's commands, and kill them or let a system call of your choice fail.

`faults.c`, preloaded into a process, counts the calls by which it changes a folder (open, write, fsync, close, chmod,
rename, link, unlink, mkdir), and at one of them raises a signal or fails with an errno. The imports of the command take
seconds, so a `Server` is a process that has already made them. For each command, it forks a child that runs
`cnnbench.cli.main()`, as the console script does.

    with Server() as server:
        ended = server.run("train", "hydra.run.dir=run", cwd=folder, fault=Fault(30, "signal", signal.SIGKILL))
"""

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("faults.c")


class NoCompiler(RuntimeError):
    """There is no C compiler, so no fault can be preloaded."""


@dataclass(frozen=True)
class Fault:
    """A fault and the call at which it happens.

    Attributes:
        at: the number of the call, counted from 1; 0 for no fault.
        action: `signal` before the call (`group`: to the whole process group, `later`: some time after it), `error`,
            `errors` (also at every later call, except closing and removing), `short` (half of a write is done).
        value: the signal, for `later` plus 100 times the milliseconds; or the errno.
        begin: counting begins with the first call, other than a removal, on a path that contains this text.
    """

    at: int = 0
    action: str = ""
    value: int = 0
    begin: str = ""


@dataclass(frozen=True)
class Call:
    """A call that changes the folder.

    Attributes:
        number: counted from 1; 0 before counting began.
        errno: with which it was made to fail; 0 if it was done.
        path: of the file; for a rename or a link, the new path.
    """

    number: int
    name: str
    errno: int
    path: Path


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, or the negative number of the signal that killed it.
        calls: in the watched folder.
        left: processes that it left behind.
    """

    code: int
    out: str
    err: str
    seconds: float
    calls: list[Call]
    left: list[int]


def compile_library(folder: Path) -> Path:
    """Compile `faults.c` into a folder.

    Raises:
        NoCompiler: there is no C compiler.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise NoCompiler("faults.c needs a C compiler (cc, gcc or clang), and there is none on the path")
    made = folder / "faults.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl", "-lrt"], check=True)
    return made


def make_environment(made: Path, folder: Path, fault: Fault, log: Path) -> dict[str, str]:
    """The environment variables that inject a fault into a process."""
    return {
        "LD_PRELOAD": str(made),
        "FAULTS_FOLDER": str(folder),
        "FAULTS_AT": str(fault.at),
        "FAULTS_ACTION": fault.action,
        "FAULTS_VALUE": str(fault.value),
        "FAULTS_FROM": fault.begin,
        "FAULTS_LOG": str(log),
    }


def read_calls(log: Path) -> list[Call]:
    """The calls in the library's log."""
    lines = log.read_text().splitlines() if log.exists() else []
    cells = [line.split(" ", 3) for line in lines]
    return [Call(int(number), name, int(error), Path(path)) for number, name, error, path in cells]


class Server:
    """A process that has made the imports of training, and forks a child for each command.

    Args:
        source: the folder of the cnnbench to run; None is the one that this Python imports.

    Raises:
        NoCompiler: the library cannot be built.
    """

    def __init__(self, source: Path | None = None) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="faults-"))
        self.library = compile_library(self.scratch)
        own = {"LD_PRELOAD": str(self.library), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = {"PYTHONPATH": f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"} if source else {}
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | own | path,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        shutil.rmtree(self.scratch)

    def run(
        self,
        *arguments: str,
        cwd: Path,
        fault: Fault | None = None,
        watch: Path | None = None,
        killed_after: float | None = None,
        powerless: bool = False,
        limits: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a command to its end.

        Args:
            arguments: those of `cnnbench`.
            watch: the folder whose changes are counted; None is `cwd`.
            killed_after: send SIGKILL after this many seconds.
            powerless: permissions also hold if the tests run as root.
            limits: of the process, by the end of their names in `resource`, such as FSIZE; AS is added to the memory of
                the server.
            environment: all variables of the command; None for those of the server.
        """
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "watch": str(watch or cwd),
            "fault": asdict(fault or Fault()),
            "killed_after": killed_after,
            "powerless": powerless,
            "limits": dict(limits or {}),
            "environment": None if environment is None else dict(environment),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of faults ended with {self.process.wait()}")
        reply = json.loads(line)
        out, err = ((self.scratch / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(reply["code"], out, err, reply["seconds"], read_calls(self.scratch / "calls"), reply["left"])


def _serve(scratch: Path) -> None:
    _import_everything()
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C, the parent closes the input of this process
    preloaded = ctypes.CDLL(None)
    for line in sys.stdin:
        request = json.loads(line)
        (scratch / "calls").unlink(missing_ok=True)
        began = time.monotonic()
        child = os.fork()
        if not child:
            _become(request, scratch, preloaded)
        status = _wait(child, request["killed_after"])
        seconds = time.monotonic() - began
        reply = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "left": _find_left(child)}
        print(json.dumps(reply), flush=True)


def _import_everything() -> None:
    """Import all that a command would import, and compose a config, which would take a second in each child."""
    import matplotlib.backends.backend_agg
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # noqa: F401 - for building a network without its weights
    import warm_starts  # noqa: F401

    import cnnbench
    from cnnbench.cli.compose import compose_config

    for module in pkgutil.walk_packages(cnnbench.__path__, "cnnbench."):
        if module.name != "cnnbench.__main__" and not module.name.startswith("cnnbench.trackers."):
            importlib.import_module(module.name)
    compose_config([])


def _become(request: dict[str, Any], scratch: Path, preloaded: ctypes.CDLL) -> None:
    """In the child: run the command, with its own session, streams and fault."""
    from warm_starts import prepare_starts

    from cnnbench.cli import main

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the server's input holds further commands
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.chdir(request["cwd"])
    if request["environment"] is not None:
        os.environ.clear()
        os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, most in request["limits"].items():
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if name == "AS" else 0
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most + own, most + own))
    if request["powerless"]:
        _give_up_capabilities(preloaded)
    sys.argv = ["cnnbench", *request["arguments"]]
    fault = Fault(**request["fault"])
    if not fault.at and not request["limits"] and _starts_interpreters(request["arguments"]):
        prepare_starts(2)
    watch, action, begin, log = map(os.fsencode, (request["watch"], fault.action, fault.begin, scratch / "calls"))
    preloaded.faults_arm(watch, ctypes.c_long(fault.at), action, ctypes.c_long(fault.value), begin, log)
    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _starts_interpreters(arguments: list[str]) -> bool:
    named = ("experiment=", "sweep.", "trainer.devices=")
    return not {"-m", "tune", "claim"}.isdisjoint(arguments) or any(text.startswith(named) for text in arguments)


def _give_up_capabilities(libc: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the layout's version, and this process
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def _wait(child: int, killed_after: float | None) -> int:
    if killed_after is not None:
        deadline = time.monotonic() + killed_after
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _find_left(session: int, patience: float = 5.0) -> list[int]:
    """The processes of a session that still run a while after its first one has ended."""
    deadline = time.monotonic() + patience
    while left := [process for process in list_processes() if _get_session(process) == session]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


def list_processes() -> list[int]:
    """The numbers of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _get_session(process: int) -> int | None:
    try:
        # After the name, which is in brackets and may contain anything: state, parent, group, session.
        state, _, _, session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
    os._exit(0)  # there is nothing to clean up, and torch takes seconds for it

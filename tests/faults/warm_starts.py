"""Prepared interpreters for the workers of a command.

A sweep's server and each trial of a search run in a new interpreter, whose imports take four seconds of processor time.
A command that `faults.Server` forks uses instead a process that was forked before the command began: like a new
interpreter, it has no state of the command, but it has imported everything. Tests that start a process themselves, or
take the fixture `fresh_cnnbench`, start interpreters as users do.
"""

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from multiprocessing import spawn, util
from typing import Any, NoReturn

from cnnbench.processes.worker import end_with_parent

MARK = "--multiprocessing-fork"  # `multiprocessing` passes it to a new interpreter, after the code to run
MOST = 1000  # open files


def prepare_starts(count: int) -> None:
    """Fork waiting processes, which replace the interpreters that `multiprocessing` starts in this process."""
    waiting = [_fork_waiting() for _ in range(count)]
    start = util.spawnv_passfds

    def start_or_take(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        if MARK not in args or not waiting:
            return start(path, args, passfds)
        process, connection = waiting.pop()
        # `spawn_main(tracker_fd=5, pipe_handle=7)`
        handles = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", args[args.index("-c") + 1])}
        order = {
            "handles": handles,
            "files": list(passfds),
            "environment": dict(os.environ),
            "folder": os.getcwd(),
        }
        with connection:
            socket.send_fds(connection, [json.dumps(order).encode()], list(passfds))
        return process

    util.spawnv_passfds = start_or_take


def _fork_waiting() -> tuple[int, socket.socket]:
    parent = os.getpid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if process:
        theirs.close()
        return process, ours
    ours.close()
    os.setpgid(0, 0)  # so that signals to the command's group do not reach it
    end_with_parent(parent)
    _wait(theirs)


def _wait(connection: socket.socket) -> NoReturn:
    message, files, _, _ = socket.recv_fds(connection, 2**20, MOST)
    if not message:  # the command has ended
        os._exit(0)
    order = json.loads(message)
    # First to numbers above all that are needed, then to the needed ones.
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, MOST) for file in files]
    os.closerange(3, MOST)
    for file, wanted in zip(moved, order["files"], strict=True):
        os.dup2(file, wanted)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["-c", MARK]
    code: object = 1
    try:
        spawn.spawn_main(**order["handles"])
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        os._exit(code if isinstance(code, int) else 1)

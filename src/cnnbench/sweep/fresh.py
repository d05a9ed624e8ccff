"""Processes for a sweep's jobs where none can be forked from a server, as on Windows: each a fresh interpreter.

It connects back to a socket of this machine and then talks as one that was forked; data are decoded once in each.
"""

import contextlib
import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping

CAN_FORK_A_SERVER = hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
LOOKS = 0.2  # seconds between two looks at whether a process that is to connect still lives
ANSWERS = 5.0  # seconds for who has connected to say who it is


class FreshProcess:
    """A process that has connected.

    Args:
        module: is run, with `--connect` and the port; the token that it answers with comes on its standard input.
        environment: of the process.

    Raises:
        ConnectionRefusedError: it ended before it had connected.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        token = secrets.token_hex(16).encode()
        apart = {"creationflags": 0x200} if os.name == "nt" else {"process_group": 0}  # from Ctrl-C on the terminal
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-m", module, "--connect", str(listener.getsockname()[1])]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=dict(environment), **apart)  # type: ignore[call-overload]
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):
                self.process.stdin.write(token + b"\n")
                self.process.stdin.flush()
            listener.settimeout(LOOKS)
            self.connection = self._accepted(listener, token)
        self.connection.settimeout(None)

    def _accepted(self, listener: socket.socket, token: bytes) -> socket.socket:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if self.process.poll() is not None:
                    raise ConnectionRefusedError from None
                continue
            connection.settimeout(ANSWERS)
            with contextlib.suppress(OSError):
                if hmac.compare_digest(connection.recv(len(token), socket.MSG_WAITALL), token):
                    return connection
            connection.close()  # somebody else's

    def close(self) -> None:
        """End it at once."""
        self.connection.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def connected(port: str) -> socket.socket:
    """In a process that has just been started: its connection to who started it."""
    token = sys.stdin.buffer.readline().strip()
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.sendall(token)
    return connection


def asked(connection: socket.socket, message: Mapping[str, object]) -> bytes:
    """The line that answers a message; empty where the process has ended."""
    stream = connection.makefile("rwb")
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
    try:
        return stream.readline()
    except ConnectionError:
        return b""

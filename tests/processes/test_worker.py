"""Workers and pools: messages in order, an end that is noticed whatever its moment, and nobody left behind."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from cnnbench.processes.pool import Pool
from cnnbench.processes.signals import TO_GROUPS
from cnnbench.processes.worker import Inbox, Worker, WorkerEnded, wait_for_any
from conftest import is_gone

LARGE = 2**24  # bytes: no connection holds as many


def echo(connection):
    while True:
        connection.send(connection.recv())


def describe(connection):
    ignored = all(signal.getsignal(number) is signal.SIG_IGN for number in TO_GROUPS)
    connection.send((os.getpgrp(), os.getppid(), os.environ.get("CNNBENCH_TEST"), ignored))


def send_large(connection):
    connection.send(os.getpid())
    connection.send(bytes(LARGE))


def exit_by_itself(connection, code):
    sys.exit(code)


def report_interrupt(connection):
    inbox = Inbox(connection)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        connection.send("ready")
        inbox.receive()
    except KeyboardInterrupt:
        connection.send("interrupted")
    inbox.receive()


def wait_with_inbox(connection):
    inbox = Inbox(connection)
    connection.send(os.getpid())
    inbox.receive()


@pytest.fixture(params=[False, True], ids=["spawn", "fork"])
def start(request):
    """Starts workers, which end with the test."""
    started = []

    def run(target, *arguments, **options):
        started.append(Worker.start(target, *arguments, fork=request.param, **options))
        return started[-1]

    yield run
    for worker in started:
        worker.close()


def test_messages_go_both_ways_and_a_wait_ends_in_time(start):
    workers = [start(echo), start(echo)]
    workers[1].send({"a": [1, None]})
    assert wait_for_any(workers) == [workers[1]]
    assert workers[1].receive() == {"a": [1, None]}
    assert workers[0].receive(0.01) is None
    assert wait_for_any(workers, 0.01) == []


def test_a_worker_ignores_signals_to_groups_and_a_new_interpreter_has_its_own_group(start, request):
    worker = start(describe, environment={"CNNBENCH_TEST": "1"})
    group, parent, variable, ignored = worker.receive()
    assert (parent, variable, ignored) == (os.getpid(), "1", True)
    assert (group == worker.process.pid) == ("spawn" in request.node.name)
    assert "CNNBENCH_TEST" not in os.environ


def test_nothing_waits_for_the_rest_of_a_message_of_a_killed_worker(start):
    worker = start(send_large)
    pid = worker.receive()
    assert worker.connection.poll(10)  # a part of it has come
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(WorkerEnded, match="ended by SIGKILL: somebody killed it") as ended:
            worker.receive()
        assert ended.value.code == -signal.SIGKILL


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_worker_is_reported(code, start):
    worker = start(exit_by_itself, code)
    with pytest.raises(WorkerEnded, match=f"ended by itself with code {code}") as ended:
        worker.receive()
    assert ended.value.code == code
    worker.send("to nobody")


def test_an_interrupt_reaches_a_worker_that_waits(start):
    worker = start(report_interrupt)
    assert worker.receive() == "ready"
    worker.interrupt()
    assert worker.receive() == "interrupted"


def test_a_worker_ends_when_its_connection_is_closed():
    with closing(Worker.start(wait_with_inbox)) as worker:
        pid = worker.receive()
        worker.connection.close()
        assert is_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="by PR_SET_PDEATHSIG")
@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_ends_with_a_parent_that_is_killed_even_if_it_is_stopped(stopped, fork, tmp_path):
    (tmp_path / "child.py").write_text(
        "import os, time\ndef work(connection):\n    connection.send(os.getpid())\n    time.sleep(100)\n"
    )
    (tmp_path / "parent.py").write_text(
        "import time\nfrom child import work\nfrom cnnbench.processes.worker import Worker\n"
        f"worker = Worker.start(work, fork={fork})\nprint(worker.receive(), flush=True)\ntime.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    assert is_gone(pid)


def be_large_or_die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes(LARGE)


def fail_at_three(number):
    if number == 3:
        raise ValueError("three")
    return (lambda: number) if number == 4 else number


def test_a_pool_notices_a_process_that_dies_while_others_send():
    with closing(Pool(be_large_or_die, 2)) as pool, pytest.raises(WorkerEnded, match="SIGKILL"):
        list(pool.map(range(8)))


@pytest.mark.parametrize(
    ("numbers", "before", "error"), [(range(9), [0, 1, 2], ValueError), ([0, 1, 4], [0, 1], Exception)]
)
def test_a_pool_raises_the_error_of_an_item_in_its_turn(numbers, before, error):
    found = []
    with closing(Pool(fail_at_three, 2)) as pool, pytest.raises(error):
        found.extend(pool.map(numbers))
    assert found == before


def test_an_open_worker_does_not_keep_python_from_ending():
    held = "Worker.start(lambda connection: time.sleep(600), fork=True)"
    code = f"import time\nfrom cnnbench.processes.worker import Worker\nheld = {held}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_signal_while_a_worker_starts_leaves_no_process():
    code = """
import multiprocessing, os, signal, time
from cnnbench.processes import worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
start = multiprocessing.context.ForkProcess.start
def start_and_signal(self):
    start(self)
    os.kill(os.getpid(), signal.SIGINT)
multiprocessing.context.ForkProcess.start = start_and_signal
try:
    worker.Worker.start(lambda connection: time.sleep(600), fork=True)
except KeyboardInterrupt:
    assert not multiprocessing.active_children()
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "interrupted\n"

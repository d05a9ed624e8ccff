"""Time and memory of the default command, and the time of an epoch beside a busy core.

    CNNBENCH_DATA=DIR python benchmarks/start_time.py --rounds 5

Command: `cnnbench train` and `python -c "import torch"` take turns. The ratio is the time of the command to the sum of
the import and the command's training. Memory: the highest sum, over the command and its children, of each process's
share of its pages (PSS); a library's pages count once, but less while other programs use it, so run this alone. Beside
a busy core: an epoch of training while another process keeps one core busy. The number of threads is cnnbench's
default, one for LeNet-5; resnet_mini, whose default is two, also trains with one.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import describe, record

LIMIT = 200  # steps of resnet_mini, because an epoch takes a minute


def time_command(overrides: list[str]) -> tuple[float, float, float]:
    """Seconds of `cnnbench train`, those of its training passes, and the highest memory of its processes, in GB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cnnbench", "train", f"hydra.run.dir={folder}/run", *overrides]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peaks = [0.0]
        watch = threading.Thread(target=follow_memory, args=(process, peaks))
        watch.start()
        assert process.wait() == 0
        seconds = time.perf_counter() - started
        watch.join()
        return seconds, json.loads(Path(folder, "run/summary.json").read_text())["train_seconds"], max(peaks)


def follow_memory(process: subprocess.Popen[bytes], found: list[float]) -> None:
    """Append the gigabytes of a process and its children to a list, five times a second, until it ends."""
    while process.poll() is None:
        found.append(sum(map(read_share, [process.pid, *list_children(process.pid)])) / 1e6)
        time.sleep(0.2)


def list_children(pid: int) -> list[int]:
    """The descendants of a process."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in texts for child in text.split()]
    return children + [below for child in children for below in list_children(child)]


def read_share(pid: int) -> int:
    """The PSS of a process in kilobytes; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def time_import() -> float:
    """Seconds of a Python that imports torch."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def time_epoch(overrides: list[str]) -> float:
    """Seconds of the training pass of an epoch, in a process of its own."""
    return time_command(["data=mnist", "trainer.epochs=1", "trainer.device=cpu", *overrides])[1]


@contextmanager
def keep_a_core_busy() -> Iterator[None]:
    """A context in which another process computes."""
    busy = multiprocessing.get_context("spawn").Process(target=count_forever, daemon=True)
    busy.start()
    time.sleep(1)
    try:
        yield
    finally:
        busy.kill()
        busy.join()


def count_forever() -> None:
    """Compute until the process is killed."""
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["command", "busy"], help="one part of the figures")
    arguments = parser.parse_args()
    rows = []
    if arguments.only != "busy":
        rounds = [(time_import(), *time_command([])) for _ in range(arguments.rounds)]
        imports, wholes, trainings, peaks = map(list, zip(*rounds, strict=True))
        ratios = [whole / (one + training) for one, whole, training, _ in rounds]
        rows += [("torch import", imports, "s"), ("default command", wholes, "s"), ("its training", trainings, "s")]
        rows += [
            ("default command ÷ (torch import + training)", ratios, ""),
            ("memory of the default command", peaks, "GB"),
        ]
    if arguments.only != "command":
        small = ["model=resnet_mini", f"data.train_limit={64 * LIMIT}", "data.val_fraction=0"]
        beside, threads = [], []
        for _ in range(arguments.rounds):
            alone = time_epoch([])
            with keep_a_core_busy():
                beside.append(time_epoch([]) / alone)
                one = time_epoch([*small, "trainer.threads=1"])
                threads.append(time_epoch([*small, "trainer.threads=2"]) / one)
        rows += [
            ("lenet5 epoch beside a busy core ÷ alone", beside, ""),
            ("resnet_mini, two threads ÷ one thread, beside a busy core", threads, ""),
        ]
    for name, values, unit in rows:
        record(name, values, unit)
    print("\n| figure | median (range) |\n| --- | ---: |")
    for name, values, unit in rows:
        print(f"| {name} | {describe(values, unit)} |")


if __name__ == "__main__":
    main()

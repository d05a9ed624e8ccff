"""Feeds hostile files to the loaders in a process that is watched: `python hostile_runner.py MANIFEST`.

The manifest is a JSON list of cases, each with a kind, a name and a folder. A line of JSON on standard output says what
became of each; the last says what an audit hook saw that no loader may do. With `--unsafely`, the files are unpickled
by pickle itself, to show that the hook and the canary do see it.
"""

import hashlib
import json
import os
import pickle
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.models

from cnnbench.claims.records import read_prediction, read_verdict
from cnnbench.data import load_source
from cnnbench.data.files.archives import decompress, unpack
from cnnbench.data.files.cifar_files import read_batch, read_names
from cnnbench.data.files.pixel_store import Damaged, open_store
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.data_record import read_data
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.exporting.predicting import OnnxPredictor
from cnnbench.runs.calibration import find_temperature, read_prediction_sets
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.reopening import load_config
from cnnbench.runs.robustness import read_robustness
from cnnbench.storage.regular import Refused

# What nothing that is read may bring about, whatever the arguments.
NEVER = (
    "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.startfile os.symlink os.link os.kill "
    "ctypes.dlopen subprocess.Popen pty.spawn socket.connect socket.getaddrinfo socket.bind socket.gethostbyname "
    "urllib.Request webbrowser.open pickle.find_class shutil.copyfile shutil.rmtree"
)
# Those that change a file: only below the case's own folder.
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.utime"}
MEGABYTES = 4_000  # more address space than this, beyond what is there at the start, is not given
seen: list[str] = []
allowed = ""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what no loader may do."""
    if event in NEVER.split() or (event in CHANGES and not inside(arguments[0])):
        seen.append(f"{event} {arguments!r}"[:300])
    elif event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT
        )
        if writes and not inside(path):
            seen.append(f"open to write {path!r}")
        if isinstance(path, str | bytes) and "cnnbench-outside" in os.fsdecode(path):
            seen.append(f"open {path!r}")
    elif event == "exec":
        # Imports run code from files; dataclasses write theirs, as omegaconf's schemas need them.
        name = getattr(arguments[0], "co_filename", "")
        if name.startswith("<") and not name.startswith("<frozen") and not from_dataclasses():
            seen.append(f"exec of {name}")


def inside(path: Any) -> bool:
    if isinstance(path, int):  # a descriptor, that was seen when it was opened
        return True
    return os.path.realpath(os.fsdecode(path)).startswith((allowed, "/dev/null"))


def from_dataclasses() -> bool:
    frame = sys._getframe(2)
    return frame.f_code.co_filename.endswith(("/dataclasses.py", "/collections/__init__.py"))


def cifar(folder: Path) -> None:
    """Read the file as the publisher's: its own hash is accepted, so that the unpickler sees it."""
    path = folder / "file"
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    read_batch(path, md5, "labels"), read_names(path, md5, "names")


def store(folder: Path) -> None:
    if open_store(folder / "file", "k") is None:
        raise ValueError("it is of other files")


def config(folder: Path) -> None:
    build_parts(load_config(RunFolder.open_existing(folder)), shapes_only=True)
    load_trained(folder).load_model(torch.device("cpu"))


def run(folder: Path) -> None:
    load_trained(folder).load_model(torch.device("cpu"))
    RunFolder(folder).read_summary()


def onnx(folder: Path) -> None:
    OnnxPredictor(folder / "file").compute(np.zeros((2, 1, 28, 28), np.uint8))


LOADERS = {
    "onnx": onnx,
    "pickle": cifar,
    "config": config,
    "run": run,
    "status": lambda folder: RunFolder(folder).read_status(),
    "summary": lambda folder: RunFolder(folder).read_summary(),
    "robustness": read_robustness,
    "verdict": lambda folder: read_verdict(folder / "verdict.json"),
    "prediction": read_prediction,
    "temperature": find_temperature,
    "conformal": lambda folder: read_prediction_sets(folder, 2),
    "npz": read_predictions,
    "confusion": read_confusion,
    "data": read_data,
    "metrics": lambda folder: RunFolder(folder).read_metrics(),
    "mnist": lambda folder: load_source("mnist", root=str(folder), download=False),
    "cifar10": lambda folder: load_source("cifar10", root=str(folder), download=False),
    "archive": lambda folder: unpack(folder / "file", folder / "out"),
    "packed": lambda folder: [decompress(path, folder / "out") for path in [*folder.iterdir()]],
    "store": store,
}
EXPECTED = (ValueError, OSError, Refused, Damaged)


def allow(case: dict[str, str]) -> None:
    """Let a case's own folder be changed, and no other."""
    global allowed
    allowed = os.path.realpath(case["folder"])


def attempt(case: dict[str, str]) -> dict[str, Any]:
    allow(case)
    count, start = len(seen), time.process_time()
    said = {"kind": case["kind"], "name": case["name"], "error": None, "expected": True}
    try:
        LOADERS[case["kind"]](Path(case["folder"]))
    except BaseException as error:
        said |= {"error": type(error).__name__, "message": str(error), "expected": isinstance(error, EXPECTED)}
    left = [path for path in Path(case["folder"]).rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    return said | {"seen": seen[count:], "seconds": time.process_time() - start, "left": [str(path) for path in left]}


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    # What loaders import while they load something good is imported before anybody watches.
    for case in cases:
        if case["name"] == "good":
            assert attempt(case)["error"] is None, attempt(case)
    assert torchvision.models
    sys.addaudithook(watch)
    if "--unsafely" in sys.argv:
        for case in cases:
            allow(case)
            try:
                pickle.loads((Path(case["folder"]) / "file").read_bytes())
            except BaseException as error:
                print(type(error).__name__, file=sys.stderr)
        print(json.dumps({"seen": seen}))
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, resource.RLIM_INFINITY))
    for case in cases:
        print(json.dumps(attempt(case)))
    # Not ru_maxrss, which a process inherits from the one that starts it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"seen": seen, "peak": int(peak[1]) // 1024 if peak else None}))


if __name__ == "__main__":
    main()

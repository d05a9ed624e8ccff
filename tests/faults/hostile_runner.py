"""Feed hostile files to the loaders, watched by an audit hook: `python hostile_runner.py MANIFEST`.

The manifest is a JSON list of cases, each with a kind, a name and a folder. The script prints a line of JSON with the
outcome of each case, and a last one with the forbidden events that the hook saw. With `--unsafely`, the files are
unpickled by pickle itself, to show that the hook and the canary work.
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

# Events that reading a file must never cause, whatever their arguments.
NEVER = (
    "os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.startfile os.symlink os.link os.kill "
    "ctypes.dlopen subprocess.Popen pty.spawn socket.connect socket.getaddrinfo socket.bind socket.gethostbyname "
    "urllib.Request webbrowser.open pickle.find_class shutil.copyfile shutil.rmtree"
)
# Events that change a file: allowed only inside the folder of the case.
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.utime"}
MEGABYTES = 4_000  # of address space, in addition to that at the start
seen: list[str] = []
allowed = ""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note the events that no loader may cause."""
    if event in NEVER.split() or (event in CHANGES and not is_inside(arguments[0])):
        seen.append(f"{event} {arguments!r}"[:300])
    elif event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT
        )
        if writes and not is_inside(path):
            seen.append(f"open to write {path!r}")
        if isinstance(path, str | bytes) and "cnnbench-outside" in os.fsdecode(path):
            seen.append(f"open {path!r}")
    elif event == "exec":
        # Imports run code from files; dataclasses, which omegaconf uses, generate code.
        name = getattr(arguments[0], "co_filename", "")
        if name.startswith("<") and not name.startswith("<frozen") and not is_from_dataclasses():
            seen.append(f"exec of {name}")


def is_inside(path: Any) -> bool:
    if isinstance(path, int):  # a descriptor, which was checked when it was opened
        return True
    return os.path.realpath(os.fsdecode(path)).startswith((allowed, "/dev/null"))


def is_from_dataclasses() -> bool:
    frame = sys._getframe(2)
    return frame.f_code.co_filename.endswith(("/dataclasses.py", "/collections/__init__.py"))


def cifar(folder: Path) -> None:
    """Read the file with its own hash as that of the publisher, so that it reaches the unpickler."""
    path = folder / "file"
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    read_batch(path, md5, "labels"), read_names(path, md5, "names")


def store(folder: Path) -> None:
    if open_store(folder / "file", "k") is None:
        raise ValueError("it belongs to other files")


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
    """Allow changes in the folder of a case, and in no other."""
    global allowed
    allowed = os.path.realpath(case["folder"])


def attempt(case: dict[str, str]) -> dict[str, Any]:
    allow(case)
    count, start = len(seen), time.process_time()
    outcome = {"kind": case["kind"], "name": case["name"], "error": None, "expected": True}
    try:
        LOADERS[case["kind"]](Path(case["folder"]))
    except BaseException as error:
        outcome |= {"error": type(error).__name__, "message": str(error), "expected": isinstance(error, EXPECTED)}
    left = [path for path in Path(case["folder"]).rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    return outcome | {
        "seen": seen[count:],
        "seconds": time.process_time() - start,
        "left": [str(path) for path in left],
    }


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    # Make the imports of the loaders before the hook is added.
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
    # Not ru_maxrss, which a process inherits from its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"seen": seen, "peak": int(peak[1]) // 1024 if peak else None}))


if __name__ == "__main__":
    main()

"""Hashes of weights and predictions of every network: what a change of the code's structure must leave as it is.

`python tests/golden.py write FILE` before the change, `python tests/golden.py compare FILE` after it, on the same
machine and the same versions of torch: other processors round differently. Two epochs, one thread, seed 0.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

COMMAND = Path(sys.executable).with_name("cnnbench")
CONFIGS = Path(__file__).parents[1] / "configs"
COMMON = ["trainer.epochs=2", "trainer.threads=1", "seed=0", "data=digits"]
ELSEWHERE = {"sequence_cnn": ["data=waves"], "torchvision": None}  # the last downloads weights where asked to


def list_runs() -> dict[str, list[str]]:
    """The overrides of each run: every model, and LeNet-5 under each preset of augmentation."""
    models = [path.stem for path in sorted((CONFIGS / "model").glob("*.yaml"))]
    runs = {f"model={name}": [*COMMON, *extra] for name in models if (extra := ELSEWHERE.get(name, [])) is not None}
    presets = [path.stem for path in sorted((CONFIGS / "augment").glob("*.yaml")) if path.stem != "none"]
    return runs | {f"augment={name}": COMMON for name in presets}


def hash_arrays(arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 of named arrays, whatever their order in the file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def measure_all() -> dict[str, dict[str, str]]:
    """Train each run in a folder that is thrown away; the hashes of what it leaves."""
    found = {}
    for run, overrides in list_runs().items():
        with tempfile.TemporaryDirectory() as folder:
            place = f"hydra.run.dir={folder}/run"
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([COMMAND, "train", *overrides, run, place], check=True, capture_output=True, env=environment)
            out = Path(folder, "run")
            weights = load_file(out / "checkpoints" / "best.safetensors")
            found[run] = {"weights": hash_arrays(weights)}
            if (out / "predictions.npz").exists():
                found[run]["predictions"] = hash_arrays(dict(np.load(out / "predictions.npz")))
            summary = json.loads((out / "summary.json").read_text())
            found[run] |= {
                key: str(summary[key]) for key in ("parameters", "macs", "receptive_field", "depth", "test/loss")
            }
            print(run, found[run]["weights"][:12], flush=True)
    return found


if __name__ == "__main__":
    mode, file = sys.argv[1], Path(sys.argv[2])
    now = measure_all()
    if mode == "write":
        file.write_text(json.dumps(now, indent=1) + "\n")
    else:
        before = json.loads(file.read_text())
        differing = [run for run in {**before, **now} if before.get(run) != now.get(run)]
        print(f"{len(now) - len(differing)} of {len(now)} equal", *differing, sep="\n")
        sys.exit(bool(differing))

"""Damage the files that a run depends on, and check that no damage is accepted: `make corrupt`.

Checkpoints (best, last), the cache of decoded images and config.yaml are damaged in one place at a time, and read by
the production code. Single bits are flipped, blocks of 512 bytes zeroed, and the file is cut at every 4 KiB (a small
one at every 64 bytes). Damage i depends on (seed, i) alone. It counts as refused if the reader raises its own error, or
rejects the cache. Any other outcome makes the script exit with 1.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from cnnbench.cli.compose import compose_config
from cnnbench.data.files.decoding import Chunk
from cnnbench.data.files.pixel_store import Damaged, open_store, write_store
from cnnbench.experiment.run import run_job
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.training import checkpoint

BLOCK, CUT, SMALL_CUT, SMALL = 512, 4096, 64, 2**16
KINDS = ("bits", "blocks", "cuts")
REFUSALS = (ValueError, Damaged)


@dataclass(frozen=True)
class Target:
    """A file and its reader, which raises an error or returns None if it does not accept the file."""

    name: str
    path: Path
    read: Callable[[], object]


def make_targets(folder: Path) -> list[Target]:
    """Train LeNet-5 on digits and write a cache of 1,000 images, in a folder; return their files."""
    run = RunFolder(create_folder(folder / "run"))
    run_job(compose_config(["trainer.epochs=2", "name=corrupt", "data.train_limit=300"]), run.path, [])
    found = [Target("config", run.path / "config.yaml", run.read_config)]
    for name in ("best", "last"):
        for path in sorted(run.checkpoints.glob(f"{name}.*")):
            found.append(Target(path.name, path, partial(checkpoint.load, run.checkpoints, name)))
    path = folder / "images.pixels"
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1, 28, 28), dtype=np.uint8)
    chunks = (Chunk(part, {}, bytes(1600), 100, 1.0) for part in np.split(pixels, 10))
    write_store(path, "key", (1000, 1, 28, 28), chunks)
    return [*found, Target("cache", path, partial(open_store, path, "key"))]


def iterate_damage(content: bytes, flips: int, blocks: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged versions of a file, each with the kind of damage."""
    for number in range(flips):
        place = random.Random(f"{seed} bit {number}").randrange(8 * len(content))
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield "bits", bytes(changed)
    yield from (("blocks", one) for one in islice(iterate_zeroed(content, seed), blocks))
    for end in range(0, len(content), CUT if len(content) > SMALL else SMALL_CUT):
        yield "cuts", content[:end]


def iterate_zeroed(content: bytes, seed: int) -> Iterator[bytes]:
    """Versions of a file with a block of zeros that changes it; none if the file is all zeros."""
    for number in range(100_000):
        start = random.Random(f"{seed} block {number}").randrange(len(content))
        zeros = bytes(min(BLOCK, len(content) - start))
        if content[start : start + len(zeros)] != zeros:
            yield content[:start] + zeros + content[start + len(zeros) :]


def measure(target: Target, flips: int, blocks: int, seed: int) -> Counter[tuple[str, str]]:
    """Count the outcomes by kind of damage: refused, accepted, or another error. Restores the file."""
    counts: Counter[tuple[str, str]] = Counter()
    content = target.path.read_bytes()
    assert target.read() is not None, "the undamaged file is accepted"
    try:
        for kind, damaged in iterate_damage(content, flips, blocks, seed):
            target.path.write_bytes(damaged)
            try:
                outcome = "refused" if target.read() is None else "ACCEPTED"
            except REFUSALS:
                outcome = "refused"
            except Exception as error:
                outcome = f"RAISED {type(error).__name__}"
            counts[kind, outcome] += 1
    finally:
        target.path.write_bytes(content)
    return counts


def main() -> int:
    """Damage all files and print a table; return 1 if anything was not refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000, help="number of flipped bits, for all files together")
    parser.add_argument("--blocks", type=int, default=1_000, help="number of zeroed blocks, for all files together")
    parser.add_argument("--only", default="", help="beginnings of file names, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [one for one in make_targets(Path(folder)) if one.name.startswith(tuple(options.only.split(",")))]
        bad = 0
        print(f"{'file':<20} {'bytes':>9} {'bits':>7} {'blocks':>7} {'cuts':>7}   not refused")
        for target in found:
            start = time.perf_counter()
            counts = measure(target, -(-options.flips // len(found)), -(-options.blocks // len(found)), options.seed)
            wrong = {key: count for key, count in counts.items() if key[1] != "refused"}
            bad += sum(wrong.values())
            each = " ".join(
                f"{sum(n for key, n in counts.items() if key[0] == kind):>7,}" for kind in ("bits", "blocks", "cuts")
            )
            size = target.path.stat().st_size
            print(
                f"{target.name:<20} {size:>9,} {each}   {wrong or 'none'} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

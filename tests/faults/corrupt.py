"""Damage to the files that a run depends on, none of which may be accepted silently: `make corrupt`.

Checkpoints (best, last), the cache of decoded images and config.yaml are damaged one place at a time and read by the
code that reads them in earnest: single bits flipped, blocks of 512 bytes zeroed, and the file cut at every 4 KiB
(small files: at every 64 bytes). Damage i depends on (seed, i) alone. It is refused if the reader raises its own error,
or does not take the cache; anything else ends the program with 1.
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
    """A file and what reads it; `read` raises or returns None where it is not accepted."""

    name: str
    path: Path
    read: Callable[[], object]


def targets(folder: Path) -> list[Target]:
    """A run of LeNet-5 on digits and a cache of 1,000 images, in a folder."""
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


def damages(content: bytes, flips: int, blocks: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """What the file might have become."""
    for number in range(flips):
        place = random.Random(f"{seed} bit {number}").randrange(8 * len(content))
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield "bits", bytes(changed)
    yield from (("blocks", one) for one in islice(zeroed(content, seed), blocks))
    for end in range(0, len(content), CUT if len(content) > SMALL else SMALL_CUT):
        yield "cuts", content[:end]


def zeroed(content: bytes, seed: int) -> Iterator[bytes]:
    """The file with a block of zeros, anywhere that they change it; a file of zeros has no such place."""
    for number in range(100_000):
        start = random.Random(f"{seed} block {number}").randrange(len(content))
        zeros = bytes(min(BLOCK, len(content) - start))
        if content[start : start + len(zeros)] != zeros:
            yield content[:start] + zeros + content[start + len(zeros) :]


def measure(target: Target, flips: int, blocks: int, seed: int) -> Counter[tuple[str, str]]:
    """How often damage of each kind was refused, accepted, or raised something else; the file is whole afterwards."""
    counts: Counter[tuple[str, str]] = Counter()
    content = target.path.read_bytes()
    assert target.read() is not None, "it is accepted while it is whole"
    try:
        for kind, damaged in damages(content, flips, blocks, seed):
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
    """Damage everything and print a table; 1 if anything was not refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000, help="single bits of all files together")
    parser.add_argument("--blocks", type=int, default=1_000, help="zeroed blocks of all files together")
    parser.add_argument("--only", default="", help="files whose names begin so, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [one for one in targets(Path(folder)) if one.name.startswith(tuple(asked.only.split(",")))]
        bad = 0
        print(f"{'file':<20} {'bytes':>9} {'bits':>7} {'blocks':>7} {'cuts':>7}   not refused")
        for target in found:
            start = time.perf_counter()
            counts = measure(target, -(-asked.flips // len(found)), -(-asked.blocks // len(found)), asked.seed)
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

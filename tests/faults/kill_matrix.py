"""Runs killed by SIGKILL, at random moments and at every call of a save, and what is left of them: `make kill`.

    python tests/faults/kill_matrix.py [--only TEXT] [--random 3] [--once 30] [--seed 0] [--json FILE]

Each case is a model with a feature of training. Its run is made once without a fault; then again and again it is
killed, resumed, killed, … until every call of a save has been one to die at, and the run ends by itself. After each
kill every file that has its final name must be whole, and none that was there may be missing; in the end the run must
equal the first, to the bit.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faulted_runs import KILL, MODELS, SLOW, TINY, Case, Tally, images, report

from faults import Fault, Server

FEATURES = {
    "plain": SLOW,
    "mixup, dropout": [*SLOW, "augment.mixup=0.4", "augment.rotate=10", "model.dropout=0.3"],
    "ema": [*SLOW, "trainer.ema=0.9"],
    "bf16": [*SLOW, "trainer.precision=bf16"],
    "early stopping": ["optimizer.lr=0.02", "trainer.patience=6"],
    "one-cycle, sgd": ["optimizer=sgd", "optimizer.lr=0.01", "scheduler=one_cycle"],
    "keep": [*SLOW, "trainer.keep=2"],
    "each step saved": [*SLOW, "trainer.checkpoint_minutes=1e-9", "trainer.epochs=16"],
    "decoding processes": [*SLOW, "trainer.epochs=16"],
}
FOLDER = ["data=image_folder", "data.memory_limit=1kB", "data.cache=null", "data.workers=1"]
WHOLE = "ema"  # the feature of which the first and the last calls are struck too, and one run again and again
KILLED = ("signal", KILL)


def at_random(case: Case, kills: int, draw: random.Random) -> None:
    """Kill at moments drawn from the time that a whole run takes, until so many have struck."""
    left: list[Fault | float] = [draw.uniform(0, case.seconds) for _ in range(kills)]
    while left and not case.tally.bad:
        before = len(left)
        case.run_through(left)
        if len(left) == before:  # the machine is faster now than it was
            left[0] = draw.uniform(0, case.seconds / 2)
    case.tally.at_random += kills - len(left)


def one_run(case: Case, kills: int, draw: random.Random) -> None:
    """One run, killed so many times: by turns at a call and at a moment."""
    left: list[Fault | float] = [
        Fault(draw.randint(1, 60), "signal", KILL) if number % 2 else draw.uniform(0, 0.08) * case.seconds
        for number in range(kills)
    ]
    case.run_through(left)
    case.tally.at_random = case.tally.strikes
    if left:
        case.tally.wrong.append(f"it ended by itself with {len(left)} kills to come")


def cases(server: Server, folder: Path, chosen: str) -> Iterator[Case]:
    """Each model with each feature, of those whose `model feature` holds a text."""
    for model in MODELS:
        for feature, overrides in FEATURES.items():
            data = [*FOLDER, f"data.path={folder / 'images'}"] if feature == "decoding processes" else []
            if chosen in f"{model} {feature}":
                place = folder / f"{model}_{feature}".replace(" ", "_")
                yield Case(server, place, Tally(model, feature), [*TINY, *overrides, *data])


def kill(folder: Path, *, chosen: str, randomly: int, once: int, seed: int) -> Iterator[Tally]:
    """Run the matrix.

    Args:
        chosen: only the cases whose `model feature` holds this.
        randomly: kills of each case at random moments.
        once: kills of the run that is killed most often; 0 leaves it out, and the first and last calls.
    """
    draw = random.Random(seed)
    images(folder)
    with Server() as server:
        for case in cases(server, folder, chosen):
            tally = case.tally
            case.at_every_call(case.calls_of_a_save(), KILLED)
            at_random(case, randomly, draw)
            yield tally
            if tally.feature == WHOLE and once:
                case.tally = Tally(tally.model, f"{WHOLE}: until the first save")
                case.at_every_call(case.calls_of_the_start(), KILLED)
                yield case.tally
                case.tally = Tally(tally.model, f"{WHOLE}: the results")
                case.at_every_call(case.calls_of_the_results(), KILLED)
                yield case.tally
                long = [*TINY, *FEATURES[WHOLE], "trainer.epochs=300"]
                case = Case(server, case.folder / "long", Tally(tally.model, f"{WHOLE}: one run"), long)
                one_run(case, once, draw)
                yield case.tally
            shutil.rmtree(case.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose `model feature` holds this")
    parser.add_argument("--random", type=int, default=3, help="kills of each case at random moments")
    parser.add_argument("--once", type=int, default=30, help="kills of one run; 0: leave it, first and last calls out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write each case's counts")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        every = kill(Path(folder), chosen=asked.only, randomly=asked.random, once=asked.once, seed=asked.seed)
        report(every, "kills", asked.json)


if __name__ == "__main__":
    main()

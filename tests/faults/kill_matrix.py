"""Kill runs with SIGKILL, at random times and at every system call of a save: `make kill`.

    python tests/faults/kill_matrix.py [--only TEXT] [--random 3] [--once 30] [--seed 0] [--json FILE]

Each case is a model with a feature of training. It is trained once without a fault. Then it is killed and resumed
repeatedly, until a kill has hit every call of a save and the run finishes. After each kill, every file with its final
name must be complete, and none may have disappeared. In the end the run must equal the first one, to the bit.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faulted_runs import KILL, MODELS, SLOW, TINY, Case, Tally, make_images, print_report

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
WHOLE = "ema"  # with this feature, the first and the last calls are tested too, and one run is killed many times
KILLED = ("signal", KILL)


def kill_at_random(case: Case, kills: int, draw: random.Random) -> None:
    """Kill at random times, drawn from the duration of a run, until the given number of kills has struck."""
    left: list[Fault | float] = [draw.uniform(0, case.seconds) for _ in range(kills)]
    while left and not case.tally.bad:
        before = len(left)
        case.run_with_faults(left)
        if len(left) == before:  # the machine has become faster
            left[0] = draw.uniform(0, case.seconds / 2)
    case.tally.at_random += kills - len(left)


def kill_one_run(case: Case, kills: int, draw: random.Random) -> None:
    """Kill one run this many times, in turn at a call and at a random time."""
    left: list[Fault | float] = [
        Fault(draw.randint(1, 60), "signal", KILL) if number % 2 else draw.uniform(0, 0.08) * case.seconds
        for number in range(kills)
    ]
    case.run_with_faults(left)
    case.tally.at_random = case.tally.strikes
    if left:
        case.tally.wrong.append(f"it finished before the last {len(left)} kills")


def make_cases(server: Server, folder: Path, chosen: str) -> Iterator[Case]:
    """Each model with each feature, of those whose `model feature` contains a text."""
    for model in MODELS:
        for feature, overrides in FEATURES.items():
            data = [*FOLDER, f"data.path={folder / 'images'}"] if feature == "decoding processes" else []
            if chosen in f"{model} {feature}":
                place = folder / f"{model}_{feature}".replace(" ", "_")
                yield Case(server, place, Tally(model, feature), [*TINY, *overrides, *data])


def run_matrix(folder: Path, *, chosen: str, randomly: int, once: int, seed: int) -> Iterator[Tally]:
    """Run the matrix.

    Args:
        chosen: only the cases whose `model feature` contains this.
        randomly: the number of kills of each case at random times.
        once: the number of kills of the run that is killed most often; 0 leaves it out, and the first and last calls.
    """
    draw = random.Random(seed)
    make_images(folder)
    with Server() as server:
        for case in make_cases(server, folder, chosen):
            tally = case.tally
            case.fault_every_call(case.find_save_calls(), KILLED)
            kill_at_random(case, randomly, draw)
            yield tally
            if tally.feature == WHOLE and once:
                case.tally = Tally(tally.model, f"{WHOLE}: until the first save")
                case.fault_every_call(case.find_start_calls(), KILLED)
                yield case.tally
                case.tally = Tally(tally.model, f"{WHOLE}: the results")
                case.fault_every_call(case.find_result_calls(), KILLED)
                yield case.tally
                long = [*TINY, *FEATURES[WHOLE], "trainer.epochs=300"]
                case = Case(server, case.folder / "long", Tally(tally.model, f"{WHOLE}: one run"), long)
                kill_one_run(case, once, draw)
                yield case.tally
            shutil.rmtree(case.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose `model feature` contains this")
    parser.add_argument("--random", type=int, default=3, help="kills of each case at random times")
    parser.add_argument(
        "--once", type=int, default=30, help="kills of one run; 0 skips it, and the first and last calls"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="a file for the counts of each case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        every = run_matrix(
            Path(folder), chosen=options.only, randomly=options.random, once=options.once, seed=options.seed
        )
        print_report(every, "kills", options.json)


if __name__ == "__main__":
    main()

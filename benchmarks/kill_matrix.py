"""Runs killed by SIGKILL, at random moments and at every call of a save, and what is left of them: `make kill`.

    python benchmarks/kill_matrix.py [--only TEXT] [--random 3] [--once 30] [--seed 0] [--json FILE]

Each case is a model with a feature of training. Its run is made once without a fault; then again and again it is
killed, resumed, killed, … until every call of a save has been one to die at, and the run ends by itself. After each
kill every file that has its final name must be whole, and none that was there may be missing; in the end the run must
equal the first, to the bit.
"""

import argparse
import json
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from faults import Call, Ended, Fault, Server
from PIL import Image
from run_checks import damaged, differences, temporary

MODELS = {"mlp": [], "lenet5": [], "resnet_mini": ["model.width=0.25"]}
# Three steps an epoch. By val/loss, at this rate, each epoch is the best so far, and every save is a whole one.
TINY = ["trainer.epochs=30", "data.train_limit=60", "trainer.batch_size=24", "trainer.monitor=val/loss"]
SLOW = ["optimizer.lr=1e-4"]
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
FOLDER = ["data=image_folder", "data.path=images", "data.memory_limit=1kB", "data.cache=null", "data.workers=1"]
SAVE = ".previous.safetensors"  # the first file that a save touches, from the second save on
METRICS, FINAL = "metrics.csv", ".confusion_matrix.csv"
WHOLE = ("ema",)  # features of which also the first and the last calls are struck, and one run again and again
KILL = int(signal.SIGKILL)


@dataclass
class Tally:
    """What came of a case.

    Attributes:
        kills: how many there were; `before`, of them, had no run to resume yet.
        calls: of a save at which one struck, as `name file`; `all_calls`, those that there are.
        wrong: files that were not whole, missing, or not as they should be in the end.
    """

    model: str
    feature: str
    kills: int = 0
    at_random: int = 0
    before: int = 0
    runs: int = 0
    calls: set[str] = field(default_factory=set)
    all_calls: set[str] = field(default_factory=set)
    unloadable: list[str] = field(default_factory=list)
    best_lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Case:
    """One config, trained as often as it takes.

    Args:
        folder: where its runs are.
    """

    def __init__(self, server: Server, folder: Path, model: str, feature: str, overrides: Iterable[str]) -> None:
        self.server, self.folder = server, folder
        self.overrides = [f"model={model}", *MODELS[model], *overrides]
        self.tally = Tally(model, feature)
        self.made = 0
        folder.mkdir(parents=True)
        ended = self._go("whole", None)
        assert ended.code == 0, ended.err
        self.seconds = ended.seconds
        self.calls = ended.calls

    def calls_of_a_save(self) -> list[Call]:
        """From where the second save begins to the end of its epoch's other files."""
        begin = next(i for i, call in enumerate(self.calls) if SAVE in call.path.name)
        ends = (i for i, c in enumerate(self.calls) if i > begin and c.name == "rename" and c.path.name == METRICS)
        return self.calls[begin : next(ends) + 5]  # the folder is opened, synchronised, closed; a line of the log

    def killed_until_done(self, faults: Iterator[Fault | float]) -> int:
        """One run, killed by each of the faults in turn, or after so many seconds, then left to its end.

        Returns:
            How often it was killed.
        """
        name, before = f"cut{self.made}", self.tally.kills
        there: set[str] = set()
        self.made += 1
        self.tally.runs += 1
        while (ended := self._go(name, next(faults, None))).code == -KILL:
            self.tally.kills += 1
            self._look(self.folder / name, ended, there)
            if not (self.folder / name / "config.yaml").exists():  # there is nothing to resume yet
                self.tally.before += 1
                shutil.rmtree(self.folder / name, ignore_errors=True)
                there.clear()
        self._compare(name, ended)
        return self.tally.kills - before

    def _go(self, name: str, fault: Fault | float | None) -> Ended:
        begun = (self.folder / name).exists()
        return self.server.run(
            "train",
            *([f"resume={name}"] if begun else [*self.overrides, f"hydra.run.dir={name}"]),
            cwd=self.folder,
            watch=self.folder / name,
            fault=fault if isinstance(fault, Fault) else None,
            killed_after=fault if isinstance(fault, float) else None,
        )

    def _look(self, path: Path, ended: Ended, there: set[str]) -> None:
        done = ended.calls[:-1]  # the last one was under way
        there |= {str(call.path.relative_to(path)) for call in done if call.name == "rename"}
        found = damaged(path)
        # Only kept epochs are ever removed, and where there are hard links `last` is not moved away.
        found += [f"{name}: gone" for name in sorted(there) if "epoch_" not in name and not (path / name).exists()]
        self.tally.unloadable += found
        self.tally.best_lost += [text for text in found if Path(text.partition(":")[0]).name == "best.safetensors"]
        if ended.calls and ended.calls[-1].number:
            self.tally.calls.add(label(ended.calls[-1]))
        if ended.left:
            self.tally.wrong.append(f"processes {ended.left} were left")

    def _compare(self, name: str, ended: Ended) -> None:
        if ended.code:
            self.tally.wrong.append(f"{name}: exit {ended.code}: {ended.err[-400:]}")
            return
        wrong = differences(self.folder / "whole", self.folder / name) + temporary(self.folder / name)
        self.tally.wrong += [f"{name}: {text}" for text in wrong]
        if "best.safetensors" in wrong:
            self.tally.best_lost.append(name)
        shutil.rmtree(self.folder / name)


def label(call: Call) -> str:
    """Which call of a save it is, by what it does; random parts of hidden names left out."""
    hidden = call.path.name.startswith(".") and call.path.name.count(".") > 2
    name = ".".join(call.path.name.split(".")[1:-2]) + "*" if hidden else call.path.name
    return f"{call.name} {name}"


def at_every_call(case: Case, calls: Sequence[Call], begin: str) -> None:
    """Kill at each of these calls, one after another, in as many runs as that takes."""
    case.tally.all_calls |= {label(call) for call in calls}
    left = list(range(1, len(calls) + 1))

    def faults() -> Iterator[Fault]:
        while left:
            yield Fault(left[0], "signal", KILL, begin)
            left.pop(0)  # it has struck: asked for the next, which a run that ends by itself does not

    while left:
        if not case.killed_until_done(faults()):
            case.tally.wrong.append(f"call {left.pop(0)} from {begin!r} on was never made")


def at_random(case: Case, kills: int, draw: random.Random) -> None:
    """Kill at moments drawn from the time that a whole run takes, until so many have struck."""
    wanted = case.tally.kills + kills

    def moments() -> Iterator[float]:
        while case.tally.kills < wanted:
            yield draw.uniform(0, case.seconds)

    while case.tally.kills < wanted:
        case.killed_until_done(moments())
    case.tally.at_random += kills


def one_run(case: Case, kills: int, draw: random.Random) -> None:
    """One run, killed so many times: by turns at a call and at a moment."""

    def faults() -> Iterator[Fault | float]:
        for number in range(kills):
            yield Fault(draw.randint(1, 45), "signal", KILL) if number % 2 else draw.uniform(0.2, 0.6) * case.seconds

    case.killed_until_done(faults())


def images(folder: Path) -> None:
    """Sixty small pictures of noise, in two classes."""
    noise = np.random.default_rng(0)
    for number in range(80):
        path = folder / f"images/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16), np.uint8)).save(path)


def cases(server: Server, folder: Path, chosen: str) -> Iterator[Case]:
    """Each model with each feature, of those whose `model feature` holds a text."""
    for model in MODELS:
        for feature, overrides in FEATURES.items():
            data = [f"data.path={folder / 'images'}" if text.startswith("data.path") else text for text in FOLDER]
            own = [*TINY, *overrides, *(data if feature == "decoding processes" else [])]
            if chosen in f"{model} {feature}":
                yield Case(server, folder / f"{model}_{feature}".replace(" ", "_"), model, feature, own)


def table(tallies: Iterable[Tally]) -> str:
    """A row a case, and their sum."""
    head = ["model", "feature", "kills", "at random", "calls struck", "runs", "unloadable", "best lost", "not the same"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    sums = [0] * 6
    for tally in tallies:
        calls = f"{len(tally.calls & tally.all_calls)} of {len(tally.all_calls)}" if tally.all_calls else ""
        wrong = [len(tally.unloadable), len(tally.best_lost), len(tally.wrong)]
        counted = [tally.kills, tally.at_random, tally.runs, *wrong]
        sums = [a + b for a, b in zip(sums, counted, strict=True)]
        cells = [tally.model, tally.feature, tally.kills, tally.at_random or "", calls, tally.runs, *wrong]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    cells = ["**all**", "", *sums[:2], "", *sums[2:]]
    return "\n".join([*lines, "| " + " | ".join(map(str, cells)) + " |"])


def kill(folder: Path, *, chosen: str, randomly: int, once: int, seed: int) -> list[Tally]:
    """Run the matrix.

    Args:
        chosen: only the cases whose `model feature` holds this.
        randomly: kills of each case at random moments.
        once: kills of the run that is killed most often; 0 leaves it out.
    """
    draw, tallies = random.Random(seed), []
    images(folder)
    with Server() as server:
        for case in cases(server, folder, chosen):
            tally = case.tally
            began = time.monotonic()
            at_every_call(case, case.calls_of_a_save(), SAVE)
            at_random(case, randomly, draw)
            tallies.append(tally)
            if tally.feature in WHOLE and once:
                first = next(i for i, call in enumerate(case.calls) if ".safetensors" in call.path.name)
                last = next(i for i, call in enumerate(case.calls) if FINAL in call.path.name)
                for feature, calls, begin in (
                    ("first calls", case.calls[:first], ""),
                    ("results", case.calls[last:], FINAL),
                ):
                    case.tally = Tally(tally.model, f"{tally.feature}: {feature}")
                    at_every_call(case, calls, begin)
                    tallies.append(case.tally)
                case.tally = Tally(tally.model, f"{tally.feature}: one run, {once} kills")
                one_run(case, once, draw)
                tallies.append(case.tally)
            print(f"{tally.model}, {tally.feature}: {time.monotonic() - began:.0f} s", flush=True)
            shutil.rmtree(case.folder)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose `model feature` holds this")
    parser.add_argument("--random", type=int, default=3, help="kills of each case at random moments")
    parser.add_argument("--once", type=int, default=30, help="kills of one run; 0: leave it, first and last calls out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write each case's counts")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        tallies = kill(Path(folder), chosen=asked.only, randomly=asked.random, once=asked.once, seed=asked.seed)
    print(table(tallies))
    print(f"{sum(tally.kills for tally in tallies)} kills in {(time.monotonic() - began) / 60:.0f} minutes")
    bad = [text for tally in tallies for text in (*tally.unloadable, *tally.best_lost, *tally.wrong)]
    print("\n".join(bad))
    if asked.json:
        plain = [
            asdict(tally) | {"calls": sorted(tally.calls), "all_calls": sorted(tally.all_calls)} for tally in tallies
        ]
        asked.json.write_text(json.dumps(plain, indent=1) + "\n")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()

"""Run a config with one fault after another, resume it each time, and check what must hold after each fault."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from run_checks import find_damage, find_differences, list_temporary

from faults import Call, Ended, Fault, Server

# Three steps an epoch. By val/loss, at this rate, each epoch is the best so far, and every save is a whole one.
TINY = ["trainer.epochs=30", "data.train_limit=60", "trainer.batch_size=24", "trainer.monitor=val/loss"]
SLOW = ["optimizer.lr=1e-4"]
MODELS = {"mlp": [], "lenet5": [], "resnet_mini": ["model.width=0.25"]}
SAVE = ".previous.safetensors"  # the first file that a save touches, from the second save on
METRICS, FINAL = "metrics.csv", ".confusion_matrix.csv"  # the last file of an epoch, the first of the results
BESIDE = ("train.log", ".lock")  # not part of a save
KILL = int(signal.SIGKILL)


@dataclass
class Tally:
    """The results of a case.

    Attributes:
        strikes: the number of faults; `at_random`, those at a random time.
        before: the number of faults after which there was nothing to resume yet.
        calls: the calls that met a fault, as `name file`; `all_calls`, those that should.
        unloadable: files that were damaged or missing.
        best_lost: the same, of the best weights alone.
        wrong: all other problems, and how the final run differs.
    """

    model: str
    feature: str
    strikes: int = 0
    at_random: int = 0
    before: int = 0
    runs: int = 0
    calls: set[str] = field(default_factory=set)
    all_calls: set[str] = field(default_factory=set)
    unloadable: list[str] = field(default_factory=list)
    best_lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[str]:
        """All problems."""
        return [f"{self.model}, {self.feature}: {text}" for text in (*self.unloadable, *self.best_lost, *self.wrong)]


def label(call: Call) -> str:
    """The name and the file of a call, without the parts of file names that differ between runs."""
    name = call.path.name
    if name.startswith(".") and name.endswith(".tmp"):
        name = f"{name[1:].rsplit('.', 2)[0]}*"
    name = re.sub(r"^(whole|cut)\d*$", "run", re.sub(r"epoch_\d+", "epoch_N", name))
    return f"{call.name} {name}"


def group_by_file(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Calls by the beginning of the hidden name of the file that they write; those before the first file by ''."""
    files: dict[str, list[Call]] = {}
    begin, again = "", False
    for call in calls:
        if call.name in ("open", "link") and call.path.suffix == ".tmp":
            begin = re.match(r"\.[^\d.]+(\.[a-z]+)?", call.path.name)[0]  # type: ignore[index]
            again = begin in files
        if not again:
            files.setdefault(begin, []).append(call)
    return files


def has_struck(ended: Ended) -> bool:
    """Whether the fault came before the command ended."""
    return ended.code == -KILL or any(call.errno for call in ended.calls)


class Case:
    """One config, trained once without a fault, and then with any number of faults.

    Args:
        folder: for its runs.

    Attributes:
        seconds: the duration of the run without a fault.
        calls: the calls of this run.
    """

    def __init__(self, server: Server, folder: Path, tally: Tally, overrides: Iterable[str]) -> None:
        self.server, self.folder, self.tally = server, folder, tally
        self.overrides = [f"model={tally.model}", *MODELS[tally.model], *overrides]
        self.made = 0
        self.there: set[str] = set()
        folder.mkdir(parents=True)
        ended = self._go("whole", None)
        assert ended.code == 0, ended.err
        self.seconds, self.calls = ended.seconds, ended.calls

    def find_save_calls(self) -> list[Call]:
        """The calls from the beginning of the second save to the end of its epoch's other files."""
        begin = self._first(SAVE)
        ends = (i for i, c in enumerate(self.calls) if i > begin and c.name == "fsync" and c.path.name == METRICS)
        return self.calls[begin : next(ends) + 3]  # it is closed; a line of the log

    def find_start_calls(self) -> list[Call]:
        """The calls before the first save."""
        return self.calls[: self._first(".safetensors")]

    def find_result_calls(self) -> list[Call]:
        """The calls after training."""
        return self.calls[self._first(FINAL) :]

    def run_with_faults(self, left: list[Fault | float]) -> None:
        """Run from the beginning to the end, with the faults of a list in order; each one that strikes is removed.

        Args:
            left: faults, or seconds after which the process is killed.
        """
        name, self.there = f"cut{self.made}", set()
        self.made += 1
        self.tally.runs += 1
        while True:
            fault = left[0] if left else None
            ended = self._go(name, fault)
            if fault is not None and has_struck(ended):
                left.pop(0)
                self._look(self.folder / name, fault, ended)
            elif ended.code:
                self.tally.wrong.append(f"{name}: {fault}: exit {ended.code}: {ended.err[-400:]}")
                return
            if ended.code == 0:
                self._compare(name)
                return

    def fault_every_call(self, calls: Iterable[Call], fault: tuple[str, int], only: str = "") -> None:
        """Inject a fault into each of these calls, one after another, in as many runs as necessary.

        A file that is written several times counts once. Calls are counted from the name of their file, so that it does
        not matter which other files were written before.

        Args:
            fault: its action and its value.
            only: only calls of this name; empty for all.
        """
        left: list[Fault | float] = []
        for begin, some in group_by_file(calls).items():
            chosen = {n: call for n, call in enumerate(some, 1) if only in call.name and call.path.name not in BESIDE}
            self.tally.all_calls |= set(map(label, chosen.values()))
            left += [Fault(number, *fault, begin) for number in chosen]
        while left:
            before = len(left)
            self.run_with_faults(left)
            if len(left) == before:
                self.tally.wrong.append(f"{left.pop(0)} never came")

    def _first(self, text: str) -> int:
        return next(i for i, call in enumerate(self.calls) if text in call.path.name)

    def _go(self, name: str, fault: Fault | float | None) -> Ended:
        begun = (self.folder / name / "config.yaml").exists()
        return self.server.run(
            "train",
            *([f"resume={name}"] if begun else [*self.overrides, f"hydra.run.dir={name}"]),
            cwd=self.folder,
            watch=self.folder / name,
            fault=fault if isinstance(fault, Fault) else None,
            killed_after=fault if isinstance(fault, float) else None,
        )

    def _look(self, path: Path, fault: Fault | float, ended: Ended) -> None:
        tally = self.tally
        tally.strikes += 1
        killed = ended.code == -KILL
        done = ended.calls[:-1] if killed else ended.calls  # the last call did not end
        self.there |= {str(c.path.relative_to(path)) for c in done if c.name == "rename" and not c.errno}
        found = find_damage(path)
        if killed:
            # Only kept epochs are ever removed, and with hard links `last` is not moved away.
            found += [f"{n}: gone" for n in sorted(self.there) if "epoch_" not in n and not (path / n).exists()]
            tally.calls |= {label(call) for call in ended.calls[-1:] if call.number}
        else:
            tally.calls |= {label(call) for call in ended.calls if call.errno}
            tally.wrong += [f"{fault}, {text}" for text in find_wrong_report(path, ended)]
        tally.unloadable += [f"{fault}: {text}" for text in found]
        tally.best_lost += [f"{fault}: {text}" for text in found if Path(text.partition(":")[0]).stem == "best"]
        if ended.left:
            tally.wrong.append(f"{fault}: processes {ended.left} were left")
        if ended.code and not (path / "config.yaml").exists():  # there is nothing to resume yet
            tally.before += 1
            self.there.clear()

    def _compare(self, name: str) -> None:
        wrong = find_differences(self.folder / "whole", self.folder / name) + list_temporary(self.folder / name)
        self.tally.wrong += [f"{name} differs: {text}" for text in wrong]
        if "best.safetensors" in wrong:
            self.tally.best_lost.append(name)
        shutil.rmtree(self.folder / name)


def find_wrong_report(path: Path, ended: Ended) -> list[str]:
    """What is wrong with the end of a command that met an error of the system."""
    met = next(call for call in ended.calls if call.errno)
    found = []
    if ended.code not in (0, 1, 2):
        found.append(f"{label(met)}: exit {ended.code}")
    if "Traceback" in ended.err:
        found.append(f"{label(met)}: a traceback")
    # The hints on resuming and on the log always name the run, so they do not count.
    message = f"\n{ended.err}".rpartition("\nerror: ")[2].replace(f"resume={path.name}", "").partition("(the log:")[0]
    message = message.replace(f"resume={path}", "")
    if ended.code and (met.errno < 0 or os.strerror(met.errno) not in message or path.name not in message):
        found.append(f"{label(met)}: exit {ended.code} with the message {message!r}")
    hidden = list_temporary(path)
    if hidden and met.name != "unlink":
        found.append(f"{label(met)}: {hidden} left")
    return found


def make_images(folder: Path) -> None:
    """Write eighty small images of noise, in two classes."""
    noise = np.random.default_rng(0)
    for number in range(80):
        path = folder / f"images/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16), np.uint8)).save(path)


def format_table(tallies: Iterable[Tally], strikes: str) -> str:
    """A Markdown table with a row for each case and their sum."""
    head = ["model", "feature", strikes, "at random", "calls struck", "runs", "unloadable", "best lost", "not the same"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    sums = [0] * 6
    for tally in tallies:
        calls = f"{len(tally.calls & tally.all_calls)} of {len(tally.all_calls)}"
        wrong = [len(tally.unloadable), len(tally.best_lost), len(tally.wrong)]
        counted = [tally.strikes, tally.at_random, tally.runs, *wrong]
        sums = [a + b for a, b in zip(sums, counted, strict=True)]
        cells = [tally.model, tally.feature, *counted[:2], calls, tally.runs, *wrong]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    cells = ["all", "", *sums[:2], "", *sums[2:]]
    return "\n".join([*lines, "| " + " | ".join(map(str, cells)) + " |"])


def print_report(every: Iterator[Tally], strikes: str, file: Path | None) -> None:
    """Print each case when it is done, and then the table; exit with 1 if there was any problem."""
    began, tallies = time.monotonic(), []
    for tally in every:
        tallies.append(tally)
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:5.1f} min  {tally.model}, {tally.feature}: {tally.strikes} {strikes}", flush=True)
        print(*tally.bad, sep="\n", end="\n" if tally.bad else "", flush=True)
    print(format_table(tallies, strikes))
    print(f"{sum(tally.strikes for tally in tallies)} {strikes} in {(time.monotonic() - began) / 60:.0f} minutes")
    if file:
        plain = [
            asdict(tally) | {"calls": sorted(tally.calls), "all_calls": sorted(tally.all_calls)} for tally in tallies
        ]
        file.write_text(json.dumps(plain, indent=1) + "\n")
    raise SystemExit(any(tally.bad for tally in tallies))

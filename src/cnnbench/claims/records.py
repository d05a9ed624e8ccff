"""What a claim's run leaves behind: `prediction.json`, `verdict.json`, and `claims.csv` over several of them."""

import importlib.metadata
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

import cnnbench
from cnnbench.claims.statement import Claim, Effect, GroupSet, Scale, Text
from cnnbench.claims.verdict import INCONCLUSIVE, SUPPORTED, Judgement, Obstacle, combine
from cnnbench.storage.csv_tables import format_csv
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import format_path

LARGEST = 4 * 2**20  # bytes of a verdict; those of the course have 30,000
MOST_VERDICTS = 20_000  # that are read: hundreds of students with dozens of claims
VERDICT, PREDICTION, TABLE = "verdict.json", "prediction.json", "claims.csv"
DEEPEST = 6  # levels below a named folder that are searched: a student's folder holds outputs/claims/mnist-quick/C01
Verdict = Literal["supported", "refuted", "inconclusive"]
Answer = Literal["yes", "no"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
Values = Mapping[str, Mapping[int, float]]


class ContrastRecord(Effect):
    """A contrast and what was found, as `verdict.json` has it."""

    model_config = ConfigDict(extra="ignore")  # a later version may have written more
    verdict: Verdict
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    obstacle: Obstacle | None = None
    seeds_needed: int | None = None
    # The measure by group and seed, and that of each set by its name; None where it was not finite.
    values: dict[str, dict[int, float | None]]

    @property
    def is_exact(self) -> bool:
        """Whether it was counted, so that it has neither spread nor interval."""
        return self.effect is not None and self.low == self.high == self.effect and self.n == 1


class VerdictRecord(BaseModel):
    """The content of `verdict.json`."""

    model_config = ConfigDict(extra="ignore")  # a later version may have written more
    id: str
    statement: Text
    question: Text
    nuance: Text
    equal: Text
    data: str
    scale: Scale
    seeds: int
    groups: dict[str, list[str]]
    sets: dict[str, GroupSet] = {}
    portuguese: dict[str, str] = {}  # names of groups, and units, that Portuguese writes differently
    verdict: Verdict
    prediction: Answer | None
    held: bool | None  # whether the prediction held; None without one, or while the verdict is open
    contrasts: list[ContrastRecord]
    problems: list[str]  # runs that failed
    runs: list[str]  # the folders of the runs behind it, relative to its own
    command: str
    created: str
    version: str
    versions: dict[str, str] = {}  # of the packages that the figures depend on


def make_record(
    claim: Claim,
    judgements: Sequence[Judgement],
    values: Sequence[Values],
    *,
    data: str,
    scale: Scale,
    prediction: Answer | None,
    problems: Sequence[str] = (),
    runs: Sequence[str] = (),
) -> VerdictRecord:
    """The record of a claim that has been measured.

    Args:
        judgements, values: of each contrast.
    """
    verdict = combine(judgements)
    contrasts = [
        {**judgement.contrast.model_dump(), **asdict(judgement), "values": given}
        for judgement, given in zip(judgements, values, strict=True)
    ]
    return VerdictRecord.model_validate(
        {
            **claim.model_dump(include={"id", "statement", "question", "nuance", "equal", "portuguese", "sets"}),
            "data": data,
            "scale": scale,
            "seeds": claim.protocol[scale].seeds if any(not one.is_exact for one in claim.contrasts) else 0,
            "groups": {name: claim.list_overrides(name, scale, data) for name in claim.groups},
            "verdict": verdict,
            "prediction": prediction,
            "held": compare_prediction(prediction, verdict),
            "contrasts": contrasts,
            "problems": list(problems),
            "runs": list(runs),
            "command": f"cnnbench claim run {claim.id} --scale {scale} --data {data}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": cnnbench.__version__,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy")},
        }
    )


def compare_prediction(prediction: Answer | None, verdict: str) -> bool | None:
    """Whether a prediction held; an open verdict leaves it open."""
    if prediction is None or verdict == INCONCLUSIVE:
        return None
    return (prediction == "yes") == (verdict == SUPPORTED)


def write_verdict(folder: Path, record: VerdictRecord) -> None:
    """Write `verdict.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / VERDICT, record.model_dump(mode="json"))


def read_verdict(path: Path) -> VerdictRecord:
    """Read a `verdict.json`, which anybody may have written.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return VerdictRecord.model_validate(read_json(path, LARGEST))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        refuse_damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def find_verdicts(folder: Path, levels: int = DEEPEST) -> Iterator[Path]:
    """Find `verdict.json` in and below a folder; links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name == VERDICT and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif levels and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from find_verdicts(Path(entry.path), levels - 1)


def read_verdicts(folder: Path, problems: list[str], levels: int = DEEPEST) -> list[tuple[Path, VerdictRecord]]:
    """Read the verdicts in and below a folder; `problems` receives those that are left out, and why."""
    found = []
    for number, path in enumerate(find_verdicts(folder, levels)):
        if number == MOST_VERDICTS:
            problems.append(f"{format_path(folder)} holds more than {MOST_VERDICTS:,} verdicts: the rest is left out")
            break
        try:
            found.append((path, read_verdict(path)))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return found


def keep_latest(known: dict[Any, VerdictRecord], key: Hashable, record: VerdictRecord) -> None:
    """Put a record under its key, unless a later one is there."""
    if key not in known or record.created > known[key].created:
        known[key] = record


def record_prediction(folder: Path, claim: str, answer: Answer) -> None:
    """Record a prediction, before the claim is run.

    Raises:
        ValueError: the claim has a verdict already, or the other answer was given before: some runs may be known.
    """
    if (folder / VERDICT).is_file():
        raise ValueError(
            f"--predict {answer}: {claim} already has a verdict, in {folder}, and a prediction comes before it: "
            "leave --predict out"
        )
    if read_prediction(folder) not in (None, answer):
        raise ValueError(f"--predict {answer}: {claim} already has the other prediction, in {folder / PREDICTION}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PREDICTION, {"prediction": answer, "made": datetime.now(UTC).isoformat(timespec="seconds")})


def read_prediction(folder: Path) -> Answer | None:
    """The prediction in a claim's folder, if there is one."""
    path = folder / PREDICTION
    if not path.is_file():
        return None
    plain = read_json(path, LARGEST)
    answer = plain.get("prediction") if isinstance(plain, dict) else None
    if answer not in ("yes", "no"):
        refuse_damaged(path, "its prediction is neither yes nor no")
    return "yes" if answer == "yes" else "no"


def format_table(records: Iterable[tuple[str, VerdictRecord]]) -> str:
    """`claims.csv`: a row for each contrast, after the place that each record came from."""
    rows = [
        {
            "from": place,
            "claim": record.id,
            "statement": record.statement.en,
            "data": record.data,
            "scale": record.scale,
            "verdict": record.verdict,
            "prediction": record.prediction,
            "held": record.held,
            **contrast.model_dump(
                exclude={"options", "reason", "than", "values", "verdict", "obstacle", "seeds_needed"}
            ),
            "contrast_verdict": contrast.verdict,
            "obstacle": contrast.obstacle,
            "seeds_needed": contrast.seeds_needed,
        }
        for place, record in records
        for contrast in record.contrasts
    ]
    return format_csv(rows)

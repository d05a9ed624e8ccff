"""`robustness.json` and `robustness.csv`: how a run's network does on changed images."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.regular import refuse_damaged

FILE = "robustness.json"
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Text = Annotated[str, Field(max_length=200)]


class _Plain(BaseModel):
    # Anybody may have written the file.
    model_config = ConfigDict(allow_inf_nan=False, frozen=True)


class Row(_Plain):
    """The result under one change.

    Attributes:
        strength: in the unit; several changes may have the same.
        arguments: what exactly was done, such as a shift down and to the right.
        accuracy: the share of the changed images that are classified correctly.
        consistency: the share of the images that get the same class as without the change.
    """

    kind: Text
    strength: Number
    unit: Text
    arguments: Annotated[tuple[Number, ...], Field(max_length=8)]
    accuracy: Share
    consistency: Share


class Robustness(_Plain):
    """What `cnnbench robustness` found out about one run.

    Attributes:
        images: how many were changed, of the data's split; `images_sha256` identifies them.
        rows: one for each change; the first of each kind changes nothing.
    """

    data: Text
    split: Text
    images: Annotated[int, Field(ge=1)]
    images_sha256: Text
    notes: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=100_000)]

    def select(self, kind: str) -> list[Row]:
        """The rows of a kind, by strength."""
        return sorted((row for row in self.rows if row.kind == kind), key=lambda row: row.strength)

    @property
    def kinds(self) -> list[str]:
        """The kinds of change that were measured."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    def extend(self, earlier: Self) -> Self:
        """The same with the kinds that only an earlier measurement of the same images has."""
        if earlier.images_sha256 != self.images_sha256:
            return self
        kept = [row for row in earlier.rows if row.kind not in self.kinds]
        return self.model_copy(update={"rows": (*self.rows, *kept)})

    def list_rows(self) -> list[dict[str, Any]]:
        """The rows of a CSV file."""
        return [row.model_dump() | {"arguments": " ".join(f"{one:g}" for one in row.arguments)} for row in self.rows]


def locate_result(run: Path, split: str) -> Path:
    """Where the result for a split of the run's data belongs."""
    return run / "evaluations" / f"robustness_{split}"


def write_robustness(folder: Path, found: Robustness) -> None:
    """Write a result as JSON, and its rows as CSV, into a folder that is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    # JSON last: readers look for it, and the table then exists too.
    write_csv(folder / "robustness.csv", found.list_rows())
    write_json(folder / FILE, found.model_dump())


def read_robustness(folder: Path) -> Robustness | None:
    """The result in a folder; None if there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Robustness.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        refuse_damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

"""What distinguishes the repetitions of a run: the seed of each source of randomness, and the fold to test on."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from cnnbench.config.keys import Section, key
from cnnbench.config.value_types import LARGEST_SEED, Seed

Source = Literal["init", "order", "augment", "split", "dropout"]
# Of a run: `3`, or `0,init=3` where sources of randomness have different seeds; `0,fold=2` in a cross-validation.
SeedName = int | str


class SeedsConfig(Section):
    """The seeds of single sources of randomness; null: the value of `seed`."""

    init: Seed | None = key("Seed of the initial weights; null: seed", None)
    order: Seed | None = key("Seed of the order in which images are trained on; null: seed", None)
    augment: Seed | None = key("Seed of the augmentation; null: seed", None)
    split: Seed | None = key(
        "Seed of the validation split, and of the images that data.train_limit keeps; null: seed", None
    )
    dropout: Seed | None = key("Seed of dropout and other noise inside the network; null: seed", None)


class Seeds(NamedTuple):
    """The seed of each source of randomness of a run; runs of one config with equal seeds have equal results."""

    init: int
    order: int
    augment: int
    split: int
    dropout: int

    @property
    def name(self) -> SeedName:
        """The seed if all are equal, else the most common one and the others."""
        common = Counter(self).most_common(1)[0][0]
        others = [f"{source}={seed}" for source, seed in self._asdict().items() if seed != common]
        return ",".join([str(common), *others]) if others else common


class Fold(NamedTuple):
    """The part of the training images that a run of a cross-validation is tested on.

    Attributes:
        number: from 1.
        total: of all folds.
    """

    number: int
    total: int


def read_seeds(config: Mapping[str, Any]) -> Seeds:
    """The seeds of a config, given as plain data.

    Raises:
        ValueError: a seed is not a whole number.
    """
    own = config.get("seeds")  # none in the config of an early version; anything in a stranger's
    own = own if isinstance(own, Mapping) else {}
    values: dict[str, Any] = {"seed": config.get("seed")} | {f"seeds.{name}": own.get(name) for name in Seeds._fields}
    for name, value in values.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED
        if not is_whole and (value is not None or name == "seed"):
            raise ValueError(f"{name}={value!r} is not a whole number from 0 to {LARGEST_SEED:,}")
    seed, *rest = values.values()
    return Seeds(*(seed if value is None else value for value in rest))


def read_fold(config: Mapping[str, Any]) -> Fold | None:
    """The fold of a config, given as plain data; None if it is not cross-validated.

    Raises:
        ValueError: the fold is not one of its folds.
    """
    data = config.get("data")
    number, count = (data.get("fold"), data.get("folds")) if isinstance(data, Mapping) else (None, None)
    if number is None and count is None:
        return None
    if number is None or count is None:
        given, missing = ("data.fold", "data.folds") if count is None else ("data.folds", "data.fold")
        raise ValueError(
            f"{given}={number or count} needs {missing}: give both, or sweep.folds=K for a run of each fold"
        )
    # Not isinstance, because a bool is an int.
    if type(number) is not int or type(count) is not int or not 1 <= number <= count:
        raise ValueError(f"data.fold={number!r}: must be a whole number from 1 to data.folds={count!r}")
    return Fold(number, count)


def drop_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config, given as plain data, shares with its repetitions: all but the seeds and the fold."""
    # The number of folds stays: with another one, the networks are trained on other shares of the images.
    kept = {name: value for name, value in config.items() if name not in ("seed", "seeds")}
    if isinstance(data := kept.get("data"), Mapping):
        kept["data"] = {name: value for name, value in data.items() if name != "fold"}
    return kept


def name_repetition(seeds: Seeds, fold: Fold | None) -> SeedName:
    """The name of a run among those that differ only in their seeds and folds."""
    return seeds.name if fold is None else f"{seeds.name},fold={fold.number}"


def sort_seeds(names: Iterable[SeedName]) -> list[SeedName]:
    """Sort the names of seeds: numbers first, in ascending order; also the numbers inside a name."""

    def make_key(name: SeedName) -> tuple[bool, list[int | str]]:
        parts = re.split(r"(\d+)", str(name))  # text and numbers in turn
        return isinstance(name, str), [int(part) if part.isdecimal() else part for part in parts]

    return sorted(names, key=make_key)

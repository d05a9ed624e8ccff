"""The seeds of a run: one for each source of randomness, which is `seed` unless `seeds` sets it apart."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from cnnbench.config.keys import Section, key
from cnnbench.config.value_types import LARGEST_SEED

Source = Literal["init", "order", "augment", "split", "dropout"]
SeedName = int | str  # of a run: `3`, or `0,init=3` where sources of randomness have different seeds


class SeedsConfig(Section):
    """The seeds of single sources of randomness; null: the value of `seed`."""

    init: int | None = key("Seed of the initial weights; null: seed", None, ge=0, le=LARGEST_SEED)
    order: int | None = key("Seed of the order in which images are trained on; null: seed", None, ge=0, le=LARGEST_SEED)
    augment: int | None = key("Seed of the augmentation; null: seed", None, ge=0, le=LARGEST_SEED)
    split: int | None = key(
        "Seed of the validation split, and of the images that data.train_limit keeps; null: seed",
        None,
        ge=0,
        le=LARGEST_SEED,
    )
    dropout: int | None = key(
        "Seed of dropout and other noise inside the network; null: seed", None, ge=0, le=LARGEST_SEED
    )


class Seeds(NamedTuple):
    """The seed that each source of randomness of a run has. Runs of one config repeat each other if these are equal."""

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


def read_seeds(config: Mapping[str, Any]) -> Seeds:
    """The seeds of a config, given as plain data, which may come from a stranger or from before there was `seeds`.

    Raises:
        ValueError: a seed is not a whole number.
    """
    own = config.get("seeds")
    own = own if isinstance(own, Mapping) else {}
    values: dict[str, Any] = {"seed": config.get("seed")} | {f"seeds.{name}": own.get(name) for name in Seeds._fields}
    for name, value in values.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED
        if not is_whole and (value is not None or name == "seed"):
            raise ValueError(f"{name}={value!r} is not a whole number from 0 to {LARGEST_SEED:,}")
    seed, *rest = values.values()
    return Seeds(*(seed if value is None else value for value in rest))


def drop_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config, given as plain data, shares with its repetitions: all but the seeds."""
    return {name: value for name, value in config.items() if name not in ("seed", "seeds")}


def sort_seeds(names: Iterable[SeedName]) -> list[SeedName]:
    """Sort the names of seeds: numbers first, in ascending order."""
    return sorted(names, key=lambda name: (isinstance(name, str), name))

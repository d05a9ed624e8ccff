"""What a search does, as `tune.KEY=VALUE` on the command line or in a space's YAML file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cnnbench.config.keys import Section, key
from cnnbench.config.schema import refuse_interpolation

AT_ONCE = 4  # trials, with workers=auto on any machine: more would be drawn from too few results


class TuneSettings(Section):
    """A search."""

    space: dict[str, Any] = key("Which keys vary, and over what: KEY: {type: float, low: 0, high: 1}", {})
    overrides: list[str] = key("Overrides of every trial; the command's own win", [])
    trials: int = key("Trials in all: finished, pruned and failed ones together", 20, ge=1)
    timeout: float | None = key("Seconds after which no further trial starts", None, gt=0)
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = key(
        f"Trials to run at once; each is drawn and judged without those beside it. auto: as many of {AT_ONCE} as the "
        f"cores have threads for and the memory has room for, one a GPU; drawn and judged as with {AT_ONCE}",
        "auto",
    )
    seed: int = key("Seed of the sampler; the trials' own is `seed`", 0, ge=0)
    sampler: Literal["tpe", "random"] = key("How values are drawn", "tpe")
    pruner: Literal["median", "hyperband", "none"] = key(
        "Which trials stop early; median: those worse than half of the earlier trials at the same epoch", "median"
    )
    startup_trials: int = key("The first trials, drawn at random and never pruned by median", 5, ge=1)
    warmup_epochs: int = key("Epochs that every trial trains before it may be pruned", 3, ge=1)

    @property
    def at_once(self) -> int:
        """How many trials may run at once, whatever the machine."""
        return AT_ONCE if self.workers == "auto" else self.workers


def parse_settings(plain: Mapping[str, Any]) -> TuneSettings:
    """Checked settings from plain data.

    Raises:
        ValueError: an unknown key, a wrong type, or a value out of range; named as `tune.KEY`.
    """
    refuse_interpolation(plain, "tune")
    return TuneSettings.from_plain(plain, "tune")

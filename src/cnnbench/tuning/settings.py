"""The settings of a search: `tune.KEY=VALUE` on the command line, or keys of a space's YAML file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cnnbench.config.keys import Section, key
from cnnbench.config.text_values import refuse_interpolation

AT_ONCE = 4  # trials with workers=auto; with more, each would be drawn from too few results


class TuneSettings(Section):
    """The keys `tune.…`."""

    space: dict[str, Any] = key("The keys that vary, and their ranges: KEY: {type: float, low: 0, high: 1}", {})
    overrides: list[str] = key("Overrides of every trial; those of the command take precedence", [])
    trials: int = key("The total number of trials: finished, pruned and failed", 20, ge=1)
    timeout: float | None = key("Seconds after which no further trial starts", None, gt=0)
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = key(
        f"Trials to run at once; each is drawn and judged without those beside it. auto: as many of {AT_ONCE} as the "
        f"cores have threads for and the memory has room for, one a GPU; drawn and judged as with {AT_ONCE}",
        "auto",
    )
    seed: int = key("Seed of the sampler; the seed of the trials is `seed`", 0, ge=0)
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
    """Check settings given as plain data.

    Raises:
        ValueError: an unknown key, a wrong type, or a value out of range; the message names it as `tune.KEY`.
    """
    refuse_interpolation(plain, "tune")
    return TuneSettings.from_plain(plain, "tune")

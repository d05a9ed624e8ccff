"""The search space: the keys of the config that vary, and their values. In YAML:

optimizer.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
model.width: {type: float, low: 0.5, high: 2, step: 0.5}
trainer.batch_size: {type: categorical, choices: [32, 64, 128]}
scheduler: {type: categorical, choices: [constant, one_cycle]}
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnbench.config.keys import Count, Section, key
from cnnbench.registry import describe_unknown

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str | None
DIGITS = 6  # significant digits of a tried number: enough to tell trials apart, and few enough to type
# The other keys decide which images are trained on, measured or kept for the test, so a study cannot vary them.
OPEN_GROUPS = ("model", "augment", "optimizer", "scheduler", "trainer")
OPEN_KEYS = ("data.normalize", "data.class_weights", "data.sampler", "data.image_size")
CLOSED_KEYS = (
    "trainer.monitor",
    "trainer.device",
    "augment.exceptions",
    "model.name",
    "model.recipe",
    "model.recipe_data",
)
DIFFERENT_VALUES = "a list of two or more different plain values"


class Numbers(Section):
    """Numbers from `low` to `high`, both included."""

    low: float = key("The least value")
    high: float = key("The largest value")
    log: bool = key("Draw uniformly on a logarithmic scale", False)
    step: float | None = key("Draw only low, low + step, …; null: any number", None, gt=0)

    def list_ends(self) -> Sequence[Value]:
        """The two ends: if the config accepts them, it accepts all values between."""
        return [self.low, self.high]

    def suggest(self, trial: "Trial", name: str) -> Value:
        """A value, drawn by the trial's sampler."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


class WholeNumbers(Numbers):
    """Whole numbers from `low` to `high`, both included."""

    low: int = key("The least value")
    high: int = key("The largest value")
    step: Count | None = key("Draw only low, low + step, …; null: every number", None)

    def suggest(self, trial: "Trial", name: str) -> Value:
        """A value, drawn by the trial's sampler."""
        return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)


class Choices(Section):
    """Values without an order."""

    choices: list[Value] = key("The values", accepted=DIFFERENT_VALUES)

    def list_ends(self) -> Sequence[Value]:
        """All values."""
        return self.choices

    def suggest(self, trial: "Trial", name: str) -> Value:
        """A value, drawn by the trial's sampler."""
        return trial.suggest_categorical(name, self.choices)


KINDS: dict[str, type[Numbers | Choices]] = {"float": Numbers, "int": WholeNumbers, "categorical": Choices}
Space = dict[str, Numbers | Choices]


def parse_space(plain: Mapping[str, Any]) -> Space:
    """Read a space from plain data. Whether its keys exist and its values are accepted is left to the config.

    Raises:
        ValueError: names the key, its value, and what is accepted.
    """
    if not plain:
        raise ValueError("tune.space={}: must have at least one KEY: {type: float, int or categorical, …}")
    return {str(name): _parse_entry(str(name), entry) for name, entry in plain.items()}


def format_override(name: str, value: Value) -> str:
    """The override that sets a key, in Hydra's syntax."""
    return f"{name}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def round_value(value: Value) -> Value:
    """Round a drawn value for a trial: 0.30000000000000004 becomes 0.3."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _parse_entry(name: str, entry: Any) -> Numbers | Choices:
    where = f"tune.space.{name}"
    if (name.partition(".")[0] not in OPEN_GROUPS and name not in OPEN_KEYS) or name in CLOSED_KEYS:
        raise ValueError(
            f"{where}: trials can only be compared on the same images by the same measure: use keys of "
            f"{', '.join(OPEN_GROUPS)} (but {', '.join(CLOSED_KEYS)}), and {', '.join(OPEN_KEYS)}"
        )
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise ValueError(f"{where}={entry!r}: must be {{type: float, int or categorical, …}}")
    kind = str(entry["type"])
    if kind not in KINDS:
        raise ValueError(describe_unknown(f"{where}.type", kind, KINDS))
    parsed = KINDS[kind].from_plain({str(key): value for key, value in entry.items() if key != "type"}, where)
    if isinstance(parsed, Numbers):
        _check_numbers(where, parsed)
    elif len({repr(value) for value in parsed.choices}) < max(2, len(parsed.choices)):
        raise ValueError(f"{where}.choices={parsed.choices}: must be {DIFFERENT_VALUES}")
    return parsed


def _check_numbers(where: str, entry: Numbers) -> None:
    low, high, step = entry.low, entry.high, entry.step
    if low >= high:
        raise ValueError(f"{where}.high={high}: must be more than low={low}")
    if entry.log and low <= 0:
        raise ValueError(f"{where}.low={low}: with log=true it must be above 0")
    if step is not None and entry.log:
        raise ValueError(f"{where}.step={step}: must be left out, because log=true")
    if step is not None:
        steps = (high - low) / step  # in binary, 0.1 divides no width exactly
        if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
            raise ValueError(f"{where}.step={step}: must be a number above 0 that divides high - low = {high - low:g}")

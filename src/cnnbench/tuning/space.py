"""The search space: the keys of the config that vary, and their values. In YAML:

optimizer.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
model.width: {type: float, low: 0.5, high: 2, step: 0.5}
trainer.batch_size: {type: categorical, choices: [32, 64, 128]}
scheduler: {type: categorical, choices: [constant, one_cycle]}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnbench.registry import describe_unknown

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str | None
DIGITS = 6  # significant digits of a tried number: enough to tell trials apart, and few enough to type
FIELDS = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
}
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


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included.

    Attributes:
        log: draw uniformly on a logarithmic scale.
        step: draw only `low`, `low + step` …; None for any number, which for whole numbers is a step of 1.
    """

    whole: bool
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def list_ends(self) -> list[Value]:
        """The two ends: if the config accepts them, it accepts all values between."""
        return [self.low, self.high]

    def suggest(self, trial: "Trial", key: str) -> Value:
        """A value, drawn by the trial's sampler."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Choices:
    """Values without an order."""

    values: tuple[Value, ...]

    def list_ends(self) -> list[Value]:
        """All values."""
        return list(self.values)

    def suggest(self, trial: "Trial", key: str) -> Value:
        """A value, drawn by the trial's sampler."""
        return trial.suggest_categorical(key, self.values)


Space = dict[str, Numbers | Choices]


def parse_space(plain: Mapping[str, Any]) -> Space:
    """Read a space from plain data. Whether its keys exist and its values are accepted is left to the config.

    Raises:
        ValueError: names the key, its value, and what is accepted.
    """
    if not plain:
        raise ValueError("tune.space={}: must have at least one KEY: {type: float, int or categorical, …}")
    return {str(key): _parse_entry(str(key), entry) for key, entry in plain.items()}


def format_override(key: str, value: Value) -> str:
    """The override that sets a key, in Hydra's syntax."""
    return f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def round_value(value: Value) -> Value:
    """Round a drawn value for a trial: 0.30000000000000004 becomes 0.3."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _parse_entry(key: str, entry: Any) -> Numbers | Choices:
    where = f"tune.space.{key}"
    section = key.partition(".")[0]
    if (section not in OPEN_GROUPS and key not in OPEN_KEYS) or key in CLOSED_KEYS:
        raise ValueError(
            f"{where}: trials can only be compared on the same images by the same measure: use keys of "
            f"{', '.join(OPEN_GROUPS)} (but {', '.join(CLOSED_KEYS)}), and {', '.join(OPEN_KEYS)}"
        )
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise ValueError(f"{where}={entry!r}: must be {{type: float, int or categorical, …}}")
    kind = str(entry["type"])
    if kind not in FIELDS:
        raise ValueError(describe_unknown(f"{where}.type", kind, FIELDS))
    for name in entry:
        if name not in ("type", *FIELDS[kind]):
            raise ValueError(describe_unknown(f"key in {where} (type {kind})", name, ("type", *FIELDS[kind])))
    return _parse_choices(where, entry) if kind == "categorical" else _parse_numbers(where, entry, whole=kind == "int")


def _parse_choices(where: str, entry: Mapping[str, Any]) -> Choices:
    values = entry.get("choices")
    plain = isinstance(values, list) and all(v is None or isinstance(v, bool | int | float | str) for v in values)
    if not isinstance(values, list) or not plain or len(values) < 2 or len({repr(v) for v in values}) < len(values):
        raise ValueError(f"{where}.choices={values}: must be a list of two or more different plain values")
    return Choices(tuple(values))


def _parse_numbers(where: str, entry: Mapping[str, Any], *, whole: bool) -> Numbers:
    low, high = (_parse_number(where, name, entry, whole) for name in ("low", "high"))
    log = entry.get("log", False)
    step = _parse_number(where, "step", entry, whole) if entry.get("step") is not None else None
    if not isinstance(log, bool):
        raise ValueError(f"{where}.log={log}: must be true or false")
    if low >= high:
        raise ValueError(f"{where}.high={high}: must be more than low={low}")
    if log and low <= 0:
        raise ValueError(f"{where}.low={low}: with log=true it must be above 0")
    if step is not None and (log or step <= 0 or not _divides(step, high - low)):
        accepted = "left out, because log=true" if log else f"a number above 0 that divides high - low = {high - low:g}"
        raise ValueError(f"{where}.step={step}: must be {accepted}")
    return Numbers(whole, low, high, log, step)


def _divides(step: float, width: float) -> bool:
    steps = width / step
    return round(steps) >= 1 and math.isclose(steps, round(steps), rel_tol=1e-9)


def _parse_number(where: str, name: str, entry: Mapping[str, Any], whole: bool) -> float:
    """A number of an entry; also from text, because YAML 1.1 reads 1e-4 as text."""
    value, accepted = entry.get(name), "a whole number" if whole else "a number"
    try:
        if isinstance(value, bool) or (whole and not isinstance(value, int)):
            raise ValueError
        number = int(value) if whole else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{where}.{name}={value}: must be {accepted}") from None
    if not math.isfinite(number):
        raise ValueError(f"{where}.{name}={value}: must be {accepted}")
    return number

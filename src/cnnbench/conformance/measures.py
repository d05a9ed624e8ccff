"""What every measure of claims must do."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnnbench import registry
from cnnbench.conformance.checking import NotApplicable, check, require


@dataclass(frozen=True)
class MeasurePart:
    """A registered measure.

    Attributes:
        subject: makes the finished run or the network that it measures, as its `source` says.
    """

    name: str
    subject: Callable[[str], Any]

    @property
    def facts(self) -> dict[str, Any]:
        """What it was registered with."""
        return registry.get_facts("measure", self.name)


@check("measure", "it says what it reads, its range and its meaning")
def _check_facts(part: MeasurePart) -> None:
    """`source`, `low` and `high`, and a docstring, which `claim measure` shows."""
    source, low, high = (part.facts.get(name) for name in ("source", "low", "high"))
    require(source in ("run", "network"), f"source={source!r}: must be 'run' or 'network'")
    ordered = isinstance(low, int | float) and isinstance(high, int | float) and low < high
    require(ordered, f"low={low!r} and high={high!r}: must be numbers, low below high; math.inf means no limit")
    require(registry.find_part("measure", part.name).__doc__, "it has no docstring, which `claim measure` shows")


@check("measure", "it is a number in its range, the same each time")
def _check_value(part: MeasurePart) -> None:
    """For LeNet-5 on the digits, after an epoch."""
    declared = registry.find_options_class("measure", part.name)
    required = [name for name, field in declared.model_fields.items() if field.is_required()] if declared else []
    if required:
        raise NotApplicable(f"its option {required[0]} has no default")
    source = part.facts["source"]
    subject = part.subject(source)
    first, second = (float(registry.build("measure", part.name, **{source: subject})) for _ in range(2))
    require(math.isfinite(first), f"its value is {first}")
    low, high = part.facts["low"], part.facts["high"]
    require(low <= first <= high, f"its value {first:g} lies outside low={low:g} and high={high:g}")
    require(first == second, f"measured again, it is {second!r} and not {first!r}")

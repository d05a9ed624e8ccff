"""Run the checks of a part, and say what does not hold.

A file per kind of part registers its checks:

    @check("model", "an image alone gets the same output as in a batch")
    def check_batches(part: ModelPart) -> None: ...
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cnnbench import registry
from cnnbench.plugins.loading import find_line

Check = Callable[[Any], None]


class Fault(Exception):
    """A part does not do what it must; the message says what was expected and what came."""


class NotApplicable(Exception):
    """A check does not apply to a part; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Attributes:
        check: what must hold, in words.
        problem: what does not; None if it holds or was skipped.
        skipped: why it was not checked; None if it was.
    """

    check: str
    problem: str | None = None
    skipped: str | None = None


_checks: dict[str, dict[str, Check]] = {}


def check(kind: str, fact: str) -> Callable[[Check], Check]:
    """Register a check of all parts of a kind.

    Args:
        fact: what must hold, in words.
    """

    def add(function: Check) -> Check:
        _checks.setdefault(kind, {})[fact] = function
        return function

    return add


def list_checks(kind: str) -> dict[str, Check]:
    """The checks of a kind, by what must hold."""
    return _checks[kind]


def run_checks(kind: str, part: Any) -> Iterator[Outcome]:
    """Run all checks of a kind on a part; an error inside the part is a problem too."""
    for fact, function in list_checks(kind).items():
        try:
            function(part)
        except Fault as fault:
            yield Outcome(fact, problem=str(fault))
        except NotApplicable as reason:
            yield Outcome(fact, skipped=str(reason))
        except Exception as error:
            where = find_line(error)
            yield Outcome(fact, problem=f"{f'{where}: ' if where else ''}{type(error).__name__}: {error}")
        else:
            yield Outcome(fact)


def require(holds: object, problem: str) -> None:
    """Raise a `Fault` with this message, unless the fact holds."""
    if not holds:
        raise Fault(problem)


def check_options(kind: str, name: str) -> None:
    """Check that the options of a part are typed and documented."""
    declared = registry.find_options_class(kind, name)
    for option, field in declared.model_fields.items() if declared else ():
        described = isinstance(field.json_schema_extra, dict) and "role" in field.json_schema_extra
        require(described, f'{option}: declare it as {option}: TYPE = key("What it means")')
        meaning = field.description or ""
        require(meaning.strip(), f"{option}: its key(…) has no meaning")
        require(not meaning.endswith("."), f"{option}: its meaning ends with a full stop; lists of keys have none")

"""Run the checks of a part, and report what does not hold.

A file for each kind of part registers its checks:

    @check("model", "an image alone gets the same output as in a batch")
    def check_batches(part: ModelPart) -> None: ...
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

from cnnbench import registry
from cnnbench.plugins.loading import describe_error

Check = Callable[[Any], None]


class Fault(Exception):
    """A part does not do what it must; the message says what was expected and what came."""


class NotApplicable(Exception):
    """A check does not apply to a part; the message says why."""


class Outcome(NamedTuple):
    """The result of a check, which is named by what must hold; the reason of a failure or of a skip."""

    check: str
    result: Literal["holds", "FAILS", "skipped"] = "holds"
    reason: str = ""


_checks: dict[str, dict[str, Check]] = {}


def check(kind: str, fact: str) -> Callable[[Check], Check]:
    """Register a check of all parts of a kind; `fact` is a sentence that says what must hold."""

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
            yield Outcome(fact, "FAILS", str(fault))
        except NotApplicable as reason:
            yield Outcome(fact, "skipped", str(reason))
        except Exception as error:  # a stranger's code raises anything
            yield Outcome(fact, "FAILS", describe_error(error))
        else:
            yield Outcome(fact)


def require(holds: object, problem: str) -> None:
    """Raise a `Fault` with this message, unless the fact holds."""
    if not holds:
        raise Fault(problem)


def check_options(kind: str, part: Any) -> None:
    """The options of a part say what they accept and mean; a preset of augmentations has none of its own."""
    if part.name not in registry.list_names(kind):
        raise NotApplicable("a preset has no options of its own")
    declared = registry.find_options_class(kind, part.name)
    for option, field in declared.model_fields.items() if declared else ():
        described = isinstance(field.json_schema_extra, dict) and "role" in field.json_schema_extra
        require(described, f'{option}: declare it as {option}: TYPE = key("What it means")')
        meaning = field.description or ""
        require(meaning.strip(), f"{option}: its key(…) has no meaning")
        require(not meaning.endswith("."), f"{option}: its meaning ends with a full stop; lists of keys have none")


for _kind in ("model", "data", "augment", "measure", "optimizer", "scheduler"):
    check(_kind, "its options are typed and documented")(partial(check_options, _kind))

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from cnnbench import registry
from cnnbench.config.keys import (
    Count,
    Options,
    Section,
    describe_accepted,
    find_role,
    format_value,
    key,
    list_choices,
    may_change,
)

Share = Annotated[float, Field(ge=0, lt=1)]


class Painted(Options):
    factor: float = key("By how much", gt=0, le=1000)
    stages: list[list[Count]] = key("Widths")
    betas: list[Share] = key("Decay rates", length=2)
    norm: Literal["none", "batch", "layer"] = key("What follows a convolution")
    path: str | None = key("A file", role="place")
    limit: int | None = key("At most so many", ge=1, le=10, may_change=True)
    threads: Annotated[int, Field(ge=1, le=8)] | Literal["auto"] = key("Threads", role="speed")
    on: bool = key("Whether")
    args: dict[str, Any] = key("For torchvision")

    @model_validator(mode="after")
    def _check(self):
        if self.on and self.factor > 500:
            raise ValueError(f"model.on=true needs model.factor up to 500, not {format_value(self.factor)}")
        return self


GOOD = {
    "factor": 1, "stages": [[1, 2], [3]], "betas": [0, 0.5], "norm": "batch", "path": None, "limit": None,
    "threads": "auto", "on": True, "args": {"a": True},
}  # fmt: skip


@registry.register("test_kind", "painted")
def painted(value: float, options: Painted) -> float:
    return value * options.factor


def test_values_are_checked_and_converted():
    options = Painted.from_plain(GOOD | {"factor": "2e2", "limit": 3}, "model")
    assert (options.factor, options.limit, options.path, options.args) == (200.0, 3, None, {"a": True})
    assert Painted.from_plain(GOOD | {"path": 2024}, "model").path == "2024"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("factor", 0, r"model\.factor=0: must be a number above 0 and up to 1,000$"),
        ("factor", True, r"model\.factor=true: must be a number above 0"),
        ("factor", float("nan"), r"model\.factor=nan: must be a number above 0"),
        ("factor", float("inf"), r"model\.factor=inf: must be"),
        ("factor", 10**400, r"model\.factor=1000.*: must be"),
        ("factor", "much", r"model\.factor=much: must be"),
        ("stages", [[1, 0]], r"\[\[1,0\]\]: must be a list, each a list, each a whole number from 1 to 1,000,000$"),
        ("stages", [[10**20]], r"=\[\[10{20}\]\]: must be a list, each a list, each a whole number from 1 to"),
        ("stages", [[1, True]], r"model\.stages="),
        ("betas", [0.9], r"model\.betas=\[0.9\]: must be a list of 2, each a number from 0 and below 1$"),
        ("betas", [0.9, 1], r"model\.betas=\[0.9,1\]: must be"),
        ("betas", [0.9, True], r"model\.betas=\[0.9,true\]: must be"),
        ("norm", "bach", r"model\.norm=bach: must be one of none, batch, layer\. Did you mean batch\?$"),
        ("path", ["a"], r"model\.path=\[a\]: must be null or text$"),
        ("limit", 11, r"model\.limit=11: must be null or a whole number from 1 to 10$"),
        ("limit", 1.5, r"model\.limit=1.5: must be"),
        ("threads", 9, r"model\.threads=9: must be a whole number from 1 to 8 or auto$"),
        ("on", "maybe", r"model\.on=maybe: must be true or false$"),
        ("args", 3, r"model\.args=3: must be keys with values$"),
        ("nrom", 3, r"unknown key in model 'nrom'\. Did you mean 'norm'\? Valid: args, "),
    ],
)  # fmt: skip
def test_a_value_that_is_not_accepted_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        Painted.from_plain(GOOD | {name: value}, "model")


def test_a_missing_option_and_a_check_across_keys_are_named():
    with pytest.raises(ValueError, match=r"^model\.norm is missing: it must be one of none, batch, layer$"):
        Painted.from_plain({name: value for name, value in GOOD.items() if name != "norm"}, "model")
    with pytest.raises(ValueError, match=r"^model\.on=true needs model\.factor up to 500, not 600$"):
        Painted.from_plain(GOOD | {"factor": 600}, "model")


def test_what_a_key_was_declared_as_can_be_asked():
    fields = Painted.model_fields
    assert [find_role(fields[name]) for name in ("factor", "path", "threads")] == ["result", "place", "speed"]
    assert (may_change(fields["limit"]), may_change(fields["factor"])) == (True, False)
    assert list_choices(fields["norm"]) == ["none", "batch", "layer"]
    assert (list_choices(fields["on"]), list_choices(fields["path"])) == (["true", "false"], ["null"])
    assert describe_accepted(fields["path"]) == "null or text"


def test_defaults_are_not_shared():
    class Lists(Section):
        tags: list[str] = key("Words", [])

    Lists().tags.append("a")
    assert Lists().tags == []


def test_a_part_takes_its_options_as_one_parameter():
    assert registry.build("test_kind", "painted", value=2.0, options=GOOD) == 2.0
    with pytest.raises(ValueError, match=r"test\.factor=-1: must be a number above 0"):
        registry.build("test_kind", "painted", value=2.0, options=GOOD | {"factor": -1})

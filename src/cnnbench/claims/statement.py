"""A claim as its YAML file states it: what is compared, and the threshold that decides, before any data are seen.

An effect is a measure of one group, or its difference or ratio to another group of the same seed. A rule says on which
side of the threshold it must lie. Every rule can fail: the threshold lies inside the range of possible effects.
"""

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cnnbench import registry
from cnnbench.claims import measures as measures
from cnnbench.registry import describe_unknown, find_nearest
from cnnbench.storage.plain_data import read_yaml

Scale = Literal["quick", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Rule = Literal["at_least", "at_most", "within", "beyond"]
Take = Literal["mean", "highest", "lowest", "spread"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Text(_Part):
    """A sentence or more, in English and Portuguese."""

    en: str = Field(min_length=1)
    pt: str = Field(min_length=1)


class Protocol(_Part):
    """How a claim is run at a scale."""

    seeds: int = Field(ge=1, le=1000)  # how many; the same ones for every group
    overrides: list[str] = []  # of every run, after those of the claim


class Pair(_Part):
    """Two groups, of which the second is subtracted."""

    group: str
    against: str


class GroupSet(_Part):
    """Several groups that a contrast takes as one, such as the learning rates of a grid."""

    groups: list[str] = Field(min_length=2)
    take: Take  # the number that represents them, for each seed; the spread is the highest less the lowest value


class Effect(BaseModel):
    """An effect, and the rule that it must keep."""

    model_config = ConfigDict(allow_inf_nan=False)
    measure: str  # a registered measure
    options: dict[str, Any] = {}  # of the measure
    group: str  # the name of a group or set
    against: str | None = None  # of another; without it, the effect is the group's own value
    compare: Literal["difference", "ratio"] = "difference"  # of group to against
    than: Pair | None = None  # subtract the effect of this pair, so that the two effects are compared
    rule: Rule  # `within` the threshold on both sides of 0, or `beyond` it on either side
    threshold: float
    unit: str  # of the effect, in words
    reason: Text  # why an effect of this size matters in practice

    @property
    def groups(self) -> list[str]:
        """The names of the groups it compares."""
        named = [self.group, self.against, *([self.than.group, self.than.against] if self.than else [])]
        return list(dict.fromkeys(name for name in named if name is not None))


class Contrast(Effect, _Part):
    """An effect as a claim's file states it: measurable, with a rule that can have either outcome."""

    @model_validator(mode="after")
    def _check_can_fail(self) -> Self:
        registry.find_part("measure", self.measure)
        registry.check_options("measure", self.measure, self.options)
        if self.against is None and (self.than or self.compare == "ratio"):
            raise ValueError("a ratio and `than` need `against`")
        low, high = self.find_range()
        threshold = self.threshold
        inside = 0 < threshold < high if self.rule in ("within", "beyond") else low < threshold < high
        if not inside:
            raise ValueError(
                f"threshold={threshold:g}: the effect lies between {low:g} and {high:g}, so the rule could only have "
                "one outcome: choose a threshold in between"
            )
        return self

    @property
    def source(self) -> str:
        """What the measure reads: `run`, or `network`, which needs no training."""
        return str(registry.get_facts("measure", self.measure)["source"])

    @property
    def is_exact(self) -> bool:
        """Whether the effect is the same for every seed, by its nature."""
        return bool(registry.get_facts("measure", self.measure).get("exact"))

    def find_range(self) -> tuple[float, float]:
        """The least and the largest effect that is possible."""
        facts = registry.get_facts("measure", self.measure)
        low, high = float(facts["low"]), float(facts["high"])
        if self.compare == "ratio":
            low, high = 0.0, math.inf
        elif self.against is not None:
            low, high = low - high, high - low
        return (low - high, high - low) if self.than else (low, high)


class Claim(_Part):
    """A statement that runs can support or refute."""

    id: str = Field(pattern="^C[0-9]{2}$")
    statement: Text
    question: Text
    nuance: Text  # when it fails, and what textbooks leave out
    equal: Text  # what is held equal between the groups
    data: str = "mnist"  # unless the command names another dataset
    overrides: list[str] = []  # of every run, as for `cnnbench train`
    groups: dict[str, list[str]] = Field(min_length=1)  # the overrides of each: what is varied
    sets: dict[str, GroupSet] = {}
    portuguese: dict[str, str] = {}  # names of groups, and units, that Portuguese writes differently
    protocol: dict[Scale, Protocol]
    # The claim holds where all of them do (an intersection–union test: no correction is needed for support). It is
    # refuted where one is, after Holm's correction.
    contrasts: list[Contrast] = Field(min_length=1)

    @field_validator("protocol")
    @classmethod
    def _check_scales(cls, protocol: dict[Scale, Protocol]) -> dict[Scale, Protocol]:
        if missing := [scale for scale in SCALES if scale not in protocol]:
            raise ValueError(f"{missing[0]} is missing")
        return protocol

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if both := sorted(self.groups.keys() & self.sets.keys()):
            raise ValueError(f"{both[0]!r} is a group and a set: give one of them another name")
        named = {name for contrast in self.contrasts for name in contrast.groups}
        inside = {name for key in named & self.sets.keys() for name in self.sets[key].groups}
        for names, known in ((named, [*self.groups, *self.sets]), (inside, [*self.groups])):
            if unknown := sorted(names.difference(known)):
                raise ValueError(describe_unknown("group", unknown[0], known))
        if unused := sorted((self.groups.keys() | self.sets.keys()) - named - inside):
            raise ValueError(f"group {unused[0]!r} is in no contrast: remove it, or compare it")
        words = [*self.groups, *self.sets, *(contrast.unit for contrast in self.contrasts)]
        if strange := [word for word in self.portuguese if word not in words]:
            raise ValueError(describe_unknown("group or unit", strange[0], words))
        return self

    @property
    def needs_training(self) -> bool:
        """Whether any of its measures reads a finished run."""
        return any(contrast.source == "run" for contrast in self.contrasts)

    def list_trained_groups(self) -> list[str]:
        """The groups that need runs."""
        contrasts = [contrast for contrast in self.contrasts if contrast.source == "run"]
        return list(dict.fromkeys(name for contrast in contrasts for name in self.list_groups(contrast)))

    def list_groups(self, contrast: Contrast) -> list[str]:
        """The groups that a contrast compares, those of its sets included."""
        found = [self.sets[name].groups if name in self.sets else [name] for name in contrast.groups]
        return list(dict.fromkeys(name for names in found for name in names))

    def list_overrides(self, group: str, scale: Scale, data: str | None = None) -> list[str]:
        """The overrides of a group's runs, without the seed."""
        common = [f"data={data or self.data}", *self.overrides, *self.protocol[scale].overrides]
        return [*common, *self.groups[group]]


def read_claim(path: Path) -> Claim:
    """Read a claim's file.

    Raises:
        ValueError: names the file and the key that is unknown, missing or wrong.
    """
    plain = read_yaml(path)
    if not isinstance(plain, Mapping):
        raise ValueError(f"{path.name}: must hold keys with values")
    try:
        claim = Claim.model_validate(plain)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_explain(error)}") from None
    if not path.stem.startswith(f"{claim.id}_"):
        raise ValueError(f"{path.name}: id={claim.id}: the file's name must begin with {claim.id}_")
    return claim


def _explain(error: ValidationError) -> str:
    """Explain the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = [name for part in (Claim, Contrast, Protocol, Text, Pair, GroupSet) for name in part.model_fields]
        near = find_nearest(str(first["loc"][-1]), known)
        return f"unknown key {where!r}.{f' Did you mean {near!r}?' if near else ''}"
    problem = str(first["ctx"]["error"]) if "error" in first.get("ctx", {}) else first["msg"]
    return f"{where}: {problem}" if where else problem


@functools.cache
def list_claims(folder: Path) -> dict[str, Path]:
    """The claims' files, by id, in order."""
    return {path.stem.partition("_")[0]: path for path in sorted(folder.glob("*.yaml"))}


def choose_claims(folder: Path, names: list[str]) -> list[Claim]:
    """The claims of some ids, such as C04, c04 or C4; `all` means every one.

    Raises:
        ValueError: an unknown id; the message has the nearest.
    """
    known = list_claims(folder)
    if not names:
        raise ValueError(f"name a claim, such as {next(iter(known))}, or all; `cnnbench claim list` shows them")
    chosen: dict[str, None] = {}
    for name in names:
        key = name.upper() if name.upper() in known else name.partition("_")[0].upper()
        if re.fullmatch("C[0-9]", key):
            key = f"C0{key[1]}"
        if name.lower() == "all":
            chosen.update(dict.fromkeys(known))
        elif key in known:
            chosen[key] = None
        else:
            near = find_nearest(name, [one.lower() for one in known])
            hint = f" Did you mean {near.upper()}?" if near else ""
            raise ValueError(f"unknown claim {name!r}.{hint} Valid: {', '.join([*known, 'all'])}")
    return [read_claim(known[key]) for key in chosen]

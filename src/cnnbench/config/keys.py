"""Declare keys: type, default, accepted values, one sentence of meaning, and role.

    class Trainer(Section):
        epochs: int = key("Passes over the training images", 20, ge=1, le=100_000)

All help, checks and messages about a key come from this one line.
"""

# Completion and `--help` import this module: it must import neither torch nor numpy.

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import CoreSchema, ValidationInfo

from cnnbench.registry import describe_unknown, find_nearest

Role = Literal["result", "place", "speed", "record", "control"]
"""What a key means to a run.

`result`: changes the weights or the figures, so another value makes another run. `place`: where the data are. `speed`:
how fast the run is. `record`: its name, tags and trackers. `control`: what the command does besides training.
"""

# Of every integer key without a `le` of its own. The product of two such numbers fits into 64 bits, as torch needs it.
LARGEST_INTEGER = 10**9
# Of channels or units. Torch counts the bytes of a layer's weights, which follow from its product, in 64 bits too.
Count = Annotated[int, Field(ge=1, le=10**6)]
_BOUNDS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}


def key(
    meaning: str,
    default: Any = ...,
    *,
    role: Role = "result",
    may_change: bool = False,
    length: int | None = None,
    accepted: str | None = None,
    **bounds: float,
) -> Any:
    """Declare a key of a `Section`.

    Args:
        meaning: one sentence for `cnnbench list keys` and the documentation, without a full stop.
        default: omitted for a part's own options, whose defaults are in its YAML file.
        may_change: a resumed run may set this `result` key; resuming checks that the run stays the same.
        length: the length of a list.
        accepted: what is accepted, in words; needed only if type and bounds do not say it.
        bounds: `ge`, `gt`, `le`, `lt`; for an integer, `le` is `LARGEST_INTEGER` by default.
    """
    facts = {"role": role, "may_change": may_change, "accepted": accepted}
    extra = {name: value for name, value in facts.items() if value}
    return Field(default, description=meaning, json_schema_extra=extra, min_length=length, max_length=length, **bounds)  # type: ignore[call-overload]


def _bound_integers(schema: Any) -> None:
    """Limit the integers in a schema of pydantic to `LARGEST_INTEGER`, unless they have a `le` of their own."""
    if isinstance(schema, dict):
        if schema.get("type") == "int":
            schema.setdefault("le", LARGEST_INTEGER)
        schema = [*schema.values()]
    if isinstance(schema, list):
        for inner in schema:
            _bound_integers(inner)


class Section(BaseModel):
    """A group of keys, such as `trainer.…`."""

    # A number is text where text belongs (name=2024). A key may begin with "model", which pydantic protects.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, protected_namespaces=())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _bound_integers(handler.resolve_ref_schema(schema))
        return schema

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = set(_flatten_types(cls.model_fields[str(info.field_name)].annotation))
        # Pydantic, like Python, would read `true` as 1.
        if not kinds & {bool, Any, dict} and _has_bool(value):
            raise ValueError("a truth value")
        return value

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], place: str) -> Self:
        """Check plain data.

        Args:
            place: the section that messages name before a key, such as `trainer`; empty at the top level.

        Raises:
            ValueError: names the key, its value, what is accepted, and the nearest name.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            found = error.errors(include_url=False)
            # A misspelt key first: another key may be missing because of it.
            first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
            raise ValueError(_explain(cls, first, place, values)) from None


class PartSection(Section):
    """A section that chooses a part by name and also holds the part's own options."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that the part declares, unchecked: the part checks them."""
        assert self.model_extra is not None, "extra keys are allowed"
        return self.model_extra


class Options(Section):
    """The options of a part, such as `model.stages` of `model=vgg_mini`."""

    model_config = ConfigDict(frozen=True)


def find_role(field: FieldInfo) -> Role:
    """What a key means to a run."""
    return _collect_facts(field)["role"]


def list_control_keys(section: type[Section]) -> set[str]:
    """The keys of a section that only control the command."""
    return {name for name, field in section.model_fields.items() if find_role(field) == "control"}


def may_change(field: FieldInfo) -> bool:
    """Whether a resumed run may change this key, although its result depends on it."""
    return bool(_collect_facts(field).get("may_change"))


def describe_accepted(field: FieldInfo) -> str:
    """What a key accepts, in words."""
    return _collect_facts(field).get("accepted") or _describe(field.annotation, field.metadata)


def name_type(annotation: Any) -> str:
    """The type of a key, such as `list of integer`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return name_type(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(name_type, arguments))
    if origin is list:
        return f"list of {name_type(arguments[0])}"
    names = {int: "integer", float: "number", bool: "boolean", str: "text", type(None): "null"}
    return "choice" if origin is Literal else names.get(annotation, "mapping")


def list_choices(field: FieldInfo) -> list[str]:
    """The words that a key accepts, for completion and for suggesting the nearest one; empty for numbers and text."""
    found = []
    for kind in _flatten_types(field.annotation):
        found += ["null"] if kind is type(None) else ["true", "false"] if kind is bool else []
        found += [format_value(value) for value in get_args(kind)] if get_origin(kind) is Literal else []
    return found


def is_text_key(field: FieldInfo) -> bool:
    """Whether every value of a key is text, and is therefore taken literally."""
    for kind in _flatten_types(field.annotation):
        words = get_args(kind) if get_origin(kind) is Literal else (kind,)
        if not all(word in (str, type(None)) or isinstance(word, str) for word in words):
            return False
    return True


def is_list(field: FieldInfo) -> bool:
    """Whether a key holds a list."""
    return get_origin(field.annotation) is list


def may_be_null(field: FieldInfo) -> bool:
    """Whether a key accepts null."""
    return type(None) in _flatten_types(field.annotation)


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as `section.key`."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        whole = f"{prefix}{name}"
        found |= flatten(value, f"{whole}.") if isinstance(value, Mapping) and value else {whole: value}
    return found


def format_value(value: Any) -> str:
    """A value as a user would type it: `2` for 2.0, `true`, `null`, `[0.9,0.99]`, `{features: 0.1}`."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {format_value(one)}' for name, one in value.items())}}}"
    return str(value)


def _collect_facts(field: FieldInfo) -> dict[str, Any]:
    assert isinstance(field.json_schema_extra, dict), "a key is declared by key(…)"
    return field.json_schema_extra


def _flatten_types(annotation: Any) -> Iterator[Any]:
    """The types in a union; for a list, those of its items. `Annotated` is unwrapped."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for kind in get_args(annotation):
            yield from _flatten_types(kind)
    elif origin in (Annotated, list):
        yield from _flatten_types(get_args(annotation)[0])
    else:
        yield dict if origin is dict else annotation


def _has_bool(value: Any) -> bool:
    return any(map(_has_bool, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def _describe(annotation: Any, metadata: Any = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        # `Field(ge=1)` inside `Annotated` is not yet taken apart, as pydantic does at the top of an annotation.
        own = [inner for one in arguments[1:] for inner in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return _describe(arguments[0], [*own, *metadata])
    if origin in (Union, types.UnionType):
        ordered = sorted(arguments, key=lambda kind: kind is not type(None))
        return " or ".join(_format_opening(kind) + _describe(kind, metadata) for kind in ordered)
    if origin is Literal:
        return ", ".join(format_value(value) for value in arguments)
    if origin is list:
        length = next((f" of {one.min_length}" for one in metadata if hasattr(one, "min_length")), "")
        bounds = [one for one in metadata if not hasattr(one, "min_length") and not hasattr(one, "max_length")]
        return f"a list{length}, each {_format_opening(arguments[0])}{_describe(arguments[0], bounds)}"
    if annotation is int:
        return f"a whole number{_format_range(metadata, le=LARGEST_INTEGER)}"
    if annotation is float:
        return f"a number{_format_range(metadata)}"
    return {bool: "true or false", str: "text", type(None): "null"}.get(annotation, "keys with values")


def _format_opening(annotation: Any) -> str:
    return "one of " if get_origin(annotation) is Literal and len(get_args(annotation)) > 1 else ""


def _format_range(metadata: Any, **bounds: float) -> str:
    for one in metadata:
        bounds |= {name: value for name in _BOUNDS if (value := getattr(one, name, None)) is not None}
    shown = {
        name: f"{int(value):,}" if float(value).is_integer() else format_value(value) for name, value in bounds.items()
    }
    if shown.keys() == {"ge", "le"}:
        return f" from {shown['ge']} to {shown['le']}"
    return " and".join(f" {word} {shown[name]}" for name, word in _BOUNDS.items() if name in shown)


def _explain(section: type[BaseModel], error: ErrorDetails, place: str, values: Any) -> str:
    """The message for an error that pydantic found."""
    if not error["loc"]:  # raised by a check of several keys together
        return str(error["ctx"]["error"]) if "ctx" in error else error["msg"]
    name, prefix = str(error["loc"][0]), f"{place}." if place else ""
    field = section.model_fields.get(name)
    if field is None:
        return describe_unknown(f"key in {place}" if place else "key", name, section.model_fields)
    inner = field.annotation
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        if isinstance(values[name], Mapping):
            return _explain(inner, {**error, "loc": error["loc"][1:]}, f"{prefix}{name}", values[name])
        return f"{name}={values[name]!r}: must be a group of keys, or in a command {name}=NAME"
    if error["type"] == "missing":
        return f"{prefix}{name} is missing: it must be {_format_opening(inner)}{describe_accepted(field)}"
    value = format_value(values[name])
    near = find_nearest(value, list_choices(field)) if isinstance(values[name], str) else None
    hint = f". Did you mean {near}?" if near else ""
    return f"{prefix}{name}={value}: must be {_format_opening(inner)}{describe_accepted(field)}{hint}"

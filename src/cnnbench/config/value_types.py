"""The types of values that keys take."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

NOT_IN_NAMES = '/\\:*?"<>|$'  # they separate folders, or have a meaning on Windows or in a config
LARGEST_SEED = 2**63 - 1  # of torch's generators

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "elu"]
Initialisation = Literal["default", "kaiming", "xavier", "normal"]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Sides = Annotated[list[Pixels], Field(min_length=2, max_length=2)]


def _check_folder_name(name: str) -> str:
    clean = name.isprintable() and not set(name) & set(NOT_IN_NAMES)
    if not clean or not 0 < len(name.encode()) <= 200 or name != name.strip() or name != name.strip("."):
        raise ValueError("not the name of a folder")
    return name


def _check_order(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError("not a range")
    return values


def _read_parts(value: Any) -> Any:
    """A single name as a list, and the word `none` as an empty one."""
    names = [value] if isinstance(value, str) else value
    return [] if names == ["none"] else names


Name = Annotated[str, AfterValidator(_check_folder_name)]
Factors = Annotated[list[Annotated[float, Field(gt=0, le=10)]], AfterValidator(_check_order)]
Shares = Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(_check_order)]
Parts = Annotated[list[str], BeforeValidator(_read_parts)]
Rates = dict[str, Annotated[float, Field(gt=0, le=1000)]]

"""The types of values that the keys in `schema.py` take."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

NOT_IN_NAMES = '/\\:*?"<>|$'  # they separate folders, or have a meaning on Windows or in a config
LARGEST_SEED = 2**63 - 1

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "elu"]
Initialisation = Literal["default", "kaiming", "xavier", "normal"]
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


Name = Annotated[str, AfterValidator(_check_folder_name)]
Factors = Annotated[list[Annotated[float, Field(gt=0, le=10)]], AfterValidator(_check_order)]
Shares = Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(_check_order)]

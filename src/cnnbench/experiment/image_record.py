"""What a checkpoint records of the images that its weights were trained on: shape, classes and scaling."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cnnbench.data import DatasetInfo, to_image_size

MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIGNAL = 4096, 2**14, 2**24
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class ImageRecord(BaseModel):
    """The record, checked for the types and ranges that its readers rely on."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    name: str
    in_channels: int = Field(ge=1, le=MOST_CHANNELS)
    image_size: (
        Annotated[int, Field(ge=1, le=LARGEST_SIGNAL)] | Annotated[list[Side], Field(min_length=2, max_length=2)]
    )
    class_names: list[str]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    dimensions: Literal[1, 2] = 2
    polarity: Any = None

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sides = [self.image_size] if isinstance(self.image_size, int) else self.image_size
        if len(sides) > self.dimensions or (self.dimensions == 2 and max(sides) > LARGEST_SIDE):
            raise ValueError(f"image_size={self.image_size} does not fit {self.dimensions} dimensions")
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise ValueError(f"mean and std do not have {self.in_channels} channels")
        return self

    @property
    def info(self) -> DatasetInfo:
        """Shape and classes."""
        size = self.image_size if isinstance(self.image_size, int) else to_image_size(*self.image_size)
        return DatasetInfo(self.name, self.in_channels, size, tuple(self.class_names), self.dimensions)


def read_image_record(record: Mapping[str, Any]) -> ImageRecord:
    """The part of a checkpoint's record that is about images.

    Raises:
        ValueError: it is missing or impossible.
    """
    try:
        return ImageRecord.model_validate(record.get("data"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ["data", *first["loc"]]))
        raise ValueError(f"the checkpoint does not say how its images were prepared: {where}: {first['msg']}") from None

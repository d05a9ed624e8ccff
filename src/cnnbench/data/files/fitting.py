"""The channels and size to which images are decoded, and how one of another size is made to fit."""

from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

Resize = Literal["stretch", "pad", "crop"]
MAX_SIDE = 65_535  # that of JPEG; resizing an image with a longer side takes far more memory than its pixels suggest


@dataclass(frozen=True)
class Decoding:
    """How a file becomes pixels."""

    channels: int  # 1 for greyscale, 3 for colour
    image_size: int | tuple[int, int]  # height and width of the result, or one number for both
    # Bilinear, antialiased: `stretch` to the size, `pad` (the whole image, background around it) or `crop` (its largest
    # central part of the same form).
    resize: Resize = "stretch"
    background: tuple[int, int, int] = (255, 255, 255)  # red, green, blue under transparency and around padded images

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels={self.channels!r}: must be 1 (greyscale) or 3 (colour)")
        if not 1 <= min(self.shape[1:]) <= max(self.shape[1:]) <= MAX_SIDE:
            raise ValueError(f"data.image_size={self.image_size!r}: must be from 1 to {MAX_SIDE}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"data.resize={self.resize!r}: must be one of {', '.join(get_args(Resize))}")
        if len(self.background) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in self.background):
            raise ValueError(f"data.background={self.background!r}: must be three integers from 0 to 255")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.channels, height, width


def fit(image: Image.Image, how: Decoding) -> Image.Image:
    """The image in the wanted size."""
    _, tall, wide = how.shape
    width, height = image.size
    if (width, height) == (wide, tall):
        return image
    is_wider = width * tall > height * wide  # than the form that is wanted
    if how.resize == "pad" and width * tall != height * wide:
        inner = (wide, _scale_side(height, width, wide)) if is_wider else (_scale_side(width, height, tall), tall)
        canvas = Image.new("RGB", (wide, tall), how.background).convert(image.mode)
        part = image if inner == image.size else image.resize(inner, Image.Resampling.BILINEAR)
        canvas.paste(part, ((wide - inner[0]) // 2, (tall - inner[1]) // 2))
        return canvas
    if how.resize == "crop":
        across, down = (
            (_scale_side(wide, tall, height), height) if is_wider else (width, _scale_side(tall, wide, width))
        )
        left, top = (width - across) // 2, (height - down) // 2
        image = image.crop((left, top, left + across, top + down))
        if image.size == (wide, tall):
            return image
    return image.resize((wide, tall), Image.Resampling.BILINEAR)


def _scale_side(side: int, longest: int, size: int) -> int:
    """Scale a side by `size / longest`, rounded."""
    return max(1, (2 * side * size + longest) // (2 * longest))

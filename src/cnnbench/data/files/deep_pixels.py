"""16-bit PNG and TIFF, and PNM of any maxval, with the maximum as white and every value rounded to 8 bits.

Pillow keeps the high byte of a 16-bit colour and clips 16-bit grey. It reads a PNM whose maxval is not 255 in a Python
loop, half a minute for a large photograph.
"""

import io
import sys

import numpy as np
from PIL import Image, ImageFile

from cnnbench.storage.regular import Refused

_SPACE = b" \t\n\r\v\f"
_DIGITS = b"0123456789"
_SPREAD = {"1": 255, "L;2": 85, "L;4": 17}  # a PNG's grey of few bits, by Pillow's raw mode
_PHOTOMETRIC, _PLANAR, _BITS = 262, 284, 258


def reduce_to_8_bits(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """The image itself, not yet loaded, if it has at most 8 bits a value; otherwise a copy with 8.

    Args:
        image: opened from `content`, not yet loaded.

    Raises:
        Refused: its values have no agreed range, or there are too few of them.
    """
    if not image.tile:  # WebP
        return image
    decoder, _, offset, arguments = image.tile[0]
    if image.format == "PPM" and (decoder != "raw" or arguments == "I;16B"):
        return _decode_pnm(image, content, decoder, offset, arguments)
    raw = arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""
    if image.mode.startswith("I;16"):
        return _reduce_grey(image, raw)
    if image.mode in ("I", "F"):
        raise Refused("32-bit, signed or floating-point pixels have no agreed range: use 8 or 16 bits")
    if ";16" in raw:
        return _reduce_colour(image, raw, content)
    _check_planar(image)
    if image.format == "PNG" and raw in _SPREAD and isinstance(image.info.get("transparency"), int):
        # Pillow spreads the pixels over 0…255, but leaves the transparent grey as it is stored.
        image.info["transparency"] = min(255, image.info["transparency"] * _SPREAD[raw])
    return image


def _check_planar(image: ImageFile.ImageFile) -> None:
    """Refuse uncompressed 16-bit colour in planes: Pillow would read its bytes as 8-bit pixels."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and tags.get(_PLANAR) == 2 and max(tags.get(_BITS, (8,))) > 8:
        raise Refused("16-bit colour in separate planes: must be interleaved")


def _reduce_grey(image: ImageFile.ImageFile, raw: str) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero
        values = 65535 - values
    grey = _make_scale(4095 if raw == "I;12" else 65535)[values]
    transparent = image.info.get("transparency")
    if transparent is None:
        return Image.fromarray(grey)
    return Image.fromarray(np.stack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)], axis=-1))


def _make_scale(maxval: int) -> np.ndarray:
    """A table from 0…65535 to 8 bits, where maxval and everything above it is white."""
    return np.clip(np.rint(np.arange(65536) * 255 / maxval), 0, 255).astype(np.uint8)


def _reduce_colour(image: ImageFile.ImageFile, raw: str, content: bytes) -> Image.Image:
    """Decode twice, for the high and the low bytes: Pillow has no mode that holds 16-bit colours."""
    if raw == "LA;16B":
        # As RGBA, the four bytes of a pixel are those of grey and alpha.
        bytes_of = np.asarray(_reread(image, "RGBA"))
        grey, alpha = (_round_to_8_bits(bytes_of[..., i], bytes_of[..., i + 1]) for i in (0, 2))
        return Image.fromarray(np.stack([grey, alpha], axis=-1))
    _check_planar(image)
    if raw.startswith(("RGBa", "CMYK")):  # premultiplied: Pillow divides by alpha as it reads
        return image
    transparent = image.info.get("transparency")
    other = Image.open(io.BytesIO(content), formats=(image.format or "",))
    high, low = np.asarray(image), np.asarray(_reread(other, _swap_bytes(raw)))
    pixels = _round_to_8_bits(high, low)
    if transparent is not None:
        opaque = ((high != np.array(transparent) >> 8) | (low != np.array(transparent) & 255)).any(-1, keepdims=True)
        pixels = np.concatenate([pixels, opaque.astype(np.uint8) * 255], axis=-1)
    return Image.fromarray(pixels)


def _reread(image: ImageFile.ImageFile, raw: str) -> Image.Image:
    """Let Pillow decode the image as if its pixels had another layout."""
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:])) for tile in image.tile
    ]
    return image


def _swap_bytes(raw: str) -> str:
    """The raw mode with the other byte first: what Pillow then takes for the high byte is the low one."""
    native = "L" if sys.byteorder == "little" else "B"
    return raw[:-1] + {"L": "B", "B": "L"}[raw[-1].replace("N", native)]


def _round_to_8_bits(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """(256 high + low) / 257, rounded, which is high + (low − high) / 257."""
    pixels = high.copy()
    for start in range(0, len(high), 64):  # some rows at a time, or the differences would be wider than the image
        rows = slice(start, start + 64)
        step = low[rows].astype(np.int16) - high[rows]
        pixels[rows] += (step > 128).view(np.uint8)
        pixels[rows] -= (step < -128).view(np.uint8)
    return pixels


def _decode_pnm(
    image: ImageFile.ImageFile, content: bytes, decoder: str, offset: int, arguments: object
) -> Image.Image:
    """Decode a PNM that is plain text, or has a maxval other than 255."""
    width, height = image.size
    shape = (height, width, 3) if image.mode == "RGB" else (height, width)
    count = int(np.prod(shape))
    if decoder == "ppm_plain" and image.mode == "1":
        digits = np.frombuffer(_strip_comments(content[offset:]).translate(None, _SPACE), np.uint8)[:count]
        _check_values(digits, count, ord("1"), ord("0"))
        return Image.fromarray(np.where(digits == ord("0"), 255, 0).astype(np.uint8).reshape(shape))
    maxval = arguments[1] if isinstance(arguments, tuple) else 65535
    if decoder == "ppm_plain":
        text = _strip_comments(content[offset:])
        if text.translate(None, _SPACE + _DIGITS):
            raise Refused("damaged: a plain PNM holds something other than numbers")
        values = np.fromstring(text, np.int64, count, sep=" ") if text.strip(_SPACE) else np.empty(0, np.int64)
    else:
        kind = np.dtype(">u2" if maxval > 255 else "u1")
        values = np.frombuffer(content, kind, min(count, (len(content) - offset) // kind.itemsize), offset)
    _check_values(values, count, maxval)
    return Image.fromarray(_make_scale(maxval)[values].reshape(shape))


def _strip_comments(text: bytes) -> bytes:
    if b"#" not in text:
        return text
    return b"\n".join(line.partition(b"#")[0] for line in text.replace(b"\r", b"\n").split(b"\n"))


def _check_values(values: np.ndarray, count: int, largest: int, least: int = 0) -> None:
    if len(values) < count:
        raise Refused(f"truncated: {len(values)} of {count} values")
    if values.max() > largest or values.min() < least:
        raise Refused("damaged: a PNM holds a value above its maxval")

"""Decode one untrusted image file to pixels, or say in one sentence why it cannot be decoded.

| content | result |
| --- | --- |
| greyscale, colour | converted to `channels`; grey is ITU-R 601 luma; pixels that already fit are not touched |
| 1, 2 or 4 bits a pixel | spread over 0…255 |
| 16 bits a value (PNG, TIFF, PNM of any maxval) | scaled, value / 257 rounded (`deep_pixels.py`) |
| 16-bit CMYK, 16-bit colour premultiplied by alpha | the high byte of each value |
| 32-bit integers, signed 16-bit, floating point | refused: nothing says which value is white |
| uncompressed 16-bit TIFF in separate planes | refused: Pillow would take its bytes for pixels |
| palette, CMYK (also Adobe's inverted), YCbCr, LAB | converted to colour first; embedded ICC profiles are not applied |
| transparency: alpha, palette or one colour of it | composited on `background` |
| EXIF orientation | applied; an EXIF block that cannot be read counts as upright |
| several frames or pages (GIF, APNG, WebP, AVIF, TIFF, MPO) | the first one |
| texts and profiles of any length in a PNG | left out, but for the orientation in them (`png_chunks.py`) |
| HEIC | read where the package pillow-heif is installed |
| a pointer of Git LFS, HEIC without its package | refused with what to do (`signatures.py`) |
| the wrong ending, or none | the content decides |
| empty, truncated, damaged, unknown content | refused; only PNG has checksums, elsewhere wrong pixels may pass |
| a PNG with valid checksums and too few rows | the missing ones are black |
| more than `MAX_PIXELS`, `MAX_SIDE`, `MAX_BYTES`, `MAX_SCANNED` | refused before anything is decoded |
| a folder, FIFO, socket, device, symlink loop | refused without being opened |
"""

import contextlib
import ctypes
import io
import logging
import os
import re
import warnings

import numpy as np

# The plugins too, because Pillow would otherwise import them on first use, in any thread.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from cnnbench.data.files.deep_pixels import reduce_to_8_bits
from cnnbench.data.files.fitting import MAX_SIDE, Decoding, fit
from cnnbench.data.files.png_chunks import clean_png
from cnnbench.data.files.signatures import FORMATS, refuse_other
from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import format_path, make_printable

MAX_PIXELS = 50_000_000
MAX_BYTES = 8 * MAX_PIXELS  # of the largest image uncompressed, with four 16-bit values per pixel
MAX_SCANNED = 40 * MAX_PIXELS  # pixels times scans of a progressive JPEG; a scan of a few bytes may take 0.1 s

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_ORIENTED_BY = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")
_QUIET = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)


def _keep_quiet() -> None:
    """Silence the decoders, whose messages about a damaged file do not name the file."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(AttributeError, OSError):  # other builds of Pillow are not silenced
        # A symbol is also searched in the libraries that Pillow's extension is linked to, such as libtiff.
        libtiff = ctypes.CDLL(Image.core.__file__)
        # It writes to the process's standard error from C; redirecting that temporarily is not thread-safe.
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)


_keep_quiet()


class BadImage(ValueError):
    """A file that is not an accepted image: its name, safe to print, and the reason in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class OtherSize(BadImage):
    """An image of another size than the others, without an option to resize it."""


def read_file(file: str | bytes | os.PathLike) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it is not a regular file, is too large, or cannot be read.
    """
    try:
        return read_regular(file, MAX_BYTES)
    except Refused as refused:
        raise BadImage(format_path(file), str(refused)) from None


def decode_image(file: str | bytes | os.PathLike, how: Decoding) -> np.ndarray:
    """The pixels of a file: uint8, (C, H, W), of the shape in `how`.

    Raises:
        BadImage: it is not an image, is damaged, too large, or cannot be read.
    """
    return decode_bytes(read_file(file), how, file)


def decode_bytes(content: bytes, how: Decoding, name: str | bytes | os.PathLike, *, resizes: bool = True) -> np.ndarray:
    """`decode_image` of the content of a file; if not `resizes`, another size than in `how` is `OtherSize`."""
    kind = BadImage
    try:
        image = _flatten(_load(*_open(content)), how)
        if resizes or image.size == how.shape[:0:-1]:
            return _to_planes(fit(image, how))
        kind, reason = OtherSize, f"{image.width} × {image.height} pixels"
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        reason = _explain(error)
    # Outside of the handler, so that the error does not keep the decoder's frames and their pixels alive.
    raise kind(format_path(name), reason)


def decode_unchanged(
    content: bytes, name: str | bytes | os.PathLike, background: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    """The pixels of a file's content in its own size: uint8, (C, H, W), one channel if all pixels are grey.

    Raises:
        BadImage: as `decode_image`.
    """
    try:
        image = _load(*_open(content))
        channels = 1 if image.mode in ("1", "L") and not image.has_transparency_data else 3
        # `_flatten` ignores the size.
        pixels = _to_planes(_flatten(image, Decoding(channels, 1, background=background)))
    except Exception as error:  # as in `decode_bytes`
        reason = _explain(error)
    else:
        is_grey = channels == 3 and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all()
        return pixels[:1] if is_grey else pixels
    raise BadImage(format_path(name), reason)


def convert_image(image: Image.Image, how: Decoding) -> np.ndarray:
    """The pixels of an image in memory, as `decode_image` returns those of a file.

    Raises:
        ValueError: it has no pixels, or values of more than 8 bits, and nothing says which one is white.
    """
    if 0 in image.size:
        raise ValueError("an image of {}×{}: must have pixels".format(*image.size))
    if image.mode[0] in "IF":
        raise ValueError(f"an image of mode {image.mode}: must have 8 bits a value, such as L or RGB")
    method = _TRANSPOSE.get(_read_orientation(image))
    return _to_planes(fit(_flatten(image if method is None else image.transpose(method), how), how))


def probe(file: str | bytes | os.PathLike) -> tuple[int, int, int]:
    """Channels (1 if its mode or palette has only greys, else 3), width and height of an upright image, by its header.

    Raises:
        BadImage: as `decode_image`.
    """
    content = read_file(file)
    try:
        image, _ = _open(content)
        channels = _count_channels(image)
        width, height = image.size
        # In a PNG, the orientation may be at the end.
        late = image.format == "PNG" and width != height and re.search(rb"eXIf|profile type exif|adobe\.xmp", content)
        if late:
            image.load()
        if _read_orientation(image) >= 5:
            width, height = height, width
        return channels, width, height
    except Exception as error:
        reason = _explain(error)
    raise BadImage(format_path(file), reason)


def _open(content: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    """Open an image of a size that is safe to decode, and return it with the content from which it is read."""
    if not content:
        raise Refused("empty: zero bytes")
    refuse_other(content)
    if not warnings.filters or warnings.filters[0] != _QUIET:
        # Pillow's warnings are for programmers, and the result is checked. `catch_warnings` is not thread-safe.
        warnings.filterwarnings("ignore", category=Warning, module=_QUIET[3].pattern)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        content = clean_png(content)
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Refused(f"{width} × {height} pixels: the limit is {MAX_PIXELS:,}, and {MAX_SIDE:,} a side")
    if image.mode == "P" and image.palette is None:
        raise Refused("damaged: palette colours without a palette")
    if image.format != "PNG" and "progressive" in image.info:
        scans = content.count(b"\xff\xda")
        if scans * width * height > MAX_SCANNED:
            raise Refused(
                f"{scans:,} progressive scans of {width * height:,} pixels: the limit is {MAX_SCANNED:,} in all"
            )
    return image, content


def _load(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """The first frame, upright, with 8 bits a value."""
    eight = reduce_to_8_bits(image, content)
    if eight is image:
        image.load()
    method = _TRANSPOSE.get(_read_orientation(image))
    return eight if method is None else eight.transpose(method)


def _read_orientation(image: Image.Image) -> int:
    """The orientation in EXIF, from 1 (upright, or none) to 8; 1 for a TIFF, which Pillow turns itself."""
    if image.format == "TIFF" or not any(key in image.info for key in _ORIENTED_BY):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to refuse an image
        return 1
    return orientation if orientation in _TRANSPOSE else 1


def _flatten(image: Image.Image, how: Decoding) -> Image.Image:
    """Mode L or RGB, as `how.channels` says, without transparency."""
    mode = "RGB" if how.channels == 3 else "L"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", image.size, how.background)
        image.paste(layer, mask=layer.getchannel("A"))
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _to_planes(image: Image.Image) -> np.ndarray:
    """uint8, (C, H, W), contiguous and writable."""
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _count_channels(image: Image.Image) -> int:
    if image.mode == "P" and image.palette is not None:
        colours = np.frombuffer(bytes(image.convert("P").getpalette("RGB") or b""), np.uint8).reshape(-1, 3)
        return 1 if (colours == colours[:, :1]).all() else 3
    return 1 if image.mode[0] in "1LIF" and image.mode != "LAB" else 3


def _explain(error: Exception) -> str:
    """One short line about the error; Pillow's own text may quote the file's content."""
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):  # Pillow checks its own bound, which is higher, first
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "decoding it takes more memory than is available"
    words = make_printable(str(error)).strip() or type(error).__name__
    words = words if len(words) <= 160 else words[:159] + "…"
    if isinstance(error, Refused):
        return words
    return words if "truncated" in words else f"damaged: {words}"

"""Clean a PNG before Pillow reads it: compare its checksums, and drop texts, which Pillow refuses above a size."""

import struct
import zlib
from collections.abc import Iterator

from cnnbench.storage.regular import Refused
from cnnbench.storage.text import make_printable

MAX_TEXT = 2**20  # bytes of a text that are kept; Pillow refuses an image with a longer one
MOST_KEPT = 4  # texts
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ORIENTED = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # texts that may say which side is up


def clean_png(content: bytes) -> bytes:
    """The file without texts and colour profiles, except texts that may hold the orientation.

    Raises:
        Refused: it is truncated, or a checksum is wrong.
    """
    view = memoryview(content)
    parts: list[memoryview | bytes] = []
    kept = start = 0
    for kind, begin, end in _iterate_chunks(content):
        if kind in _TEXTS:
            parts.append(view[start:begin])
            start = end
            keyword, _, rest = content[begin + 8 : end - 4].partition(b"\0")
            if keyword in _ORIENTED and kept < MOST_KEPT:
                kept += 1
                parts.append(_make_text_chunk(keyword, _unpack(kind, rest)))
    return b"".join([*parts, view[start:]]) if parts else content


def _iterate_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk."""
    # After a signature of 8 bytes, each chunk has 12 bytes beside its content: length, kind, checksum.
    position, kind = 8, b""
    while kind != b"IEND":
        if len(content) < position + 12:
            raise Refused("truncated")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if len(content) < end:
            raise Refused("truncated")
        # Pillow skips the checksums of pixels, and would return those of a flipped bit.
        if zlib.crc32(memoryview(content)[position + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise Refused(f"damaged: wrong checksum in its {make_printable(kind.decode('latin-1'))} chunk")
        yield kind, position, end
        position = end


def _unpack(kind: bytes, rest: bytes) -> bytes:
    """What follows a text's keyword, unpacked up to the limit; empty if it is damaged."""
    packed, text = kind == b"zTXt", rest[1:] if kind == b"zTXt" else rest
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        text = b"".join(rest[2:].split(b"\0", 2)[2:])
    try:
        return zlib.decompressobj().decompress(text, MAX_TEXT) if packed else text[:MAX_TEXT]
    except zlib.error:
        return b""


def _make_text_chunk(keyword: bytes, text: bytes) -> bytes:
    # Pillow reads any length from this chunk. It takes XMP from iTXt alone, and EXIF from any.
    body = b"iTXt" + keyword + b"\0\0\0\0\0" + text
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

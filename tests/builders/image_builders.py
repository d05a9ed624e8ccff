"""Image files built byte by byte: what a PNG, TIFF, BMP, GIF or PNM of given pixels looks like."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZE = 8
BACKGROUND = (200, 30, 90)


def save(array, kind, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def on_background(pixels, alpha):
    pixels = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels
    alpha = np.asarray(alpha, float)[..., None] / 255
    return np.rint(pixels * alpha + np.array(BACKGROUND) * (1 - alpha)).astype(np.uint8)


def eight(values, maxval=65535):
    return np.rint(values.astype(float) * 255 / maxval).astype(np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(values, depth):
    """Rows of `depth`-bit values as bytes, each after filter 0."""
    values = np.asarray(values).reshape(len(values), -1)
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(len(values), -1)
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        rows = np.packbits(bits.reshape(len(values), -1), axis=-1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def png(values, depth, colour, *, before=b"", after=b"", end=None, size=None, raw=None):
    height, width = values.shape[:2] if size is None else size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(packed(values, depth) if raw is None else raw))
    return b"\x89PNG\r\n\x1a\n" + header + before + body + after + (chunk(b"IEND", b"") if end is None else end)


def tiff(data, order="<", tags=(), width=SIZE, height=SIZE, offset=8, **settings):
    """A TIFF of one strip; every tag is (number, type, values)."""
    bits = settings.get("bits", (8,))
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, list(bits)), 259: (3, [settings.get("compression", 1)])}
    entries |= {262: (3, [settings.get("photometric", 1)]), 277: (3, [len(bits)]), 278: (4, [height])}
    entries |= {273: (4, [offset]), 279: (4, [len(data)])} | {n: (kind, values) for n, kind, values in tags}
    entries = {number: entry for number, entry in entries.items() if number not in settings.get("without", ())}
    start = 8 + len(data) + len(data) % 2
    extra_at, extra, directory = start + 2 + 12 * len(entries) + 4, b"", struct.pack(order + "H", len(entries))
    for number, (kind, values) in sorted(entries.items()):
        body = b"".join(struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], v) for v in values)
        if len(body) > 4:
            place, extra = struct.pack(order + "I", extra_at + len(extra)), extra + body
        else:
            place = body.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", number, kind, len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + data + b"\0" * (len(data) % 2) + directory + b"\0\0\0\0" + extra


def exif(orientation):
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"


def interlaced_png(pixels):
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    raw = b"".join(packed(pixels[y::dy, x::dx], 8) for y, x, dy, dx in passes)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def bmp(values, depth, palette=None, height=SIZE, body=None, compression=0):
    if body is None:
        rows = [packed(row[None], min(depth, 8))[1:] for row in (values if height < 0 else values[::-1])]
        body = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    colours = b"" if palette is None else np.c_[palette[:, ::-1], np.zeros(len(palette), np.uint8)].tobytes()
    start = 54 + len(colours)
    header = struct.pack("<IiiHHIIiiII", 40, SIZE, height, 1, depth, compression, len(body), 0, 0, len(colours) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + colours + body


def lzw(values):
    """GIF's compression without compressing: a clear code before every pixel keeps the codes at nine bits."""
    bits = (
        "".join(format(code, "09b")[::-1] for v in values.ravel() for code in (256, int(v))) + format(257, "09b")[::-1]
    )
    body = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(body[i : i + 255])]) + body[i : i + 255] for i in range(0, len(body), 255))
    return b"\x08" + blocks + b"\0"


def gif(frames, palette, *, flags=b"", end=b";"):
    """`frames` are (left, top, values, transparent index or None)."""
    out = b"GIF89a" + struct.pack("<HHBBB", SIZE, SIZE, 0xF7, 0, 0) + palette.tobytes()
    for left, top, values, transparent in frames:
        if transparent is not None:
            out += b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
        out += b"," + struct.pack("<HHHHB", left, top, values.shape[1], values.shape[0], 0) + lzw(values)
    return out + end


def planar(pixels):
    kind = pixels.dtype.itemsize
    data, plane = pixels.transpose(2, 0, 1).tobytes(), SIZE * SIZE * kind
    tags = [(284, 3, [2]), (273, 4, [8, 8 + plane, 8 + 2 * plane]), (279, 4, [plane] * 3)]
    return tiff(data, bits=(8 * kind,) * 3, photometric=2, tags=tags)


def from_lab(lab):
    """CIE's formulas, for white D50, and sRGB's; L in 0…255, a and b signed."""
    y = (lab[..., 0] / 2.55 + 16) / 116
    cube = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1) ** 3 * [0.9642, 1, 0.8249]
    to_srgb = [[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]
    return np.rint((1.055 * (cube @ np.transpose(to_srgb)) ** (1 / 2.4) - 0.055) * 255)


def pnm(magic, body, maxval=None, comment=b""):
    depth = b"" if maxval is None else b"%d\n" % maxval
    return magic + b"\n" + comment + b"%d %d\n" % (SIZE, SIZE) + depth + body

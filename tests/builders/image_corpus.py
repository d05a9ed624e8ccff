"""Odd image files, each with the pixels it must become, computed without Pillow's readers, or why it is refused."""

import struct
from dataclasses import dataclass

import numpy as np
from image_builders import (
    SIZE,
    bmp,
    chunk,
    eight,
    exif,
    gif,
    interlaced_png,
    on_background,
    png,
    save,
    tiff,
)
from PIL import Image

RANDOM = np.random.default_rng(4)
GREY = RANDOM.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
GREY16 = RANDOM.integers(0, 65536, (SIZE, SIZE), dtype=np.uint16)
COLOUR16 = RANDOM.integers(0, 65536, (SIZE, SIZE, 3), dtype=np.uint16)
# 0x0100 and 0x00FF: neither the high byte nor rounding it would do.
GREY16[0] = COLOUR16[0, :, 0] = [0, 128, 129, 255, 256, 257, 65406, 65535]
ALPHA16 = RANDOM.integers(0, 65536, (SIZE, SIZE), dtype=np.uint16)
SMOOTH = np.stack(np.broadcast_arrays(120 + np.arange(8)[:, None] * 4, 90 + np.arange(8) * 4, 60), -1).astype(np.uint8)
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True)
class Odd:
    """A file: `pixels` (H, W, 3) that it holds once composited on BACKGROUND, or the `reason` (a pattern)."""

    name: str
    content: bytes
    pixels: np.ndarray | None = None
    tolerance: int = 0
    reason: str = ""


CORPUS: list[Odd] = []


def good(name, content, pixels, tolerance=0):
    pixels = np.asarray(pixels)
    pixels = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels
    CORPUS.append(Odd(name, content, pixels, tolerance))


def bad(name, content, reason):
    CORPUS.append(Odd(name, content, reason=reason))


def pngs():
    for depth in (1, 2, 4):
        few = RANDOM.integers(0, 2**depth, (SIZE, SIZE), dtype=np.uint8)
        wide = eight(few, 2**depth - 1)
        good(f"{depth}-bit grey.png", png(few, depth, 0), wide)
        trns = chunk(b"tRNS", struct.pack(">H", 1))
        good(
            f"{depth}-bit grey, one transparent.png",
            png(few, depth, 0, before=trns),
            on_background(wide, (few != 1) * 255),
        )
        palette = RANDOM.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        good(f"{depth}-bit palette.png", png(few, depth, 3, before=chunk(b"PLTE", palette.tobytes())), palette[few])
    good("grey.png", png(GREY, 8, 0), GREY)
    good("colour.png", png(COLOUR, 8, 2), COLOUR)
    good("interlaced.png", interlaced_png(COLOUR), COLOUR)
    good("grey and alpha.png", png(np.dstack([GREY, ALPHA]), 8, 4), on_background(GREY, ALPHA))
    good("colour and alpha.png", png(np.dstack([COLOUR, ALPHA]), 8, 6), on_background(COLOUR, ALPHA))
    one = chunk(b"tRNS", struct.pack(">H", int(GREY[2, 3])))
    good("one transparent grey.png", png(GREY, 8, 0, before=one), on_background(GREY, (GREY[2, 3] != GREY) * 255))
    one = chunk(b"tRNS", struct.pack(">HHH", *map(int, COLOUR[2, 3])))
    expected = on_background(COLOUR, (COLOUR[2, 3] != COLOUR).any(-1) * 255)
    good("one transparent colour.png", png(COLOUR, 8, 2, before=one), expected)
    palette, alphas = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8), RANDOM.integers(0, 256, 256, dtype=np.uint8)
    plte = chunk(b"PLTE", palette.tobytes())
    good("palette.png", png(GREY, 8, 3, before=plte), palette[GREY])
    before = plte + chunk(b"tRNS", alphas.tobytes())
    good("palette, alphas.png", png(GREY, 8, 3, before=before), on_background(palette[GREY], alphas[GREY]))
    before = plte + chunk(b"tRNS", b"\xff" * int(GREY[0, 0]) + b"\0")
    good(
        "palette, one transparent.png",
        png(GREY, 8, 3, before=before),
        on_background(palette[GREY], (GREY[0, 0] != GREY) * 255),
    )
    ramp = chunk(b"PLTE", bytes(v for v in range(256) for _ in range(3)))
    good("palette of greys.png", png(GREY, 8, 3, before=ramp), GREY)
    good("text after the end.png", png(COLOUR, 8, 2) + b"more", COLOUR)
    good("PNG named.jpg", png(COLOUR, 8, 2), COLOUR)
    good("no ending", png(COLOUR, 8, 2), COLOUR)
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    good("animated.png", save(frames[0], "PNG", save_all=True, append_images=frames[1:]), COLOUR)


def deep_pngs():
    good("16-bit grey.png", png(GREY16, 16, 0), eight(GREY16))
    good("16-bit colour.png", png(COLOUR16, 16, 2), eight(COLOUR16))
    both = np.dstack([GREY16, ALPHA16])
    good("16-bit grey and alpha.png", png(both, 16, 4), on_background(eight(GREY16), eight(ALPHA16)))
    both = np.dstack([COLOUR16, ALPHA16])
    good("16-bit colour and alpha.png", png(both, 16, 6), on_background(eight(COLOUR16), eight(ALPHA16)))
    one = chunk(b"tRNS", struct.pack(">H", 128))
    near = np.where(GREY16 == 128, 0, 255)  # 129 and 127 become the same grey, and stay opaque
    good("16-bit grey, one transparent.png", png(GREY16, 16, 0, before=one), on_background(eight(GREY16), near))
    one = chunk(b"tRNS", struct.pack(">HHH", *map(int, COLOUR16[0, 1])))
    opaque = (COLOUR16[0, 1] != COLOUR16).any(-1) * 255
    good("16-bit colour, one transparent.png", png(COLOUR16, 16, 2, before=one), on_background(eight(COLOUR16), opaque))
    pair = chunk(b"eXIf", exif(6))
    good("16-bit colour, turned.png", png(COLOUR16, 16, 2, before=pair), TURNS[6](eight(COLOUR16)))


def turned():
    for orientation, turn in TURNS.items():
        block = exif(orientation)
        good(f"turned {orientation}.png", png(COLOUR, 8, 2, before=chunk(b"eXIf", block)), turn(COLOUR))
        good(f"turned {orientation}.webp", save(COLOUR, "WEBP", lossless=True, exif=block), turn(COLOUR))
        good(
            f"turned {orientation}.tif",
            tiff(COLOUR.tobytes(), bits=(8, 8, 8), photometric=2, tags=[(274, 3, [orientation])]),
            turn(COLOUR),
        )
        jpeg = save(SMOOTH, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + block)
        good(f"turned {orientation}.jpg", jpeg, turn(SMOOTH), 3)
    good("turned at the end.png", png(COLOUR, 8, 2, after=chunk(b"eXIf", exif(8))), TURNS[8](COLOUR))
    good("turned by 99.png", png(COLOUR, 8, 2, before=chunk(b"eXIf", exif(99))), COLOUR)
    good("EXIF of garbage.png", png(COLOUR, 8, 2, before=chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")), COLOUR)
    broken = save(SMOOTH, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + exif(6)[:13])
    good("EXIF cut short.jpg", broken, SMOOTH, 3)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    good("turned by XMP.jpg", save(SMOOTH, "JPEG", quality=100, subsampling=0, xmp=xmp), TURNS[3](SMOOTH), 3)


def jpegs():
    good("grey.jpg", save(SMOOTH[..., 0], "JPEG", quality=100), SMOOTH[..., 0], 2)
    good("colour.jpg", save(SMOOTH, "JPEG", quality=100, subsampling=0), SMOOTH, 3)
    good("progressive.jpg", save(SMOOTH, "JPEG", quality=100, subsampling=0, progressive=True), SMOOTH, 3)
    good("stored as RGB.jpg", save(SMOOTH, "JPEG", quality=100, keep_rgb=True), SMOOTH, 3)
    ink = np.dstack([SMOOTH, SMOOTH[..., 0] // 3])
    # Pillow inverts what it writes, as Adobe does, and says so in the file; on paper, ink is light taken away.
    light = np.rint((255.0 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)
    good("CMYK, inverted by Adobe.jpg", save(Image.fromarray(ink, "CMYK"), "JPEG", quality=100), light, 4)
    # Two pictures in one file, as stereo cameras write them.
    second = Image.fromarray(255 - SMOOTH)
    mpo = save(SMOOTH, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    good("two pictures.mpo", mpo, SMOOTH, 3)


def bitmaps():
    for depth in (1, 4, 8):
        few = RANDOM.integers(0, 2**depth, (SIZE, SIZE), dtype=np.uint8)
        palette = RANDOM.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        good(f"{depth}-bit palette.bmp", bmp(few, depth, palette=palette), palette[few])
    good("colour.bmp", bmp(COLOUR[..., ::-1], 24), COLOUR)
    good("top row first.bmp", bmp(COLOUR[..., ::-1], 24, height=-SIZE), COLOUR)
    good("four bytes a pixel.bmp", bmp(np.dstack([COLOUR[..., ::-1], ALPHA * 0]), 32), COLOUR)
    five = RANDOM.integers(0, 32, (SIZE, SIZE, 3))
    short = (five << [10, 5, 0]).sum(-1).astype("<u2")
    good("five bits a colour.bmp", bmp(short.view(np.uint8).reshape(SIZE, -1), 16), eight(five, 31), 1)
    runs = b"".join(bytes([8, int(v)]) + b"\0\0" for v in GREY[::-1, 0]) + b"\0\1"
    palette = np.stack([np.arange(256)] * 3, -1).astype(np.uint8)
    good("run lengths.bmp", bmp(GREY, 8, palette=palette, body=runs, compression=1), GREY[:, [0] * SIZE])
    good("grey.bmp", save(GREY, "BMP"), GREY)


def gifs():
    palette = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    good("palette.gif", gif([(0, 0, GREY, None)], palette), palette[GREY])
    good("first of two frames.gif", gif([(0, 0, GREY, None), (0, 0, 255 - GREY, None)], palette), palette[GREY])
    clear = int(GREY[1, 1])
    expected = on_background(palette[GREY], (clear != GREY) * 255)
    good("transparent.gif", gif([(0, 0, GREY, clear)], palette), expected)
    good("no trailer.gif", gif([(0, 0, GREY, None)], palette, end=b""), palette[GREY])
    good("grey.gif", save(GREY, "GIF"), GREY)
    part, whole = GREY[2:6, 1:7], np.zeros_like(GREY)
    whole[2:6, 1:7] = part
    good("smaller than its canvas.gif", gif([(1, 2, part, None)], palette), palette[whole])
    bad("no frame.gif", gif([], palette), "header is damaged")
    bad("cut short.gif", gif([(0, 0, GREY, None)], palette)[:-60], "truncated")


def webps():
    good("lossless.webp", save(COLOUR, "WEBP", lossless=True), COLOUR)
    good("lossy.webp", save(np.full_like(COLOUR, 100), "WEBP", quality=100), np.full_like(COLOUR, 100), 4)
    both = np.dstack([COLOUR, ALPHA])
    good("alpha.webp", save(both, "WEBP", lossless=True, exact=True), on_background(COLOUR, ALPHA))
    second = Image.fromarray(255 - COLOUR)
    animated = save(COLOUR, "WEBP", lossless=True, save_all=True, append_images=[second])
    good("animated.webp", animated, COLOUR)
    bad("cut short.webp", save(COLOUR, "WEBP", lossless=True)[:-40], "damaged|truncated")


for part in (pngs, deep_pngs, turned, jpegs, bitmaps, gifs, webps):
    part()

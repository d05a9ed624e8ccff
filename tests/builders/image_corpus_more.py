"""The rest of the odd image files: TIFF, PNM, and what is refused; with this import, CORPUS is whole."""

import zlib

import numpy as np
from image_builders import (
    SIZE,
    bmp,
    chunk,
    eight,
    exif,
    from_lab,
    lzw,
    on_background,
    packed,
    planar,
    png,
    pnm,
    save,
    tiff,
)
from image_corpus import ALPHA, ALPHA16, COLOUR, COLOUR16, CORPUS, GREY, GREY16, RANDOM, SMOOTH, TURNS, bad, good
from PIL import Image

__all__ = ["CORPUS"]


def tiffs():
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd"):
        good(f"grey, {compression}.tif", save(GREY, "TIFF", compression=compression), GREY)
        good(f"colour, {compression}.tif", save(COLOUR, "TIFF", compression=compression), COLOUR)
    good("JPEG inside.tif", save(SMOOTH, "TIFF", compression="jpeg", quality=100), SMOOTH, 6)
    two = GREY > 127
    for compression in ("raw", "group3", "group4"):
        good(f"two tones, {compression}.tif", save(Image.fromarray(two), "TIFF", compression=compression), two * 255)
    good("white is zero.tif", tiff(GREY.tobytes(), photometric=0), 255 - GREY)
    for order, name in (("<", "II"), (">", "MM")):
        wide = np.dtype(f"{order}u2")
        good(f"16-bit grey, {name}.tif", tiff(GREY16.astype(wide).tobytes(), order, bits=(16,)), eight(GREY16))
        rgb = {"photometric": 2, "bits": (16, 16, 16)}
        data = COLOUR16.astype(wide).tobytes()
        good(f"16-bit colour, {name}.tif", tiff(data, order, **rgb), eight(COLOUR16))
        good(
            f"16-bit colour, deflated, {name}.tif",
            tiff(zlib.compress(data), order, compression=8, **rgb),
            eight(COLOUR16),
        )
        deflated = tiff(zlib.compress(GREY16.astype(wide).tobytes()), order, bits=(16,), compression=8)
        good(f"16-bit grey, deflated, {name}.tif", deflated, eight(GREY16))
        data = np.dstack([COLOUR16, ALPHA16]).astype(wide).tobytes()
        rgba = tiff(data, order, photometric=2, bits=(16,) * 4, tags=[(338, 3, [2])])
        good(f"16-bit colour and alpha, {name}.tif", rgba, on_background(eight(COLOUR16), eight(ALPHA16)))
        good(
            f"16-bit turned, {name}.tif",
            tiff(COLOUR16.astype(wide).tobytes(), order, tags=[(274, 3, [6])], **rgb),
            TURNS[6](eight(COLOUR16)),
        )
    good("16-bit, white is zero.tif", tiff(GREY16.tobytes(), bits=(16,), photometric=0), eight(65535 - GREY16))
    twelve = GREY16 >> 4
    pairs = twelve.reshape(-1, 2).astype(np.uint32)
    joined = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    good("12-bit grey.tif", tiff(joined.tobytes(), bits=(12,)), eight(twelve, 4095))
    good("grey and alpha.tif", save(np.dstack([GREY, ALPHA]), "TIFF"), on_background(GREY, ALPHA))
    good("colour and alpha.tif", save(np.dstack([COLOUR, ALPHA]), "TIFF"), on_background(COLOUR, ALPHA))
    palette = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    colormap = [(320, 3, [int(v) * 257 for v in palette.T.ravel()])]
    good("palette.tif", tiff(GREY.tobytes(), photometric=3, tags=colormap), palette[GREY])
    data = np.dstack([GREY, ALPHA]).tobytes()
    both = tiff(data, photometric=3, bits=(8, 8), tags=[*colormap, (338, 3, [2])])
    good("palette and alpha.tif", both, on_background(palette[GREY], ALPHA))
    ink = np.dstack([COLOUR, GREY]).astype(float)
    cmyk = tiff(ink.astype(np.uint8).tobytes(), photometric=5, bits=(8,) * 4)
    good("CMYK.tif", cmyk, np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255), 1)
    good("planes.tif", planar(COLOUR), COLOUR)
    good("two pages.tif", save(COLOUR, "TIFF", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]), COLOUR)
    good("big.tif", save(COLOUR, "TIFF", big_tiff=True), COLOUR)
    tiles = [(322, 4, [16]), (323, 4, [16]), (324, 4, [8]), (325, 4, [16 * 16])]
    good("tiled.tif", tiff(np.pad(GREY, ((0, 8), (0, 8))).tobytes(), tags=tiles, without=(273, 278, 279)), GREY)
    colour_spaces()
    bad("16-bit planes.tif", planar(COLOUR16), "separate planes")
    for bits, sample, name in ((16, 2, "signed 16-bit"), (32, 1, "32-bit"), (32, 2, "signed 32-bit"), (32, 3, "float")):
        data = np.zeros((SIZE, SIZE), f"u{bits // 8}").tobytes()
        bad(f"{name}.tif", tiff(data, bits=(bits,), tags=[(339, 3, [sample])]), "no agreed range")
    bad("cut short.tif", tiff(COLOUR.tobytes(), bits=(8, 8, 8), photometric=2)[:-30], "header is damaged|truncated")
    bad("strip past the end.tif", tiff(GREY.tobytes(), offset=2**31), "truncated|damaged")


def colour_spaces():
    lab = np.stack([RANDOM.integers(*span, (SIZE, SIZE)) for span in ((100, 180), (-20, 20), (-20, 20))], -1)
    data = lab.astype(np.uint8).tobytes()
    # Off by a few: littlecms interpolates in a table.
    good("LAB.tif", tiff(data, photometric=8, bits=(8, 8, 8)), from_lab(lab), 7)
    y, cb, cr = COLOUR[..., 0].astype(float), COLOUR[..., 1] - 128.0, COLOUR[..., 2] - 128.0
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    good("YCbCr.tif", tiff(COLOUR.tobytes(), photometric=6, bits=(8, 8, 8)), np.rint(rgb).clip(0, 255), 1)


def pnms():
    two = GREY < 128
    good("bits.pbm", pnm(b"P4", np.packbits(two, axis=-1).tobytes()), ~two * 255)
    rows = [bytes(row + ord("0")) for row in two.astype(np.uint8)]
    good("plain bits.pbm", pnm(b"P1", b"# 1 1 1\n".join(rows)), ~two * 255)
    good("grey.pgm", pnm(b"P5", GREY.tobytes(), 255, b"# a comment\n"), GREY)
    good("colour.ppm", pnm(b"P6", COLOUR.tobytes(), 255), COLOUR)
    for maxval in (1, 15, 200, 1023, 65535):
        kind, grey, colour = ">u2" if maxval > 255 else "u1", GREY16 & maxval, COLOUR16 & maxval
        good(f"maxval {maxval}.pgm", pnm(b"P5", grey.astype(kind).tobytes(), maxval), eight(grey, maxval))
        good(f"maxval {maxval}.ppm", pnm(b"P6", colour.astype(kind).tobytes(), maxval), eight(colour, maxval))
        text = b"# white\r\n".join(b"  %d\n" % v for v in grey.ravel())
        good(f"plain, maxval {maxval}.pgm", pnm(b"P2", text, maxval), eight(grey, maxval))
        text = b"\t".join(b"%d" % v for v in colour.ravel())
        good(f"plain, maxval {maxval}.ppm", pnm(b"P3", text, maxval), eight(colour, maxval))
    bad("above its maxval.pgm", pnm(b"P5", b"\x10" * 64, 15), "above its maxval")
    bad("plain, above its maxval.pgm", pnm(b"P2", b"300 " * 64, 255), "above its maxval")
    bad("plain, huge numbers.pgm", pnm(b"P2", b"9" * 999 + b" 1" * 64, 255), "above its maxval")
    bad("plain, words.pgm", pnm(b"P2", b"white " * 64, 255), "something other than numbers")
    bad("plain, nothing.pgm", pnm(b"P2", b" \n", 255), "truncated: 0 of 64")
    bad("plain bits, a two.pbm", pnm(b"P1", b"012" * 64), "damaged")
    bad("float.pfm", pnm(b"Pf", b"\0" * 256, 1), "no agreed range")
    bad("cut short.ppm", pnm(b"P6", COLOUR.tobytes()[:-1], 255), "truncated")
    bad("cut short, 16-bit.ppm", pnm(b"P6", b"\0" * 383, 65535), "truncated: 191 of 192")
    bad("no size.pgm", b"P5\n", "damaged")


def large_texts():
    """Sound files whose texts or profiles are longer than Pillow takes; some say which side is up."""
    long = b"x" * 3_000_000
    xmp = b'<x tiff:Orientation="6"/>' + long
    texts = {
        "tEXt": b"Comment\0" + long,
        "zTXt": b"Comment\0\0" + zlib.compress(long),
        "iTXt": b"Comment\0\0\0\0\0" + long,
        "packed iTXt": b"Comment\0\1\0\0\0" + zlib.compress(long),
        "iCCP": b"profile\0\0" + zlib.compress(long),
        "damaged zTXt": b"Comment\0\0" + b"no zlib",
        "unknown iCCP": b"profile\0\7" + long,
    }
    for name, body in texts.items():
        good(f"{name}.png", png(COLOUR, 8, 2, before=chunk(name[-4:].encode(), body)), COLOUR)
        good(f"{name} at the end, 16-bit.png", png(GREY16, 16, 0, after=chunk(name[-4:].encode(), body)), eight(GREY16))
    good("16-bit colour, zTXt.png", png(COLOUR16, 16, 2, before=chunk(b"zTXt", texts["zTXt"])), eight(COLOUR16))
    key = b"XML:com.adobe.xmp\0"
    for name, body in (
        ("iTXt", key + b"\0\0\0\0" + xmp),
        ("packed iTXt", key + b"\1\0de\0XMP\0" + zlib.compress(xmp)),
    ):
        good(f"turned by long XMP, {name}.png", png(COLOUR, 8, 2, before=chunk(b"iTXt", body)), TURNS[6](COLOUR))
    raw = b"\nexif\n%8d\n" % len(exif(6)) + exif(6).hex().encode() + b"\n"
    for kind, body in ((b"tEXt", raw), (b"zTXt", b"\0" + zlib.compress(raw))):
        text = chunk(kind, b"Raw profile type exif\0" + body)
        good(f"turned by a profile, {kind.decode()}.png", png(COLOUR, 8, 2, before=text), TURNS[6](COLOUR))


def avifs():
    flat = np.full_like(COLOUR, 100)
    good("colour.avif", save(flat, "AVIF", quality=100), flat, 4)
    good("AVIF named.jpg", save(flat, "AVIF", quality=100), flat, 4)
    smooth = save(SMOOTH, "AVIF", quality=100, subsampling="4:4:4", exif=exif(6))
    good("turned.avif", smooth, TURNS[6](SMOOTH), 6)
    both = np.dstack([flat, np.zeros_like(ALPHA)])
    good("clear.avif", save(both, "AVIF", quality=100), on_background(flat, ALPHA * 0), 4)
    bad("cut short.avif", smooth[:-40], "damaged|truncated|not a PNG")
    bad("head only.avif", smooth[:40], "damaged|truncated|not a PNG")


def kept_elsewhere():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 1234\n" % (b"0" * 64)
    bad("pointer.png", pointer, "a Git LFS pointer in place of the image: git lfs pull")
    bad("annex.png", b"/annex/objects/SHA256E-s1--0.png\n", "a git-annex pointer.*git annex get")
    heic = b"\0\0\0\x18ftyp%s\0\0\0\0%s" + b"\0" * 200
    for brands in ((b"heic", b"mif1heic"), (b"mif1", b"mif1heic"), (b"heix", b"mif1heix")):
        bad(f"{brands[0].decode()}.heic", heic % brands, "a HEIC image: pip install pillow-heif")
    bad("video.png", heic % (b"isom", b"isommp41"), "not a PNG")
    bad("a huge box.avif", b"\xff\xff\xff\xffftypavif" + b"\0" * 200, "damaged|not a PNG")


def refused():
    whole = png(COLOUR, 8, 2)
    flipped = bytearray(whole)
    flipped[60] ^= 4
    bad("a flipped bit.png", bytes(flipped), "wrong checksum in its IDAT chunk")
    bad("cut short.png", whole[:100], "truncated")
    bad("no end.png", png(COLOUR, 8, 2, end=b""), "truncated")
    bad("header only.png", whole[:33], "truncated|damaged")
    # Whole by its checksums, and yet too short: Pillow leaves such rows black.
    rows = np.where(np.arange(SIZE)[:, None, None] < 5, COLOUR, 0)
    good("rows missing.png", png(COLOUR, 8, 2, raw=packed(COLOUR[:5], 8)), rows)
    bad("no palette.png", png(GREY, 8, 3), "without a palette")
    bad("nothing compressed.png", png(GREY, 8, 0, raw=b""), "truncated|damaged")
    bad("no width.png", png(GREY, 8, 0, size=(8, 0)), "damaged")
    bad("a bomb.png", png(GREY, 8, 0, size=(10**4, 10**4)), "10000 × 10000 pixels: the limit is 50,000,000")
    bad("a larger bomb.png", png(GREY, 8, 0, size=(2**31 - 1, 2**31 - 1)), "more than 50,000,000 pixels")
    bad("a line.png", png(GREY, 8, 0, size=(1, 10**6)), "1000000 × 1 pixels.*65,535 a side")
    text = b"Comment\0\0" + zlib.compress(b"\0" * 80_000_000)
    good("a bomb of text.png", png(COLOUR, 8, 2, before=chunk(b"zTXt", text)), COLOUR)
    good("many bombs of text.png", png(COLOUR, 8, 2, before=chunk(b"zTXt", text) * 99), COLOUR)
    jpeg = save(np.tile(COLOUR, (4, 4, 1)), "JPEG")
    bad("cut short.jpg", jpeg[:-200], "truncated")
    bad("no end.jpg", jpeg[:-2], "truncated")
    bad("start only.jpg", b"\xff\xd8\xff", "header is damaged")
    bad("no tables.jpg", jpeg.replace(b"\xff\xdb", b"\xff\xfe"), "damaged|truncated")
    wide = bytearray(jpeg)
    at = wide.index(b"\xff\xc0")
    wide[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    bad("a bomb.jpg", bytes(wide), "more than 50,000,000 pixels")
    progressive = save(np.zeros((2000, 2000), np.uint8), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    many = progressive[:-2] + scan * 600 + b"\xff\xd9"
    bad("too many scans.jpg", many, r"6\d\d progressive scans of 4,000,000 pixels")
    bad("cut short.bmp", bmp(COLOUR, 24)[:-10], "truncated")
    bad("a bomb.bmp", bmp(GREY, 8, height=2**24, body=b""), "16777216 pixels")
    wide = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0" + lzw(GREY) + b";"
    bad("a bomb.gif", wide, "more than 50,000,000 pixels")
    bad("a bomb.tif", tiff(GREY.tobytes(), width=2**20, height=2**20), "more than 50,000,000 pixels")
    bad("a bomb.pgm", b"P5 99999 99999 255\n", "more than 50,000,000 pixels")
    bad("empty.png", b"", "empty: zero bytes")
    unknown = "not a PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM or AVIF image"
    bad("text.png", b"This is no picture.\n", unknown)
    bad("page.jpg", b"<!DOCTYPE html><html></html>", unknown)
    bad("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', unknown)
    bad("zeros.gif", b"\0" * 4096, unknown)
    for kind in (
        "ICO",
        "TGA",
        "PCX",
        "PDF",
        "EPS",
        "JPEG2000",
        "SGI",
    ):  # Pillow reads them; they are not on the list
        bad(f"{kind}.png", save(COLOUR, kind), unknown)


for part in (tiffs, pnms, large_texts, avifs, kept_elsewhere, refused):
    part()

"""Fuzz the image decoder, in a process that may crash: `make fuzz`.

Small valid files of every format are mutated: bits are flipped, blocks are cut, zeroed, doubled or swapped between
files, lengths and sizes are made huge. Image i of a run depends on (seed, i) alone. The decoder must not crash, exceed
five seconds or the memory limit, print anything, or raise an error other than a BadImage that names the file.
"""

import argparse
import io
import json
import os
import random
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage, decode_bytes, decode_image, probe

SECONDS = 5.0
MEGABYTES = 2_000  # a 16-bit colour image of 50 million pixels takes 1,500
SAVED: dict[str, tuple[dict[str, Any], ...]] = {
    "PNG": (
        *({"mode": mode} for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        {"mode": "RGB", "exif": 6},
        {"mode": "L", "transparency": 7},
        {"mode": "RGB", "again": True},
    ),
    "JPEG": (
        *({"mode": mode} for mode in ("L", "RGB", "CMYK")),
        {"mode": "RGB", "progressive": True},
        {"mode": "RGB", "exif": 8},
        {"mode": "RGB", "subsampling": 2, "restart_marker_rows": 1},
    ),
    "MPO": ({"mode": "RGB", "again": True},),
    "BMP": tuple({"mode": mode} for mode in ("1", "L", "P", "RGB", "RGBA")),
    "GIF": ({"mode": "L"}, {"mode": "P", "transparency": 3}, {"mode": "P", "again": True}),
    "WEBP": (
        {"mode": "RGB"},
        {"mode": "RGB", "lossless": True},
        {"mode": "RGBA", "exif": 5},
        {"mode": "RGB", "again": True},
    ),
    "TIFF": (
        *({"mode": mode} for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16")),
        *({"mode": mode} for mode in ("I;16B", "F")),
        *({"mode": "RGB", "compression": f"tiff_{name}"} for name in ("lzw", "adobe_deflate")),
        *({"mode": "RGB", "compression": name} for name in ("packbits", "jpeg", "lzma", "zstd")),
        {"mode": "1", "compression": "group4"},
        {"mode": "1", "compression": "group3"},
        {"mode": "I;16", "compression": "tiff_lzw"},
        {"mode": "RGB", "again": True, "big_tiff": True},
    ),
    "AVIF": ({"mode": "RGB"}, {"mode": "RGBA", "exif": 6}, {"mode": "RGB", "again": True}),
    "PPM": tuple({"mode": mode} for mode in ("1", "L", "RGB", "I;16", "F")),
}  # fmt: skip
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def make_seeds() -> list[bytes]:
    """Small valid files, also such as Pillow cannot write: plain PNM, 16-bit colour PNG and a run-length BMP."""
    smooth = np.add.outer(np.arange(24) * 5, np.arange(24) * 4).astype(np.uint8)
    colour = np.stack([smooth, smooth[::-1], np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)], -1)
    files = [_save(colour, kind, dict(options)) for kind, variants in SAVED.items() for options in variants]
    files.append(b"P3 24 24 255\n" + b" ".join(b"%d" % v for v in colour.ravel()))
    files.append(b"P2 # words\n24 24\n1000\n" + b"\n".join(b"%d" % (3 * int(v)) for v in smooth.ravel()))
    files.append(b"P1 24 24\n" + b"01" * 288)
    files.append(b"P6 24 24 65535\n" + colour.astype(">u2").tobytes())
    for kind, width in ((2, 144), (4, 96), (6, 192)):
        body = zlib.compress((b"\0" + bytes(range(width))) * 24)
        header = struct.pack(">IIBBBBB", 24, 24, 16, kind, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
        files.append(
            _fix_checksums(
                b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(b)) + n + b + b"...." for n, b in chunks)
            )
        )
    runs = struct.pack("<IiiHHIIiiII", 40, 24, 24, 1, 8, 1, 98, 0, 0, 1, 0) + b"\0\1\2\0" + b"\x18\0\0\0" * 24 + b"\0\1"
    files.append(b"BM" + struct.pack("<IHHI", 14 + len(runs), 0, 0, 58) + runs)
    return files


def _save(colour: np.ndarray, kind: str, options: dict) -> bytes:
    mode, orientation = options.pop("mode"), options.pop("exif", None)
    image = Image.fromarray(colour)
    if mode in ("I;16", "I;16B"):
        image = Image.fromarray(colour[..., 0].astype(np.uint16) * 257)
        image = image if mode == "I;16" else image.convert("I").convert("I;16B")
    elif mode == "P":
        image = image.quantize(64)
    elif mode == "LAB":
        image = Image.frombytes("LAB", image.size, image.tobytes())
    else:
        image = image.convert("L").convert(mode) if mode in ("F", "LA") else image.convert(mode)
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    if options.pop("again", False):
        options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_90)]}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _fix_checksums(content: bytes) -> bytes:
    """A PNG with correct checksums, so that the decoder does not stop at them."""
    out, position = bytearray(content), 8
    while position + 12 <= len(out):
        end = position + 8 + int.from_bytes(out[position : position + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[position + 4 : end]))
        position = end + 4
    return bytes(out)


def make_damaged(seed: int, index: int, files: list[bytes]) -> tuple[bytes, Decoding]:
    """Image `index`, one of the files after one to four mutations, and how to decode it."""
    draw = random.Random(f"{seed}:{index}")
    content = bytearray(draw.choice(files))
    for _ in range(draw.randint(1, 4)):
        _mutate(content, draw, files)
    if content[:4] == b"\x89PNG" and draw.random() < 0.8:
        content = bytearray(_fix_checksums(bytes(content)))
    return bytes(content), Decoding(
        draw.choice((1, 3)), draw.choice((1, 24, 32, 224)), draw.choice(("stretch", "pad", "crop"))
    )


def _mutate(content: bytearray, draw: random.Random, files: list[bytes]) -> None:
    # Half of the damage goes to the header, which has the sizes, lengths and offsets.
    end = max(1, min(len(content), 64) if draw.random() < 0.5 else len(content))
    at = draw.randrange(end)
    length = draw.choice((1, 2, 4, 16, 64, 256))
    match draw.choice(("bit", "byte", "length", "length", "cut", "remove", "insert", "zero", "double", "splice")):
        case "bit":
            for place in (draw.randrange(end) for _ in range(draw.choice((1, 1, 4, 32)))):
                if place < len(content):
                    content[place] ^= 1 << draw.randrange(8)
        case "byte":
            content[at : at + 1] = draw.randbytes(1)
        case "length":
            size, order = draw.choice((1, 2, 4)), draw.choice(("big", "little"))
            content[at : at + size] = (draw.choice(HUGE) & (256**size - 1)).to_bytes(size, order)
        case "cut":
            del content[draw.randrange(len(content) + 1) :]
        case "remove":
            del content[at : at + length]
        case "insert":
            content[at:at] = draw.randbytes(length)
        case "zero":
            content[at : at + length] = bytes(length)
        case "double":
            content[at:at] = content[at : at + length] * draw.choice((1, 1, 50))
        case "splice":
            other = draw.choice(files)
            content[at:] = other[min(at, len(other)) :]


def decode_images(seed: int, images: range) -> None:
    """Decode images one by one, and print a line of JSON before and after each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = make_seeds()
    with tempfile.TemporaryDirectory() as folder:
        for index in images:
            content, how = make_damaged(seed, index, files)
            print(json.dumps({"start": index}), flush=True)
            began = time.perf_counter()
            outcome = _decode(content, how, os.path.join(folder, f"image {index}"), index)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                json.dumps({"end": index, "outcome": outcome, "s": time.perf_counter() - began, "mb": peak}), flush=True
            )


def _decode(content: bytes, how: Decoding, name: str, index: int) -> str:
    """Decode an image; returns `decoded`, `rejected: …` or `failed: …`. Every fourth image is read from a file."""
    try:
        if index % 4:
            pixels = decode_bytes(content, how, name)
        else:
            with open(name, "wb") as file:
                file.write(content)
            try:
                pixels = decode_image(name, how)
                probe(name)
            finally:
                os.unlink(name)
    except BadImage as error:
        text = str(error)
        named = text.startswith(f"{name}: ") and text.isprintable() and error.reason
        return f"rejected: {error.reason}" if named else f"failed: unnamed: {text!r}"
    except BaseException as error:
        return f"failed: {error!r}"
    right = pixels.dtype == np.uint8 and pixels.shape == (how.channels, how.image_size, how.image_size)
    return "decoded" if right else f"failed: {pixels.dtype} {pixels.shape}"


def watch(seed: int, count: int) -> Iterator[dict]:
    """The outcome of every image. If the process dies or hangs, that is an outcome, and another one continues."""
    following = 0
    while following < count:
        command = [sys.executable, __file__, "--seed", str(seed), "--work", str(following), str(count)]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as worker,
        ):
            for line in _read_lines(worker):
                if "start" in line:
                    following = line["start"] + 1
                else:
                    yield line
            returned = worker.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace")[:500]
        if returned:
            yield {
                "end": following - 1,
                "outcome": f"failed: the process ended with {returned}: {said}",
                "s": 0.0,
                "mb": 0,
            }
        elif said:
            yield {"end": following - 1, "outcome": f"failed: on the terminal: {said!r}", "s": 0.0, "mb": 0}


def _read_lines(worker: subprocess.Popen) -> Iterator[dict]:
    """The lines of a process, until it ends; it is killed if an image takes too long."""
    assert worker.stdout is not None
    os.set_blocking(worker.stdout.fileno(), False)
    waiting, rest, patience = selectors.DefaultSelector(), b"", 60.0  # includes the start of Python and its imports
    waiting.register(worker.stdout, selectors.EVENT_READ)
    while waiting.select(patience):
        part = worker.stdout.read()
        if not part:
            return
        *whole, rest = (rest + part).split(b"\n")
        yield from map(json.loads, whole)
        patience = SECONDS
    worker.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=int, nargs=2, metavar=("FROM", "TO"), help="be the process that decodes")
    given = parser.parse_args()
    if given.work:
        decode_images(given.seed, range(*given.work))
        os._exit(0)  # torch's clean-up takes seconds, which would look like an image that takes too long
    began, outcomes, failures, slowest, peak = time.perf_counter(), Counter[str](), 0, 0.0, 0
    for found in watch(given.seed, given.images):
        outcomes[found["outcome"].split(":")[0]] += 1
        slowest, peak = max(slowest, found["s"]), max(peak, found["mb"])
        if found["outcome"].startswith("failed") or found["s"] > SECONDS or found["mb"] > MEGABYTES:
            failures += 1
            print(f"image {found['end']} of seed {given.seed}: {found}")
    print(
        f"{given.images} damaged images: {outcomes['decoded']} decoded, {outcomes['rejected']} rejected by name, "
        f"{failures} failures; slowest {slowest:.2f} s, peak memory {peak} MB, "
        f"{time.perf_counter() - began:.0f} s in all"
    )
    return 1 if failures or outcomes["decoded"] + outcomes["rejected"] != given.images else 0


if __name__ == "__main__":
    sys.exit(main())

"""One image file to pixels: 200 odd files with their outcome, strange names and places, exact pixels, damage."""

import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from image_builders import BACKGROUND, SIZE, exif, png, save
from image_corpus import ALPHA, COLOUR, GREY, GREY16
from image_corpus_more import CORPUS
from PIL import Image, ImageFile

from cnnbench.data.files.deep_pixels import _make_scale, _round_to_8_bits
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import MAX_BYTES, BadImage, _open, decode_bytes, decode_image, probe
from cnnbench.data.files.signatures import FORMATS
from cnnbench.storage.text import format_path
from conftest import ROOT

HOW = Decoding(3, SIZE, background=BACKGROUND)


def luma(pixels):
    """ITU-R 601 in Pillow's 16 bits, of (H, W, 3)."""
    return (pixels.astype(int) @ [19595, 38470, 7471] + 0x8000) >> 16


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("odd", CORPUS, ids=lambda odd: odd.name)
def test_every_odd_file_has_its_documented_outcome(odd, channels, tmp_path, recwarn, capfd):
    file = tmp_path / odd.name
    file.write_bytes(odd.content)
    how = Decoding(channels, SIZE, background=BACKGROUND)
    if odd.reason:
        with pytest.raises(BadImage, match=odd.reason) as caught:
            decode_image(file, how)
        assert str(caught.value) == f"{file}: {caught.value.reason}"
    else:
        expected = odd.pixels.transpose(2, 0, 1) if channels == 3 else luma(odd.pixels)[None]
        pixels = decode_image(file, how)
        assert (pixels.dtype, pixels.shape) == (np.uint8, (channels, SIZE, SIZE))
        assert pixels.flags["C_CONTIGUOUS"]
        assert pixels.flags["WRITEABLE"]
        assert np.abs(pixels.astype(int) - expected).max() <= odd.tolerance
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_the_corpus_is_large_and_knows_every_format():
    kinds = {_open(odd.content)[0].format for odd in CORPUS if not odd.reason}
    assert kinds - {"MPO"} == set(FORMATS)
    assert len(CORPUS) >= 200


LOSSLESS = {"PNG": {}, "BMP": {}, "PPM": {}, "TIFF": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
@given(data=st.data())
def test_pixels_saved_without_loss_come_back_to_the_bit(kind, channels, data):
    side = data.draw(st.integers(1, 40))
    shape = (side, side) if channels == 1 else (side, side, 3)
    pixels = data.draw(arrays(np.uint8, shape))
    content = save(pixels, kind, **LOSSLESS[kind])
    expected = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    for resize in ("stretch", "pad", "crop"):
        np.testing.assert_array_equal(decode_bytes(content, Decoding(channels, side, resize), "x"), expected)


def test_all_65536_values_of_16_bits_are_divided_by_257_and_rounded():
    values = np.arange(65536)
    expected = np.rint(values / 257)
    np.testing.assert_array_equal(_make_scale(65535), expected)
    high, low = (values >> 8).astype(np.uint8)[:, None], (values & 255).astype(np.uint8)[:, None]
    np.testing.assert_array_equal(_round_to_8_bits(high, low)[:, 0], expected)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)), st.integers(1, 40))
def test_resizing_keeps_what_its_words_promise(grey, size):
    height, width = grey.shape
    content = save(grey, "PNG")
    whole = Image.fromarray(grey)
    stretched = np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode_bytes(content, Decoding(1, size), "x")[0], stretched)

    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(grey[top : top + side, left : left + side])
    cropped = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode_bytes(content, Decoding(1, size, "crop"), "x")[0], cropped)

    padded = decode_bytes(content, Decoding(1, size, "pad", (7, 7, 7)), "x")[0]
    inner = [max(1, int(np.floor(length * size / max(grey.shape) + 0.5))) for length in grey.shape]
    y, x = ((size - length) // 2 for length in inner)
    part = np.asarray(whole.resize(inner[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(padded[y : y + inner[0], x : x + inner[1]], part)
    padded[y : y + inner[0], x : x + inner[1]] = 7
    assert (padded == 7).all()


def test_transparency_goes_before_resizing_so_that_hidden_colours_do_not_bleed():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8] = (0, 255, 0, 255)
    pixels[:, 8:] = (255, 0, 0, 0)  # an invisible red
    shown = decode_bytes(save(pixels, "PNG"), Decoding(3, 5, background=(0, 0, 0)), "x")
    assert shown[0].max() == 0


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (png(GREY, 8, 0), (1, SIZE, SIZE)),
        (png(GREY16, 16, 0), (1, SIZE, SIZE)),
        (save(np.dstack([GREY, ALPHA]), "PNG"), (1, SIZE, SIZE)),
        (save(GREY > 9, "TIFF"), (1, SIZE, SIZE)),
        (save(GREY, "GIF"), (1, SIZE, SIZE)),
        (save(Image.fromarray(GREY).convert("P"), "PNG"), (1, SIZE, SIZE)),
        (save(COLOUR, "GIF"), (3, SIZE, SIZE)),
        (save(COLOUR, "JPEG"), (3, SIZE, SIZE)),
        (save(Image.new("CMYK", (3, 5)), "JPEG"), (3, 3, 5)),
        (save(Image.new("LAB", (3, 5)), "TIFF"), (3, 3, 5)),
        (save(COLOUR[:5], "PNG"), (3, SIZE, 5)),
        (save(COLOUR[:5], "PNG", exif=exif(6)), (3, 5, SIZE)),
        (save(COLOUR[:5], "JPEG", exif=b"Exif\0\0" + exif(8)), (3, 5, SIZE)),
        (save(COLOUR[:5], "WEBP", exif=exif(3)), (3, SIZE, 5)),
        (save(COLOUR[:5], "TIFF", tiffinfo={274: 6}), (3, 5, SIZE)),
    ],
)
def test_probe_tells_channels_and_the_upright_size(file, expected, tmp_path):
    (tmp_path / "file").write_bytes(file)
    assert probe(tmp_path / "file") == expected


@pytest.mark.parametrize("odd", [odd for odd in CORPUS if not odd.reason], ids=lambda odd: odd.name)
def test_probe_reads_every_good_file(odd, tmp_path):
    (tmp_path / "file").write_bytes(odd.content)
    channels, *size = probe(tmp_path / "file")
    assert size == [SIZE, SIZE]
    if channels == 1 and odd.tolerance == 0 and "alpha" not in odd.name and "transparent" not in odd.name:
        assert (odd.pixels == odd.pixels[..., :1]).all()


NAMES = {
    "with spaces .png": "with spaces .png",
    "new\nline\r.png": r"new\nline\r.png",
    "wave 🌊 ñ.png": "wave 🌊 ñ.png",
    "\x1b[31mred\x07.png": r"\x1b[31mred\x07.png",
    "gnp.\u202eexe": r"gnp.\u202eexe",
    b"latin \xe9\xff.png": r"latin \xe9\xff.png",
    "-rf": "-rf",
}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_shown_safely(name, tmp_path):
    file = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    with open(file, "wb") as out:
        out.write(png(COLOUR, 8, 2))
    for path in (file, os.fsdecode(file)):
        np.testing.assert_array_equal(decode_image(path, HOW), COLOUR.transpose(2, 0, 1))
    os.truncate(file, 50)
    with pytest.raises(BadImage, match=r"truncated|damaged") as caught:
        decode_image(file, HOW)
    assert str(caught.value).startswith(os.path.join(format_path(tmp_path), NAMES[name]) + ": ")
    assert str(caught.value).isprintable()


@given(st.one_of(st.text(), st.binary(min_size=1)))
def test_a_shown_name_is_always_printable(name):
    if isinstance(name, str):
        name = re.sub("[\ud800-\udfff]", "", name)
    assert format_path(name).isprintable()


def loop(folder):
    (folder / "x").symlink_to(folder / "y")
    (folder / "y").symlink_to(folder / "x")


def listen(folder):
    home = os.getcwd()
    os.chdir(folder)  # a socket's path may have 108 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x")
    os.chdir(home)


PLACES = {
    "a folder": (lambda folder: (folder / "x").mkdir(), "a folder, not a file"),
    "a FIFO": (lambda folder: os.mkfifo(folder / "x"), "a FIFO, not a file"),
    "a socket": (listen, "a socket, not a file"),
    "an endless device": (lambda folder: (folder / "x").symlink_to("/dev/zero"), "a device, not a file"),
    "a terminal": (lambda folder: (folder / "x").symlink_to("/dev/tty"), "a device|No such device"),
    "a symlink loop": (loop, "Too many levels of symbolic links"),
    "a dangling symlink": (lambda folder: (folder / "x").symlink_to("nowhere"), "No such file"),
    "nothing": (lambda folder: None, "No such file"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_refused_at_once(place, tmp_path):
    make, reason = PLACES[place]
    make(tmp_path)
    for read in (lambda: decode_image(tmp_path / "x", HOW), lambda: probe(tmp_path / "x")):
        caught = []
        thread = threading.Thread(target=lambda read=read, caught=caught: caught.append(outcome(read)), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert re.search(f"{re.escape(str(tmp_path))}/x: .*({reason})", str(caught[0]))


def outcome(read):
    try:
        return read()
    except BadImage as error:
        return error


def test_impossible_paths_and_oversized_files_are_named(tmp_path):
    for name, reason in (("a\0b", r"a\\x00b: .*null"), ("a" * 300, "File name too long"), ("x/" * 3000, "too long")):
        with pytest.raises(BadImage, match=reason):
            decode_image(str(tmp_path / name) if "\0" not in name else name, HOW)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(BadImage, match="sparse: 400,000,001 bytes: the limit is 400,000,000"):
        decode_image(tmp_path / "sparse", HOW)


def test_a_symlink_to_a_file_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(png(COLOUR, 8, 2))
    (tmp_path / "link").symlink_to("real")
    np.testing.assert_array_equal(decode_image(tmp_path / "link", HOW), COLOUR.transpose(2, 0, 1))


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="permissions are Unix's")
def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(COLOUR, 8, 2))
    (tmp_path / "secret.png").chmod(0)
    code = (
        "import os, sys; from cnnbench.data.files.images import *; os.chdir(sys.argv[1])\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)  # root may read anything\n"
        "try: decode_image('secret.png', Decoding(3, 8))\nexcept BadImage as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "secret.png: Permission denied\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, r"data.channels=4: must be 1 \(greyscale\) or 3"),
        ({"image_size": 0}, "data.image_size=0: must be from 1 to"),
        ({"resize": "squash"}, "data.resize='squash': must be one of stretch, pad, crop"),
        ({"background": (0, 0)}, r"data.background=\(0, 0\): must be three integers"),
        ({"background": (0, 0, 256)}, "data.background=.*0 to 255"),
    ],
)
def test_a_decoding_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**{"channels": 3, "image_size": 8} | options)


def test_a_bad_image_travels_between_processes():
    error = pickle.loads(pickle.dumps(BadImage("a.png", "truncated")))
    assert (str(error), error.reason) == ("a.png: truncated", "truncated")


def test_pillows_settings_stay_as_they_were_and_its_warnings_stay_inside():
    limits = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    big = save(np.zeros((9500, 9500), bool), "PNG")  # Pillow itself would only warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadImage, match="9500 × 9500 pixels"):
            decode_bytes(big, HOW, "x")
    assert limits == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads_decode_what_one_thread_decodes():
    good = [odd for odd in CORPUS if not odd.reason] * 3
    alone = [decode_bytes(odd.content, HOW, odd.name) for odd in good]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda odd: decode_bytes(odd.content, HOW, odd.name), good))
    assert all(map(np.array_equal, alone, together))


def test_150_damaged_images_neither_crash_nor_hang():
    command = [sys.executable, ROOT / "tests" / "faults" / "fuzz_images.py", "--images", "150", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"150 damaged images: \d+ decoded, (\d\d|1\d\d) rejected by name, 0 failures", done.stdout)

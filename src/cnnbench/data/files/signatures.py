"""The accepted formats, and what a file is by its first bytes: an image, or what is often found in place of one."""

import os
import re
import sys

from PIL import AvifImagePlugin

from cnnbench.storage.regular import Refused, read_regular

try:
    import pillow_heif  # type: ignore[import-not-found,unused-ignore]

    pillow_heif.register_heif_opener(thumbnails=False)
    _HEIF: tuple[str, ...] = ("HEIF",)
except ImportError:
    _HEIF = ()
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # files are decoded by several processes already

FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "GIF",
    "WEBP",
    "TIFF",
    "PPM",
    *(("AVIF",) if AvifImagePlugin.SUPPORTED else ()),
    *_HEIF,
)
_IMAGE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|P[1-6Ff]\s+[#\d]", re.DOTALL
)
_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = re.compile(rb"(\.\./|\.git|/)*/?annex/objects/")
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_LONGEST = 4096  # bytes of a list of brands that are read


def refuse_other(content: bytes) -> None:
    """Refuse a pointer to an image stored elsewhere, and a format that needs another package."""
    if content.startswith(_LFS):
        raise Refused("a Git LFS pointer in place of the image: git lfs pull fetches the image")
    if _ANNEX.match(content):
        raise Refused("a git-annex pointer in place of the image: git annex get fetches the image")
    kind = _identify_container(content)
    if kind == "AVIF" and "AVIF" not in FORMATS:
        raise Refused("an AVIF image, which this Pillow cannot read: pip install 'pillow>=11.3', or convert it to PNG")
    if kind == "HEIC" and "HEIF" not in FORMATS:
        raise Refused("a HEIC image: pip install pillow-heif, or convert it to JPEG or PNG")


def looks_like_image(file: str | os.PathLike[str]) -> bool:
    """Whether a file begins like an image or cannot be read, whatever its name."""
    try:
        head = read_regular(file, sys.maxsize, first=_LONGEST)
    except Refused:
        return True
    return bool(_IMAGE.match(head)) or _identify_container(head) is not None


def _identify_container(content: bytes) -> str | None:
    """AVIF or HEIC, by the brands in the file's first box; videos have other brands."""
    if content[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(content[:4], "big"), _LONGEST)
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, end, 4))}
    return "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else None

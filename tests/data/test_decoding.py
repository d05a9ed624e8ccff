"""Decoding ahead: the same images in the same order, however many processes; few at once; nobody left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench.data.files.decoding import CHUNK_FILES, CHUNKS_AHEAD, decode_all
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage, decode_image

HOW = Decoding(1, 9)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """40 images, the number of each in its first pixel; the 3rd and the last are none."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(folder / f"{number}.png")
    for number in (3, 39):
        (folder / f"{number}.png").write_bytes(b"no image")
    return [str(folder / f"{number}.png") for number in range(40)]


@pytest.mark.parametrize("workers", [None, 0, 1, 2, 3])
def test_images_come_in_order_whoever_decodes_them(workers, files):
    found = list(decode_all(files * 9, HOW, workers=workers))
    assert len(found) == 360
    for number, (file, each) in enumerate(zip(files * 9, found, strict=True)):
        if number % 40 in (3, 39):
            assert isinstance(each, BadImage)
            assert each.name == file
        else:
            np.testing.assert_array_equal(each, decode_image(file, HOW))
    assert multiprocessing.active_children() == []


def test_files_are_read_a_few_chunks_ahead_and_workers_end_with_the_iterator(files):
    taken = []
    endless = (taken.append(number) or files[number % 2] for number in count())
    decoded = decode_all(endless, HOW, workers=2)
    assert [each[0, 0, 0] for each in islice(decoded, 3000)] == [0, 1] * 1500
    assert len(taken) <= 3000 + CHUNK_FILES * (2 * CHUNKS_AHEAD + 2)
    assert len(multiprocessing.active_children()) == 2
    decoded.close()
    assert multiprocessing.active_children() == []


def test_few_files_start_no_process(files):
    decoded = decode_all(files[:15], HOW)
    next(decoded)
    assert multiprocessing.active_children() == []


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_parent_is_killed(files):
    code = (
        "import sys, time, multiprocessing\nfrom itertools import cycle\n"
        "from cnnbench.data.files.decoding import decode_all\nfrom cnnbench.data.files.fitting import Decoding\n"
        "decoded = decode_all(cycle(sys.argv[1:]), Decoding(1, 9), workers=2)\nnext(decoded)\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, *files[:3]], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "a worker is left behind"
        time.sleep(0.05)

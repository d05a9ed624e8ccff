"""Which files a command line names."""

import os
import threading
from contextlib import contextmanager

import pytest

from cnnbench.cli.inputs import find_images


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/2.png", "a/10.png", "a/.hidden.png", "a/deep/er/1.png", "a/.git/x.png", "b.png", "[c].png", "-"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def named(*arguments, null=False):
    complaints = []
    files = list(find_images(arguments, null=null, complain=lambda *complaint: complaints.append(complaint)))
    assert complaints == []
    return files


def test_a_folder_is_all_its_files_by_name_without_hidden_ones(here):
    assert named("a") == ["a/10.png", "a/2.png", "a/deep/er/1.png"]
    assert named("b.png", "a/deep", "b.png") == ["b.png", "a/deep/er/1.png", "b.png"]


def test_patterns_that_the_shell_left_alone_are_expanded(here):
    assert named("a/*.png") == ["a/10.png", "a/2.png"]
    assert named("?.png") == ["b.png"]
    assert named("a*") == named("a"), "a folder that a pattern matches stands for its files"
    assert named("a/**") == named("a"), "each file once"
    assert named("**/*.png") == ["[c].png", "a/10.png", "a/2.png", "a/deep/er/1.png", "b.png"]
    assert named("[c].png") == ["[c].png"], "a file of that name comes first"


def test_a_pattern_leaves_out_what_this_program_wrote_and_litter(here):
    for path in ("outputs/x/1/config.yaml", "outputs/x/1/overrides.yaml", "outputs/x/1/curves.png", "a/Thumbs.db"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).touch()
    for pattern in ("**/*.png", "**", "*/*", "*/*/*/*", "*/*/*"):
        assert not [name for name in named(pattern, "b.png") if "outputs" in name or "Thumbs" in name], pattern
    assert named("outputs/x/1/c*.png") == ["outputs/x/1/curves.png"], "whoever names the folder means it"
    (here / "a/deep/__MACOSX").mkdir()
    (here / "a/deep/__MACOSX/2.png").touch()
    assert named("**/[12].png") == ["a/2.png", "a/deep/er/1.png"]


def test_an_argument_that_is_not_there_stays_as_long_as_another_is(here):
    assert named("nope.png", "b.png", "*.gif") == ["nope.png", "b.png", "*.gif"]
    with pytest.raises(ValueError, match=r"'nope.png' does not exist: give files, folders, patterns"):
        named("nope.png", "*.gif")
    with pytest.raises(ValueError, match=r"'\*.gif' matches nothing"):
        named("*.gif")


@contextmanager
def standard_input(content):
    """A pipe that is filled while it is read."""
    read, write = os.pipe()
    writer = threading.Thread(target=fill, args=(write, content))
    before = os.dup(0)
    os.dup2(read, 0)
    os.close(read)
    writer.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        writer.join()


def fill(descriptor, content):
    with open(descriptor, "wb") as pipe:
        pipe.write(content)


@pytest.mark.parametrize(
    ("listed", "null", "expected"),
    [
        (b"b.png\n\na/deep\nnope\n", False, ["b.png", "a/deep/er/1.png", "nope"]),
        (b"b.png\nno line end", False, ["b.png", "no line end"]),
        (b"two\nlines\0caf\xe9\0*\0", True, ["two\nlines", "caf\udce9", "*"]),
        (b"", False, []),
        (b"\xef\xbb\xbfb.png\r\n\r\na/deep\r\nnope\r", False, ["b.png", "a/deep/er/1.png", "nope"]),
        (b"odd\r\nb.png", False, ["odd\r", "b.png"]),
        (b"b.png\r\0", True, ["b.png\r"]),
    ],
)
def test_standard_input_lists_files_and_folders(listed, null, expected, here):
    (here / "odd\r").touch()
    with standard_input(listed):
        assert named("-", null=null) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_named_as_such(encoding, here):
    with standard_input("b.png\r\na\r\n".encode(encoding)), pytest.raises(ValueError, match=r"list .* is UTF-16"):
        named("-")


def test_a_long_list_arrives_whole(here):
    paths = [f"{'x' * (number % 250)}{number}" for number in range(3000)]
    with standard_input("\n".join(paths).encode()):
        assert named("-") == paths


def test_symlinks_are_followed_once_and_loops_end(here):
    (here / "a/loop").symlink_to("..")
    (here / "a/deep/again").symlink_to(here / "a/deep")
    (here / "a/to_b.png").symlink_to(here / "b.png")
    (here / "a/broken.png").symlink_to("nowhere")
    found = named("a")
    assert found == [
        "a/10.png", "a/2.png", "a/broken.png", "a/deep/er/1.png", "a/loop/[c].png", "a/loop/b.png",
        "a/to_b.png",
    ]  # fmt: skip


def test_what_is_no_image_in_a_folder_is_left_out_and_what_is_named_stays(here):
    for name in ("notes.txt", "data.JSON", "empty", "movie.mp4", "sub/readme", "Thumbs.db", "outputs/r/config.yaml"):
        (here / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "f" / name).write_bytes(b"\0\0\0\x18ftypisom" if name.endswith("4") else b"BMW, P1 and GIF8")
    (here / "f/outputs/r/overrides.yaml").touch()
    (here / "f/outputs/r/curves.png").touch()
    for name, content in (
        ("png", b"\x89PNG"),
        ("jpeg", b"\xff\xd8\xff"),
        ("heic", b"\0\0\0\x0cftypheic"),
        ("x.JPG", b"x"),
    ):
        (here / "f" / name).write_bytes(content)
    os.mkfifo(here / "f/pipe.txt")
    left_out = []
    files = find_images(["f", "f/notes.txt"], null=False, complain=pytest.fail, leave_out=left_out.append)
    assert [*files] == ["f/heic", "f/jpeg", "f/pipe.txt", "f/png", "f/x.JPG", "f/notes.txt"]
    assert left_out == ["f/data.JSON", "f/empty", "f/movie.mp4", "f/notes.txt", "f/sub/readme"]


def test_a_folder_that_cannot_be_read_is_complained_of(here, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    complaints = []
    files = list(find_images(["a"], null=False, complain=lambda *complaint: complaints.append(complaint)))
    assert files == ["a/10.png", "a/2.png"]
    assert complaints == [("a/deep", "Permission denied")]

"""Signals: the computed ones, one's own from a CSV file, and runs on either as a user starts them."""

import csv
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import find_peaks

from cnnbench import registry
from cnnbench.cli.compose import compose_config
from cnnbench.data import find_data_shape, load_source, prepare
from cnnbench.data.contents import digest
from cnnbench.data.files.labels import normalize_label, unify_labels
from cnnbench.experiment.loading import get_data_settings
from cnnbench.runs.contents import read_confusion
from cnnbench.runs.folder import RunFolder

NAMES = ("sine", "square", "sawtooth", "chirp", "ecg_normal", "ecg_anomaly")


def made(**changes):
    """The waves, made anew whatever is cached, and by default without noise."""
    options = {"length": 256, "samples": 1200, "noise": [0, 0], "waves_seed": 0} | changes
    return registry.build("data", "waves", options=options)


@pytest.fixture(scope="module")
def clean():
    """Signals of each class without noise, (N, L), by name."""
    train = made().train
    return {name: train.images[train.labels == label, 0].numpy() for label, name in enumerate(NAMES)}


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip((a.images, a.labels), (b.images, b.labels), strict=True))


def test_waves_are_a_function_of_their_options_alone():
    first = made(noise=[0.1, 0.3])
    torch.manual_seed(77)
    again, other = made(noise=[0.1, 0.3]), made(noise=[0.1, 0.3], waves_seed=1)
    assert equal(first.train, again.train)
    assert equal(first.test, again.test)
    assert not torch.equal(first.train.images, other.train.images)
    seeds = [prepare(first, seed=seed, val_fraction=0.1, normalization="dataset") for seed in (0, 1)]
    assert equal(seeds[0].test, seeds[1].test)
    assert not torch.equal(seeds[0].val.images, seeds[1].val.images)


@pytest.mark.parametrize("samples", [60, 1000, 6000])
def test_waves_have_balanced_classes_on_both_sides_of_the_split(samples):
    source = made(samples=samples)
    assert len(source.test) == round(samples / 6)
    assert len(source.train) + len(source.test) == samples
    for split, most in ((source.test, 1), (source.train, 2)):
        counts = split.labels.bincount(minlength=6)
        assert counts.max() - counts.min() <= most
    assert source.info.class_names == NAMES


@pytest.mark.parametrize("length", [64, 300])
def test_waves_are_float32_signals_and_their_shape_is_known_beforehand(length):
    source = made(length=length)
    assert source.train.images.dtype == torch.float32
    assert source.train.images.shape[1:] == source.info.input_shape == (1, length)
    assert torch.isfinite(source.train.images).all()
    options = {"length": length, "samples": 1200, "noise": [0, 0], "waves_seed": 0}
    assert find_data_shape("waves", root="nowhere", options=options) == ((1, length), 6)


def test_the_noise_of_each_signal_is_gaussian_with_a_deviation_from_the_range():
    noise = (made(length=4096, noise=[0.2, 0.4]).train.images - made(length=4096).train.images)[:, 0].double()
    deviations = noise.std(1)
    assert 0.19 < deviations.min() < 0.21
    assert 0.39 < deviations.max() < 0.42
    assert abs(float(deviations.mean()) - 0.3) < 0.01
    standard = noise / deviations.unsqueeze(1)
    assert abs(float((standard**4).mean()) - 3) < 0.05, "the fourth moment of a Gaussian"


def test_a_sine_has_one_peak_in_its_spectrum_and_the_others_their_harmonics():
    train = made(length=1024).train
    window = np.hanning(1024)
    for label, second, third in ((0, 0.0, 0.0), (1, 0.0, 1 / 3), (2, 1 / 2, 1 / 3)):
        signals = train.images[train.labels == label, 0].double().numpy()
        spectrum = np.abs(np.fft.rfft((signals - signals.mean(1, keepdims=True)) * window, 8192))
        base = spectrum[:, :100].argmax(1)  # padded eightfold: bin 8 is one cycle
        assert (base > 13).all()
        assert (base < 67).all()
        assert base.min() < 20
        assert base.max() > 58
        fast = base > 32  # slower waves have fewer than four cycles, and their lobes overlap
        for harmonic, share in ((2, second), (3, third)):
            near = [
                row[b * harmonic - 6 : b * harmonic + 7].max() / row[b] for row, b in zip(spectrum, base, strict=True)
            ]
            np.testing.assert_allclose(np.array(near)[fast], share, atol=0.05)


def test_a_square_has_two_levels_a_sawtooth_one_slope_and_a_chirp_changes_its_period(clean):
    assert all(len(np.unique(square)) == 2 for square in clean["square"])
    for sawtooth in clean["sawtooth"]:
        steps = np.diff(sawtooth)
        rising = steps[steps > 0]
        assert len(rising) >= 255 - 9
        np.testing.assert_allclose(rising, rising[0], rtol=0.01)

    def change(wave):
        """The last half period by the first."""
        crossings = np.flatnonzero(np.diff(np.sign(wave - (wave.max() + wave.min()) / 2)))
        gaps = np.diff(crossings)
        return gaps[-1] / gaps[0]

    sines, chirps = (np.array([change(wave) for wave in clean[name]]) for name in ("sine", "chirp"))
    assert (np.abs(np.log(sines)) < 0.2).all()
    assert (np.abs(np.log(chirps)) > 0.15).mean() > 0.95
    assert 0.35 < (chirps > 1).mean() < 0.65, "some rise, some fall"


def test_hearts_beat_and_an_anomaly_is_one_of_three(clean):
    def described(signals):
        level = signals - np.median(signals, 1, keepdims=True)
        level = level / level.max(1, keepdims=True)
        beats = np.array([len(find_peaks(row, height=0.6)[0]) for row in level])
        p_and_t = np.array([len(find_peaks(row, height=(0.05, 0.24), prominence=0.05)[0]) for row in level])
        return beats, (level < -0.08).mean(1) > 0.075, ((level > 0.2) & (level < 0.42)).mean(1) > 0.135, p_and_t == 0

    beats, inverted, raised, no_p = described(clean["ecg_normal"])
    assert {3, 4} <= set(beats) <= {2, 3, 4, 5, 6}
    assert not inverted.any()
    assert not raised.any()
    assert not no_p.any()
    _, inverted, raised, no_p = described(clean["ecg_anomaly"])
    assert 0.23 < inverted.mean() < 0.43
    assert 0.23 < raised.mean() < 0.43
    assert no_p[~inverted & ~raised].mean() > 0.7


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("length", 63, r"data.length=63: must be a whole number from 64 to 16,384"),
        ("length", 16_385, r"data.length=16385: must be"),
        ("samples", 59, r"data.samples=59: must be a whole number from 60"),
        ("noise", [0.1], r"data.noise=\[0.1\]: must be a list of 2"),
        ("noise", [0.3, 0.1], r"data.noise=\[0.3,0.1\]: must be \[LOWEST,HIGHEST\]"),
        ("noise", [-0.1, 0.1], r"data.noise=\[-0.1,0.1\]: must be"),
        ("noise", [0.0, float("nan")], r"data.noise=\[0,nan\]: must be"),
        ("noise", [0.0, float("inf")], r"data.noise=\[0,inf\]: must be"),
        ("noise", "much", r"data.noise"),
        ("waves_seed", "x", r"data.waves_seed=x"),
    ],
)
def test_an_option_of_the_waves_that_is_not_accepted_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        made(**{key: value})
    options = {"length": 256, "samples": 1200, "noise": [0, 0], "waves_seed": 0} | {key: value}
    with pytest.raises(ValueError, match=message):
        find_data_shape("waves", root="", options=options)


def loaded(path, **options):
    options = {"path": str(path), "header": False, "label": "last", "test_path": None, "test_fraction": 0.2} | options
    settings = {"test_fraction": options.pop("test_fraction")}
    return load_source("csv_signals", root="", download=False, options=options, settings=settings)


def rows_of(source):
    """Every signal with its label's text, however they were split."""
    return Counter(
        (row.numpy().tobytes(), source.info.class_names[label])
        for split in (source.train, source.test)
        for row, label in zip(split.images[:, 0], split.labels, strict=True)
    )


def written(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def good(tmp_path):
    """Ten rows of each of two classes, four values each."""
    return written(tmp_path / "good.csv", [[i, i / 3, -i, 1e-3, "ab"[i % 2]] for i in range(20)])


# In their normal form, and none a number with decimals, which has another.
label_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).map(normalize_label)
label_texts = label_texts.filter(lambda text: text and "." not in text)


@given(
    st.lists(label_texts, min_size=2, max_size=4, unique=True),
    st.integers(1, 7).flatmap(
        lambda length: arrays(
            np.float32, (16, length), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        )
    ),
)
def test_any_finite_signals_and_labels_are_read_back_exactly(names, signals):
    labels = [names[i % len(names)] for i in range(len(signals))]
    with tempfile.TemporaryDirectory() as folder:
        path = written(
            Path(folder) / "x.csv", ([*row, label] for row, label in zip(signals.tolist(), labels, strict=True))
        )
        source = loaded(path, test_fraction=0.5)
    assert sorted(source.info.class_names) == sorted(names)
    assert source.train.images.dtype == torch.float32
    assert source.info.input_shape == (1, signals.shape[1]) == tuple(source.train.images.shape[1:])
    assert rows_of(source) == Counter((row.tobytes(), label) for row, label in zip(signals, labels, strict=True))


def test_the_test_split_of_a_file_is_stratified_and_always_the_same(good, tmp_path):
    source = loaded(good)
    assert (len(source.train), len(source.test)) == (16, 4)
    assert source.test.labels.bincount().tolist() == [2, 2]
    torch.manual_seed(5)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(good.read_bytes())
    assert equal(loaded(copy).test, source.test)
    assert equal(prepare(source, seed=1, normalization="none").test, prepare(source, seed=2, normalization="none").test)
    assert len(loaded(good, test_fraction=0.5).test) == 10


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10.0", "9"], ("9", "10")),
        (["0.000000000000000000e+00", "1.000000000000000000e+00", "1"], ("0", "1")),
        (["cat ", " cat", "dog"], ("cat", "dog")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["10", "9.5"], ("10", "9.5")),
        (["10", "9", "inf"], ("10", "9", "inf")),
        (["b", "B", "a"], ("B", "a", "b")),
    ],
)
def test_classes_are_in_order_and_whole_numbers_in_that_of_numbers(labels, order, tmp_path):
    rows = [[i / 2, label] for i, label in enumerate(labels * 10)]
    source = loaded(written(tmp_path / "x.csv", rows))
    assert source.info.class_names == order
    assert source.train.labels.dtype == torch.int64
    forms = unify_labels(labels)
    assert rows_of(source) == Counter((np.float32(i).tobytes(), forms[label]) for i, label in rows)


def test_blank_lines_a_byte_order_mark_and_any_line_end_are_no_part_of_the_data(good, tmp_path):
    plain = rows_of(loaded(good))
    lines = good.read_text().splitlines()
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / f"{len(end)}{ord(end[0])}.csv"
        path.write_bytes(b"\xef\xbb\xbf" + f"{end}{end}   {end}".join(["", *lines]).encode())
        assert rows_of(loaded(path)) == plain


def test_a_header_is_left_out_where_it_is_announced(good, tmp_path):
    path = tmp_path / "named.csv"
    path.write_text("\nt0,t1,t2,t3,label\n" + good.read_text())
    assert rows_of(loaded(path, header=True)) == rows_of(loaded(good))
    with pytest.raises(
        ValueError, match=r"1 of 21 rows are wrong: line 2, column 1: 't0' is not a number .*header=true"
    ):
        loaded(path)
    path.write_text("0,1,2,3,label\n" + good.read_text())
    with pytest.raises(ValueError, match=r"class 'label' has 1 row, and .*first row is alone.*data.header=true"):
        loaded(path)


BAD_FILES = {
    "an empty file": (b"", r"has no rows: it needs"),
    "only blank lines": (b"\n \n\r\n", r"has no rows"),
    "not UTF-8": (b"1,2,\xff\xfe\n", r"is not UTF-8 text"),
    "UTF-16": ("1,2,a\n".encode("utf-16"), r"is UTF-16 or not text"),
    "a short row after blank lines": (b"1,2,a\n\n\n3,b\n", r"1 of 2 rows are wrong: line 4 has 2 values, expected 3"),
    "a long row": (b"1,2,a\n1,2,3,b\n", r"line 2 has 4 values, expected 3 as in the first row$"),
    "a label over three lines": (b'1,"a\r\nb\nc"\nx,b\n', r"line 4, column 1: 'x' is not a number$"),
    "a bad row that begins with such a label": (b'1,a\nx,"a\nb"\n1,b', r"line 2, column 1: 'x' is not a number$"),
    "a word": (b"1,2,a\n1,x y,b\n", r"line 2, column 2: 'x y' is not a number$"),
    "a missing value": (b"1,2,a\n1,,b\n", r"line 2, column 2: '' is not a number$"),
    "nan": (b"1,2,a\n1,nan,b\n", r"line 2, column 2: 'nan' is not a finite number"),
    "infinity": (b"1,2,a\n-Infinity,2,b\n", r"line 2, column 1: '-Infinity' is not a finite"),
    "too large for 32 bits": (b"1,2,a\n1,1e39,b\n", r"line 2, column 2: '1e39' is not a finite number of 32 bits"),
    "a label alone": (b"a\nb\n", r"2 of 2 rows are wrong: line 1 has one value.* separated by commas"),
    "semicolons in one row": (b"1;2;a\n1,2,b\n", r"line 1 has one value: it needs .* separated by commas, semicolons"),
    "no label": (b"1,2,a\n1,2, \n", r"line 2, column 3: the label is empty$"),
    "a label of invisible characters": ("1,2,a\n1,2,\u200b\n".encode(), r"column 3: the label is empty$"),
    "a text for a label": (
        b"1,2,a\n1,2," + b"x" * 1001 + b"\n",
        r"line 2, column 3: the label has 1,001 characters, the limit is 1,000$",
    ),
    "a quote that is never closed": (b'1,2,a\n1,2,"b\n1,2,a\n', r"line 2: unexpected end of data"),
    "a label without end": (
        b"1,2,a\n1,2," + b"x" * 200_000 + b"\n",
        r"line 2: a value is too long: is a quote missing\?",
    ),
    "labels first, one value last": (
        b"1,2.5,a\n2,2.5,a\n" * 9,
        r"one class, 'a'.*first value of a row: data.label=first",
    ),
    "labels first": (
        "".join(f"{i % 2},{i + 0.5}\n" for i in range(20)).encode(),
        r"class '0.5' has 1 row.*first value of a row: data.label=first",
    ),
    "one class": (b"1,2,a\n" * 9, r"has one class, 'a': it needs at least 2"),
    "a class of one row": (
        b"1,2,a\n" * 9 + b"1,2,b\n",
        r"test_fraction=0.2: class 'b' has 1 row, and none is left for the \w+ split\. Add .*fraction$",
    ),
    "a value for each row": (
        "".join(f"1,2,{i}\n" for i in range(50)).encode(),
        r"class '0' has 1 row, and none is left for the \w+ split; 49 more classes have too few as well",
    ),
    "many bad rows": (
        b"1,2,a\n" + b"1,b\n" * 3 + b"x,1,b\n" * 9,
        r"12 of 13 rows are wrong: line 2 .*; line 3 .*; line 4 .*; line 5, .*; line 6, .*'x' is not .*; and 7 more$",
    ),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_holds_no_labelled_signals_says_where(what, tmp_path):
    content, message = BAD_FILES[what]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        loaded(path)
    assert f"data.path={str(path)!r}" in str(caught.value)
    assert len(str(caught.value)) < 700


DELIMITED = {
    "commas": "1.5,-2,0\n2.5,-3,1\n",
    "tabs": "1.5\t-2\t0\n2.5\t-3\t1\n",
    "semicolons": "1.5;-2;0\n2.5;-3;1\n",
    "semicolons, decimal commas": "1,5;-2;0\n2,5;-3;1\n",
    "blanks": "  1.5000e+00   -2.0  0.0\n 2.5 -3 1.0000000e+00 \n",
    "old Mac": "1.5,-2,0\r2.5,-3,1\r",
    "Windows": "1.5,-2,0\r\n2.5,-3,1\r\n\r\n",
}


@pytest.mark.parametrize("what", DELIMITED)
def test_values_may_be_separated_in_several_ways(what, tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" * (what == "Windows") + DELIMITED[what].encode() * 4)
    source = loaded(path, test_fraction=0.5)
    assert source.info.class_names == ("0", "1")
    expected = [(np.float32([1.5, -2]).tobytes(), "0"), (np.float32([2.5, -3]).tobytes(), "1")]
    assert rows_of(source) == Counter(expected * 4)


def test_the_label_may_stand_first_or_in_a_column_by_its_name(good, tmp_path):
    rows = list(csv.reader(good.read_text().splitlines()))
    expected = rows_of(loaded(good))
    first = [[row[-1], *row[:-1]] for row in rows]
    assert rows_of(loaded(written(tmp_path / "first.csv", first), label="first")) == expected
    middle = [["t0", " kind ", "t1", "t2", "t3"], *([row[0], row[-1], *row[1:-1]] for row in rows)]
    middle = written(tmp_path / "middle.csv", middle)
    assert rows_of(loaded(middle, header=True, label="kind")) == expected
    (note,) = loaded(middle, header=True, label="kind").notes
    assert note.startswith(f"{middle}: columns 1 ('t0'), 4 ('t2') only number the rows")
    with pytest.raises(ValueError, match=r"data.label='sort': must be first, last, or one column of .*'t0', ' ?kind"):
        loaded(middle, header=True, label="sort")
    with pytest.raises(ValueError, match=r"data.label='kind': .*a column's name with data.header=true"):
        loaded(middle, label="kind")
    named = written(tmp_path / "named.csv", [["Label", "t0", "t1", "t2", "t3"], *first])
    with pytest.raises(ValueError, match=r"data.label=last, but .* calls column 1 'Label': use data.label=Label"):
        loaded(named, header=True)


def test_a_test_file_of_its_own_is_tested_on_and_nothing_is_cut(tmp_path):
    train = [[f"{i % 3 + 1}", i / 7, -i / 7] for i in range(30)]
    test = [[f"{i % 2 + 1}.0000000e+00", i / 3, i / 2] for i in range(8)]
    for name, rows in (("X_TRAIN.tsv", train), ("X_TEST.tsv", test)):
        (tmp_path / name).write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    own = {"label": "first", "test_path": str(tmp_path / "X_TEST.tsv")}
    source = loaded(tmp_path / "X_TRAIN.tsv", **own)
    assert (source.info.class_names, source.notes) == (("1", "2", "3"), ())
    assert (len(source.train), source.test.labels.tolist()) == (30, [0, 1] * 4)
    np.testing.assert_array_equal(source.test.images[:, 0].numpy(), np.float32([row[1:] for row in test]))
    alone = loaded(tmp_path / "X_TRAIN.tsv", label="first")
    assert alone.notes == (f"{tmp_path}/X_TEST.tsv is not used: data.test_path={tmp_path}/X_TEST.tsv tests on it",)
    for text, message in (
        ("4\t1\t2\n", r"data.test_path='.*X_TEST.tsv': it has '4', which data.path lacks$"),
        ("1\t2\n", r"data.test_path=.*line 1 has 2 values, expected 3"),
        ("", r"data.test_path=.* has no rows"),
    ):
        (tmp_path / "X_TEST.tsv").write_text(text)
        with pytest.raises(ValueError, match=message):
            loaded(tmp_path / "X_TRAIN.tsv", **own)
    with pytest.raises(ValueError, match=r"data.test_path='none.csv' cannot be read \(No such file"):
        loaded(tmp_path / "X_TRAIN.tsv", label="first", test_path="none.csv")


def test_labels_that_differ_in_spelling_alone_are_named(tmp_path):
    rows = [[i / 2, ("Cat", "cat", "dog")[i % 3]] for i in range(30)]
    source = loaded(written(tmp_path / "x.csv", rows))
    assert len(source.info.class_names) == 3
    assert source.notes[0].endswith("are one, write them the same way")
    (tmp_path / "y.csv").write_text("1,Dog\n2,cat\n")
    with pytest.raises(ValueError, match=r"it has 'Dog', which data.path lacks \('Dog' and 'dog' differ in spelling"):
        loaded(tmp_path / "x.csv", test_path=str(tmp_path / "y.csv"))


def test_a_path_that_is_no_file_is_named_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "none.csv", r"none.csv' cannot be read \(No such file or directory\): looked for '/"),
        (tmp_path, r"is a folder, not a file: must be a CSV file"),
        (tmp_path / "pipe", r"is a FIFO, not a file"),
        ("/dev/zero", r"is a device, not a file"),
        ("~nobody/x.csv", r"data.path='~nobody/x.csv' cannot be read"),
        ("a\0b", r"data.path='a.x00b' cannot be read \(.*embedded null"),
        ("", r"data.path='': must be a CSV file"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded(path)
    config = compose_config(["data=csv_signals"])
    with pytest.raises(ValueError, match=r"data.path=null: must be a CSV file"):
        load_source(
            "csv_signals", root="", download=False, options=config.data.options, settings=get_data_settings(config)
        )


def test_a_file_that_may_not_be_read_is_named(good, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    # Not with chmod: root may read any file, and tests often run as root.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ValueError, match=r"good.csv' cannot be read \(Permission denied\)"):
        loaded(good)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_test_fraction_that_leaves_one_side_empty_is_refused(fraction, good):
    with pytest.raises(ValueError, match=r"data.test_fraction=\S+: must be a number above 0 and below 1"):
        compose_config(["data=csv_signals", f"data.test_fraction={fraction}"])
    assert loaded(good, test_fraction=0.95).train.labels.tolist() == [0, 1]  # each class is trained on


def test_a_file_is_read_once_and_anew_when_it_has_changed(good):
    first = loaded(good)
    assert loaded(good) is first
    good.write_text(good.read_text().replace("a\r\n", "c\r\n").replace("a\n", "c\n"))
    os.utime(good, ns=(1, 1))
    assert loaded(good).info.class_names == ("b", "c")


def test_train_evaluate_and_summarise_on_waves(cnnbench, tmp_path):
    done = cnnbench("train", "model=mlp", "data=waves", "data.samples=600", "trainer.epochs=1")
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / done.stdout.splitlines()[-1])
    result = run.read_summary()
    assert (result["data"], result["train_images"], result["val_images"]) == ("waves", 450, 50)
    assert (run.path / "mistakes.png").stat().st_size > 10_000
    assert 0 <= result["test/accuracy"] < 0.9
    measured = cnnbench("evaluate", str(run.path))
    assert measured.returncode == 0, measured.stderr
    assert re.search(rf"^accuracy +{100 * result['test/accuracy']:.2f}%", measured.stdout, re.MULTILINE)
    described = cnnbench("summary", "model=mlp", "data=waves", "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)["parameters"] == result["parameters"] == 256 * 128 + 128 + 128 * 6 + 6


def test_train_on_ones_own_signals_whatever_their_labels_are_called(cnnbench, tmp_path):
    names = ["true", "$x^$", "line\nbreak", 'a,\r"b"']
    rows = [[*np.sin(np.arange(30) * (i % 4 + 1) / 5 + i), names[i % 4]] for i in range(200)]
    written(tmp_path / "own.csv", rows)
    done = cnnbench("train", "model=mlp", "data=csv_signals", "data.path=own.csv", "trainer.epochs=1")
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / done.stdout.splitlines()[-1])
    assert run.read_summary()["test_images"] == 40
    found, confusion = read_confusion(run.path)
    assert found == sorted(names)
    assert confusion.sum(1).tolist() == [10] * 4
    measured = cnnbench("evaluate", str(run.path))
    assert measured.returncode == 0, measured.stderr
    assert re.search(rf"^accuracy +{100 * run.read_summary()['test/accuracy']:.2f}%", measured.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=lenet5"], "model=lenet5 takes images, but the data are signals. Models that take signals: mlp"),
        (["data.normalize=half"], "data.normalize=half is for pixels, but waves holds signals"),
        (["data.image_size=64"], "data.image_size=64 resizes images, but waves holds signals of 256 samples"),
        (["data.noise=[0.5,0.1]"], "data.noise=[0.5,0.1]: must be"),
        (["data.lenght=9"], "unknown key in data 'lenght'. Did you mean 'length'?"),
        (["data=csv_signals"], "data.path=null: must be a CSV file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_command_about_signals_ends_with_2_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    from cnnbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "train", "model=mlp", "data=waves", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_signals_made_otherwise_are_another_test_set():
    def test_set(**changes):
        source = made(**changes).add_marks()
        return digest(source.info, source.test)

    assert test_set(noise=[0.1, 0.2]) == test_set(noise=[0.1, 0.2])
    ways = [{}, {"noise": [0, 0.1]}, {"length": 128}, {"waves_seed": 1}]
    assert len({test_set(**changes) for changes in ways}) == 4

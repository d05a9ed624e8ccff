"""Names in pictures: short, all different, and in letters that some font has."""

import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager, ft2font

from cnnbench.runs import class_names
from cnnbench.storage.text import format_percent


def square():
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def write_font(path, family, letters, *, empty=""):
    """A TrueType font in which each of the letters is a square, and each of `empty` has no shape."""
    builder = FontBuilder(1000)
    glyphs = {".notdef": square()} | {f"u{ord(c):x}": square() for c in letters}
    glyphs |= {f"u{ord(c):x}": TTGlyphPen(None).glyph() for c in empty}
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(c): f"u{ord(c):x}" for c in letters + empty})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A folder in which fonts are looked for."""
    for folders in ("X11FontDirectories", "OSXFontDirectories"):
        monkeypatch.setattr(font_manager, folders, [str(tmp_path)])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    class_names._find_families.cache_clear()
    yield tmp_path
    class_names._find_families.cache_clear()


def test_another_installed_font_writes_what_the_usual_one_lacks(fonts):
    (fonts / "broken.ttf").write_bytes(b"not a font")
    write_font(fonts / "a-LastResort.ttf", "Last Resort", "猫狗鸟")
    write_font(fonts / "b.ttf", "Outlines Missing", "", empty="猫狗")
    write_font(fonts / "c.ttf", "One Cat", "猫")
    found = class_names.fit_names(["猫", "Żółw", "狗", "$x$"])
    assert found.shown == ["猫", "Żółw", "#2", r"\$x\$"]
    assert found.numbered == [2]
    assert found.fonts[-1] == "One Cat"
    assert "class k of per_class.csv" in found.explain_numbers()[0]


def test_pictures_draw_such_names_without_a_warning(fonts, tmp_path):
    import numpy as np

    from cnnbench.runs import figures

    write_font(fonts / "cat.ttf", "One Cat", "猫")
    classes = ["猫", "狗", "كلب", "e\u0301te\u0301", "❤\ufe0f"]
    shown = class_names.fit_names(classes).shown
    assert (shown[0], shown[1], shown[3], shown[4]) == ("猫", "#1", "été", "❤")
    predicted = {"labels": np.arange(5), "predictions": np.arange(5)[::-1], "probabilities": np.full((5, 5), 0.2)}
    confusion = np.eye(5, dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save_figure(figures.plot_confusion(confusion, classes), tmp_path / "c.png")
        figures.save_figure(
            figures.plot_mistakes(np.zeros((4, 1, 8, 8), np.uint8), predicted, classes), tmp_path / "m.png"
        )


def test_letters_that_join_are_numbers_where_matplotlib_does_not_join_them(fonts, monkeypatch):
    monkeypatch.delattr(ft2font, "__libraqm_version__", raising=False)
    assert class_names.fit_names(["кот", "قطة", "חתול"]).shown == ["кот", "#1", "#2"]


@pytest.mark.parametrize(
    ("whole", "shown"),
    [
        (["cat"], ["cat"]),
        (["n02123045_tabby_cat"], ["n0212304…bby_cat"]),
        (["a" * 40 + "1", "a" * 40 + "2"], ["aaaaaaaa…aaaaaa1", "aaaaaaaa…aaaaaa2"]),
        (["left_upper_arm_raised_high_up", "left_upper_leg_raised_high_up"], ["left…arm_raised…", "left…leg_raised…"]),
        (["a b", "a  b", "a\tb"], ["a b #0", "a b #1", "a b #2"]),
    ],
)
def test_names_are_cut_in_the_middle_and_where_they_differ(whole, shown):
    assert class_names.shorten_distinctly(whole) == shown


@given(st.lists(st.text(alphabet="ab _\n", max_size=40), unique=True, max_size=40), st.integers(12, 20))
def test_names_that_differ_are_shown_differently_and_short(whole, longest):
    shown = class_names.shorten_distinctly(whole, longest)
    assert len(set(shown)) == len(whole)
    assert max(map(len, shown), default=0) <= longest


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.98712, 2, "98.71%"),
        (1.0, 2, "100.00%"),
        (0.0, 0, "0%"),
        (0.997, 0, "99.7%"),
        (0.99996, 2, "99.996%"),
        (0.003, 0, "0.3%"),
        (1 - 1e-12, 0, ">99.999%"),
        (1e-12, 0, "<0.001%"),
        (float("nan"), 2, "nan%"),
    ],
)
def test_a_share_reads_all_or_nothing_only_where_it_is(share, digits, text):
    assert format_percent(share, digits) == text


def test_an_accuracy_reads_in_percent_wherever_it_is_shown():
    from cnnbench.metrics import format_metric, list_metrics
    from cnnbench.report.formatting import format_mean_interval, format_spread
    from cnnbench.report.statistics import estimate

    told = [format_metric(key, 0.99998) for key in ("accuracy", "val/accuracy", "test/f1_macro", "train/loss")]
    assert told == ["99.998%", "99.998%", "1.0000", "1.0000"]
    almost = estimate([0.99998, 0.99999])
    accuracy = list_metrics()[0]
    assert format_spread(almost, accuracy) == "99.999 ± 0.00"
    assert format_mean_interval(almost, accuracy) == "[99.99, 100.00]", "an interval may end at 100"

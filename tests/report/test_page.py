"""`report.html` as a file: what it holds, of which runs, and that nothing in it comes from elsewhere or runs."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from run_builders import write_run
from run_copies import NAMES, copied

from cnnbench.report.charts import chart_differences, chart_f1
from cnnbench.report.comparing import NOT_SHOWN, PAIRED, Comparison
from cnnbench.report.cost_chart import (
    Point,
    chart_cost,
    chart_costs,
    find_cut_ends,
    find_limits,
    find_pareto_front,
    wrap_name,
)
from cnnbench.report.curves import chart_curves
from cnnbench.report.documents import bind_percent
from cnnbench.report.formatting import make_legible, make_lines_legible
from cnnbench.report.matrices import (
    CELLS,
    LEVELS,
    PAPERS,
    chart_confusion,
    choose_classes,
    choose_ink,
    draw_matrix,
    make_colours,
)
from cnnbench.report.mistakes import encode_picture, make_strips
from cnnbench.report.page import render_page
from cnnbench.report.reading import read_study
from cnnbench.report.svg import to_svg, translate_style
from cnnbench.runs.contents import read_confusion, read_mistakes, read_predictions
from cnnbench.storage.arrays import write_npz
from cnnbench.storage.csv_tables import write_csv


@pytest.fixture(scope="module")
def pages(report_pages):
    """The HTML of three sweeps by name, with their studies."""
    paths, studies = report_pages
    return {name: (path.read_text(), studies[name]) for name, path in paths.items()}


@pytest.fixture(scope="module")
def pair(report_pages):
    """The folder of two real runs."""
    return report_pages[0]["pair"].parent


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text.append(data)


@pytest.mark.parametrize("name", ["pair", "grid", "hostile"])
def test_nothing_is_fetched_and_only_the_pages_own_script_may_run(pages, name):
    html, _ = pages[name]
    elements = Elements(html)
    (script,) = elements.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    for tag, attributes in elements.tags:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/")), (tag, key, value)
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


@pytest.mark.parametrize("name", ["pair", "grid", "hostile"])
def test_ids_are_unique_and_everything_is_labelled(pages, name):
    elements = Elements(pages[name][0])
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    by_tag = {tag: [a for t, a in elements.tags if t == tag] for tag in ("img", "svg", "th", "a", "button")}
    assert all(a["alt"] for a in by_tag["img"])
    assert all(a["aria-label"] for a in by_tag["svg"])
    assert all(a["scope"] in ("col", "row") for a in by_tag["th"])
    for attributes in by_tag["a"]:
        assert attributes["href"].removeprefix("#") in ids
    for attributes in by_tag["button"]:
        assert attributes.get("aria-controls", ids[0]) in ids
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), levels


def test_hostile_names_stand_on_the_page_as_text(pages):
    html, _ = pages["hostile"]
    elements = Elements(html)
    assert not [a for t, a in elements.tags if t == "img" and not a["src"].startswith("data:image/")]
    text = " ".join(elements.text)
    for name in NAMES:
        assert make_legible(name, 14) in text
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "{{ 7*7 }}" in text
    assert "49" not in "".join(part for part in elements.text if "7*7" in part)


def test_verdicts_figures_and_failures_are_told(pages):
    html, study = pages["grid"]
    text = " ".join(Elements(html).text)
    assert study.comparisons
    for comparison in study.comparisons:
        assert comparison.words in text
    for group in study.groups:
        assert f"{100 * group.estimate_of('accuracy').mean:.2f} ± {100 * group.estimate_of('accuracy').std:.2f}" in text
    assert "1 of 48 runs did not finish" in text
    assert "Diverged: the loss is nan at step 73" in text
    assert "cnnbench train model=lenet5 model.width=4 model.depth=2 seed=5" in text
    for drawn in ("Accuracy against parameters", "Accuracy against MACs", "The values of “Loss”",
                  "Accuracy by width and depth", "Their difference", "F1 of each class"):  # fmt: skip
        assert drawn in text


def test_one_seed_makes_no_winner(pages):
    html, study = pages["pair"]
    (comparison,) = study.comparisons
    assert comparison.verdict == "too few seeds"
    assert comparison.words in " ".join(Elements(html).text)
    assert not [a for t, a in Elements(html).tags if a.get("class") in ("better", "worse", "pill better", "pill worse")]


def test_a_hundred_runs_stay_below_five_megabytes(pages):
    html, _ = pages["grid"]
    assert len(html.encode()) < 5e6 * 48 / 100


def test_strips_count_exactly_and_show_images_of_their_kind(pair):
    study = read_study([pair])
    runs = study.groups[0].runs[0], study.groups[1].runs[0]
    classes, _ = read_confusion(runs[0].path)
    arrays = [read_predictions(run.path) for run in runs]
    wrong = [part["predictions"] != part["labels"] for part in arrays]
    expected = [wrong[0] & wrong[1], wrong[0] & ~wrong[1], wrong[1] & ~wrong[0]]
    for strip, kind in zip(make_strips("x", runs, ("a", "b"), classes), expected, strict=True):
        assert strip.count == (
            f"{kind.sum():,} of {len(kind):,} test images ({100 * kind.mean():.2f} %)" if kind.any() else "none"
        )
        assert len(strip.images) == min(12, kind.sum())
        for image in strip.images:
            assert kind[image.index]
            assert image.true == classes[arrays[0]["labels"][image.index]]
            said = {classes[part["predictions"][image.index]] for part in arrays} - {image.true}
            assert set(image.answers) == said


def test_a_damaged_file_is_named_and_the_rest_is_shown(pair, tmp_path):
    for number in range(2):
        copied(pair / str(number), tmp_path / "sweep" / str(number))
    (tmp_path / "sweep/0/mistakes.npz").write_bytes(b"PK\x03\x04 nonsense")
    (tmp_path / "sweep/1/metrics.csv").unlink()
    html = render_page(read_study([tmp_path / "sweep"]))
    assert "mistakes.npz is damaged" in html
    assert "Accuracy against MACs" in html


def test_older_runs_without_kept_mistakes_have_counts_alone(pair, tmp_path):
    for number in range(2):
        copied(pair / str(number), tmp_path / "sweep" / str(number))
        (tmp_path / f"sweep/{number}/mistakes.npz").unlink()
    html = render_page(read_study([tmp_path / "sweep"]))
    assert "Both are wrong" in html
    assert "No picture of these is kept" in html
    assert "<img" not in html


def test_kept_signals_are_drawn_as_lines(pair, tmp_path):
    for number in range(2):
        run = copied(pair / str(number), tmp_path / "sweep" / str(number))
        indices = read_mistakes(run.path)
        signals = np.random.default_rng(0).normal(size=(len(indices), 2, 50)).astype(np.float32)
        write_npz(run.path / "mistakes.npz", indices=np.array([*indices]), images=signals)
    html = render_page(read_study([tmp_path / "sweep"]))
    assert "signal " in html
    assert "<img" not in html


def test_runs_without_classes_and_runs_that_all_failed_have_a_page(pair, tmp_path):
    run = copied(pair / "0", tmp_path / "autoencoder/0")
    run.write_summary(
        {key: v for key, v in run.read_summary().items() if key not in ("test/accuracy", "test/f1_macro")}
    )
    assert "nothing is compared" in render_page(read_study([tmp_path / "autoencoder"]))
    copied(pair / "0", tmp_path / "failed/0", state="failed", message="no memory")
    html = render_page(read_study([tmp_path / "failed"]))
    assert "no memory" in html
    assert 'id="groups"' not in html


def test_no_command_repeats_a_run_of_a_programs_own_objects(tmp_path):
    from cnnbench.data.sets import arrays
    from cnnbench.models import given as modules

    write_run(tmp_path / "runs/0", 0, model__name=modules.NAME, data__name=arrays.NAME)
    write_run(tmp_path / "runs/1", 1, data__name=arrays.NAME)
    write_run(tmp_path / "runs/2", 2)
    html = render_page(read_study([tmp_path / "runs"], strict=False))
    assert "No command repeats this run, because its network and data came from a Python program." in html
    assert "No command repeats this run, because its data came from a Python program." in html
    assert re.findall("cnnbench train seed=.", html) == ["cnnbench train seed=2"]


def test_a_number_stays_on_the_line_of_its_percent_sign(pages):
    for html, _ in pages.values():
        text = "".join(Elements(html).text)
        assert not re.search(r"\d %", text)
        assert "95\N{NO-BREAK SPACE}%" in text


def test_a_command_keeps_its_spaces():
    prose, command = "95 % of 5 %", "<pre>cnnbench train name='5 % less'</pre>"
    assert bind_percent(f"{prose}{command}") == f"{prose.replace(' %', chr(160) + '%')}{command}"


def test_a_table_of_one_row_has_no_search(pages):
    searched = {name: re.findall('class="controls" data-table="([a-z-]+)"', html) for name, (html, _) in pages.items()}
    assert searched["single"] == []
    assert searched["pair"][0] == "groups-table"
    assert "runs-table" in searched["grid"]


points = st.builds(
    lambda cost, mean: Point("g", "g", cost, mean / 10, None, None, [mean / 10], False),
    st.integers(1, 8), st.integers(0, 10),
)  # fmt: skip


@given(st.lists(points, min_size=1, max_size=12))
def test_the_pareto_front_is_what_no_other_group_dominates(found):
    front = find_pareto_front(found)

    def dominated(point):
        return any(
            other.cost <= point.cost
            and other.mean >= point.mean
            and (other.cost, other.mean) != (point.cost, point.mean)
            for other in found
        )

    expected = sorted((point.cost, point.mean) for point in found if not dominated(point))
    assert sorted((point.cost, point.mean) for point in front) == expected, "equals among them"
    assert [point.cost for point in front] == sorted(point.cost for point in front)


@settings(max_examples=15)
@given(st.lists(st.text(max_size=40), min_size=2, max_size=5), st.text(max_size=40))
def test_any_name_can_stand_in_a_chart(names, label):
    scores = np.linspace(0, 1, len(names))[None]
    made = chart_f1("any", (label, "b"), names, (scores, scores[:, ::-1]))
    found = Elements(str(made.svg))
    assert {tag for tag, _ in found.tags} <= {"svg", "g", "path", "use", "defs", "clippath", "rect", "text", "title"}
    assert not {"\x00", "\u202e", "\u2028"} & set(made.svg)


@given(st.text())
def test_legible_text_is_one_line_without_unseen_characters(text):
    assert make_legible(text).isprintable()
    assert len(make_legible(text, 10)) <= 10
    assert all(line.isprintable() for line in make_lines_legible(text).split("\n"))


def test_marks_and_their_texts_must_agree_in_number():
    figure = Figure()
    figure.subplots().scatter([1, 2], [1, 2], gid="dots")
    assert to_svg(figure, "a", "two dots", {"dots": ["one", "two"]}).count('class="mark"') == 2
    with pytest.raises(ValueError, match="'dots' has 2 marks and 1 texts"):
        to_svg(figure, "a", "two dots", {"dots": ["one"]})


def luminance(colour) -> float:
    linear = np.where(
        np.array(colour) <= 0.04045, np.array(colour) / 12.92, ((np.array(colour) + 0.055) / 1.055) ** 2.4
    )
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(first, second) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_numbers_in_cells_have_a_contrast_of_at_least_four_and_a_half():
    axes = Figure().subplots()
    values, names = np.linspace(0, 1, 100).reshape(10, 10), [*map(str, range(10))]
    draw_matrix(axes, values, values.round(2).astype(str), names, names, cmap="cividis")
    for text, cell in zip(axes.texts, axes.collections[0].get_facecolor(), strict=True):
        assert contrast(to_rgb(text.get_color()), cell[:3]) >= 4.5


def test_matrices_are_as_light_or_dark_as_the_page_and_their_numbers_legible_on_either():
    css = (files("cnnbench.report") / "templates" / "report.css").read_text()
    themes = [dict(re.findall(r"(--[\w-]+): (#\w{6});", part)) for part in css.split("@media screen")[:2]]
    assert [theme["--paper"] for theme in themes] == list(PAPERS)
    for kind, colours in enumerate(CELLS):
        assert [theme[f"--cell-{kind}"] for theme in themes] == list(colours)
        for level in range(LEVELS):
            stand_in = to_hex(make_colours([kind])(level))
            style = re.fullmatch(r"fill:var\((--cell-\d)\);fill-opacity:([\d.]+)", translate_style(f"fill: {stand_in}"))
            ink = translate_style(f"fill: {choose_ink(stand_in)}").removeprefix("fill:")
            for theme in themes:
                paper, full = (np.array(to_rgb(theme[name])) for name in ("--paper", style[1]))
                shown = (1 - float(style[2])) * paper + float(style[2]) * full
                own = to_rgb(theme[ink[4:-1]] if ink.startswith("var") else ink)
                assert contrast(own, shown) >= 4.5, (kind, level, ink)
    counts = np.diag(np.full(3, 1000)) + np.arange(9).reshape(3, 3)
    cells = chart_confusion("a", "A", counts, ["x", "y", "z"], np.arange(3)).svg
    assert cells.count("fill:var(--cell-0);fill-opacity:") == 9


def test_of_many_classes_those_with_the_most_mistakes_are_shown():
    counts = np.eye(50, dtype=int) * 10
    for k in range(10):
        counts[2 * k, 2 * k + 21] = 1 + k
    assert choose_classes([counts]).tolist() == sorted([*range(0, 20, 2), *range(21, 41, 2)])


@given(st.sampled_from([1, 3, 4]), st.integers(1, 64), st.integers(1, 64))
def test_a_picture_is_the_image_to_the_bit_or_a_photograph_close_to_it(channels, height, width):
    import io

    from PIL import Image

    image = np.full((channels, height, width), 100, np.uint8)
    kind, content = encode_picture(image).removeprefix("data:image/").split(";base64,")
    assert kind == ("png" if max(height, width) <= 40 else "jpeg")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert shown.shape == ((height, width, 3) if channels == 3 else (height, width))
    assert np.abs(shown.astype(int) - 100).max() <= (0 if kind == "png" else 4)


def test_a_width_and_depth_without_a_finished_run_leaves_an_empty_cell(tmp_path):
    sizes = [(0.5, 1), (0.5, 2), (1.0, 1)]
    for number, (width, depth) in enumerate(sizes):
        write_run(tmp_path / str(number), 0, 900 + number, model__width=width, model__depth=depth)
    html = render_page(read_study([tmp_path]))
    assert "width 1, depth 2: no finished run" in html
    assert bind_percent("width 0.5, depth 2: 90.10 %, n = 1") in html


def test_long_names_that_differ_at_their_end_stay_apart_in_a_legend(tmp_path):
    settings = {"optimizer__momentum_of_the_gradient": (0.85, 0.95), "model__normalisation": ("batch", "group")}
    for number in range(8):
        changes = {key: values[number >> place & 1] for place, (key, values) in enumerate(settings.items())}
        write_run(tmp_path / str(number), number // 4, 900 + number, **changes)
    html = render_page(read_study([tmp_path]))
    drawn = re.findall(r"<svg.*?</svg>", html[html.index('id="curve-accuracy') :], re.DOTALL)[0]
    names = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    for momentum in (0.85, 0.95):
        for kind in ("batch", "group"):
            assert any(kind in name and str(momentum) in name for name in names), names


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("lenet5, width 2", ["lenet5, width 2"]),
        ("mlp, width 1, depth 1, epochs 20", ["mlp, width 1, depth 1,", "epochs 20"]),
        ("x" * 40, ["x" * 30, "x" * 10]),
    ],
)
def test_a_name_beside_a_point_breaks_after_a_setting(name, lines):
    assert wrap_name(name).split("\n") == lines


def test_an_interval_of_an_accuracy_ends_at_nought_and_a_hundred(tmp_path):
    for seed, right in enumerate((300, 950)):
        write_run(tmp_path / str(seed), seed, right)
    html = render_page(read_study([tmp_path]))
    assert "[0.00, 100.00]" in html
    assert not re.search(r"\[[-−]\d+\.\d\d\b", html)
    assert "[−1.0000, 1.0000]" in html, "that of kappa ends at −1"


def test_intervals_are_drawn_whole_or_with_an_arrowhead():
    def differences(*intervals):
        return [
            Comparison(
                mean=(low + high) / 2, low=low, high=high, a=f"g{k}", b="base", kind=PAIRED, n_a=3, n_b=3,
                verdict=NOT_SHOWN,
            )
            for k, (low, high) in enumerate(intervals)
        ]  # fmt: skip

    short = {f"g{k}": f"g{k}" for k in range(3)}
    whole = chart_differences(differences((-0.05, 0.05), (-0.04, 0.045), (-0.003, 0.004)), short)
    assert "arrowhead" not in whole.note
    cut = chart_differences(differences((-0.9, 0.92), (-0.04, 0.045), (-0.003, 0.004)), short)
    assert "An arrowhead: the interval is longer" in cut.note


def test_intervals_of_few_seeds_end_inside_the_picture_or_in_an_arrowhead(tmp_path):
    def drawn(*intervals):
        found = [Point(f"g{k}", f"g{k}", k + 1, 0.9, *ends, [0.899, 0.901], False) for k, ends in enumerate(intervals)]
        return chart_cost("x", "parameters", found), find_limits(found)

    whole, (low, high) = drawn((0.895, 0.905), (None, None))
    assert low < 89.5 < 90.5 < high
    assert "arrowhead" not in whole.note
    cut, (low, high) = drawn((0.7, 1.0), (0.89, 0.91))
    assert "An arrowhead: the interval is longer" in cut.note
    assert 0 < low < 89.9 < 90.1 < high < 100
    assert max(find_cut_ends(Point("g", "g", 1, 0.9, 0.7, 1.0, [0.9], False), (low, high))) == (high, "^")


def test_costs_that_do_not_differ_are_a_sentence_and_no_chart_of_one_dot(tmp_path):
    for seed, right in enumerate((900, 910)):
        write_run(tmp_path / "a" / str(seed), seed, right)
    charts, said = chart_costs(read_study([tmp_path / "a"]))
    assert (charts, said.count("Pareto")) == ([], 0)
    assert said.startswith("The only group has ")
    for seed, right in enumerate((900, 910)):
        write_run(tmp_path / "b" / str(seed), seed, right, optimizer__lr=0.5)
    charts, said = chart_costs(read_study([tmp_path / "a", tmp_path / "b"]))
    assert charts == []
    assert said.startswith("All groups have ")
    assert said in render_page(read_study([tmp_path / "a", tmp_path / "b"]))


def test_training_and_validation_are_in_one_chart_for_each_metric(tmp_path):
    for seed in (0, 1):
        run = write_run(tmp_path / str(seed), seed, 900)
        rows = [
            {"epoch": e, "train/loss": 1 / e, "val/loss": 2 / e, "train/accuracy": 0.5 * e, "val/accuracy": 0.99998}
            for e in (1, 2)
        ]
        write_csv(run.path / "metrics.csv", rows)
        run.write_summary(run.read_summary() | {"epochs": 2, "best_epoch": 1})
    accuracy, loss = chart_curves(read_study([tmp_path]))[0]
    assert [(row[1], row[3]) for row in accuracy.rows] == [("validation", "99.998"), ("training", "100.00")]
    assert [(row[1], row[3]) for row in loss.rows] == [("validation", "1"), ("training", "0.5")]
    assert "training, epoch 1: 50.00 %" in accuracy.svg


def test_what_stands_in_a_target_column_and_who_has_no_validation_is_said(tmp_path):
    for number, name in enumerate(("mlp", "lenet5")):
        run = write_run(tmp_path / name, 0, 900 + number, model__name=name, epochs=(0.5, 0.7, 0.9))
        if name == "mlp":
            rows = [{"epoch": e, "val/accuracy": 0.3 * e, "val/loss": 1 / e, "train/loss": 1 / e} for e in (1, 2, 3)]
            write_csv(run.path / "metrics.csv", rows)
    html = render_page(read_study([tmp_path], target=0.55))
    assert "val/accuracy (or, without a validation split, train/accuracy) ≥ 55\N{NO-BREAK SPACE}%" in html
    assert "Without a validation split, and so with training curves only: lenet5." in html

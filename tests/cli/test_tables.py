"""Tables on terminals of any width: nothing that a reader needs is cut."""

import pytest
from rich.cells import cell_len
from rich.console import Console
from run_builders import write_run

from cnnbench.cli import report, tables
from cnnbench.cli.options import SummaryOptions
from cnnbench.cli.summary import print_summary
from cnnbench.cli.tables import Column, show_table
from cnnbench.report.reading import read_study
from cnnbench.report.tables import tabulate_runs

LONG = "convolutional_network_with_a_very_long_name"
WIDE = "图像分类网络"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for place, name in enumerate((LONG + "_1", LONG + "_2", WIDE, "[red]x[/red]")):
            write_run(folder / f"{place}{seed}", seed, 900 + 10 * place + seed, model__name=name)
    return read_study([folder])


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a call prints on a terminal of a width, without the blanks and frames that lay it out."""

    def show(width, function, *arguments, **options):
        console = Console(width=width, force_terminal=True, color_system=None, highlight=False)
        for place in (report, tables):
            monkeypatch.setattr(place, "make_console", lambda: console)
        function(*arguments, **options)
        text = capsys.readouterr().out
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text.replace("kernel, stride …", "")
        return "".join(character for character in text if not character.isspace() and character not in "│┃")

    return show


@pytest.mark.parametrize("width", [40, 80, 150, 200])
def test_a_comparison_keeps_names_figures_and_verdicts_at_every_width(study, printed, width):
    text = printed(width, report.show_study, study)
    if width < 150:  # beyond, a name may go on in a line of its table below other cells
        for group in study.groups:
            assert group.label.replace(" ", "") in text
        for one in study.comparisons:
            assert f"{one.a}against{one.b}:{one.difference},{one.words}".replace(" ", "") in text
    assert "91.10±0.10" in text
    assert "[red]x[/red]" in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_models_layers_and_totals_are_whole_at_every_width(printed, width):
    options = SummaryOptions(["model=lenet5"], channels=1, image_size="28", num_classes=10)
    text = printed(width, print_summary, options)
    for words in ("6×24×24", "30,840", "153,600", "44,426", "head.classes", "16×16of28×28(57%)"):
        assert words in text
    assert "features.stage1.0.activation" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_results_of_runs_and_searches_are_whole_at_every_width(printed, width):
    run = {"model": LONG, "data": WIDE, "seed": 3, "test/accuracy": 0.99999, "test/loss": 0.25, "macs": 281640}
    text = printed(width, tables.show_run, run)
    assert f"{LONG}on{WIDE},seed3" in text
    assert "99.999%" in text
    rows = [{"trial": 7, "state": "finished", "val/accuracy": 0.91234, "epochs": 3, "seconds": 1.5, "a.long_key": LONG}]
    text = printed(width, tables.show_trials, rows, ["a.long_key"], "val/accuracy", {"a.long_key": 0.997})
    for words in ("91.23%", "99.7%", "a.long_key", LONG):
        assert words in text


@pytest.mark.parametrize("width", range(70, 130, 7))
def test_several_columns_of_long_words_share_the_room(width, printed):
    columns, row = [Column("x", 20), Column("y", 20), Column("verdict", 20)], ["A" * 41, "B" * 53, "C" * 167]
    text = printed(width, lambda: show_table(tables.make_console(), "T", columns, [row]))
    assert [text.count(letter) for letter in "ABC"] == [41, 53, 167]


def test_a_table_without_lines_takes_the_whole_width_and_no_more(capsys):
    console = Console(width=80, force_terminal=True, color_system=None, highlight=False)
    show_table(console, "T", [Column("x", 20), Column("y", 12)], [["A" * 19, "b " * 99]], lines=False)
    printed = capsys.readouterr().out.splitlines()
    assert any("A" * 19 in line for line in printed), "a name that fits is not broken"
    assert max(len(line.rstrip()) for line in printed) in (78, 79)


def test_columns_go_by_how_much_they_are_needed_before_a_table_becomes_paragraphs(printed):
    columns = [Column("name", 8), Column("figure"), Column("spare", optional=1), Column("sparest", optional=2)]
    rows = [["a name", "1.25", "2.5", "7"]]
    shown = [
        printed(width, lambda: print(show_table(tables.make_console(), "T", columns, rows)))
        for width in (60, 35, 25, 12)
    ]
    assert [text[text.rindex("[") :] for text in shown] == ["[]", "['sparest']", "['spare','sparest']", "['sparest']"]
    assert shown[-1].startswith("Tanamefigure:1.25,spare:2.5")


def test_a_table_with_a_status_is_shown_as_any_other(study, printed):
    text = printed(200, lambda: report.show_report_table(report.make_console(), tabulate_runs(study)))
    assert "state" in text
    assert text.count("finished") == len(study.runs)

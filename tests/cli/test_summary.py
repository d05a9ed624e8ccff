"""`cnnbench summary` as a user meets it: tables of every width, JSON, several models side by side."""

import json
import re

import pytest
from rich.console import Console

from cnnbench.cli import tables
from cnnbench.cli.options import SummaryOptions
from cnnbench.cli.summary import describe, parse_models, print_summary

SHAPE = {"channels": 1, "image_size": "28", "num_classes": 10}


def printed(monkeypatch, capsys, width, overrides=(), compare=None, as_json=False, **shape):
    monkeypatch.setattr(tables, "make_console", lambda: Console(width=width, highlight=False))
    print_summary(SummaryOptions(list(overrides), compare=compare, as_json=as_json, **{**SHAPE, **shape}))
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits_the_terminal_and_says_what_it_leaves_out(width, monkeypatch, capsys):
    text = printed(monkeypatch, capsys, width, ["model=lenet5"])
    assert max(map(len, text.splitlines())) <= width
    (row,) = [line.split() for line in text.splitlines() if "features.pool2 " in line]
    wide = ["features.pool2", "MaxPool2d", "16×4×4", "2", "s2", "16×16", "4"]
    assert row == (wide if width >= 100 else ["features.pool2", "MaxPool2d", "16×4×4", "16×16"])
    assert ("also shows window" in text) == (width < 100)


def test_the_totals_are_those_of_the_model(monkeypatch, capsys):
    lines = printed(monkeypatch, capsys, 100, ["model=lenet5", "trainer.batch_size=128"]).splitlines()
    totals = dict(line.strip().split("  ", 1) for line in lines[-9:-1])
    activations = 2 * (6 * 24 * 24 + 16 * 8 * 8) + 6 * 12 * 12 + 2 * 256 + 2 * 120 + 2 * 84 + 10
    assert {name: value.strip() for name, value in totals.items()} == {
        "parameters": "44,426",
        "in dense layers": "41,854 (94.2%)",
        "weights": "0.18 MB",
        "MACs, one image": "281,640",
        "FLOPs, one image": "563,280",
        "activations": f"{128 * 4 * activations / 1e6:.2f} MB (batch 128)",
        "depth": "5 layers with weights",
        "receptive field": "16×16 of 28×28 (57%)",
    }


def test_a_window_is_written_short(monkeypatch, capsys):
    from cnnbench.analysis import Window

    pair = lambda value: (value, value)  # noqa: E731
    assert tables._format_window(None) == ""
    assert tables._format_window(Window(pair(3), pair(1), pair(0), pair(1))) == "3"
    assert tables._format_window(Window((1, 7), (1, 2), (0, 3), pair(2), 32)) == "1×7 s1×2 p0×3 d2 g32"


def test_json_holds_all_of_it(monkeypatch, capsys):
    described = json.loads(printed(monkeypatch, capsys, 80, ["model=mlp"], as_json=True, image_size="8"))
    assert (described["model"], described["in_channels"], described["image_size"]) == ("mlp", 1, 8)
    assert (described["num_classes"], described["batch_size"], described["dense_share"]) == (10, 64, 1)
    assert described["batch_activation_bytes"] == 64 * described["activation_bytes"]
    assert described["activation_bytes"] == 4 * (64 + 128 + 128 + 10)
    assert [layer["name"] for layer in described["layers"]] == ["flatten", "hidden.0", "hidden.1", "head"]
    lenet5 = json.loads(printed(monkeypatch, capsys, 80, ["model=lenet5"], as_json=True))
    assert lenet5["layers"][2]["window"] == {
        "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1], "groups": 1,
    }  # fmt: skip
    assert (lenet5["layers"][2]["receptive_field"], lenet5["layers"][2]["jump"]) == ([6, 6], [2, 2])


def test_models_stand_side_by_side(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, 120, compare="lenet5,lenet5 model.width=2, mlp", overrides=["model.depth=2"])
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["total"] == ["lenet5", "lenet5", "model.width=2", "mlp"]
    width_2 = describe(
        ["model=lenet5", "model.width=2", "model.depth=2"], channels=1, image_size=(28, 28), num_classes=10
    ).summary
    assert rows["parameters"] == ["73,408", f"{width_2.parameters:,}", f"{101_770 + 128 * 129:,}"]
    several = json.loads(printed(monkeypatch, capsys, 80, compare="lenet5,mlp", as_json=True))
    assert [(one["label"], one["parameters"]) for one in several] == [("lenet5", 44_426), ("mlp", 101_770)]


def test_models_that_do_not_fit_side_by_side_follow_below(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, 80, compare="lenet5,mlp,lenet5_1998,mlp model.width=3,mlp model.depth=3")
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[1:] for line in text.splitlines() if line.strip().startswith("parameters")] == [
        ["44,426", "101,770"], ["61,706", "305,290"], ["134,794"],
    ]  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 41, 62])
def test_figures_are_never_cut(monkeypatch, capsys, width):
    text = printed(monkeypatch, capsys, width, compare="lenet5,mlp")
    assert {"44,426", "101,770"} <= set(re.findall(r"[\d,]*\d", text))


def test_commas_and_spaces_inside_brackets_and_quotes_do_not_separate():
    text = "a model.args={b: 1, c: [2, 3]} x=1,b y='1, (2' ,c"
    assert parse_models(text) == [
        ("a model.args={b: 1, c: [2, 3]} x=1", ["model=a", "model.args={b: 1, c: [2, 3]}", "x=1"]),
        ("b y='1, (2'", ["model=b", "y='1, (2'"]),
        ("c", ["model=c"]),
    ]


@pytest.mark.parametrize("text", ["", "lenet5,,mlp", "model.width=2"])
def test_a_comparison_needs_names(text):
    with pytest.raises(ValueError, match=r"--compare: .* has no model name. Write names separated by commas"):
        parse_models(text)


def test_a_command_compares(cnnbench):
    done = cnnbench("summary", "data=mnist", "--compare", "lenet5,mlp")
    assert done.returncode == 0, done.stderr
    assert "44,426" in done.stdout
    wrong = cnnbench("summary", "--compare", "lenet5,mpl", "data=mnist")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "unknown model 'mpl'. Did you mean 'mlp'?" in wrong.stderr

"""Paths and names on the command line are what their user wrote, whatever Hydra, YAML or a comma would make of it."""

import os
import signal

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.cli import compose
from cnnbench.cli.compose.quoting import find_kind, quote_text
from cnnbench.config.schema import to_dict
from cnnbench.experiment.resume import apply_overrides

ODD = ["café", "my photos (1)", "it's", "#1", "x #1", "a&b", "a=b", "a,b", "[set]", "{set}", "b: c", "@x", "50%", "$x"]
ODD += [
    "2024_01_05",
    "1e3",
    "0123",
    "true",
    "None",
    " a ",
    "a\nb",
    "a\\",
    'a"b',
    "C:\\new\\x",
    "日本",
    "!x",
    "*",
    "a:b",
    "~~",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def read(text, **options):
    """What Hydra makes of an override."""
    return OverridesParser.create().parse_override(quote_text([text], **options)[0]).value()


def test_the_kind_of_a_key_follows_from_its_declaration():
    kinds = {key: find_kind(key) for key in ("data.root", "data.path", "name", "resume", "tags", "model.norm")}
    kinds |= {key: find_kind(key) for key in ("logger.mlflow.experiment", "data.cache", "data.memory_limit")}
    assert kinds == {
        "data.root": "text", "data.path": "text or null", "name": "text", "resume": "text or null",
        "tags": "list of text", "model.norm": "text", "logger.mlflow.experiment": "text",
        "data.cache": "text or null", "data.memory_limit": "text or null",
    }  # fmt: skip
    others = ("optimizer.lr", "data.workers", "model.args", "model.stages", "data", "nothing", "data.x")
    assert {find_kind(key) for key in others} == {"other"}


@pytest.mark.parametrize("key", ["data.path", "data.root", "hydra.run.dir", "tune", "resume", "logger.wandb.project"])
def test_text_is_taken_literally(key):
    for value in ODD:
        assert read(f"{key}={value}") == value
        assert read(f"++{key}={value}") == value


@given(st.text(min_size=1).filter(lambda text: "${" not in text and "\0" not in text and text[0] not in "'\"~"))
def test_any_text_is_taken_literally(value):
    assert read(f"data.root={value}") == value


def test_quotes_and_null_and_home_mean_what_they_do_in_a_shell(empty_folder):
    assert read("data.path='a, b'") == read('data.path="a, b"') == "a, b"
    assert read(r"data.path='it\'s'") == "it's"
    assert read("data.path=null") is None
    assert read("name=null") == "null"
    assert read("tags=null") is None, "which is refused"
    assert read("data.path=~/photos") == str(empty_folder / "home/photos")
    assert read("data.path=${oc.env:HOME}/x") == "${oc.env:HOME}/x", "still the value of another key"
    for name in ("~x", "'quoted'", "~"):
        os.mkdir(name)
        assert read(f"data.path={name}") == name, "what exists is meant"


def test_a_comma_separates_values_only_in_a_sweep(empty_folder):
    def paths(*overrides, multirun=True):
        jobs = compose.compose_request(["data=image_folder", *overrides], multirun=multirun).jobs
        return [job.config.data.options["path"] for job in jobs]

    assert paths("data.path=a,b", multirun=False) == ["a,b"]
    assert paths("data.path=a, é (1)") == ["a", "é (1)"]
    assert paths("data.path='a,b',it's") == ["a,b", "it's"]
    assert paths("data.path=choice(a,b)") == ["a", "b"]
    assert paths("data.path=a,b", "sweep.seeds=1", multirun=False) == ["a", "b"]
    os.mkdir("a,b")
    assert paths("data.path=a,b") == ["a,b"]


def test_names_and_tags_are_text():
    for value in ("2024_01_05", "1e3", "0123", "true", "null", "ünï", "a=b"):
        assert read(f"name={value}") == value
    assert compose.compose_config(["name=1e3"]).name == "1e3"
    assert compose.compose_config(["tags=[é,2024_01_05, 1e3 ,true,'a,b',x #1]"]).tags == [
        "é", "2024_01_05", "1e3", "true", "a,b", "x #1",
    ]  # fmt: skip
    assert compose.compose_config(["tags=a,b"]).tags == ["a", "b"]
    assert [job.config.tags for job in compose.compose_request(["tags=[a],[b,c]"], multirun=True).jobs] == [
        ["a"],
        ["b", "c"],
    ]
    config = compose.compose_config(["logger=mlflow", "logger.mlflow.experiment=it's 1,5 #2"])
    assert config.logger.options["mlflow"]["experiment"] == "it's 1,5 #2"


def test_the_folders_of_runs_and_sweeps_are_text():
    assert str(compose.compose_request(["hydra.run.dir=2024_01_05, ü (1)"]).folder) == "2024_01_05, ü (1)"
    assert (
        str(compose.compose_request(["hydra.sweep.dir=2024_01_05, ü (1)"], multirun=True).folder) == "2024_01_05, ü (1)"
    )


def test_a_resumed_run_takes_text_literally():
    plain = to_dict(compose.compose_config(["data=image_folder"]))
    for value in ODD:
        assert apply_overrides(plain, [f"data.path={value}"]).data.options["path"] == value
    assert (
        apply_overrides(plain, ["data.path='b: c'", "data.cache=null", "trainer.epochs=30"]).data.options["path"]
        == "b: c"
    )
    assert apply_overrides(plain, ["data.cache=null"]).data.options["cache"] is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.lr=0,1"],
            r"optimizer.lr=0,1 names several values \(or, as one number: optimizer.lr=0.1\): add -m",
        ),
        (["optimizer.lr=é"], "optimizer.lr=é: must be a number"),
        (["model=lenét5"], "unknown model 'lenét5'. Did you mean 'lenet5'"),
        (["data.pth=café", "data=image_folder"], "unknown key in data 'pth'. Did you mean 'path'"),
        (["épochs=3"], "unknown key 'épochs'"),
        (["+data.root=é"], "the key already exists: leave out the [+]"),
        (["model.args={a: é}", "model=torchvision"], r"in quotes: '[+][+]model.args=\{key: \"a \(1\)\"\}'"),
        (["hydra.launcher.x=[é]"], r"in quotes: 'hydra.launcher.x=\[\"café\""),
        (["data.root=a${b}"], r"Interpolation key 'b' not found \(\$\{KEY\} is replaced by the value of another key\)"),
        (["trainer.device=cpu,cuda"], "If trainer.device=cpu,cuda means several values, add -m to run each"),
    ],
)
def test_a_message_about_a_value_has_a_form_that_works(overrides, message):
    with pytest.raises(ValueError, match=message):
        compose.compose_request(overrides)


def test_line_ends_of_windows_are_removed_and_a_home_behind_an_option_is_expanded(empty_folder, monkeypatch, capsys):
    from cnnbench.cli import main

    for arguments in (["--version\r"], ["list\r", "spaces\r"], ["config\r", "trainer.epochs=5\r", "data.root=d\r"]):
        monkeypatch.setattr("sys.argv", ["cnnbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out.partition("perceptron")[2].partition("\n")[2])
    assert (printed["trainer"]["epochs"], printed["data"]["root"]) == (5, "d")
    (empty_folder / "d\r").mkdir()
    assert read("data.root=d\r") == "d\r"
    monkeypatch.setenv("CNNBENCH_DATA", "~/data")
    assert compose.compose_config([]).data.root == str(empty_folder / "home/data")

"""Plug-ins: what is loaded and recorded, what is refused, and that opening a folder runs nothing."""

import logging
import os
import re
import shutil

import pytest

import cnnbench as cb
from cnnbench import registry
from cnnbench.api.overrides import write_overrides
from cnnbench.cli.choices import list_groups
from cnnbench.cli.compose import compose_config, compose_request
from cnnbench.cli.plugin_options import load_plugins
from cnnbench.config.schema import to_dict
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.experiment.run import run_job
from cnnbench.plugins.loading import VARIABLE, list_plugins, load_from_parent, unload
from cnnbench.plugins.places import PluginError
from cnnbench.report.writing import write_report
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.reopening import load_config
from cnnbench.sweeps.jobs import hash_config

NET = """
from torch import nn

from cnnbench.models import NetworkSpec
from cnnbench.plugins import Options, key, register


class MyNetOptions(Options):
    units: int = key("Units of the hidden layer", ge=1)
    end: str = key("How it ends")


@register("model", "my_net")
class MyNet(nn.Sequential):
    def __init__(self, spec: NetworkSpec, options: MyNetOptions) -> None:
        pixels = spec.in_channels * spec.image_size[0] * spec.image_size[1]
        super().__init__(nn.Flatten(), nn.Linear(pixels, options.units), nn.Linear(options.units, spec.num_classes))
"""
YAML = "# Two dense layers\nname: my_net\nunits: 8\nend: plain\n"
METRIC = """
from cnnbench.plugins import register


@register("metric", "NAME", share=True)
def errors(confusion):
    return 1.0
"""
SMALL = ["trainer.epochs=1", "data.train_limit=100"]


@pytest.fixture(autouse=True)
def no_plugins_before_or_after(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    for plugin in list_plugins():
        unload(plugin.place.name)
    load_plugins([], installed=False)
    assert VARIABLE not in os.environ


@pytest.fixture
def net(tmp_path):
    (tmp_path / "my_net.yaml").write_text(YAML)
    (tmp_path / "my_net.py").write_text(NET)
    return tmp_path / "my_net.py"


def test_a_plug_in_is_chosen_checked_and_recorded(net):
    load_plugins([], ["plugins=[my_net.py]"])
    assert "my_net" in list_groups()["model"]
    config = compose_config(["plugins=[my_net.py]", "model=my_net", "model.end=a, b"])
    assert config.model.options == {"units": 8, "end": "a, b"}
    assert config.plugins == [str(net)]
    assert config.plugin_sha256 == {"my_net": list_plugins()[0].sha256}
    for overrides, message in [
        (["model=my_nte"], "unknown model 'my_nte'. Did you mean 'my_net'?"),
        (["model=my_net", "model.unit=3"], "unknown key in model 'unit'. Did you mean 'units'?"),
        (["model=my_net", "model.units=0"], "model.units=0: must be a whole number from 1"),
        (["model=my_net", "plugin_sha256.my_net=1"], "plugin_sha256"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            compose_config(overrides)
    unused = to_dict(compose_config(["model=mlp"]))
    assert "plugin_sha256" not in unused
    assert unused["plugins"] == [str(net)]


def test_changed_code_makes_another_run_and_its_place_does_not(net, tmp_path):
    def hash_now(path):
        load_plugins([str(path)])
        (plugin,) = list_plugins()
        digest = hash_config(to_dict(compose_config(["model=my_net"])))
        unload(plugin.place.name)
        return digest

    first = hash_now(net)
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=lambda *_: ["copy"])
    assert hash_now(tmp_path / "copy/my_net.py") == first
    net.write_text(NET + "# changed\n")
    assert hash_now(net) != first


def test_a_config_without_plug_ins_says_nothing_of_them():
    assert not {"plugins", "plugin_sha256"} & to_dict(compose_config([])).keys()


def train(folder, *overrides):
    folder.mkdir()
    run_job(compose_config([*SMALL, *overrides]), folder, [], draw=lambda pictures, *, wait=True: None)
    return RunFolder(folder)


def test_opening_a_folder_runs_no_plug_in_that_is_not_named(net, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cnnbench"), "propagate", True)  # as it is, if no command has run here
    load_plugins(["my_net.py"])
    run = train(tmp_path / "run", "model=my_net")
    unload("my_net")
    needed = rf"{run.path} needs the plug-in my_net.*add --plugin {net}$"
    for open_ in (load_trained, lambda path: load_config(RunFolder(path))):
        with pytest.raises(PluginError, match=needed):
            open_(run.path)
    assert "my_net" not in registry.list_names("model")
    write_report([run.path], tmp_path / "report")
    load_plugins(["my_net.py"])
    load_trained(run.path)
    assert "has changed" not in caplog.text
    unload("my_net")
    net.write_text(NET + "# changed\n")
    load_plugins(["my_net.py"])
    load_trained(run.path)
    assert "the code of the plug-in my_net has changed" in caplog.text
    with pytest.raises(PluginError, match="A run continues only with the code that it began with"):
        load_config(run, unchanged=True)
    unload("my_net")
    net.rename(tmp_path / "other.py")
    with pytest.raises(
        PluginError, match=r"is not here, so add --plugin FILE with the file whose SHA-256 is [0-9a-f]+"
    ):
        load_trained(run.path)


def test_a_file_names_no_plug_in(net, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("plugins: [my_net.py]\n")
    with pytest.raises(
        ValueError, match=r"plugins=\[my_net.py\]: a file cannot load a plug-in: name it in the command"
    ):
        compose_request(["experiment=mine.yaml"])
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/__init__.py").write_text("open('run', 'w')\n")
    (tmp_path / "mine.yaml").write_text("plugins: [nets.more]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"plugins=\[nets.more\]: a file cannot load a plug-in"):
        compose_request(["experiment=mine.yaml"])
    assert not (tmp_path / "run").exists()


def test_the_processes_of_a_sweep_know_the_plug_in_and_it_resumes(net, cnnbench, tmp_path):
    done = cnnbench("train", "sweep.seeds=1", "plugins=[my_net.py]", "model=my_net", *SMALL)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / done.stdout.splitlines()[-1]
    assert [plugin["name"] for plugin in RunFolder(sweep / "0").read_environment()["plugins"]] == ["my_net"]
    (sweep / "0/status.json").unlink()
    refused = cnnbench("train", f"resume={sweep}")
    assert refused.returncode == 2
    assert f"add --plugin {net}" in refused.stderr
    resumed = cnnbench("train", f"resume={sweep}/0", "plugins=[my_net.py]", "trainer.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert RunFolder(sweep / "0").read_summary()["epochs"] == 2


def test_a_program_names_a_plug_in_in_a_call_or_once_for_all(net):
    texts = write_overrides([], {"model": "my_net", "plugins": ["my_net.py"], "model.end": "a,b"})
    assert compose_config(texts).model.options["end"] == "a,b"
    net.write_text(NET.replace("units: int", "unit: int").replace("options.units", "options.unit"))
    net.with_suffix(".yaml").write_text(YAML.replace("units", "unit"))
    cb.load_plugins(net)
    assert compose_config(["model=my_net", "model.unit=3"]).model.options["unit"] == 3
    with pytest.raises(cb.InvalidRequest, match="there is no such file"):
        cb.load_plugins("no.py")


def test_a_process_loads_the_code_of_its_command_and_no_other(net):
    load_plugins(["my_net.py"])
    published = os.environ[VARIABLE]
    unload("my_net")
    load_from_parent()
    assert registry.is_owned("model", "my_net")
    unload("my_net")
    net.write_text(NET + "# changed\n")
    with pytest.raises(PluginError, match="it has changed since this command began"):
        load_from_parent()
    assert published == os.environ[VARIABLE]


FAULTS = {
    "import": ("import nothing_of_this_name\n" + NET, YAML, r"bad\.py:1: ModuleNotFoundError: No module named 'noth"),
    "syntax": ("\n\ndef (:\n", YAML, r"bad\.py:3: SyntaxError: invalid syntax"),
    "exit": ("import sys\n\nsys.exit(3)\n", YAML, r"bad\.py:3: SystemExit: 3"),
    "beside": ("import beside\n", YAML, r"write: from \. import beside, in a folder with __init__\.py"),
    "empty": ("x = 1\n", YAML, r'it registers nothing: write @register\("model", "bad"\)'),
    "twice": (METRIC.replace("NAME", "a") + METRIC.replace("NAME", "a"), None, "metric 'a' is registered twice"),
    "ours": (METRIC.replace("NAME", "accuracy"), None, "plug-in bad: the metric 'accuracy' has the name of one of cnn"),
    "kind": (METRIC.replace('"metric"', '"metrics"'), None, "unknown kind of part 'metrics'. Did you mean 'metric'?"),
    "no yaml": (NET, None, r"the model 'my_net' needs .*my_net\.yaml.*`name: my_net` and a default for units, end"),
    "name": (NET, YAML.replace("my_net", "my_nte"), r"unknown part of bad 'my_nte'. Did you mean 'my_net'\?"),
    "no name": (NET, "units: 8\n", r"my_net\.yaml: it must have the key name"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_plug_in_that_cannot_be_used_says_why(case, tmp_path):
    code, yaml, message = FAULTS[case]
    (tmp_path / "bad.py").write_text(code)
    (tmp_path / "beside.py").write_text("x = 1\n")
    if yaml is not None:
        (tmp_path / "my_net.yaml").write_text(yaml)
    before = {kind: registry.list_names(kind) for kind in ("model", "metric")}
    with pytest.raises(ValueError, match=message):
        load_plugins(["bad.py"])
    assert {kind: registry.list_names(kind) for kind in before} == before
    assert list_plugins() == []


@pytest.mark.parametrize(("kind", "message"), [("model", "must return an nn.Module"), ("data", "must return a Source")])
def test_a_function_that_returns_something_else_is_refused(kind, message, tmp_path):
    parameter = "spec" if kind == "model" else ""
    (tmp_path / "odd.yaml").write_text("# Odd\nname: odd\n")
    (tmp_path / "odd.py").write_text(
        f"from cnnbench.plugins import register\n\n\n@register('{kind}', 'odd')\ndef odd({parameter}):\n    return 5\n"
    )
    load_plugins(["odd.py"])
    with pytest.raises(ValueError, match=f"{kind}=odd: its function {message}, not int"):
        train(tmp_path / "run", f"{kind}=odd")


FAILING = """
import torch
from torch import nn

from cnnbench.plugins import register


@register("model", "my_net")
class MyNet(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer = nn.Linear(9, spec.num_classes)
        CONSTRUCT

    def forward(self, images):
        return self.layer(images)
"""


@pytest.mark.parametrize(
    ("construct", "line", "message"),
    [
        ("pass", 16, "RuntimeError: "),
        ("raise ValueError('no')", 13, "no"),
        ("self.layr", 13, "AttributeError: "),
    ],
)
def test_an_error_inside_a_plug_in_names_its_file_and_line(construct, line, message, cnnbench, tmp_path):
    (tmp_path / "my_net.yaml").write_text("# A net\nname: my_net\n")
    (tmp_path / "my_net.py").write_text(FAILING.replace("CONSTRUCT", construct))
    said = rf"{tmp_path}/my_net\.py:{line}: .*{message}"
    for more in ([], ["sweep.seeds=1"]):
        done = cnnbench("train", "plugins=[my_net.py]", "model=my_net", *more, *SMALL)
        assert done.returncode in (1, 2)
        assert re.search(f"error: .*{said}", done.stderr), done.stderr
    with pytest.raises(cb.Error, match=said):
        cb.train(model="my_net", plugins=["my_net.py"], progress=False, **{"data.train_limit": 100})


def test_all_plug_ins_that_a_run_lacks_are_named_at_once(net, tmp_path):
    (tmp_path / "half.yaml").write_text("# Half\nname: half\n")
    (tmp_path / "half.py").write_text(
        "from cnnbench.plugins import register\n\n\n@register('scheduler', 'half')\n"
        "def half(total_steps, steps_per_epoch):\n    return lambda step: 0.5\n"
    )
    load_plugins(["my_net.py", "half.py"])
    run = train(tmp_path / "run", "model=my_net", "scheduler=half")
    unload("my_net")
    unload("half")
    with pytest.raises(PluginError, match=rf"the plug-ins my_net and half\..*--plugin {net}; .*half\.py$"):
        load_trained(run.path)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["my_nte.py"], r"plug-in my_nte\.py: there is no such file\. Did you mean 'my_net\.py'\?"),
        (["my_net"], r"no installed module of this name\. Did you mean 'my_net\.py'\?"),
        (["my_net.py", "./my_net.py"], r"plug-in \./my_net\.py: named twice"),
        (["my_net.yaml"], r"must be a Python file, or a folder with __init__\.py"),
        (["my_net.py", "copy/my_net.py"], "has the same name: rename one"),
        (["json"], "plug-in json: it registers nothing"),
    ],
)
def test_a_plug_in_that_is_not_found_or_named_twice_is_refused(named, message, net, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(net, tmp_path / "copy")
    with pytest.raises(PluginError, match=message):
        load_plugins(named)


def test_a_plug_in_that_was_not_named_is_suggested_where_it_lies_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(NET)
    with pytest.raises(
        ValueError, match=r"unknown model 'own_net'.*; if it is in own_net\.py, add --plugin own_net\.py$"
    ):
        compose_config(["model=own_net"])
    with pytest.raises(ValueError, match=r"unknown model 'their_net'.*xception_mini$"):
        compose_config(["model=their_net"])


def test_names_of_our_own_and_several_values_are_refused(net, tmp_path):
    configs = tmp_path / "zoo/configs/experiment"
    configs.mkdir(parents=True)
    (tmp_path / "zoo/__init__.py").write_text(METRIC.replace("NAME", "mine"))
    (configs / "lenet5_fast.yaml").write_text("# @package _global_\nname: mine\n")
    with pytest.raises(ValueError, match="experiment=lenet5_fast is one of cnnbench's own"):
        load_plugins(["zoo"])
    with pytest.raises(ValueError, match="names several values: give one list"):
        load_plugins([], ["plugins=[my_net.py],[zoo]"])


def test_a_folder_brings_experiments_presets_and_variants(tmp_path):
    files = {
        "__init__.py": "from . import parts\n",
        "parts.py": METRIC.replace("NAME", "mine"),
        "configs/experiment/short.yaml": "# @package _global_\ntrainer: {epochs: 3}\n",
        "configs/model/tiny.yaml": "# A small perceptron\nname: mlp\nwidth: 0.25\n",
        "configs/augment/turned.yaml": "# Turned\nname: turned\nrotate: 5\n",
    }
    for name, content in files.items():
        (tmp_path / "zoo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "zoo" / name).write_text(content)
    load_plugins(["zoo"])
    config = compose_config(["experiment=short", "model=tiny", "augment=turned"])
    assert (config.trainer.epochs, config.model.width, config.augment.rotate) == (3, 0.25, 5)
    before = list_plugins()[0].sha256
    (tmp_path / "zoo/parts.py").write_text(METRIC.replace("NAME", "other"))
    load_plugins(["zoo"])
    assert list_plugins()[0].sha256 != before
    assert "other" in registry.list_names("metric")
    assert "mine" not in registry.list_names("metric"), "the code as it is now, and no more"


def test_a_broken_installed_package_is_left_out_with_a_warning(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_nets.py").write_text("\nraise RuntimeError('not today')\n")
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[cnnbench.plugins]\nbroken = broken_nets\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins([])
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert re.search(r"^warning: .*package broken is left out: .*broken_nets\.py:2: RuntimeError: not", warnings[0])
    assert list_plugins() == []
    load_plugins([], installed=False)
    assert not capsys.readouterr().err

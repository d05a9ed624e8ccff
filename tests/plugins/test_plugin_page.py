"""The files and commands of docs/how-to/plugins.md, exactly as the page has them."""

import re
import shlex
import tomllib

import pytest

from cnnbench.cli.plugin_options import load_plugins
from cnnbench.plugins.loading import list_plugins, unload
from cnnbench.runs.folder import RunFolder
from conftest import ROOT

TEXT = (ROOT / "docs/how-to/plugins.md").read_text()
FILES = dict(re.findall(r'```\w+ title="(.*?)"\n(.*?)```', TEXT, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


def count_lines(name):
    return len([line for line in FILES[name].splitlines() if line])


def test_a_model_takes_15_lines_and_a_dataset_20():
    assert count_lines("my_net.py") <= 15
    assert count_lines("stripes.py") <= 20


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_works(line, folder, cnnbench):
    words = shlex.split(line)
    small = ["data.train_limit=100"] if words[1] == "train" else []
    done = cnnbench(*words[1:], *small, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    if words[1:3] == ["list", "models"]:
        assert re.search(r"^my_net +One convolution and a dense layer$", done.stdout, re.MULTILINE)
    if words[1] == "check-plugin":
        assert "FAILS" not in done.stdout
        assert "skipped" not in done.stdout
    if words[1] == "train":
        run = RunFolder(folder / done.stdout.splitlines()[-1])
        plugins = {one["name"]: one for one in run.read_environment()["plugins"]}
        used = [name for name in plugins if name != "worst_recall"]  # no part of a config
        assert run.read_config()["plugin_sha256"] == {name: plugins[name]["sha256"] for name in used}
        assert ("test/worst_recall" in run.read_summary()) == ("worst_recall" in plugins)


def test_the_package_of_the_page_is_found_by_its_entry_point(tmp_path, monkeypatch):
    declared = tomllib.loads(FILES["pyproject.toml"])["project"]
    package, configs = tmp_path / "my_nets", tmp_path / "my_nets/configs/model"
    configs.mkdir(parents=True)
    (package / "__init__.py").write_text(FILES["my_net.py"].replace("my_net", "wide_net"))
    (configs / "wide_net.yaml").write_text("# A net\nname: wide_net\n")
    # What an installer writes.
    metadata = tmp_path / f"my_nets-{declared['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {declared['name']}\nVersion: {declared['version']}\n")
    points = declared["entry-points"]["cnnbench.plugins"]
    lines = [f"{name} = {module}" for name, module in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[cnnbench.plugins]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        load_plugins([])
        [plugin] = list_plugins()
        assert (plugin.place.name, plugin.place.version, plugin.parts) == ("my_nets", "1.0", (("model", "wide_net"),))
        assert plugin.files == {("model", "wide_net"): configs / "wide_net.yaml"}
    finally:
        unload("my_nets")
        load_plugins([], installed=False)

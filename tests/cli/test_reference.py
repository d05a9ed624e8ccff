"""`cnnbench list keys`, the JSON Schema for editors, and the table of the documentation."""

import json

import pytest
import yaml

from cnnbench.cli.choices import find_config_dir, list_groups
from cnnbench.cli.completion import complete_override, complete_tuning
from cnnbench.cli.reference import find_rows, format_markdown_table, make_json_schema
from cnnbench.config.schema import make_default_dict

NO_KEYS_OF_A_RUN = {"hydra", "tune", "claim"}
FILES = sorted(path for path in find_config_dir().glob("*/*.yaml") if path.parent.name not in NO_KEYS_OF_A_RUN)


def test_list_keys_shows_default_accepted_values_and_meaning(cnnbench):
    shown = cnnbench("list", "keys", "trainer.prec").stdout
    for words in ("trainer.precision", "fp32, bf16, fp16", "Number format of the forward pass", "result"):
        assert words in shown
    [row] = json.loads(cnnbench("list", "keys", "optimizer.lr", "--json").stdout)
    assert row == {
        "key": "optimizer.lr", "type": "number", "default": "0.001, 0.01 (muon), 0.05 (sgd)",
        "accepted": "a number above 0",
        "meaning": "Learning rate", "role": "result", "part": "",
    }  # fmt: skip


def test_every_key_has_a_meaning_and_every_option_a_default():
    for row in find_rows():
        assert row.meaning, row.key
        assert not row.meaning.endswith("."), row.key
        assert row.default or not row.part, row.key


def test_a_prefix_of_no_key_is_refused(cnnbench):
    done = cnnbench("list", "keys", "trainr")
    assert done.returncode == 2
    assert "unknown prefix 'trainr'. Did you mean 'trainer'?" in done.stderr
    assert cnnbench("list", "models", "--json").returncode == 2


def test_the_table_of_the_documentation_has_a_line_for_each_key():
    table = format_markdown_table(find_rows("scheduler")).splitlines()
    assert table[0] == "| key | default | accepted | meaning | role |"
    assert len(table) == 2 + len(find_rows("scheduler"))
    assert all(line.replace("\\|", "").count("|") == 6 for line in table)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_json_schema_accepts_our_yaml_files(path):
    jsonschema = pytest.importorskip("jsonschema")
    section = path.parent.name
    schema = make_json_schema("" if section == "experiment" else section)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_the_json_schema_refuses_what_the_program_refuses():
    jsonschema = pytest.importorskip("jsonschema")
    schema = make_json_schema()
    jsonschema.validate(make_default_dict(), schema)
    for wrong in ({"trainer": {"epoch": 1}}, {"trainer": {"epochs": 0}}, {"model": {"stage": 1}}, {"colour": "red"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_values_are_completed():
    assert complete_override("trainer.precision=b") == ["trainer.precision=bf16"]
    assert complete_override("trainer.deterministic=") == ["trainer.deterministic=true", "trainer.deterministic=false"]
    assert complete_override("-m trainer.x=") == []
    assert complete_override("trainer.precision=fp32,f") == [
        "trainer.precision=fp32,fp32",
        "trainer.precision=fp32,fp16",
    ]
    assert complete_tuning("tune.pruner=h") == ["tune.pruner=hyperband"]
    assert "tune=lenet5" in complete_tuning("tune=")
    assert complete_override("optimizer=") == [f"optimizer={name}" for name in list_groups()["optimizer"]]

"""What the role of a key means to resume, sweep and report, for every key there is."""

import copy
import functools
import subprocess
import sys

import pytest
from pydantic import create_model

from cnnbench.cli import compose
from cnnbench.cli.choices import list_groups
from cnnbench.config.declared import Key, find_keys, iterate_keys, list_all_keys, read_options, select
from cnnbench.config.keys import Section, format_value, may_change, name_type
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.experiment.resume import apply_overrides, compute_fingerprint
from cnnbench.report.groups import select_settings
from cnnbench.sweeps.jobs import hash_config, hash_request, plan_jobs
from cnnbench.tuning.settings import TuneSettings

ONE_A_PART = [key._replace(parts=key.parts[:1]) for key in list_all_keys()]
CANDIDATES = [
    True, False, 21, 0, 1, 2, 0.5, "x", "cpu", "val/loss", "bf16", "balanced", "none", "tanh", "kaiming", [0.5, 0.9],
    ["x"], {"x": 1}, ["init"], "decided", "warn",
]  # fmt: skip


@functools.cache
def config_with(*overrides: str) -> Config:
    return compose.compose_config(overrides)


def changed(plain: dict, key: Key, value: object) -> dict:
    plain = copy.deepcopy(plain)
    *sections, last = key.name.split(".")
    place = plain
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return plain


def other_value(plain: dict, own: Config, key: Key) -> object:
    """A value that the key accepts and does not have."""
    for value in CANDIDATES:
        try:
            if from_dict(changed(plain, key, value)) != own:
                return value
        except ValueError:
            continue
    raise AssertionError(f"{key.name} accepts none of the candidates")


@pytest.mark.parametrize("key", ONE_A_PART, ids=lambda key: ":".join((key.name, *key.parts)))
def test_a_key_makes_another_run_for_all_or_for_none(key):
    section = key.name.partition(".")[0]
    fold = ["data.folds=5", "data.fold=2"] if key.name in ("data.folds", "data.fold") else []  # one needs the other
    own = config_with(*(f"{section}={part}" for part in key.parts), *fold)
    plain = to_dict(own)
    value = other_value(plain, own, key)
    config = from_dict(changed(plain, key, value))
    is_result = key.role == "result"
    is_fixed = is_result and not may_change(key.field)
    assert (compute_fingerprint(to_dict(config)) != compute_fingerprint(plain)) == is_fixed
    assert (hash_config(to_dict(config)) != hash_config(plain)) == is_result
    assert (
        (select_settings(to_dict(config)), config.all_seeds, config.data.held_out)
        != (select_settings(plain), own.all_seeds, own.data.held_out)
    ) == is_result
    override = f"{key.name}={format_value(value)}"
    if key.name in find_keys(plain) and (not is_result or may_change(key.field)):
        assert compute_fingerprint(to_dict(apply_overrides(plain, [override]))) == compute_fingerprint(plain)
    else:
        with pytest.raises(ValueError, match=f"{override.partition('=')[0]}=.*a resumed run keeps every setting"):
            apply_overrides(plain, [override])


def test_the_same_sweep_is_asked_for_whatever_it_is_called_and_wherever_data_lie():
    def asked(*overrides):
        request = compose.compose_request(["sweep.seeds=2", *overrides])
        return hash_request(plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs))

    same = ["tags=[a,b]", "name=other", "data.root=elsewhere", "logger=tensorboard", "trainer.keep=3"]
    assert {asked(override) for override in same} == {asked()}
    assert asked("trainer.epochs=3") != asked()


def test_every_part_with_options_declares_them():
    for section in ("model", "data", "optimizer", "scheduler", "logger"):
        for part in set(list_groups()[section]) - {"none"}:
            chosen = config_with(f"{section}={part}")
            given = getattr(chosen, section).options
            given = given[part] if section == "logger" else given
            declared = read_options(section).get(part)
            assert set(given) == set(declared.model_fields if declared else ()), f"{section}={part}"


def test_what_nobody_declares_is_kept():
    strange = {"data": {"name": ["x"], "root": "/", "colour": 1}, "model": 3, "new": {"a": 1}, "tags": ["a"]}
    chosen = select(strange, lambda role, _: role == "result")
    assert chosen == {"data": {"name": ["x"], "colour": 1}, "model": 3, "new": {"a": 1}}


@pytest.mark.parametrize("value", [10**20, 10**400, float("inf"), float("nan")], ids=["1e20", "1e400", "inf", "nan"])
def test_no_key_accepts_a_number_that_no_run_can_compute_with(value):
    kinds = ("integer", "number") if value != 10**20 else ("integer",)  # a learning rate may be 1e20
    for key in [*list_all_keys(), *iterate_keys(TuneSettings, "tune")]:
        kind = name_type(key.field.annotation)
        if any(word in kind for word in kinds):
            length = next((one.min_length for one in key.field.metadata if hasattr(one, "min_length")), 1)
            nested = value
            for _ in range(kind.count("list of ")):
                nested = [nested] * length
            one = create_model("One", __base__=Section, key=(key.field.annotation, key.field))
            with pytest.raises(ValueError, match=r"^key=.*: must be "):
                one.from_plain({"key": nested}, "")


def test_declarations_are_read_without_torch():
    code = "import sys; from cnnbench.config import declared as d; d.list_all_keys(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

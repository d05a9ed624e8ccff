import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.config.data import DataConfig
from cnnbench.config.schema import Config, from_dict, make_default_dict, to_dict


def changed(key: str, value: object) -> dict:
    plain = make_default_dict()
    section, _, name = key.rpartition(".")
    (plain[section] if section else plain)[name] = value
    return plain


def test_the_default_dict_makes_the_default_config():
    assert from_dict(make_default_dict()) == Config()


def test_a_config_survives_the_way_to_plain_data_and_back():
    config = from_dict(changed("optimizer.momentum", 0.5))
    assert config.optimizer.options == {"momentum": 0.5}
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize("name", ["ensaio de João (1)", "O'Neil, nº 2 – #3", "a & b", "~x", "日本語", "x" * 200])
def test_a_name_may_be_anything_that_a_folder_can_be_called(name):
    assert from_dict(changed("name", name)).name == name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "seed=-1: must be a whole number from 0"),
        ("seed", "one", "seed=one: must be a whole number"),
        ("name", "../x", r"name=\.\./x: must be text of letters"),
        ("name", ".hidden", "name=.hidden: must be text of letters"),
        ("name", "..", r"name=\.\.: must be text of letters"),
        ("name", "", "name=: must be text of letters"),
        ("name", "a\n", "must be text of letters"),
        ("name", "a ", "name=a : must be text of letters"),
        ("name", "a\\b", "must be text of letters"),
        ("name", "a$b", "must be text of letters"),
        ("name", "é" * 101, "up to 200 bytes"),
        ("tags", "a", "tags=a: must be a list, each text"),
        ("model", "mlp", "model='mlp': must be a group of keys"),
        ("model.width", 0, "model.width=0: must be a number above 0"),
        ("model.width", float("nan"), "model.width=nan: must be a number above 0"),
        ("model.width", float("inf"), "model.width=inf: must be a number above 0"),
        ("model.depth", 0, "model.depth=0: must be a whole number from 1"),
        ("model.depth", 1.5, "model.depth=1.5: must be a whole number"),
        ("model.dropout", 1, "model.dropout=1: must be a number from 0"),
        ("data.val_fraction", 1, "data.val_fraction=1: must be a number from 0"),
        ("data.train_limit", 0, "data.train_limit=0: must be null or a whole number from 1"),
        ("data.image_size", 0, "data.image_size=0: must be null, a whole number from 1 to 1024"),
        ("data.normalize", "mean", "data.normalize=mean: must be one of half, dataset, none"),
        ("data.download", "maybe", "data.download=maybe: must be true or false"),
        ("optimizer.lr", 0, "optimizer.lr=0: must be a number above 0"),
        ("optimizer.weight_decay", -1, "optimizer.weight_decay=-1: must be a number from 0"),
        ("scheduler.warmup_epochs", 21, "scheduler.warmup_epochs=21: must be a number from 0 to trainer.epochs"),
        ("trainer.epochs", 0, "trainer.epochs=0: must be a whole number from 1"),
        ("trainer.accumulate", 0, "trainer.accumulate=0: must be a whole number from 1"),
        ("trainer.accumulate", 10**20, r"trainer.accumulate=10{20}: must be a whole number from 1 to 1,000,000,000$"),
        ("seed", 2**63, r"seed=9223372036854775808: must be a whole number from 0 to 9,223,372,036,854,775,807$"),
        ("trainer.batch_size", 0, "trainer.batch_size=0: must be a whole number from 1"),
        ("trainer.eval_batch_size", 0, "trainer.eval_batch_size=0: must be a whole number from 1"),
        ("trainer.device", "gpu", "trainer.device=gpu: must be auto, cpu, cuda, cuda:N or mps"),
        ("trainer.precision", "fp8", "trainer.precision=fp8: must be one of fp32, bf16, fp16"),
        ("trainer.label_smoothing", 1, "trainer.label_smoothing=1: must be a number from 0"),
        ("trainer.clip_norm", 0, "trainer.clip_norm=0: must be null or a number above 0"),
        ("trainer.monitor", "val/acuracy", "trainer.monitor=val/acuracy: must be .* Did you mean val/accuracy"),
        (
            "trainer.timeout_minutes",
            1e9,
            "timeout_minutes=1000000000: must be null or a number above 0 and up to 1,0",
        ),
        ("trainer.patience", 0, "trainer.patience=0: must be null or a whole number from 1"),
        ("trainer.epoch", 3, "unknown key in trainer 'epoch'. Did you mean 'epochs'"),
        ("colour", "red", "unknown key 'colour'"),
        ("data.root", "${oc.env:HOME}", "data.root='.*': interpolations are not accepted here"),
        ("tags", ["${now:}"], "tags='.*': interpolations are not accepted here"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        from_dict(changed(key, value))


def test_early_stopping_without_validation_is_refused():
    plain = changed("trainer.patience", 3)
    plain["data"]["val_fraction"] = 0
    with pytest.raises(ValueError, match="never looks at the test set"):
        from_dict(plain)


@given(
    st.dictionaries(
        st.sampled_from([*DataConfig.model_fields]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(),
            st.lists(st.integers()),
            st.dictionaries(st.text(), st.text()),
        ),
    )
)
def test_any_values_are_accepted_or_refused_with_a_message(values):
    plain = make_default_dict()
    plain["data"].update(values)
    with contextlib.suppress(ValueError):
        config = from_dict(plain)
        assert from_dict(to_dict(config)) == config

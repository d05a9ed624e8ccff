import pytest

from cnnbench.config.seeds import Seeds, read_seeds, sort_seeds
from cnnbench.sweeps.jobs import hash_config


def test_a_source_without_a_seed_of_its_own_has_that_of_the_run():
    assert read_seeds({"seed": 3}) == Seeds(3, 3, 3, 3, 3)
    assert read_seeds({"seed": 3, "seeds": {"order": 0, "init": None}}) == Seeds(3, 0, 3, 3, 3)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "seed=None is not a whole number"),
        ({"seed": True}, "seed=True is not a whole number"),
        ({"seed": 1, "seeds": {"split": "x"}}, "seeds.split='x' is not a whole number"),
    ],
)
def test_what_is_no_seed_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        read_seeds(config)


def test_a_name_says_which_seeds_differ_from_the_others():
    assert Seeds(4, 4, 4, 4, 4).name == 4
    assert Seeds(4, 0, 4, 4, 7).name == "4,order=0,dropout=7"
    assert sort_seeds(["0,init=1", 10, 9]) == [9, 10, "0,init=1"]


def test_runs_that_draw_from_the_same_seeds_are_the_same_job():
    config = {"model": {"name": "mlp"}, "seed": 2}
    same = {**config, "seed": 0, "seeds": dict.fromkeys(Seeds._fields, 2)}
    other = {**config, "seeds": {"init": 3}}
    assert hash_config(config) == hash_config(same) != hash_config(other)
    assert hash_config(config, with_seeds=False) == hash_config(other, with_seeds=False)

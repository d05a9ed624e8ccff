import pytest

from cnnbench import registry
from cnnbench.config.keys import Options, key


class ScaleOptions(Options):
    factor: float = key("By how much")
    offset: int = key("Added afterwards")


@registry.register("test-part", "scale")
def scale(value: float, options: ScaleOptions) -> float:
    return value * options.factor + options.offset


@registry.register("test-part", "double")
class Double:
    def __init__(self, value: float) -> None:
        self.value = 2 * value


def test_a_name_given_twice_raises():
    with pytest.raises(ValueError, match="'scale' is registered twice"):
        registry.register("test-part", "scale")(lambda: None)


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown test-part 'scal'. Did you mean 'scale'\? Valid: double, scale"):
        registry.build("test-part", "scal")


def test_build_passes_arguments_and_options():
    assert registry.build("test-part", "scale", value=2.0, options={"factor": "3", "offset": 1}) == 7
    assert registry.build("test-part", "double", value=2.0, options={}).value == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factr": 1, "factor": 1, "offset": 1}, r"unknown key in test-part 'factr'. Did you mean 'factor'\?"),
        ({"factor": 1}, "test-part.offset is missing: it must be a whole number"),
        ({"factor": "big", "offset": 1}, "test-part.factor=big: must be a number"),
        ({"factor": 1, "offset": 1.5}, "test-part.offset=1.5: must be a whole number"),
        ({"factor": 1, "offset": 1, "value": 1}, "unknown key in test-part 'value'"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        registry.build("test-part", "scale", value=1.0, options=options)


def test_an_option_of_a_part_that_has_none_is_refused():
    with pytest.raises(ValueError, match="unknown key of test-part=double 'factor'"):
        registry.build("test-part", "double", value=1.0, options={"factor": 1})

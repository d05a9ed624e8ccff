import pytest

from cnnbench import registry


@registry.register("test-part", "scale")
def scale(value: float, factor: float, offset: int = 0, names: list[str] | None = None) -> float:
    return value * factor + offset


def test_a_name_given_twice_raises():
    with pytest.raises(ValueError, match="'scale' is registered twice"):
        registry.register("test-part", "scale")(lambda: None)


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown test-part 'scal'. Did you mean 'scale'\? Valid: scale"):
        registry.build("test-part", "scal")


def test_build_passes_arguments_and_options():
    assert registry.build("test-part", "scale", value=2.0, options={"factor": "3", "offset": 1}) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factr": 1, "factor": 1}, r"unknown test-part.scale option 'factr'. Did you mean 'factor'\?"),
        ({}, "test-part 'scale' needs the option test-part.factor"),
        ({"factor": "big"}, "test-part.factor: Value 'big' of type 'str' could not be converted to Float"),
        (
            {"factor": 1, "offset": 1.5},
            "test-part.offset: Value '1.5' of type 'float' could not be converted to Integer",
        ),
        ({"factor": 1, "value": 1}, "unknown test-part.scale option 'value'"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        registry.build("test-part", "scale", value=1.0, options=options)

import dataclasses

import pytest
from ml_collections import ConfigDict

from mhe_jax import registry


@dataclasses.dataclass(frozen=True)
class Square:
    side: float
    corners: tuple[int, ...] = ()
    colour: str = "red"


SHAPES = {"square": Square, "nothing": lambda: None}


def build(section, **given):
    return registry.build(
        SHAPES, ConfigDict(section) if isinstance(section, dict) else section, "config.shape", **given
    )


def test_the_fields_are_the_constructors_arguments_and_lists_become_tuples():
    assert build({"name": "square", "side": 2.0, "corners": [1, 2]}) == Square(2.0, (1, 2))
    assert build({"name": "square", "side": 2.0}, colour="blue") == Square(2.0, (), "blue")
    assert build({"name": "nothing"}) is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "circle"}, "config.shape.name is 'circle'; it must be one of nothing, square"),
        ({"name": "square"}, "config.shape.side is missing: 'square' needs it"),
        (
            {"name": "square", "side": 1.0, "radius": 2.0},
            "config.shape.radius is not a field of 'square', which takes: side, corners",
        ),
        ({"name": "nothing", "side": 1.0}, "config.shape.side is not a field of 'nothing', which takes: none"),
        ({"side": 1.0}, r"config.shape is \{'side': 1.0\}; it must be a section with a name of nothing, square"),
        ("square", "config.shape is 'square'; it must be a section with a name of nothing, square"),
    ],
)
def test_mistakes_are_named_with_what_is_right(section, message):
    with pytest.raises(ValueError, match=message):
        build(section, colour="blue") if "nothing" not in str(section) else build(section)


def test_a_section_says_all_fields_of_what_it_describes():
    section = registry.section_of({"square": Square}, Square(2.0))
    assert section == {"name": "square", "side": 2.0, "corners": (), "colour": "red"}
    assert build(section) == Square(2.0)

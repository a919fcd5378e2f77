"""The manual's page of config fields: made from the code, so that what is not there is not told in the code either."""

import importlib
import pathlib

import pytest
from ml_collections import ConfigDict

from mhe_jax.recipes.files import SHIPPED, load_config

HOOKS = pathlib.Path(__file__).parents[2] / "docs" / "hooks"


@pytest.fixture
def config_fields(monkeypatch):
    monkeypatch.syspath_prepend(str(HOOKS))
    return importlib.import_module("config_fields")


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(HOOKS))
    return importlib.import_module("config_page").page()


def test_every_field_has_a_meaning_and_is_on_the_page(config_fields, page):
    rows = [("config", field) for field in config_fields.top_fields()]
    for path, _, choices in config_fields.sections():
        rows += [(f"config.{path} {choice.name}", field) for choice in choices for field in choice.fields]
        assert all(f"### `{choice.name}`" in page for choice in choices), path
    assert not [f"{where}: {field.name}" for where, field in rows if len(field.meaning.split()) < 2]
    lines = page.splitlines()
    for where, field in rows:
        told = [line for line in lines if line.startswith(f"| `{field.name}` |")]
        assert any(field.meaning.replace("|", "\\|") in line for line in told), (where, field)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_shipped_config_says_is_on_the_page(config_fields, path):
    config = load_config(str(path))
    known = {}
    for section, _, choices in config_fields.sections():
        for choice in choices:
            known.setdefault((section, choice.name), set()).update(field.name for field in choice.fields)
    for section, fields in named_sections(config):
        name = fields.pop("name")
        assert (section, name) in known
        assert set(fields) - {"head_sizes"} <= known[section, name]


def named_sections(config, prefix=""):
    """The sections of a config that have a name, with their fields."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from named_sections(value, f"{prefix}{key}.")
            if "name" in value:
                yield f"{prefix}{key}", value.to_dict()


def test_docstrings_are_read_over_several_lines_and_for_several_fields(config_fields):
    class Base:
        """First line.

        a: of the base.
        b: also of the base.
        """

    class Derived(Base):
        """Another.

        Attributes:
          a, c: told
            in two lines.
          d: one: with a colon.

        Raises:
          ValueError: never.
        """

    found = config_fields.field_meanings(Derived)
    assert found["a"] == found["c"] == "told in two lines."
    assert found["b"] == "also of the base."
    assert found["d"] == "one: with a colon."

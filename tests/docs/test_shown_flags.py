"""The commands that README.md and the manual show: each field that a flag sets is one of its config."""

import pathlib
import re

import pytest

from mhe_jax.recipes.files import SHIPPED, load_config

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIG = re.compile(r"--config=([a-z0-9_]+(?::[a-z0-9_,]+)?)")
FIELD = re.compile(r"--config\.([a-z0-9_.]+)=")


def commands(text):
    """(config, fields) of the lines with just one config; a line goes on behind a backslash."""
    for line in text.replace("\\\n", " ").splitlines():
        configs, fields = CONFIG.findall(line), FIELD.findall(line)
        if len(configs) == 1 and fields and (SHIPPED / f"{configs[0].partition(':')[0]}.py").is_file():
            yield configs[0], fields


def missing(config, fields):
    """The fields that a config lacks."""
    found = load_config(config)
    for field in fields:
        section = found
        for name in field.split("."):
            if not hasattr(section, "keys") or name not in section:
                yield f"{config}: {field}"
                break
            section = section[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_fields_that_are_set_are_there(page):
    wrong = [field for config, fields in commands(page.read_text()) for field in missing(config, fields)]
    assert wrong == []


def test_commands_are_found_over_several_lines():
    text = "    mhe train --config=glyphs_ohe:smoke \\\n      --config.seed=1 --config.data.nothing=2\n"
    found = list(commands(text))
    assert found == [("glyphs_ohe:smoke", ["seed", "data.nothing"])]
    assert list(missing(*found[0])) == ["glyphs_ohe:smoke: data.nothing"]

"""What is released: one version everywhere, and pins that the package's own bounds admit."""

import configparser
import pathlib
import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mhe_jax

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_the_version_is_one(setup):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(.+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert setup["metadata"]["version"] == "attr: mhe_jax.version.__version__"
    assert mhe_jax.__version__ == citation["version"] == newest[1]
    assert str(citation["date-released"]) == newest[2]


def test_the_licence_is_one(setup):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert setup["metadata"]["license_expression"] == citation["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_pins_are_ones_that_the_package_admits(python, setup):
    lines = (ROOT / f"launch/requirements-py{python.replace('.', '')}.txt").read_text().splitlines()
    assert "#    make lock" in lines
    pins = [Requirement(line.partition("#")[0].strip()) for line in lines if line and line[0] not in "# "]
    versions = {}
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==", pin
        versions[canonicalize_name(pin.name)] = exact.version
    wanted = [Requirement(line) for line in setup["options"]["install_requires"].split("\n") if line.strip()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"python_version": python})]
    assert {"jax", "flax"} < {one.name for one in wanted}
    for one in wanted:
        assert versions[canonicalize_name(one.name)] in one.specifier, one

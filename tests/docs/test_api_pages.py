"""The manual's API pages take every public name, and refuse one that is not documented."""

import importlib
import pathlib

import pytest
from mkdocs.exceptions import PluginError

import mhe_jax

HOOKS = pathlib.Path(__file__).parents[2] / "docs" / "hooks"


@pytest.fixture
def api_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(HOOKS))
    return importlib.import_module("api_pages")


def test_every_public_name_is_on_one_page(api_pages):
    text = "\n".join(api_pages.pages().values())
    for name in mhe_jax.__all__:
        assert text.count(f"::: mhe_jax.{name}\n") == 1


def test_a_name_without_a_docstring_is_refused(api_pages, monkeypatch):
    def bare():
        pass

    monkeypatch.setattr(mhe_jax, "bare", bare, raising=False)
    monkeypatch.setattr(mhe_jax, "__all__", [*mhe_jax.__all__, "bare"])
    with pytest.raises(PluginError, match=r"mhe_jax.bare has no docstring"):
        api_pages.pages()


def test_a_name_of_no_family_is_refused(api_pages, monkeypatch):
    monkeypatch.setattr(mhe_jax, "Path", pathlib.Path, raising=False)
    monkeypatch.setattr(mhe_jax, "__all__", [*mhe_jax.__all__, "Path"])
    with pytest.raises(PluginError, match="no API page takes"):
        api_pages.pages()

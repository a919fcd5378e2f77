"""Writes the API pages: every name of `mhe_jax.__all__`, by the folder that defines it; one undocumented fails."""

import inspect
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

import mhe_jax

# Page, title, and the modules whose names it takes; the first that fits is the one.
FAMILIES = (
    ("labels", "Labels as digits", ("mhe_jax.labels",)),
    ("heads", "Heads", ("mhe_jax.heads",)),
    ("metrics", "Ranking metrics", ("mhe_jax.ops.ranking",)),
    ("margins", "Margins", ("mhe_jax.ops.margins", "mhe_jax.ops.lengths")),
    ("ops", "Operations on arrays", ("mhe_jax.ops",)),
    ("runs", "Trained runs", ("mhe_jax.inference",)),
)


def on_files(files, config):
    for page, content in pages().items():
        files.append(File.generated(config, f"api/{page}.md", content=content))
    return files


def pages() -> dict[str, str]:
    """Each family's page in Markdown.

    Raises:
      PluginError: for a public name without a docstring, or one of no family.
    """
    names: dict[str, list[str]] = {page: [] for page, _, _ in FAMILIES}
    for name in sorted(mhe_jax.__all__):
        names[_family(name)].append(name)
    return {page: _page(title, names[page]) for page, title, _ in FAMILIES}


def _family(name: str) -> str:
    value: Any = getattr(mhe_jax, name)
    if not inspect.getdoc(value):
        raise PluginError(f"mhe_jax.{name} has no docstring")
    defined_in = f"{value.__module__}."
    for page, _, modules in FAMILIES:
        if any(defined_in.startswith(f"{module}.") for module in modules):
            return page
    raise PluginError(f"mhe_jax.{name} is defined in {value.__module__}, which no API page takes: see docs/hooks")


def _page(title: str, names: list[str]) -> str:
    return "\n\n".join([f"# {title}", *(f"::: mhe_jax.{name}" for name in names)]) + "\n"

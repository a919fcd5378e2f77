"""Writes the page of all config fields when the site is built, so that nobody keeps a list by hand."""

import sys
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads a hook from its file, not from a package
import config_fields

INTRODUCTION = """# Config fields

A config is a Python file with a function `get_config(arg)` that returns an `ml_collections.ConfigDict`; the shipped
ones stand in `configs/`. What follows the colon in `--config=FILE:ARGUMENTS` is `arg`. Any field can be set on the
command line:

    mhe train --config=glyphs_mhp --config.global_batch_size=512 --config.schedule.learning_rate=0.02

A field that does not exist is an error that lists those which do, and so is one that nothing would read. A section is a
`name` and the fields of what it names. This page is made from the code when the site is built. **needed** marks a field
without a default: a config has to say it.
"""

TITLES = {
    "data": "Data sets",
    "backbone": "Backbones",
    "augment": "Augmentation of pictures",
    "head": "Heads",
    "head.margin": "Margins",
    "head.sampler": "Samplers",
    "class_weights": "Weights of classes",
    "sampling": "Which examples are drawn",
    "distillation": "Teachers",
    "optimizer": "Optimizers",
    "schedule": "Learning rates",
    "average": "Averages of the weights",
    "table_optimizer": "Optimizers of large tables",
    "clip": "Limits of the gradient",
}
HEAD_SIZES = (
    "Every head has `head_sizes` too, the sizes of the digits: empty for balanced ones, `(8400, 0)` for so many groups "
    "by the block rule of the published text pipeline, `(0, 12)` for groups of 12 classes."
)


def on_files(files, config):
    files.append(File.generated(config, "config.md", content=page()))
    return files


def page() -> str:
    """The page in Markdown."""
    parts = [INTRODUCTION, "## All runs", _table(config_fields.top_fields())]
    last = None
    for path, kind, choices in config_fields.sections():
        if path != last:
            parts.append(f"## {TITLES.get(path, path)}: `config.{path}`")
            parts += [HEAD_SIZES] if path == "head" else []
        last = path
        for choice in choices:
            suffix = "" if kind == "any" else f", {kind}"
            parts.append(f"### `{choice.name}`{suffix}")
            parts += [choice.summary] if choice.summary else []
            parts.append(_table(choice.fields) if choice.fields else "No fields.")
    return "\n\n".join(parts) + "\n"


def _table(rows) -> str:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = {"needed": "**needed**", "a section": "a section"}.get(row.default, f"`{row.default}`")
        lines.append(f"| `{row.name}` | {_cell(row.type)} | {_cell(default)} | {_cell(row.meaning)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in which no bar ends the cell."""
    return text.replace("|", "\\|")

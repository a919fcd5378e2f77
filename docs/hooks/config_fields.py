"""What may be said in a config, found in the code: every field of every section with its default and its meaning."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.settings import Settings
from mhe_jax.train.sections import registries

# One data set of each kind: what the other sections may hold depends on it.
KINDS = {"one label": "image_folder", "many labels": "xmc", "faces": "face_folder"}

# Arguments of a section's constructors that the program gives them, and no config.
GIVEN = {
    "backbone": ("dtype",),
    "head": ("label_space", "features_dim", "dtype", "storage"),
    "optimizer": ("learning_rate",),
    "schedule": ("total_steps", "steps_per_epoch"),
    "average": ("steps_per_epoch",),
}

# `field: text` or `field, field: text`, as docstrings list them.
_ENTRY = re.compile(r"^(\s*)(\w+(?:, \w+)*): (.*)$")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a section.

    default: as Python writes it; `needed` where there is none, `a section` where the field has fields of its own.
    meaning: empty where the code does not tell it.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a section may name: its fields, the class or function, and the first line of its docstring."""

    name: str
    constructor: Callable
    summary: str
    fields: tuple[Field, ...]


def top_fields() -> tuple[Field, ...]:
    """The fields of `Settings`; those that hold a section are described below the table."""
    return tuple(
        Field(field.name, _type(field.type), _default(_value(field)), field.metadata.get("help", ""))
        for field in dataclasses.fields(Settings)
    )


def sections() -> Iterator[tuple[str, str, tuple[Choice, ...]]]:
    """The path of each section, the kind of data that it is for or `any`, and its choices."""
    by_kind = {kind: registries(data) for kind, data in KINDS.items()}
    for path in next(iter(by_kind.values())):
        found = {kind: registered[path] for kind, registered in by_kind.items() if path in registered}
        if all(value == next(iter(found.values())) for value in found.values()):
            found = {"any": next(iter(found.values()))}
        for kind, registered in found.items():
            choices = (choice(name, constructor, path) for name, constructor in registered.items())
            yield path, kind, tuple(choices)


def choice(name: str, constructor: Callable, path: str) -> Choice:
    """What `name` stands for in the section `path`."""
    meanings = field_meanings(constructor)
    annotations = {key: _type(p.annotation) for key, p in inspect.signature(constructor).parameters.items()}
    fields = tuple(
        Field(key, annotations[key], _default(default), meanings.get(key, ""))
        for key, default in registry.options(constructor, GIVEN.get(path, ())).items()
    )
    summary = (inspect.getdoc(constructor) or "").split("\n\n")[0]
    return Choice(name, constructor, " ".join(summary.split()), fields)


def field_meanings(constructor: Callable) -> dict[str, str]:
    """What the docstrings of a function, or of a class and its bases, say of each field; the nearest class is right."""
    owners = reversed(inspect.getmro(constructor)) if inspect.isclass(constructor) else [constructor]
    meanings: dict[str, str] = {}
    for owner in owners:
        meanings |= _listed(inspect.cleandoc(owner.__doc__ or ""))
        if dataclasses.is_dataclass(owner):
            helped = {field.name: field.metadata.get("help", "") for field in dataclasses.fields(owner)}
            meanings |= {name: text for name, text in helped.items() if text}
    return meanings


def _listed(docstring: str) -> dict[str, str]:
    """The entries of a docstring by field; an entry goes on in lines that are indented deeper than its first."""
    found: dict[str, str] = {}
    names: list[str] = []
    indent = 0
    for line in docstring.splitlines():
        if names and line.strip() and len(line) - len(line.lstrip()) > indent:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif entry := _ENTRY.match(line):
            indent, names = len(entry[1]), entry[2].split(", ")
            found |= dict.fromkeys(names, entry[3])
        else:
            names = []
    return found


def _value(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    if dataclasses.is_dataclass(value):
        return "a section"
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)


def _type(annotation: Any) -> str:
    """As the code spells it; a section where the config has one."""
    if annotation is ConfigDict or dataclasses.is_dataclass(annotation):
        return "section"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)

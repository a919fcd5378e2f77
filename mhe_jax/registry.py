"""Turns a config section into an object: the section's fields are the constructor's keyword arguments.

A field that no constructor takes is therefore an error, and every field that is accepted is read. A section inside a
section, such as a head's margin, is built first, from a registry of its own, and given to the outer one.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

Registry = Mapping[str, Callable]


def build(registry: Registry, section: ConfigDict, path: str, **given: Any) -> Any:
    """Calls `registry[section.name]` with the section's other fields.

    Args:
      registry: constructors by name.
      section: config section with a `name` field.
      path: where the section lies, for messages: `config.head`.
      **given: arguments that do not come from the config.

    Raises:
      ValueError: for an unknown name, an unknown field or a missing one; the message lists what is accepted.
    """
    if not isinstance(section, Mapping | ConfigDict) or "name" not in section:
        shown = section.to_dict() if isinstance(section, ConfigDict) else section
        raise ValueError(f"{path} is {shown!r}; it must be a section with a name of {', '.join(sorted(registry))}")
    fields = ConfigDict(section).to_dict()
    name = fields.pop("name")
    if name not in registry:
        raise ValueError(f"{path}.name is {name!r}; it must be one of {', '.join(sorted(registry))}")
    accepted = options(registry[name], given)
    for field in fields:
        if field not in accepted:
            raise ValueError(f"{path}.{field} is not a field of {name!r}, which takes: {', '.join(accepted) or 'none'}")
    for key, default in accepted.items():
        if key not in fields and default is inspect.Parameter.empty:
            raise ValueError(f"{path}.{key} is missing: {name!r} needs it")
    return registry[name](**{key: _frozen(value) for key, value in fields.items()}, **given)


def options(constructor: Callable, given: Iterable[str] = ()) -> dict[str, Any]:
    """What a section may set of a constructor: the defaults by name, `inspect.Parameter.empty` where there is none.

    Args:
      constructor: of a registry.
      given: names of the arguments that do not come from the config. Those that flax adds to a module never do.
    """
    parameters = inspect.signature(constructor).parameters
    return {key: p.default for key, p in parameters.items() if key not in given and key not in ("parent", "name")}


def section_of(registry: Registry, value: Any) -> dict[str, Any]:
    """The section that `build` would make a dataclass of a registry from, all fields said."""
    (name,) = (name for name, constructor in registry.items() if constructor is type(value))
    return {"name": name, **dataclasses.asdict(value)}


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that modules built from a config are hashable."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

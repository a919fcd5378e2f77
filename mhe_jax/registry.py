"""Turns a config section into an object: the section's fields are the constructor's keyword arguments.

A field that no constructor takes is therefore an error, and every field that is accepted is read.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def build(registry: Mapping[str, Callable], section: ConfigDict, path: str, **given: Any) -> Any:
    """Calls `registry[section.name]` with the section's other fields.

    Args:
      registry: constructors by name.
      section: config section with a `name` field.
      path: where the section lies, for messages: `config.head`.
      **given: arguments that do not come from the config.

    Raises:
      ValueError: for an unknown name, an unknown field or a missing one; the message lists what is accepted.
    """
    fields = section.to_dict()
    name = fields.pop("name")
    if name not in registry:
        raise ValueError(f"{path}.name is {name!r}; it must be one of {', '.join(sorted(registry))}")
    parameters = inspect.signature(registry[name]).parameters
    accepted = [key for key in parameters if key not in given and key not in ("parent", "name")]
    for field in fields:
        if field not in accepted:
            raise ValueError(f"{path}.{field} is not a field of {name!r}, which takes: {', '.join(accepted) or 'none'}")
    for key in accepted:
        if key not in fields and parameters[key].default is inspect.Parameter.empty:
            raise ValueError(f"{path}.{key} is missing: {name!r} needs it")
    return registry[name](**{key: _frozen(value) for key, value in fields.items()}, **given)


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that modules built from a config are hashable."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

"""Config files: one's own, and those that the package ships."""

import importlib.util
import pathlib

from ml_collections import ConfigDict

SHIPPED = pathlib.Path(__file__).parents[1] / "configs"


def shipped(name: str) -> str:
    """FILE[:ARGUMENTS] with the path of the shipped config of that name, unless FILE exists or there is no such config.

    `imagenet_mhc`, `imagenet_mhc.py:reference` and `configs/imagenet_mhc.py` name the same file.
    """
    file, colon, argument = name.partition(":")
    path = pathlib.Path(file)
    found = SHIPPED / f"{path.name.removesuffix('.py')}.py"
    if path.is_file() or path.parent.name not in ("", "configs") or not found.is_file():
        return name
    return f"{found}{colon}{argument}"


def load_config(name: str) -> ConfigDict:
    """The config of FILE[:ARGUMENTS], or of a shipped name.

    Raises:
      ValueError: if there is no such file, or the arguments are none of its.
    """
    file, _, argument = shipped(name).partition(":")
    path = pathlib.Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"--config={name}: there is no file {path}, and no config of that name is shipped")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)

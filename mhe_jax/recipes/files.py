"""Config files: one's own, and those that the package ships."""

import difflib
import importlib.util
import pathlib
import traceback

from ml_collections import ConfigDict

SHIPPED = pathlib.Path(__file__).parents[1] / "configs"


def shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.py"))


def config_file(name: str) -> pathlib.Path:
    """The file at a path, or the shipped one of that name where no such file exists.

    `imagenet_mhc`, `imagenet_mhc.py` and `configs/imagenet_mhc.py` name the same shipped one.

    Raises:
      ValueError: if there is neither, with the shipped names that are nearest.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path
    stem, names = path.name.removesuffix(".py"), shipped_names()
    if path.parent in (pathlib.Path(), pathlib.Path("configs")) and stem in names:
        return SHIPPED / f"{stem}.py"
    nearest = difflib.get_close_matches(stem, names)
    hint = f"the nearest are {', '.join(nearest)}" if nearest else "`mhe configs` lists the shipped ones"
    raise ValueError(f"there is no config file {name}, and none of that name is shipped; {hint}")


def located(name: str) -> str:
    """FILE[:ARGUMENTS] of a name[:ARGUMENTS], as `config_file` finds it."""
    file, colon, argument = name.partition(":")
    return f"{config_file(file)}{colon}{argument}"


def load_config(name: str) -> ConfigDict:
    """The config of FILE[:ARGUMENTS], or of a shipped name.

    Raises:
      ValueError: one line, if there is no such file, if it cannot be run, or if the arguments are none of its.
    """
    file, colon, argument = name.partition(":")
    path = config_file(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: a config is named NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError("it has no function get_config")
        return module.get_config(argument) if colon else module.get_config()
    except ValueError as error:
        raise ValueError(f"--config={name}: {error}") from error
    except SyntaxError as error:
        raise ValueError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # a file of one's own may do anything
        raise ValueError(f"{_place(error, path)}: {type(error).__name__}: {error}") from error


def _place(error: Exception, path: pathlib.Path) -> str:
    """FILE:LINE of the line of a config that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename) == path.absolute()]
    return f"{path}:{lines[-1]}" if lines else str(path)

"""Names of identities in a text file beside the records: line i + 1 of classes.txt names label i."""

import pathlib

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines

FILE_NAME = "classes.txt"


def read_names(folder: str | pathlib.Path, num_classes: int) -> tuple[str, ...]:
    """The names in `folder`/classes.txt, or none if there is no such file.

    Raises:
      DataError: naming the line, for a name that repeats or could not be a folder's, and for another number of names.
    """
    path = pathlib.Path(folder).expanduser() / FILE_NAME
    if not path.is_file():
        return ()
    names: dict[str, int] = {}
    for number, name in enumerate(read_lines(path), 1):
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise DataError(f"{path}:{number}: {name!r} cannot be the name of an identity's folder")
        if name in names:
            raise DataError(f"{path}:{number}: {name!r} is also on line {names[name]}")
        names[name] = number
    if len(names) != num_classes:
        raise DataError(f"{path} has {len(names)} names, but there are {num_classes} identities")
    return tuple(names)


def write_names(folder: pathlib.Path, names: tuple[str, ...]) -> None:
    """Writes `folder`/classes.txt; DataError for a name that a line of UTF-8 cannot hold."""
    for name in names:
        if set(name) & {"\n", "\r", "\ufeff"} or name.encode(errors="replace").decode() != name:
            raise DataError(f"the identity {name!r} cannot be named in {FILE_NAME}: rename its folder")
    (folder / FILE_NAME).write_text("".join(f"{name}\n" for name in names), encoding="utf-8", newline="\n")

"""JSON that a run writes and reads again: whatever became of the file, one line says where it is wrong."""

import json
import pathlib
from typing import Any


def as_text(value: Any, indent: int | None = None) -> str:
    """JSON that UTF-8 can hold: names are kept as they are, unless one is of bytes that are not UTF-8."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # Python has the bytes as surrogates, which JSON's escapes can say
        return json.dumps(value, indent=indent)
    return text


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The one object of a JSON file.

    Raises:
      OSError: if the file cannot be read.
      ValueError: naming the file and the place, if it holds anything else.
    """
    found = parsed(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {kind(found)}; it must hold an object, {{...}}")
    return found


def parsed(content: bytes, where: str) -> Any:
    """What JSON in UTF-8 says; raises ValueError, naming `where` and the place in it, if it is none."""
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: byte {error.start + 1} ({error.reason})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{where} is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{where} is not JSON: {error}") from None


def kind(value: Any) -> str:
    """What JSON calls a value, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")

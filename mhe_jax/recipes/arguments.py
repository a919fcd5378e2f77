"""The argument string after a config's file name: `configs/cifar100_mhc.py:5x20,reference`."""

import re
from collections.abc import Iterable
from typing import Any


def parse(arg: str, *words: str) -> tuple[tuple[int, ...], set[str]]:
    """Splits a comma-separated argument into head sizes, written 5x20, and flags out of `words`.

    Returns:
      the head sizes, () if none were given, and the set of flags.

    Raises:
      ValueError: naming the part that is neither, and for head sizes that are given twice.
    """
    sizes: tuple[int, ...] = ()
    flags = set()
    for part in filter(None, (arg or "").split(",")):
        if found := head_sizes(part):
            if sizes:
                raise ValueError(f"config argument gives several head sizes: {arg}")
            sizes = found
        elif part in words:
            flags.add(part)
        else:
            raise ValueError(f"config argument {part!r}: head sizes such as 5x20, or one of {', '.join(words)}")
    return sizes, flags


def one_of(flags: Iterable[str], names: Iterable[str], what: str, default: Any = None) -> Any:
    """The one of `names` that is among the flags of a config's argument; `default` if none is.

    Raises:
      ValueError: if several are, which are `what`.
    """
    found = [name for name in names if name in flags]
    if len(found) > 1:
        raise ValueError(f"config argument names several {what}: {', '.join(found)}")
    return found[0] if found else default


def head_sizes(text: str) -> tuple[int, ...]:
    """The sizes of 5x20; () of any other text."""
    return tuple(int(n) for n in text.split("x")) if re.fullmatch(r"\d+(x\d+)*", text) else ()

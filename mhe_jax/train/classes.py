"""The classes that a run keeps: their names by id, and once they have changed, what became of each.

A run that was never changed has its data's classes in the data's order, and refuses others. A run that was extended, or
whose classes were renamed or retired, keeps a list of its own: an id stays that of its class, and whatever data is read
later is numbered by the names of the list.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.dataset import DataError
from mhe_jax.data.names import look_alike
from mhe_jax.heads import digits_of
from mhe_jax.labels import LabelCodes, LabelSpace

FILE = "classes.json"
TRAINED, UNTRAINED, RETIRED = "trained", "untrained", "retired"


@dataclasses.dataclass(frozen=True)
class Begun:
    """The classes that a run was extended by, until it has trained on them, and its tables before.

    Attributes:
      ids: of the new classes.
      head_sizes, codes: the digits and the number of codes of the run that was extended.
    """

    ids: tuple[int, ...]
    head_sizes: tuple[int, ...]
    codes: int


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a run remembers of its data: enough to predict without it.

    Attributes:
      number: of classes, retired ones too.
      names: by id; they may be fewer, or none.
      head_sizes: the digits, of a list that the run keeps; empty: the list is the data's, and the config says them.
      former: by name, the names that the class has had before.
      retired: ids that are never predicted.
      begun: of an extended run.
    """

    number: int
    names: Sequence[str]
    head_sizes: tuple[int, ...] = ()
    former: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    retired: tuple[int, ...] = ()
    begun: Begun | None = None

    def name(self, index: int) -> str:
        """The name of a class; its number where it has none."""
        return self.names[index] if index < len(self.names) else str(index)

    @property
    def all_names(self) -> tuple[str, ...]:
        """A name for each class."""
        return tuple(map(self.name, range(self.number)))

    @property
    def is_kept(self) -> bool:
        """Whether the list is the run's own."""
        return bool(self.head_sizes)

    def states(self, codes: LabelCodes) -> np.ndarray:
        """What each class is, in a run with these codes: `TRAINED`, `UNTRAINED` since an extension, or `RETIRED`."""
        found = np.where(codes.code_of_id < 0, UNTRAINED, TRAINED)
        found[list(self.retired)] = RETIRED
        return found

    def state(self, index: int, codes: LabelCodes) -> str:
        """That of one class, for which no list of all is made."""
        if index in self.retired:
            return RETIRED
        return TRAINED if codes.is_identity or codes.code_of_id[index] >= 0 else UNTRAINED

    def space(self, head: ConfigDict, codes: LabelCodes) -> LabelSpace:
        """The classes as a head sees them.

        Args:
          head: `config.head`.
          codes: of the run.
        """
        if not self.is_kept:
            return digits_of(head.name, head.get("head_sizes", ()), self.number)
        live = np.ones(self.number, bool)
        live[list(self.retired)] = False
        ids = codes.classes_by_code
        return LabelSpace(codes.num_codes, self.head_sizes, tuple(np.flatnonzero((ids < 0) | ~live[ids]).tolist()))

    def before(self, codes: LabelCodes) -> tuple["Classes", LabelCodes]:
        """The classes of an extended run as it predicts until it has trained: the new ones have no code yet."""
        if self.begun is None:
            return self, codes
        ids = codes.classes_by_code
        kept = np.where(np.isin(ids, self.begun.ids), -1, ids)[: self.begun.codes]
        same = dataclasses.replace(self, head_sizes=self.begun.head_sizes, begun=None)
        return same, LabelCodes.placed(kept, self.number)

    def kept(self, head: ConfigDict) -> "Classes":
        """The same as a list of the run's own; raises DataError if two classes have one name."""
        if self.is_kept:
            return self
        _require_distinct(self.all_names)
        sizes = digits_of(head.name, head.get("head_sizes", ()), self.number).head_sizes
        return dataclasses.replace(self, names=self.all_names, head_sizes=sizes)

    def id_of(self, name: str) -> int:
        """The id of a class by its name; raises ValueError if there is none."""
        names = self.all_names
        if name not in names:
            before = next((new for new, old in self.former.items() if name in old), None)
            hint = f"; it is {before!r} now" if before else look_alike(name, names)
            raise ValueError(f"there is no class {name!r}{hint}")
        return names.index(name)

    def renamed(self, old: str, new: str) -> "Classes":
        """The classes, of which `old` is called `new`; raises ValueError for an unknown or a taken name."""
        index, names = self.id_of(old), list(self.all_names)
        if not new.strip() or new != new.strip() or len(new.splitlines()) > 1 or "\t" in new:
            raise ValueError(
                f"{new!r} is no name of a class: it must be a line of text without tabs, or white space at its ends"
            )
        if new in names:
            raise ValueError(f"there is a class {new!r} already: two classes of one name could not be told apart")
        names[index] = new
        former = {name: before for name, before in self.former.items() if name != old}
        earlier = tuple(name for name in (*self.former.get(old, ()), old) if name != new)
        return dataclasses.replace(self, names=tuple(names), former={**former, new: earlier})

    def without(self, name: str) -> "Classes":
        """The classes, of which one is retired; raises ValueError for an unknown or retired one, and the last."""
        index = self.id_of(name)
        if index in self.retired:
            raise ValueError(f"the class {name!r} is retired already")
        if len(self.retired) + 1 >= self.number:
            raise ValueError(f"{name!r} is the only class that is left: a run needs one")
        return dataclasses.replace(self, retired=(*self.retired, index))

    def numbering(self, names: Sequence[str], number: int, where: str) -> tuple[LabelCodes, tuple[str, ...]]:
        """How the classes of some data are numbered here: the data's class of each id, and the names that are new.

        A class of the data is the one of that name here, or else the one that was called so before. New ones get the
        ids behind, in the data's order. Data may lack retired classes.

        Args:
          names: of the data's classes, perhaps none.
          number: of the data's classes.
          where: names this run in messages.

        Raises:
          DataError: if the data lacks a class, or has two of one name.
        """
        theirs = Classes(number, names).all_names
        _require_distinct(theirs)
        by_name = {name: index for index, name in enumerate(self.all_names)}
        id_of = {name: by_name[name] for name in theirs if name in by_name}
        taken = set(id_of.values())
        for name, earlier in self.former.items():
            found = [old for old in reversed(earlier) if old in theirs and old not in id_of]
            if found and by_name[name] not in taken:
                id_of[found[0]] = by_name[name]
                taken.add(by_name[name])
        missing = [name for name, index in by_name.items() if index not in taken and index not in self.retired]
        if missing:
            others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise DataError(
                f"the data lacks the class {missing[0]!r}{others} of {where}{look_alike(missing[0], theirs)}: a run "
                f"keeps its classes; `mhe classes {where} retire` takes one out, and `rename` gives it the data's name"
            )
        new = tuple(name for name in theirs if name not in id_of)
        id_of |= {name: self.number + place for place, name in enumerate(new)}
        data_class = np.full(self.number + len(new), -1, np.int32)
        for place, name in enumerate(theirs):
            data_class[id_of[name]] = place
        return LabelCodes.placed(data_class, number), new

    def as_fields(self) -> dict[str, Any]:
        """The content of classes.json; a list that is the data's has its number and names alone."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name in ("number", "names") or value}


def of_fields(path: pathlib.Path, fields: Mapping[str, Any]) -> Classes:
    """The classes of a file's content; raises ValueError, naming the file, if it is damaged."""
    number, names = fields.get("number"), fields.get("names")
    if type(number) is not int or number < 1:
        raise ValueError(f"{path}: number is {number!r}; it must be the number of classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: names must be a list of texts")
    if len(names) > number:
        raise ValueError(f"{path}: there are {len(names)} names of {number} classes")
    sizes, retired = (_numbers(path, name, fields.get(name, [])) for name in ("head_sizes", "retired"))
    former = fields.get("former", {})
    if not isinstance(former, dict) or not all(_are_texts(old) for old in former.values()):
        raise ValueError(f"{path}: former must be lists of names, by name")
    begun = fields.get("begun")
    if begun is not None:
        if not isinstance(begun, dict) or type(begun.get("codes")) is not int:
            raise ValueError(f"{path}: begun must be an object with ids, head_sizes and codes")
        ids, before = (_numbers(path, f"begun.{name}", begun.get(name)) for name in ("ids", "head_sizes"))
        begun = Begun(ids, before, begun["codes"])
    if outside := [index for index in (*retired, *(begun.ids if begun else ())) if index >= number]:
        raise ValueError(f"{path}: there is no class {outside[0]}, but {number} classes")
    if not sizes and (former or retired or begun):
        raise ValueError(f"{path}: head_sizes is missing, the digits of a list of classes that has changed")
    return Classes(number, names, sizes, {name: tuple(old) for name, old in former.items()}, retired, begun)


def _require_distinct(names: Sequence[str]) -> None:
    name, times = collections.Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"two classes are named {name!r}: a run that keeps a list tells classes by their names")


def _numbers(path: pathlib.Path, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(part) is int and part >= 0 for part in value):
        raise ValueError(f"{path}: {name} is {value!r}; it must be a list of whole numbers")
    return tuple(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def check_same(workdir: pathlib.Path, trained: Classes, names: Sequence[str]) -> None:
    """Raises ValueError unless the data has the classes that a run was trained on, in their order."""
    for index, (old, new) in enumerate(itertools.zip_longest(trained.names, names)):
        if old != new:
            raise ValueError(
                f"the data is not what {workdir} was trained on: class {index} is {new!r}, it was {old!r} there"
            )

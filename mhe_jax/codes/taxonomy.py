"""A tree of classes, or coarse labels, as codes: groups that belong together lie in one block as far as they fit."""

import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mhe_jax.codes.files import ids_by_name
from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file
from mhe_jax.data.lines import read_lines
from mhe_jax.labels import LabelCodes, LabelSpace


class Node:
    """A group: its groups by name, and the classes that are in it but in none of these."""

    def __init__(self) -> None:
        self.groups: dict[str, Node] = {}
        self.classes: list[int] = []
        self.size = 0

    def add(self, path: Sequence[str], index: int) -> None:
        """Puts a class where a path from the coarsest group to the finest leads."""
        self.size += 1
        if path:
            self.groups.setdefault(path[0], Node()).add(path[1:], index)
        else:
            self.classes.append(index)


def read_taxonomy(
    path: pathlib.Path, num_classes: int, names: Sequence[str], former: Mapping[str, Sequence[str]] | None = None
) -> Node:
    """The tree of a file of lines `NAME<TAB>GROUP`.

    NAME is a class of the data, by its number where the data has no names, or a group; GROUP is a group, which may have
    a line of its own, or a path of groups from the coarsest to the finest, `animals/birds`, of which the coarsest may
    have one. Lines of other names are passed over: a taxonomy may hold more classes than a data set. A class without a
    line has that of a `former` name, the last one that has a line and is no other class's now.

    Raises:
      DataError: naming the file and the line, if a line has no tab, a name has two groups or is its own group's group;
        or naming a class of the data that has no line.
    """
    require_file(path)
    groups: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        name, _, group = (part.strip() for part in line.partition("\t"))
        if not (name and group):
            raise DataError(f"{path}:{number}: a line must be NAME<TAB>GROUP, not {line!r}")
        before = groups.setdefault(name, (group, number))
        if before[1] != number:
            raise DataError(f"{path}:{number}: {name!r} has a group already, in line {before[1]}")
    root = Node()
    ids = ids_by_name(num_classes, names)
    for name, index in ids.items():
        earlier = (one for one in reversed((former or {}).get(name, ())) if one not in ids)
        known = next((one for one in (name, *earlier) if one in groups), None)
        if known is None:
            raise DataError(f"{path} has no line for class {index}, {name!r}")
        root.add(_path_of(known, groups, path), index)
    return root


def codes_of_tree(root: Node, space: LabelSpace) -> LabelCodes:
    """Codes under which the classes of a group are neighbours, and of groups that fit into one block few are cut.

    Groups may be of any size, and blocks of codes are not: at each place comes the largest group that fits into what is
    left of the block of its size, or else the largest of all.

    Args:
      root: the tree, with each class of `space` once.
      space: the classes and their digits.
    """
    return LabelCodes.of(np.fromiter(_arranged(root, space, [0]), np.int32))


def _path_of(name: str, groups: dict[str, tuple[str, int]], file: pathlib.Path) -> list[str]:
    """The groups above a name, from the coarsest to the finest."""
    found: list[str] = []
    met = {name}
    while name in groups:
        name, number = groups[name]
        # A path that has no line itself goes on above its coarsest group.
        parts = [name] if name in groups else name.split("/")
        name = parts[0]
        if name in met:
            raise DataError(f"{file}:{number}: {name!r} is a group of its own group")
        met.add(name)
        found += reversed(parts)
    return found[::-1]


def _arranged(node: Node, space: LabelSpace, place: list[int]) -> Iterator[int]:
    """The classes of a node in the order of their codes, of which `place[0]` is the next."""
    waiting: dict[int, list[Node]] = defaultdict(list)
    for group in reversed(node.groups.values()):
        waiting[group.size].append(group)
    while waiting:
        size = max((size for size in waiting if _fits(size, place[0], space)), default=max(waiting))
        group = waiting[size].pop()
        if not waiting[size]:
            del waiting[size]
        yield from _arranged(group, space, place)
    for index in node.classes:
        place[0] += 1
        yield index


def _fits(size: int, place: int, space: LabelSpace) -> bool:
    """Whether so many codes from `place` on lie in one of the smallest blocks that could hold them."""
    stride = min((stride for stride in (space.num_codes, *space.strides) if stride >= size), default=space.num_codes)
    return place % stride + size <= stride

"""What a compiled step sends between devices: its collectives, read from the text of its HLO."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from jax.sharding import AbstractMesh, Mesh

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One array that is sent.

    Attributes:
      kind: one of `KINDS`.
      axes: mesh axes along which devices exchange it, such as 'data', 'class', 'data+class'.
      array: what each device ends up with, such as 'f32[8,16]'.
      count: how often in a step, where a loop's length is known.
      moved: bytes that each device sends in a step, if a ring is used.
    """

    kind: str
    axes: str
    array: str
    count: int
    moved: int

    def __str__(self):
        return f"{self.kind} {self.axes} {self.array}" + (f" x{self.count}" if self.count > 1 else "")


def collectives(text: str, mesh: Mesh | AbstractMesh) -> list[Collective]:
    """The arrays that a program sends, in the order of its text; a collective of several arrays counts as several.

    Of a conditional all branches are counted; exchanges of a group of one device are left out.

    Args:
      text: `compiled.as_text()`.
      mesh: what it was compiled for, with devices numbered row by row.

    Raises:
      ValueError: for a notation of device groups that is not known here.
    """
    found, times = [], _times(text)
    for name, line in _lines(text):
        match = _COLLECTIVE.search(line)
        if not match:
            continue
        kind, result = match["kind"], match["result"]
        groups = _groups(line, mesh.size)
        size = groups.shape[1]
        if size == 1:
            continue
        arrays = _ARRAY.findall(result)
        if match["start"] and kind != "all-reduce":
            # The first half of an asynchronous pair returns operands, results and perhaps counters.
            arrays = [(dtype, shape) for dtype, shape in arrays if shape or dtype != "u32"]
            arrays = arrays[len(arrays) // 2 :]
        if kind == "all-to-all" and len(arrays) == size:
            arrays = arrays[:1]  # one piece for each device, of equal shapes
            pieces = size
        else:
            pieces = 1
        for dtype, shape in arrays:
            size_in_bytes = pieces * _itemsize(dtype) * math.prod(int(n) for n in shape.split(",") if n)
            found.append(
                Collective(
                    kind,
                    "permuted" if kind == "collective-permute" else _axes(groups, mesh),
                    f"{dtype}[{shape}]",
                    times[name],
                    round(times[name] * _moved(kind, size_in_bytes, size)),
                )
            )
    return found


def _moved(kind: str, size: int, devices: int) -> float:
    """Bytes that a device sends for an array of `size` bytes in the result, in a ring of `devices`."""
    if kind == "all-reduce":
        return 2 * size * (devices - 1) / devices
    if kind == "reduce-scatter":
        return size * (devices - 1)
    if kind == "collective-permute":
        return size
    return size * (devices - 1) / devices


_COLLECTIVE = re.compile(rf"= (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([0-9,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def _lines(text: str) -> Iterable[tuple[str, str]]:
    """(computation, instruction) of each line that is inside one."""
    name = ""
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            name = start[1]
        elif line.startswith("}"):
            name = ""
        elif name:
            yield name, line


def _times(text: str) -> dict[str, int]:
    """How often each computation runs in one call of the program; a loop of unknown length counts once."""
    calls: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, line in _lines(text):
        trips = _TRIPS.search(line)
        repeats = int(trips[1]) if trips and " while(" in line else 1
        branches = [part.strip().lstrip("%") for match in _BRANCHES.findall(line) for part in match.split(",")]
        for called in _CALLED.findall(line) + branches:
            calls[name].append((called, repeats))
    times: dict[str, int] = defaultdict(int)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for called, repeats in calls[name]:
            visit(called, count * repeats)

    entry = re.search(r"^ENTRY %?([\w.\-]+) ", text, re.MULTILINE)
    if entry:
        visit(entry[1], 1)
    return times


def _groups(line: str, devices: int) -> np.ndarray:
    """int [groups, devices of a group] of the devices that exchange with each other."""
    listed = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", line)
    if listed:
        return np.array([[int(n) for n in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed[1])])
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", line)
    if iota:
        return _iota(iota[3]).reshape(int(iota[1]), int(iota[2]))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\S+?)\))? \{([^}]*)\}", line)
    if named and ":" not in named[3]:
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        chosen = re.findall(r"'(\w+)'", named[3])
        ids = (_iota(named[2]) if named[2] else np.arange(math.prod(sizes.values()))).reshape(*sizes.values())
        order = [i for i, name in enumerate(sizes) if name not in chosen] + [list(sizes).index(n) for n in chosen]
        return ids.transpose(order).reshape(-1, math.prod(sizes[name] for name in chosen))
    if "replica_groups={}" in line or "source_target_pairs=" in line:
        return np.arange(devices).reshape(1, -1)
    raise ValueError(f"device groups in an unknown notation: {line.strip()[:300]}")


def _iota(text: str) -> np.ndarray:
    """'[2,4]T(1,0)': the numbers from 0 in this shape, transposed."""
    shape, _, order = text.partition("T")
    ids = np.arange(math.prod(_integers(shape))).reshape(_integers(shape))
    return ids.transpose(_integers(order)) if order else ids


def _integers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _axes(groups: np.ndarray, mesh: Mesh | AbstractMesh) -> str:
    """The mesh axes that the groups extend along, or 'other'."""
    ids = np.arange(mesh.size).reshape(*mesh.shape.values())
    names = mesh.axis_names
    as_sets = {frozenset(group) for group in groups.tolist()}
    for chosen in [(name,) for name in names] + [names]:
        rest = [i for i, name in enumerate(names) if name not in chosen]
        order = rest + [names.index(name) for name in chosen]
        along = ids.transpose(order).reshape(-1, math.prod(mesh.shape[name] for name in chosen))
        if {frozenset(group) for group in along.tolist()} == as_sets:
            return "+".join(chosen)
    return "other"


def _itemsize(dtype: str) -> float:
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 1

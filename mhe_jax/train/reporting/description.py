"""A description of a config's costs as a text for people and as data."""

from collections.abc import Iterable
from typing import Any

from mhe_jax.targets.target import Target
from mhe_jax.train.reporting.describe import Description
from mhe_jax.train.reporting.head_costs import HeadCost
from mhe_jax.train.reporting.programs import Cost


def as_text(found: Description) -> str:
    """The model, and a table of heads in MiB of one device."""
    return "\n".join(
        [*found.facts[:3], _mesh(found), *found.facts[3:], "", *_table(found), *_lengths(found), *_remedies(found)]
    )


def as_data(found: Description) -> dict[str, Any]:
    """The same in bytes and seconds, for JSON. `target` and `device_memory` are None for the devices that are here."""
    return {
        "target": found.target.name if found.target else None,
        "device_memory": found.target.memory if found.target else None,
        "device": found.device_kind,
        "mesh": found.mesh,
        "config_head": found.chosen,
        "heads": [_head_data(one, found.target) for one in found.heads],
        "remedies": {flags: _head_data(one, found.target) for flags, one in found.remedies},
    }


def _head_data(one: HeadCost, target: Target | None) -> dict[str, Any]:
    return {
        "head": one.head,
        "head_sizes": list(one.head_sizes),
        "head_parameters": one.head_parameters,
        "train": _cost_data(one.train),
        "evaluation": _cost_data(one.evaluation),
        "lengths": {
            str(length): {"train": _cost_data(train), "evaluation": _cost_data(evaluation)}
            for length, (train, evaluation) in one.lengths.items()
        },
        "next_batches": one.next_batches,
        "peak": one.peak,
        "fits": one.fits(target.usable) if target else None,
        "seconds": one.train.seconds,
    }


def _cost_data(cost: Cost) -> dict[str, Any]:
    return {
        "arguments": cost.arguments,
        "temporaries": cost.temporaries,
        "sent": cost.all_sent,
        "sent_by_axis": None if cost.refused else cost.sent,
        "seconds": cost.seconds,
    }


def _mesh(found: Description) -> str:
    line = f"mesh          data={found.mesh['data']} x class={found.mesh['class']}, {found.device_kind}"
    return line if found.target is None else f"{line}, {_mebibytes(found.target.memory)} MiB on each device"


_HEADINGS = ("state+batch", "train temp.", "eval temp.", "peak", "sent")


def _table(found: Description) -> Iterable[str]:
    timed = any(one.train.seconds for one in found.heads)
    yield "Each head on this backbone; MiB of a device, and what it sends to others in a train step:"
    yield (
        f"{'head':5} {'head_sizes':>20} {'head parameters':>16} "
        + " ".join(f"{heading:>12}" for heading in _HEADINGS)
        + (" seconds" if timed else "")
    )
    for one in found.heads:
        sizes = "x".join(map(str, one.head_sizes))
        cells = (one.train.arguments, one.train.temporaries, one.evaluation.temporaries, one.peak)
        yield (
            f"{one.head:5} {sizes:>20} {one.head_parameters:>16,} "
            + " ".join(f"{_mebibytes(cell):>12}" for cell in (*cells, one.train.all_sent))
            + (f" {_seconds(one.train.seconds)}" if timed else "")
            + (f"  {found.target.verdict(one.peak)}" if found.target else "")
            + (f"  {_axes(one.train.sent)}" if len(one.train.sent) > 1 else "")
            + (" <- this config" if one.head == found.chosen else "")
        )


def _axes(sent: dict[str, int]) -> str:
    return "(" + ", ".join(f"{axis} {_mebibytes(size)}" for axis, size in sent.items()) + ")"


def _lengths(found: Description) -> Iterable[str]:
    (chosen,) = (one for one in found.heads if one.head == found.chosen)
    if not chosen.lengths:
        return
    yield f"\n{chosen.head} by the length of texts, MiB of temporaries:"
    yield f"{'tokens':>6} {'train':>12} {'evaluation':>12}"
    for length, (train, evaluation) in chosen.lengths.items():
        yield f"{length:>6} {_mebibytes(train.temporaries):>12} {_mebibytes(evaluation.temporaries):>12}"


def _remedies(found: Description) -> Iterable[str]:
    if not found.remedies or found.target is None:
        return
    yield f"\n{found.chosen} with other settings, MiB at the peak:"
    for flags, one in found.remedies:
        yield f"{_mebibytes(one.peak):>14}  {found.target.verdict(one.peak):12}  {flags}"


def _mebibytes(size: float | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**20:,.1f}"


def _seconds(estimate: float | None) -> str:
    """The compiler's estimate; it has none for some programs."""
    return f"{'-':>7}" if estimate is None else f"{estimate:7.3f}"

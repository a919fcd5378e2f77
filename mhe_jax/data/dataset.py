"""What splits of all kinds are: held in memory or loaded example by example, evaluated one by one or in pairs."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mhe_jax.data.many_labels import ManyLabels
from mhe_jax.data.names import one_line


class _OneLine(ValueError):
    """An error whose message is one line, whatever the names in it hold."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class DataError(_OneLine):
    """The data on disk is missing or is not what the config says; one line naming the folder, file or field."""


class BadExample(_OneLine):
    """An example that cannot be read; the message names the file or record."""


@dataclasses.dataclass(frozen=True)
class ArraySplit:
    """A split held in memory, and on the device while training: uint8 images [N, h, w, C], int32 labels [N].

    many: where examples have any number of labels, those labels: `labels` are then rows of it.
    """

    images: np.ndarray
    labels: np.ndarray
    bad_examples: int = 0
    many: ManyLabels | None = None

    @property
    def num_examples(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class StreamSplit:
    """A split whose examples are read and decoded when they are needed.

    load_example(index, rng) -> (uint8 image [H, W, C], label); rng is None for evaluation. It must be picklable, and
    raises BadExample for an example that cannot be read: on_bad_example says whether to 'raise' it or 'skip'.
    num_workers: processes that load on a machine; -1 is one for each core, 0 loads in threads of this process.
    random: whether load_example draws at all; otherwise rng is None in training too.
    code_of_label: int32 [C], what a feed makes of the labels, see `mhe_jax.codes.relabel`; None leaves them.
    many: as of an ArraySplit.
    """

    num_examples: int
    load_example: Callable[[int, np.random.Generator | None], tuple[np.ndarray, int]]
    num_workers: int = 0
    on_bad_example: str = "raise"
    random: bool = True
    code_of_label: np.ndarray | None = None
    many: ManyLabels | None = None


Split = ArraySplit | StreamSplit


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A verification set: pairs of pictures, and whether both show one identity.

    name: names the set's metrics: `lfw`. first, second: int32 [P] into the pictures of the split. same: bool [P].
    """

    name: str
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


@dataclasses.dataclass(frozen=True)
class PairedSplit:
    """Pictures whose labels mean nothing, and the verification sets over them; evaluated by embeddings of all."""

    images: Split
    pairs: tuple[Pairs, ...]

    @property
    def num_examples(self) -> int:
        return self.images.num_examples


def require_one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless the config.data field has one of the accepted values."""
    if value not in choices:
        raise ValueError(f"config.data.{field} is {value!r}; it must be one of {', '.join(map(repr, choices))}")


def require_at_least(field: str, value: int, least: int) -> None:
    """Raises ValueError if the config.data field is below `least`."""
    if value < least:
        raise ValueError(f"config.data.{field} is {value}; it must be at least {least}")


def require_plausible(announced: int, listed: int, what: str, where: object) -> None:
    """Raises DataError if a header announces far more than the content could bear out: memory is taken for each.

    Up to four million are believed, so that a few documents may be cut out of the largest sets, and a thousand for each
    entry that is listed: data sets list most of what they number.
    """
    if announced > (1 << 22) + 1000 * listed:
        raise DataError(f"{where} announces {announced} {what}, but lists {listed} entries: is its header damaged?")

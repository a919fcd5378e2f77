"""Where the codes of a run come from: the section `config.codes`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.codes.clustering import clustered
from mhe_jax.codes.files import read_codes
from mhe_jax.codes.frequencies import class_counts
from mhe_jax.codes.label_vectors import label_features, label_vectors
from mhe_jax.codes.name_vectors import name_vectors
from mhe_jax.codes.taxonomy import codes_of_tree, read_taxonomy
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.settings import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Base of the sources. All of them take all fields, for the command line to set with the name; `reads` are theirs.

    Attributes:
      path: of 'file' and 'taxonomy', the file; of 'names' the folder of a text encoder.
      epochs: of 'warmup', how long it is.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    # Whether `path` says the codes themselves, so that a run that has codes can tell whether they are still these.
    says_codes: ClassVar[bool] = False

    path: str = option("", free=True)
    epochs: float = 2.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in self.reads and value != field.default:
                raise ValueError(
                    f"config.codes.{field.name} is {value!r}, but codes.name = {name_of(self)!r} does not read it: "
                    f"leave it at {field.default!r}"
                )
        if "path" in self.reads and not self.path:
            raise ValueError(f"config.codes.path is empty, but codes.name = {name_of(self)!r} reads a file or folder")

    @property
    def where(self) -> pathlib.Path:
        """`path`, in which `~` is the home folder."""
        return pathlib.Path(self.path).expanduser()

    def codes(self, space: LabelSpace, names: Sequence[str], train: Any, seed: int) -> LabelCodes:
        """The codes of the classes of `space`.

        Args:
          space: the classes and their digits.
          names: of the classes, by id.
          train: the training split, with ids as labels.
          seed: of the run.

        Raises:
          ValueError: if the source is missing or damaged.
        """
        raise NotImplementedError


class Identity(Source):
    """The code of a class is its id: its rank among folder names or label strings."""

    def codes(self, space, names, train, seed):
        return LabelCodes.identity(space.num_classes)


class File(Source):
    """Codes from a file, see `mhe_jax.codes.files.read_codes`; `mhe codes` writes such files."""

    reads = ("path",)
    says_codes = True

    def codes(self, space, names, train, seed):
        return read_codes(self.where, space.num_classes, names)


class Taxonomy(Source):
    """Codes from a tree of classes or coarse labels, see `mhe_jax.codes.taxonomy`."""

    reads = ("path",)
    says_codes = True

    def codes(self, space, names, train, seed):
        return codes_of_tree(read_taxonomy(self.where, space.num_classes, names), space)


class Labels(Source):
    """Clusters of labels by their training documents: the words of texts, or features as they are on disk.

    See `mhe_jax.codes.label_vectors`.
    """

    def codes(self, space, names, train, seed):
        if isinstance(train, FeatureSplit) and not isinstance(train.labels, np.ndarray):
            vectors = label_features(train)
        elif isinstance(train, TextSplit):
            vectors = label_vectors(train, seed=seed)
        else:
            raise ValueError(
                "config.codes.name is 'labels', but it is for data with many labels: take 'warmup' or 'pretrained'"
            )
        return clustered(vectors.vectors, space, seed, vectors.present)


class Names(Source):
    """Clusters of the classes by what their names mean to a text encoder, see `mhe_jax.codes.name_vectors`."""

    reads = ("path",)

    def codes(self, space, names, train, seed):
        if len(names) != space.num_classes:
            raise ValueError(
                f"config.codes.name is 'names', but {len(names) or 'none'} of the {space.num_classes} classes have a "
                "name: it is for data whose classes are named, by folders or label strings"
            )
        return clustered(name_vectors(names, self.where), space, seed)


class Frequency(Source):
    """The classes with most training examples first; those with equally many by id, see `mhe_jax.codes.frequencies`."""

    def codes(self, space, names, train, seed):
        return LabelCodes.of(np.argsort(-class_counts(train, space.num_classes), kind="stable"))


class OwnFeatures(Source):
    """Clusters of the class means of the run's own features, which take its network: `mhe_jax.train.feature_codes`."""


class Pretrained(OwnFeatures):
    """Clusters of the class means of the features before the first step: of a pretrained backbone, that of
    `config.init_from`, or those of the data.
    """


class WarmUp(OwnFeatures):
    """Clusters of the class means of the run's own features after a warm-up, see `mhe_jax.train.warm_up`.

    The run trains a one-hot head for `epochs` of its epochs first, and goes on from that backbone.
    """

    reads = ("epochs",)

    def __post_init__(self):
        super().__post_init__()
        if not self.epochs > 0:
            raise ValueError(f"config.codes.epochs is {self.epochs}; it must be positive")


SOURCES: dict[str, type[Source]] = {
    "identity": Identity,
    "file": File,
    "taxonomy": Taxonomy,
    "labels": Labels,
    "names": Names,
    "frequency": Frequency,
    "pretrained": Pretrained,
    "warmup": WarmUp,
}


def name_of(source: Source) -> str:
    """The name of a source in a config."""
    return next(name for name, kind in SOURCES.items() if kind is type(source))


def build_source(section: ConfigDict) -> Source:
    """The source of `config.codes`; raises ValueError naming a wrong field."""
    source: Source = registry.build(SOURCES, section, "config.codes")
    return source

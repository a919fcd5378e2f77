"""A trained run in Python: classes and embeddings of inputs, from a model that stays on the devices."""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.inference import hub
from mhe_jax.inference.asked import batches, blank, checked, count, cut, kind_of, shape_of
from mhe_jax.inference.deciding import AUTO, Deciding
from mhe_jax.inference.embeddings import unit_length
from mhe_jax.inference.opened import SIZES, Trained, opened
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.train import compilation_cache, experiment
from mhe_jax.train.classes import TRAINED

# A text, or pictures by the paths of their files.
Input = str | os.PathLike


class Prediction(NamedTuple):
    """A class that a run finds in an input: its name, its probability in 0 .. 1, and its number."""

    label: str
    score: float
    id: int


def load(workdir: str | os.PathLike) -> "Run":
    """A trained run, with the weights of its best checkpoint on all devices that are here.

    The folder alone is enough, the data set need not be present. Compiled programs are kept for the next start, as the
    command line keeps them, unless JAX was told where, or not to: see `mhe_jax.train.compilation_cache`.

        run = mhe_jax.load("runs/mine")
        for best, *others in run.predict(["a.jpg", "b.jpg"]):
            print(best.label, best.score)

    Args:
      workdir: what `mhe train --workdir` wrote, or `mhe push`; or `hub:OWNER/NAME`, of the Hugging Face hub.

    Raises:
      ValueError: if the folder is not a run's, or holds no weights; if the hub has none, or cannot be reached.
    """
    workdir = hub.located(workdir)
    compilation_cache.enable()
    config = experiment.usable_config(workdir)
    return Run(config, opened(config, workdir))


class Run:
    """A trained run that answers; `load` makes it.

    The first call compiles a program for the shape of its batches, which later calls of any size reuse: there are five
    batch sizes, and for texts the bucket lengths of the run. Inputs are read and decoded by threads while the device
    computes. Calls may come from several threads, and from inside any mesh.

    Attributes:
      config: the run's config, with the mesh of the devices that are here.
    """

    def __init__(self, config: ConfigDict, trained: Trained):
        self.config = config
        self._trained = trained
        self._predict = trained.compiled(trained.task.predict, static=("k",))
        self._embed = trained.compiled(trained.task.embed)
        self._neighbours = trained.compiled(trained.task.neighbours, static=("k",))
        self._deciding = functools.lru_cache(maxsize=8)(functools.partial(Deciding, trained))

    @property
    def kind(self) -> str:
        """What it is asked about: 'texts', 'pictures', 'features' or 'sparse' features."""
        return kind_of(self._trained.data)

    @property
    def data(self) -> Any:
        """The data set of its config, of which nothing is loaded: how pictures are cut and normalised."""
        return self._trained.data

    @property
    def verifies(self) -> bool:
        """Whether it is a run on faces, whose embeddings are compared and whose classes only trained it."""
        return isinstance(self._trained.data, FaceData)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input: (H, W, C) of pictures, (D,) of features, (V,) of sparse features; () of texts."""
        return shape_of(self._trained.data)

    @property
    def features_dim(self) -> int:
        """Width D of what `embed` returns."""
        return self._trained.task.head.features_dim

    @property
    def step(self) -> int | None:
        """Of the checkpoint that the weights are from; None for those of a file."""
        return self._trained.step

    @property
    def label_space(self) -> LabelSpace:
        """The classes and their digits, which are those of their `codes`."""
        return self._trained.task.head.label_space

    @property
    def codes(self) -> LabelCodes:
        """Which class has which code."""
        return self._trained.codes

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by their ids; numbers where the data set has no names. Retired ones keep theirs."""
        return self._trained.classes.all_names

    @functools.cached_property
    def class_states(self) -> tuple[str, ...]:
        """What each class is: 'trained', 'untrained' since the run was extended, or 'retired'."""
        return tuple(self._trained.classes.states(self.codes).tolist())

    @property
    def num_classes(self) -> int:
        """How many classes there are, those that cannot be predicted too."""
        return self._trained.classes.number

    @property
    def names(self) -> Sequence[str]:
        """The names of the first classes, of all or none as a rule: `classes` has one for each."""
        return self._trained.classes.names

    def class_name(self, index: int) -> str:
        """The name of one class, as `classes` has it."""
        return self._trained.classes.name(index)

    def class_state(self, index: int) -> str:
        """What one class is, as `class_states` has it."""
        return self._trained.classes.state(index, self.codes)

    @property
    def num_live(self) -> int:
        """How many classes can be predicted: those that are trained."""
        return self._trained.num_live

    def predict(
        self, inputs: Input | Sequence[Input] | np.ndarray, top_k: int = 5, threshold: float | str | None = None
    ) -> list[list[Prediction]]:
        """The `top_k` best classes of each input, best first; fewer where the head's beam finds fewer.

        Args:
          inputs: of a run on texts a text or a list of texts; of one on pictures a path, a list of paths, or uint8
            pictures [N, H, W, C] of the size that the run was trained on; of one on features float [N, D], of one on
            sparse features a matrix of scipy.sparse [N, V].
          top_k: each number is compiled anew.
          threshold: classes of a lower probability are left out; 'auto' answers what `mhe decide` chose for the run,
            with calibrated probabilities: of one class an example that class, or none.

        Raises:
          ValueError: for inputs of another kind, a picture that cannot be read, more classes than there are, a
            threshold that is none, and for a run on faces, whose classes only trained it.
        """
        trained = self._trained
        self._require_classes()
        if not 1 <= top_k <= trained.num_live:
            raise ValueError(f"top_k is {top_k}; it must be between 1 and the {trained.num_live} classes")
        asked, deciding = checked(self._trained, inputs), self._deciding(threshold)
        found: list[list[Prediction]] = [[] for _ in range(count(asked))]
        program = functools.partial(self._predict, k=deciding.asked(top_k))
        for places, (scores, ids) in trained.results(program, batches(trained, asked)):
            kept_ids, kept_scores = deciding(trained.codes.ids(ids), np.exp(scores), top_k)
            for place, row_scores, row_ids in zip(places, kept_scores.tolist(), kept_ids.tolist(), strict=True):
                ranked = zip(row_scores, row_ids, strict=True)
                found[place] = [Prediction(trained.classes.name(i), score, i) for score, i in ranked if i >= 0]
        return found

    def decided(self, best: Sequence[Prediction]) -> list[Prediction]:
        """Of the best classes of one input, as `predict` gives them, those that it gives with `threshold='auto'`; of
        one class an example `best` are `num_decided`.

        Raises:
          ValueError: if the run had no decision, or one of another model, when this or `num_decided` was first asked.
        """
        if isinstance(self._decision, str):
            raise ValueError(self._decision)
        ids, scores = np.array([[one.id for one in best]], np.int64), np.array([[one.score for one in best]])
        kept = zip(*(part[0].tolist() for part in self._decision(ids, scores, len(best))), strict=True)
        return [Prediction(self._trained.classes.name(i), score, i) for i, score in kept if i >= 0]

    @functools.cached_property
    def num_decided(self) -> int:
        """How many of the best classes `decided` needs to answer as `predict` does: of a decision of one class an
        example, whose probabilities are calibrated by all of them; 0 where the run has no such decision."""
        deciding = self._decision
        return deciding.asked(0) if isinstance(deciding, Deciding) and deciding.decides_one else 0

    @functools.cached_property
    def _decision(self) -> Deciding | str:
        """What `decided` and `num_decided` are about, or why there is none: read once, so that they are of one."""
        try:
            return self._deciding(AUTO)
        except ValueError as error:
            return str(error)

    def embed(self, inputs: Input | Sequence[Input] | np.ndarray) -> np.ndarray:
        """The features of each input as the head sees them, float32 [N, D].

        Of a run on faces they have length 1, and are what verification compares: their inner product is the cosine that
        the run's threshold is about.

        Args:
          inputs: as in `predict`; of a run on faces, pictures.

        Raises:
          ValueError: for inputs of another kind, and a picture that cannot be read.
        """
        asked = checked(self._trained, inputs)
        features = np.zeros((count(asked), self.features_dim), np.float32)
        for places, part in self._trained.results(self._embed, batches(self._trained, asked)):
            features[places] = part
        return unit_length(features) if isinstance(self._trained.data, FaceData) else features

    def neighbours(self, ids: Sequence[int] | np.ndarray, top_k: int = 5) -> list[list[Prediction]]:
        """The `top_k` classes that the weights of each class are most like, with the cosine as score, best first.

        See `Task.neighbours`; fewer where the head's beam finds fewer.

        Args:
          ids: numbers of classes.
          top_k: each number is compiled anew.

        Raises:
          ValueError: for numbers of no class or one that is not predicted, more neighbours than there are, and for a
            run on faces.
        """
        trained, number = self._trained, self._trained.classes.number
        self._require_classes()
        if not 1 <= top_k < trained.num_live:
            raise ValueError(f"top_k is {top_k}; a class has between 1 and {trained.num_live - 1} neighbours")
        classes = np.asarray(ids)
        if classes.ndim != 1 or (
            len(classes) and (classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= number)
        ):
            raise ValueError(f"ids must be a list of integers between 0 and {number - 1}")
        for index in classes.tolist():
            if (state := self.class_state(index)) != TRAINED:
                raise ValueError(f"{trained.classes.name(index)!r} is {state}, and has no neighbours")
        program = functools.partial(self._neighbours, k=top_k)
        asked = ((places, trained.codes.codes(classes[places])) for places in cut(np.arange(len(classes))))
        found: list[list[Prediction]] = []
        for _, (cosines, codes) in trained.results(program, asked):
            for row, near in zip(cosines.tolist(), trained.codes.ids(codes).tolist(), strict=True):
                ranked = zip(row, near, strict=True)
                found.append([Prediction(trained.classes.name(i), score, i) for score, i in ranked if i >= 0])
        return found

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        """A picture of a file's content as `predict` takes it, uint8 [H, W, C]; of a run on pictures.

        Args:
          encoded: JPEG, PNG or another of the formats that are read from files.
          where: names it in the message.

        Raises:
          BadExample: a ValueError, if it cannot be decoded.
        """
        data: Any = self._trained.data
        return data.decode_image(encoded, where)

    def warm(self, top_k: int | None = 5, neighbours: int = 0) -> None:
        """Compiles what calls may need, for each size of a batch and, for texts, each length of their tokens; of words
        beside an encoder the shortest of both alone.

        Args:
          top_k: of `predict`, which a run on faces has not; None leaves it out.
          neighbours: of one class, of `neighbours`; 0 leaves it out.
        """
        trained = self._trained
        programs = [self._embed]
        if top_k is not None and not self.verifies:
            programs.append(functools.partial(self._predict, k=top_k))
        for size in SIZES:
            for inputs in blank(trained, size):
                for program in programs:
                    list(trained.results(program, [(None, inputs)]))
        if neighbours:
            list(trained.results(functools.partial(self._neighbours, k=neighbours), [(None, np.zeros(1, np.int32))]))

    def _require_classes(self) -> None:
        if self.verifies:
            raise ValueError(f"{self._trained.workdir} is a run on faces, whose classes only trained it: use embed")

    def __repr__(self) -> str:
        return f"Run({str(self._trained.workdir)!r}, {self._trained.classes.number} classes)"

"""What a data set of texts with labels is: documents as tokens, labels as sparse rows, and how both are batched."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least, require_one_of
from mhe_jax.data.ragged import pad_rows
from mhe_jax.data.texts import buckets
from mhe_jax.data.texts.tokenizer import TEXT_RULES, TextTokenizer, load_tokenizer

_LABELS = 100  # to which the published system cuts a document's labels


@dataclasses.dataclass(frozen=True)
class TextSplit:
    """Documents of one split.

    tokens: int32, of all documents end to end, mostly a memory map; offsets: int64 [N+1], where each one starts.
    labels: CSR [N, L], the values are the labels' relevance; label_width: W of a batch, see `TextData.label_width`.
    filtered: CSR bool [N, L], labels that evaluation leaves out of a document's ranking, if there are any.
    bucket_lengths, sort_window: see `TextData`.
    inverse_propensity: float32 [L], if the split is evaluated with it.
    listed: int32 [nnz], the columns of `labels` row by row in the order of the files, of which batches hold the first;
      None for that of `labels`.
    single_label: whether a document has one label, and a batch int32 [B] of them.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    labels: scipy.sparse.csr_matrix
    label_width: int
    bucket_lengths: tuple[int, ...]
    sort_window: int
    filtered: scipy.sparse.csr_matrix | None = None
    inverse_propensity: np.ndarray | None = None
    listed: np.ndarray | None = None
    single_label: bool = False

    @property
    def num_examples(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 [N]."""
        return np.diff(self.offsets)

    def inputs(self, documents: np.ndarray, width: int) -> dict[str, np.ndarray]:
        """What the backbone takes of documents int [B], none longer than `width`, see `TextData.inputs_of`."""
        length = self.offsets[documents + 1] - self.offsets[documents]
        tokens = pad_rows(self.tokens, self.offsets[documents], length, width, 0)
        return {"input_ids": tokens, "length": length.astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class Texts:
    """A loaded data set.

    eval: the documents that choose the best checkpoint; test: those that are evaluated once, if there are others.
    facts: what was found, and how well the most frequent labels do, for result.json.
    """

    train: TextSplit
    eval: TextSplit
    test: TextSplit | None
    class_names: tuple[str, ...]
    facts: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class TextData:
    """Base of the text data sets; the fields of a subclass are the fields of `config.data`.

    Constructing reads no file: `load` does.

    num_classes: 0 takes the number of labels that `load` finds; otherwise `load` checks it.
    last_batch: 'drop' or 'keep' the smaller batch at the end of a training epoch.
    tokenizer: folder or Hugging Face hub id of a tokenizer.
    max_length: tokens of a document, its special tokens included; the rest of a longer one is cut off.
    text_rule: 'raw' gives the tokenizer the text as it is; 'reference' lower-cases it, keeps the first max_length words
      and replaces an empty one by 'filling empty', as the published system does.
    prefix: stands before every text, as some encoders were trained to see them: 'query: ' of E5.
    label_width: labels of a document in a batch. 0 holds those of the document that has most. Otherwise training sees
      the first label_width labels of a document that has more, in the order in which its line lists them; evaluation
      still counts all of them.
    bucket_lengths: lengths that batches are padded to, besides max_length; empty for 16, 32, 64, ...
    sort_window: training documents are sorted by length within this many batches; 1 shuffles without regard to length.
    """

    multilabel: bool = dataclasses.field(default=True, init=False, repr=False)

    num_classes: int = 0
    last_batch: str = "drop"
    tokenizer: str = ""
    max_length: int = 128
    text_rule: str = "raw"
    prefix: str = ""
    label_width: int = 0
    bucket_lengths: tuple[int, ...] = ()
    sort_window: int = 50

    def __post_init__(self):
        require_one_of("last_batch", self.last_batch, ("drop", "keep"))
        require_one_of("text_rule", self.text_rule, TEXT_RULES)
        require_at_least("num_classes", self.num_classes, 0)
        require_at_least("max_length", self.max_length, 2)
        require_at_least("label_width", self.label_width, 0)
        require_at_least("sort_window", self.sort_window, 1)
        buckets.bucket_lengths(self.bucket_lengths, self.max_length)

    @property
    def vocab_size(self) -> int:
        """Token ids are below this number."""
        return self._text_tokenizer.vocab_size

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What of a batch the backbone takes, in the order of its arguments, for one short document."""
        shapes = {"input_ids": (1, 4), "length": (1,)}
        return {name: jax.ShapeDtypeStruct(shape, np.int32) for name, shape in shapes.items()}

    @property
    def buckets(self) -> tuple[int, ...]:
        """All lengths that a batch may have, ascending."""
        return buckets.bucket_lengths(self.bucket_lengths, self.max_length)

    def load(self) -> Texts:
        """Reads or makes the data; raises DataError when it is missing or differs from the config."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts as evaluation would see them: input_ids int32 [N, T], padded with 0, and length int32 [N].

        T is the smallest bucket that holds the longest of them.
        """
        tokens, counts, _ = self._text_tokenizer(texts)
        width = int(buckets.fit(self.buckets, counts.max(initial=1)))
        return pad_rows(tokens, np.cumsum(counts) - counts, counts, width, 0), counts.astype(np.int32)

    def inputs_of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """What the backbone takes of texts, as evaluation would see them, see `encode`."""
        input_ids, length = self.encode(texts)
        return {"input_ids": input_ids, "length": length}

    def save_tokenizer(self, folder: str | pathlib.Path) -> None:
        """Writes the tokenizer so that `tokenizer` may name the folder."""
        self._text_tokenizer.save(folder)

    def abstract_batch(
        self, batch_size: int, length: int = 0, evaluates: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a batch of texts of one of the `buckets`, of 0 the longest, for training or evaluation.

        A label width that the data will decide is taken to be 100.
        """
        tokens = (batch_size, length or self.max_length)
        label = (batch_size, self.label_width or _LABELS) if self.multilabel else (batch_size,)
        shapes: dict[str, tuple[int, ...]] = {"input_ids": tokens, "label": label}
        if evaluates:
            shapes["index"] = (batch_size,)
        return {
            **{name: jax.ShapeDtypeStruct(shape, np.int32) for name, shape in shapes.items()},
            "length": jax.ShapeDtypeStruct((batch_size,), np.int32),
            "weight": jax.ShapeDtypeStruct((batch_size,), np.float32),
        }

    def accept_classes(self, found: int, where: str) -> None:
        """Checks num_classes against what was found, or takes it over if it is 0."""
        if self.num_classes not in (0, found):
            raise DataError(f"config.data.num_classes is {self.num_classes} but {where} has {found} labels")
        self.num_classes = found

    def make_tokenizer(self) -> Any:
        """The transformers tokenizer of `tokenizer`, or one made from the data."""
        if not self.tokenizer:
            raise DataError("config.data.tokenizer is empty; give the folder or hub id of the encoder's tokenizer")
        return load_tokenizer(self.tokenizer)

    @functools.cached_property
    def _text_tokenizer(self) -> TextTokenizer:
        return TextTokenizer(self.make_tokenizer(), self.max_length, self.text_rule, self.prefix)

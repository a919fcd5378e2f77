"""Tokens made from their labels, for any number of labels: for tests, memory checks and speed."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import require_at_least
from mhe_jax.data.texts.dataset import TextData, Texts, TextSplit
from mhe_jax.data.texts.facts import popularity, split_facts
from mhe_jax.data.texts.tokenizer import load_tokenizer
from mhe_jax.data.texts.tokens import Tokens

_PAD, _CLS, _UNK = range(3)
_WORDS = 3  # the first token that is a word
_SIGNS = 2  # words that tell a label
_NOISE = 0.25  # words that tell nothing


@dataclasses.dataclass(kw_only=True)
class SyntheticText(TextData):
    """Each label has two words, computed from its number; a document is words of its labels, and some others.

    Labels are drawn uniformly; evaluation repeats the first label sets of training with other words, so that there is
    something to learn even with more labels than documents. Nothing is held per label. A word is a number, its token.

    vocab_size: tokens, three special ones included.
    num_examples: training documents.
    num_eval_examples: evaluation documents, at most num_examples.
    lengths: fewest and most tokens of a document; the first token of each is the same one.
    labels_per_example: labels drawn; a label that is drawn twice counts once.
    seed: of labels and words.
    """

    num_classes: int
    vocab_size: int = 1000
    num_examples: int = 10_000
    num_eval_examples: int = 1_000
    labels_per_example: int = 5
    lengths: tuple[int, int] = (8, 32)
    max_length: int = 32
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        for field, least in (("num_classes", 1), ("vocab_size", _WORDS + 1), ("labels_per_example", 1)):
            require_at_least(field, getattr(self, field), least)
        if not 1 <= self.num_eval_examples <= self.num_examples:
            raise ValueError(
                f"config.data.num_eval_examples is {self.num_eval_examples}; "
                f"it must be from 1 to num_examples = {self.num_examples}"
            )
        if len(self.lengths) != 2 or not 2 <= self.lengths[0] <= self.lengths[1] <= self.max_length:
            raise ValueError(
                f"config.data.lengths is {self.lengths}; it must be two numbers from 2 to max_length = "
                f"{self.max_length}, the smaller first"
            )

    def load(self) -> Texts:
        rng = np.random.default_rng(self.seed)
        drawn = rng.integers(self.num_classes, size=(self.num_examples, self.labels_per_example))
        tokens = {name: self._documents(part, rng) for name, part in self._parts(drawn).items()}
        labels = {name: self._matrix(part) for name, part in self._parts(drawn).items()}
        width = int(np.diff(labels["train"].indptr).max())
        self.label_width = self.label_width or width
        facts = {name: split_facts(labels[name], tokens[name]) for name in labels}
        nothing = scipy.sparse.csr_matrix(labels["eval"].shape, dtype=bool)
        return Texts(
            self._split(tokens["train"], labels["train"], self.label_width),
            self._split(tokens["eval"], labels["eval"], width),
            None,
            (),
            {
                "layout": "synthetic",
                **facts,
                "popularity": {"eval": popularity(labels["train"], labels["eval"], nothing)},
            },
        )

    def make_tokenizer(self) -> Any:
        """Words separated by white space; what is no number of a word is unknown."""
        if self.tokenizer:
            return load_tokenizer(self.tokenizer)
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        vocabulary = {"[PAD]": _PAD, "[CLS]": _CLS, "[UNK]": _UNK}
        vocabulary |= {str(token): token for token in range(_WORDS, self.vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", _CLS)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", unk_token="[UNK]"
        )

    def _parts(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        return {"train": drawn, "eval": drawn[: self.num_eval_examples]}

    def _split(self, tokens: Tokens, labels: scipy.sparse.csr_matrix, width: int) -> TextSplit:
        return TextSplit(tokens.tokens, tokens.offsets, labels, width, self.buckets, self.sort_window)

    def _matrix(self, drawn: np.ndarray) -> scipy.sparse.csr_matrix:
        count, each = drawn.shape
        indptr = np.arange(count + 1) * each
        matrix = scipy.sparse.csr_matrix(
            (np.ones(drawn.size, np.float32), drawn.ravel(), indptr), (count, self.num_classes)
        )
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def _documents(self, drawn: np.ndarray, rng: np.random.Generator) -> Tokens:
        lengths = rng.integers(self.lengths[0], self.lengths[1] + 1, len(drawn))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        document = np.repeat(np.arange(len(drawn)), lengths)
        label = drawn[document, rng.integers(drawn.shape[1], size=len(document))]
        words = self.vocab_size - _WORDS
        told = _WORDS + sign(label, rng.integers(_SIGNS, size=len(document)), words)
        noise = rng.integers(_WORDS, self.vocab_size, size=len(document))
        tokens = np.where(rng.random(len(document)) < _NOISE, noise, told).astype(np.int32)
        tokens[offsets[:-1]] = _CLS
        return Tokens(tokens, offsets, 0)


def sign(labels: np.ndarray, which: np.ndarray, words: int) -> np.ndarray:
    """Word `which` of each label, below `words`: a hash, the same on every machine (the splitmix64 finaliser)."""
    state = labels.astype(np.uint64) * np.uint64(_SIGNS) + which.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return ((state >> np.uint64(32)) % np.uint64(words)).astype(np.int64)

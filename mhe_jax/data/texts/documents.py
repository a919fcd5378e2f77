"""Data sets of documents on disk: which of them train and which evaluate, and how they become tokens."""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.data.texts.corpus import Corpora, Corpus
from mhe_jax.data.texts.dataset import TextData, Texts, TextSplit
from mhe_jax.data.texts.facts import popularity, split_facts
from mhe_jax.data.texts.tokens import Tokens, cache_root, tokenised
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.settings import option

_VALIDATION_SEED = 1240  # of the published system
_SUBSET_SEED = 0


@dataclasses.dataclass(kw_only=True)
class CorpusText(TextData):
    """Base of the data sets that are read as texts; a subclass says where from, in `read`.

    valid_examples: documents that are taken out of training and choose the best checkpoint, drawn as in the published
      system; below 1 it is their share. 0 chooses it on the test documents, as that system does on its small data sets;
      then there is no other test. Where the folder has a file of validation documents, those choose it instead.
    max_train, max_eval: at most so many documents, for small machines, of training and of each split that is evaluated:
      a random choice, always the same one, smaller ones within larger ones; 0 takes all. The labels stay those of all.
    propensity: A and B of the propensity model, for the propensity-scored metrics.
    cache_dir: where tokens are kept; empty for mhe_jax/tokens under $XDG_CACHE_HOME or ~/.cache.
    """

    valid_examples: float = 0
    max_train: int = 0
    max_eval: int = 0
    propensity: tuple[float, float] = DEFAULT
    cache_dir: str = option("", free=True)

    def __post_init__(self):
        super().__post_init__()
        for field in ("valid_examples", "max_train", "max_eval"):
            require_at_least(field, getattr(self, field), 0)
        if not (self.valid_examples < 1 or self.valid_examples % 1 == 0):
            raise ValueError(
                f"config.data.valid_examples is {self.valid_examples}; it must be a share below 1 or a whole number"
            )
        if len(self.propensity) != 2 or min(self.propensity) <= 0:
            raise ValueError(f"config.data.propensity is {self.propensity}; it must be two positive numbers, A and B")

    def read(self) -> Corpora:
        """All documents; raises DataError."""
        raise NotImplementedError

    def corpora(self) -> Corpora:
        """The documents that train, and as `test` those that choose the best checkpoint.

        Raises:
          DataError: if a split has no documents, or not enough for valid_examples, or none that trains has a label.
        """
        train, chooses, _ = self._splits
        return dataclasses.replace(self._read, train=train, test=chooses)

    def splits(self) -> dict[str, Corpus]:
        """The documents by split: 'train', 'eval', which choose the best checkpoint, and 'test' where those are others.

        Raises:
          DataError: as `corpora` does.
        """
        named = dict(zip(("train", "eval", "test"), self._splits, strict=True))
        return {name: corpus for name, corpus in named.items() if corpus is not None}

    def inverse_propensity(self) -> np.ndarray:
        """float32 [L], of all training documents, those held out included: the scale on which others publish."""
        return inverse_propensity(self._read.train.labels, *self.propensity)

    def load(self) -> Texts:
        found, corpora = self._read, self.splits()
        self.accept_classes(len(found.label_names), found.train.source)
        root = cache_root(self.cache_dir)
        tokens = {name: tokenised(corpus, self._text_tokenizer, root) for name, corpus in corpora.items()}
        widest = max(int(np.diff(corpus.labels.indptr).max(initial=1)) for corpus in corpora.values())
        self.label_width = self.label_width or widest
        inverse = self.inverse_propensity()

        def split(name: str) -> TextSplit:
            corpus, trains = corpora[name], name == "train"
            return TextSplit(
                tokens[name].tokens,
                tokens[name].offsets,
                corpus.labels,
                label_width=self.label_width if trains else widest,
                bucket_lengths=self.buckets,
                sort_window=self.sort_window,
                filtered=corpus.filtered if corpus.filtered.nnz else None,
                inverse_propensity=None if trains else inverse,
                listed=corpus.listed if trains else None,
            )

        return Texts(
            split("train"),
            split("eval"),
            split("test") if "test" in corpora else None,
            found.label_names,
            self._facts(found, corpora, tokens),
        )

    def _facts(self, found: Corpora, corpora: dict[str, Corpus], tokens: dict[str, Tokens]) -> dict[str, Any]:
        lost = np.maximum(np.diff(corpora["train"].labels.indptr) - self.label_width, 0).sum()
        chosen = corpora["eval"].labels.shape[0]
        kind = "validation" if found.valid else "training"
        evaluated = f"{chosen} {kind} documents" if found.valid or self.valid_examples else "the test documents"
        popular = lambda name: popularity(corpora["train"].labels, corpora[name].labels, corpora[name].filtered)
        return {
            "layout": found.layout,
            "labels": len(found.label_names),
            "chosen_on": evaluated,
            "at_most": {"train": self.max_train, "eval": self.max_eval},
            "label_width": self.label_width,
            "labels_cut_off": int(lost),
            **{name: split_facts(corpus.labels, tokens[name]) for name, corpus in corpora.items()},
            "popularity": {name: popular(name) for name in corpora if name != "train"},
        }

    @functools.cached_property
    def _read(self) -> Corpora:
        return self.read()

    @functools.cached_property
    def _splits(self) -> tuple[Corpus, Corpus, Corpus | None]:
        """Documents that train, that choose the best checkpoint, and that are evaluated once."""
        train, test, valid = self._read.train, self._read.test, self._read.valid
        documents = train.labels.shape[0]
        for corpus in (train, test, valid):
            if corpus and not corpus.labels.shape[0]:
                raise DataError(f"{corpus.source} has no documents")
        if valid:
            return self._trained_on(train), _at_most(valid, self.max_eval), _at_most(test, self.max_eval)
        share = self.valid_examples < 1
        held_out_size = math.ceil(self.valid_examples * documents) if share else int(self.valid_examples)
        if held_out_size >= documents:
            raise DataError(
                f"config.data.valid_examples is {self.valid_examples:.15g} but {train.source} has {documents} "
                "documents: none is left to train on"
            )
        if not self.valid_examples:
            return self._trained_on(train), _at_most(test, self.max_eval), None
        from sklearn.model_selection import train_test_split  # slow to import

        kept, held_out = train_test_split(np.arange(documents), test_size=held_out_size, random_state=_VALIDATION_SEED)
        return (
            self._trained_on(choose(train, kept)),
            _at_most(choose(train, held_out), self.max_eval),
            _at_most(test, self.max_eval),
        )

    def _trained_on(self, train: Corpus) -> Corpus:
        train = _at_most(train, self.max_train)
        if not train.labels.nnz:
            raise DataError(f"{train.source}: none of the {train.labels.shape[0]} documents to train on has a label")
        return train


def choose(corpus: Corpus, documents: np.ndarray) -> Corpus:
    """Some documents of a corpus, in its order; as many labels."""
    documents = np.sort(documents)
    mask = np.zeros(corpus.labels.shape[0], bool)
    mask[documents] = True

    def texts() -> Iterator[str]:
        return itertools.compress(corpus.texts(), mask.tolist())

    labels, listed = corpus.labels, corpus.listed
    if listed is not None:
        # As values, which go with their rows.
        listed = scipy.sparse.csr_matrix((listed, labels.indices, labels.indptr), labels.shape)[documents].data
    return Corpus(
        texts,
        labels[documents],
        corpus.source,
        corpus.filtered[documents],
        f"{corpus.fingerprint} {hashlib.sha256(mask.tobytes()).hexdigest()}",
        listed,
    )


def _at_most(corpus: Corpus, limit: int) -> Corpus:
    documents = corpus.labels.shape[0]
    if not 0 < limit < documents:
        return corpus
    return choose(corpus, np.random.default_rng(_SUBSET_SEED).permutation(documents)[:limit])

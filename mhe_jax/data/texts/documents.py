"""Data sets of documents on disk: which of them train and which evaluate, and how they become tokens."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mhe_jax.data.choosing import require_labels
from mhe_jax.data.dataset import DataError, require_at_least
from mhe_jax.data.propensity import inverse_propensity, require_model
from mhe_jax.data.ragged import chosen_columns
from mhe_jax.data.single_label import require_one_label
from mhe_jax.data.texts.choices import held_out, require_share_or_number, some
from mhe_jax.data.texts.corpus import Corpora, Corpus
from mhe_jax.data.texts.dataset import TextData, Texts, TextSplit
from mhe_jax.data.texts.facts import popularity, split_facts
from mhe_jax.data.texts.tokens import Tokens, cache_root, tokenised
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.settings import option


@dataclasses.dataclass(kw_only=True)
class CorpusText(TextData):
    """Base of the data sets that are read as texts; a subclass says where from, in `read`.

    valid_examples: documents that are taken out of training and choose the best checkpoint, drawn as in the published
      system; below 1 it is their share. 0 chooses it on the test documents, as that system does on its small data sets;
      then there is no other test. Where the folder has a file of validation documents, those choose it instead. Where
      it has no file of test documents, nothing is tested.
    max_train, max_eval: at most so many documents, for small machines, of training and of each split that is evaluated:
      a random choice, always the same one, smaller ones within larger ones; 0 takes all. The labels stay those of all.
    propensity: A and B of the propensity model, for the propensity-scored metrics.
    single_label: every document has just one label: heads and metrics are those of classes.
    cache_dir: where tokens are kept; empty for mhe_jax/tokens under $XDG_CACHE_HOME or ~/.cache.
    """

    valid_examples: float = 0
    max_train: int = 0
    max_eval: int = 0
    propensity: tuple[float, float] = DEFAULT
    single_label: bool = False
    cache_dir: str = option("", free=True)

    def __post_init__(self):
        super().__post_init__()
        for field in ("valid_examples", "max_train", "max_eval"):
            require_at_least(field, getattr(self, field), 0)
        require_share_or_number(self.valid_examples)
        require_model(self.propensity)
        self.multilabel = not self.single_label

    def read(self) -> Corpora:
        """All documents; raises DataError."""
        raise NotImplementedError

    def corpora(self) -> Corpora:
        """The documents that train, and as `test` those that choose the best checkpoint.

        Raises:
          DataError: if a split has no documents, or not enough for valid_examples, or none that trains or chooses has a
            label, or none are there to choose.
        """
        train, chooses, _ = self._splits
        return dataclasses.replace(self._read, train=train, test=chooses)

    def splits(self) -> dict[str, Corpus]:
        """The documents that train, 'train', that choose the checkpoint, 'eval', and 'test' where those are others.

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
        if self.single_label:
            for corpus in corpora.values():
                require_one_label(corpus.labels, corpus.source)

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
                single_label=self.single_label,
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
            "popularity": {name: popular(name) for name, of in corpora.items() if name != "train" and of.labels.nnz},
        }

    @functools.cached_property
    def _read(self) -> Corpora:
        return self.read()

    @functools.cached_property
    def _splits(self) -> tuple[Corpus, Corpus, Corpus | None]:
        """Documents that train, that choose the best checkpoint, and that are evaluated once."""
        train, test, valid = self._read.train, self._read.test, self._read.valid
        for corpus in (train, test, valid):
            if corpus and not corpus.labels.shape[0]:
                raise DataError(f"{corpus.source} has no documents")
        tests = _at_most(test, self.max_eval) if test else None
        if valid:
            return self._trained_on(train), self._chosen_on(valid), tests
        kept, out = held_out(self.valid_examples, train.labels.shape[0], train.source)
        if not len(out):
            if test is None:
                raise DataError(
                    f"there are neither test nor validation documents beside {train.source}, and "
                    "config.data.valid_examples is 0: set it to a share, such as 0.1, to choose the best checkpoint on"
                )
            return self._trained_on(train), self._chosen_on(test), None
        return self._trained_on(choose(train, kept)), self._chosen_on(choose(train, out)), tests

    def _chosen_on(self, corpus: Corpus) -> Corpus:
        corpus = _at_most(corpus, self.max_eval)
        how = f"config.data.valid_examples ({self.valid_examples:.15g}) or a validation file"
        require_labels(corpus.labels, corpus.source, "documents", how)
        return corpus

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
        listed = chosen_columns(labels, listed, documents)
    return Corpus(
        texts,
        labels[documents],
        corpus.source,
        corpus.filtered[documents],
        f"{corpus.fingerprint} {hashlib.sha256(mask.tobytes()).hexdigest()}",
        listed,
    )


def _at_most(corpus: Corpus, limit: int) -> Corpus:
    index = some(corpus.labels.shape[0], limit)
    return corpus if index is None else choose(corpus, index)

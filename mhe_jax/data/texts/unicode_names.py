"""Documents without a download: the names of Unicode characters, labelled with what else is known of them.

A label is a general category, a script, a block, a word of the block's name, or a character of the decomposition:
'category:Lu', 'script:Greek', 'block:Greek and Coptic', 'word:Coptic', 'char:U+0041'. Names that are made from the
code point (ideographs, Hangul syllables) are left out. The characters are those of this Python's Unicode version.
"""

import dataclasses
import hashlib
import sys
import unicodedata
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least
from mhe_jax.data.texts.corpus import Corpora, Corpus
from mhe_jax.data.texts.documents import CorpusText
from mhe_jax.data.texts.tokenizer import load_tokenizer
from mhe_jax.data.texts.word_pieces import train_word_pieces

_TEST_SHARE = 0.1
_SEED = 0


@dataclasses.dataclass(kw_only=True)
class UnicodeNames(CorpusText):
    """A tenth of the characters, always the same, are the test documents.

    vocab_size: pieces of the WordPiece vocabulary, which is trained on the training names; `tokenizer` may name one
      that was kept instead.
    """

    vocab_size: int = 4096
    valid_examples: float = 3000
    max_length: int = 32

    def __post_init__(self):
        super().__post_init__()
        require_at_least("vocab_size", self.vocab_size, 1)

    def read(self) -> Corpora:
        codes = named_characters()
        matrix, label_names = label_matrix(codes)
        names = [unicodedata.name(chr(code)) for code in codes]
        order = np.random.default_rng(_SEED).permutation(len(codes))
        test = int(len(codes) * _TEST_SHARE)
        version = unicodedata.unidata_version
        train, held_out = (
            _corpus([names[i] for i in part], matrix[part], f"Unicode {version} names, {title}")
            for title, part in (("training", np.sort(order[test:])), ("test", np.sort(order[:test])))
        )
        return Corpora(train, held_out, label_names, f"names of {len(codes)} characters of Unicode {version}")

    def make_tokenizer(self) -> Any:
        if not self.tokenizer:
            return train_word_pieces(self.corpora().train.texts(), self.vocab_size)
        tokenizer = load_tokenizer(self.tokenizer)
        if len(tokenizer) > self.vocab_size:
            raise DataError(
                f"config.data.vocab_size is {self.vocab_size} but {self.tokenizer} has {len(tokenizer)} pieces"
            )
        return tokenizer


def named_characters() -> list[int]:
    """Code points, ascending, of the characters whose name says more than the code point."""
    names = ((code, unicodedata.name(chr(code), "")) for code in range(sys.maxunicode + 1))
    made = ("HANGUL SYLLABLE ",)
    return [code for code, name in names if name and not name.startswith(made) and not name.endswith(f"-{code:04X}")]


def labels_of(code: int) -> list[str]:
    """All labels of a character, each once."""
    from fontTools import unicodedata as tables

    character = chr(code)
    block = tables.block(character)
    parts = [part for part in unicodedata.decomposition(character).split() if not part.startswith("<")]
    found = [
        f"category:{unicodedata.category(character)}",
        f"script:{tables.script_name(tables.script(character))}",
        f"block:{block}",
        *(f"word:{word}" for word in block.split()),
        *(f"char:U+{part}" for part in parts),
    ]
    return list(dict.fromkeys(found))


def label_matrix(codes: list[int]) -> tuple[scipy.sparse.csr_matrix, tuple[str, ...]]:
    """Which characters have which labels, float32 CSR, and the labels in alphabetic order: those of two or more."""
    rows = [labels_of(code) for code in codes]
    names, columns = np.unique(np.concatenate(rows), return_inverse=True)
    indptr = np.cumsum([0, *map(len, rows)])
    matrix = scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), columns, indptr), (len(rows), len(names)))
    shared = np.flatnonzero(np.bincount(columns) >= 2)
    matrix = matrix[:, shared]
    matrix.sort_indices()
    return matrix, tuple(names[shared].tolist())


def _corpus(names: list[str], labels: scipy.sparse.csr_matrix, source: str) -> Corpus:
    fingerprint = hashlib.sha256("\n".join(names).encode()).hexdigest()
    nothing = scipy.sparse.csr_matrix(labels.shape, dtype=bool)
    return Corpus(lambda: iter(names), labels, source, nothing, fingerprint)

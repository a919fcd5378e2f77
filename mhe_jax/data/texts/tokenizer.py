"""Tokenizers: loaded from a folder or the hub, and applied to texts with a length limit."""

import hashlib
import itertools
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.surrogates import whole

TEXT_RULES = ("raw", "reference")

# Beside the files of transformers, in a folder that `TextTokenizer.save` wrote.
_KEPT = "kept.json"

# Any of these makes a tokenizer.
_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_WANTED = (
    "config.json, tokenizer.json (or vocab.txt, or vocab.json and merges.txt) "
    "and, for the encoder's weights, model.safetensors or pytorch_model.bin"
)
_PATIENCE = 10  # seconds for the hub's first answer
# What ends a word; of Unicode's other spaces the ideographic and the unbreakable one are in use.
_SPACES = " \n\t\r\u3000\xa0"
# More than the hundred characters from which WordPiece takes a word for unknown.
_UNBROKEN = 4096
# Characters per token of the limit that are tokenised at first; English has four to five.
_CHARACTERS = 8


class KeptTokenizer:
    """A tokenizer that `TextTokenizer` has saved, as far as that needs it: transformers takes seconds to import.

    Its tokenizer.json is what transformers had made for the run. Of other folders transformers makes more of it than is
    written there, by the architecture.

    Raises:
      Exception: of any kind, if the files are damaged.
    """

    is_fast = True

    def __init__(self, folder: pathlib.Path):
        from tokenizers import Tokenizer

        self._folder = folder
        self.unk_token_id: int | None = json.loads((folder / _KEPT).read_text())["unknown"]
        self.backend_tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = self.backend_tokenizer.get_added_tokens_decoder()
        self.all_special_ids = [number for number, token in special.items() if token.special]

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def save_pretrained(self, folder: str) -> None:
        """Copies the files."""
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)


def load_tokenizer(checkpoint: str) -> Any:
    """The fast tokenizer of a Hugging Face folder or hub id, a transformers PreTrainedTokenizerFast.

    Of a folder of a run it is a `KeptTokenizer`.

    What lies in the hub's cache is used without asking the network. Code of a checkpoint's own is never run: unless it
    is told so, transformers asks on standard input, where a user's texts may come from.

    Raises:
      DataError: if there is none; the message says which files a folder needs.
    """
    folder = pathlib.Path(checkpoint).expanduser()
    if folder.is_dir() and not any((folder / name).exists() for name in _FILES):
        # transformers would make a tokenizer of nothing but special tokens.
        raise DataError(f"{folder} holds no tokenizer: one of {', '.join(_FILES)} is needed there")
    try:
        tokenizer = KeptTokenizer(folder) if (folder / _KEPT).is_file() else _by_transformers(folder, checkpoint)
    except Exception as error:  # damaged files make transformers fail in any way
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        if folder.is_dir():
            raise DataError(f"the tokenizer in {folder} cannot be loaded, config.json beside it? {reason}") from error
        raise DataError(
            f"{checkpoint!r} is no folder, and as a Hugging Face id it cannot be loaded: {reason} "
            f"Without network, put its files into a folder and give that instead: {_WANTED}"
        ) from error
    if not tokenizer.is_fast:
        raise DataError(f"{checkpoint} has no fast tokenizer: tokenizer.json is needed")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise DataError(f"the tokenizer of {checkpoint} holds nothing but special tokens: is its vocabulary missing?")
    return tokenizer


def _by_transformers(folder: pathlib.Path, checkpoint: str) -> Any:
    from transformers import AutoTokenizer  # slow to import, and not needed for images

    if folder.is_dir():
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    return _from_hub(AutoTokenizer, checkpoint)


def _from_hub(auto: Any, checkpoint: str) -> Any:
    try:
        return auto.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError):
        from huggingface_hub import HfApi

        # Asked once: a download asks for each of several files, and again and again, where there is no network.
        HfApi().model_info(checkpoint, timeout=_PATIENCE)
        return auto.from_pretrained(checkpoint, trust_remote_code=False)


class TextTokenizer:
    """Texts to token ids of at most `max_length`, special tokens included, by a text rule of `TextData.text_rule`.

    A text that is too long loses its last words and keeps the special tokens at its end, as transformers truncates. The
    published system does so as well: it asks transformers for XLNet, whose texts end in two, and writes the only one
    that BERT's and RoBERTa's have over the last token that stays. A text without any token is one 0. The `prefix`
    stands before what the rule leaves of a text.

    key: changes with everything that the result depends on.
    vocab_size: token ids are below it. unknown: the id of what the vocabulary does not hold, -1 if it holds everything.

    Raises:
      DataError: if the special tokens alone fill max_length.
    """

    def __init__(self, tokenizer: Any, max_length: int, text_rule: str, prefix: str = ""):
        from tokenizers import Tokenizer

        self._tokenizer, self._max_length, self._text_rule, self._prefix = tokenizer, max_length, text_rule, prefix
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        # Files often come with a length of their own, which is not ours and no part of the vocabulary.
        content["truncation"] = content["padding"] = None
        text = json.dumps(content, sort_keys=True)
        self._backend = Tokenizer.from_str(text)
        self.vocab_size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self.unknown = -1 if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)
        special = self._backend.num_special_tokens_to_add(False)
        if max_length <= special:
            raise DataError(f"config.data.max_length is {max_length}, which the {special} special tokens fill alone")
        mask = self._backend.encode("a").special_tokens_mask
        behind = len(list(itertools.takewhile(bool, reversed(mask))))
        # Tokens that were cached when rule 'reference' kept only one of several are others.
        ends = [behind] if text_rule == "reference" and behind > 1 else []
        before = [prefix] if prefix else []
        self.key = hashlib.sha256(json.dumps([text, max_length, text_rule, *ends, *before]).encode()).hexdigest()
        # One token more than may stay shows that a text is too long; this is the place of the one to leave out.
        self._backend.enable_truncation(max_length + 1)
        self._left_out = max_length - behind

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tokens of all texts end to end int32, number of tokens of each int64 [N], which were cut bool [N])."""
        if self._text_rule == "reference":
            texts = [_reference(text, self._max_length) for text in texts]
        if self._prefix:
            texts = [self._prefix + text for text in texts]
        encodings: list[Any] = [None] * len(texts)
        limit, waiting = _CHARACTERS * self._max_length, list(range(len(texts)))
        while waiting:
            heads = [_head(texts[place], limit) for place in waiting]
            again = []
            for place, head, encoding in zip(waiting, heads, self._encode(heads), strict=True):
                encodings[place] = encoding
                if len(head) < len(texts[place]) and len(encoding) <= self._max_length:
                    again.append(place)
            waiting, limit = again, _CHARACTERS * limit
        return self._join([encoding.ids for encoding in encodings])

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the tokenizer as transformers does, and what reads it back without transformers."""
        self._tokenizer.save_pretrained(str(folder))
        unknown = None if self.unknown < 0 else self.unknown
        pathlib.Path(folder, _KEPT).write_text(json.dumps({"unknown": unknown}) + "\n")

    def _encode(self, texts: Sequence[str]) -> list:
        try:
            return self._backend.encode_batch_fast(texts)
        except TypeError:
            return self._backend.encode_batch_fast([whole(text) for text in texts])

    def _join(self, ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = [row or [0] for row in ids]
        counts = np.array([len(row) for row in ids], np.int64)
        tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(counts.sum()))
        cut = counts > self._max_length
        starts = np.cumsum(counts) - counts
        return np.delete(tokens, starts[cut] + self._left_out), counts - cut, cut


def _head(text: str, limit: int) -> str:
    """Whole words of the first `limit` characters: tokenising pages whose end is cut off takes most of the time.

    Where there is no space the text is cut anywhere, as scripts without spaces need it, but not before `_UNBROKEN`
    characters: only the tokens at the end, far behind those that are kept, depend on what follows.
    """
    if len(text) <= limit:
        return text
    end = max(text.rfind(space, 0, limit) for space in _SPACES)
    return text[:end].rstrip() if end > 0 and not text[:end].isspace() else text[: max(limit, _UNBROKEN)]


def _reference(text: str, max_length: int) -> str:
    return " ".join(text.lower().split(None, max_length)[:max_length]) or "filling empty"

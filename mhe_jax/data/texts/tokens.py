"""Texts tokenised once: kept on disk, and mapped into memory from then on."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import warnings

import numpy as np
import tqdm
from filelock import FileLock

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts import seals
from mhe_jax.data.texts.corpus import Corpus
from mhe_jax.data.texts.tokenizer import TextTokenizer

_FORMAT = 1  # part of the key: a change of what is written makes it anew
_DOCUMENTS = 1024  # tokenised at a time
_UNKNOWN = 0.2  # of all tokens; texts in the vocabulary's own language have a hundredth
_ARRAYS = ("tokens.npy", "offsets.npy")


@dataclasses.dataclass(frozen=True)
class Tokens:
    """tokens: int32 memory map, all documents end to end; offsets: int64 [N+1]; truncated: documents that were cut."""

    tokens: np.ndarray
    offsets: np.ndarray
    truncated: int


def cache_root(cache_dir: str) -> pathlib.Path:
    """Where tokens are kept: `cache_dir`, or else a folder under $XDG_CACHE_HOME or ~/.cache."""
    if cache_dir:
        return pathlib.Path(cache_dir).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root, "mhe_jax", "tokens")


def tokenised(corpus: Corpus, tokenizer: TextTokenizer, root: pathlib.Path) -> Tokens:
    """The tokens of a corpus, from a folder in `root` named after a hash of texts, tokenizer, max_length and rule.

    What is not there, or is not what was written, is made: by one process at a time, the others wait and use it.

    Raises:
      DataError: if the corpus has not as many texts as rows of labels, or the folder cannot be written.
    """
    key = json.dumps([_FORMAT, corpus.fingerprint, tokenizer.key]).encode()
    folder = root / hashlib.sha256(key).hexdigest()[:32]
    documents = corpus.labels.shape[0]
    found = _open(folder, documents, tokenizer.vocab_size)
    if found is not None:
        return found
    made = _make_alone(root, folder, corpus, tokenizer)
    unknown = int((made.tokens == tokenizer.unknown).sum())
    if unknown > _UNKNOWN * len(made.tokens):
        warnings.warn(
            f"{corpus.source}: {unknown} of {len(made.tokens)} tokens stand for what the vocabulary does not hold; "
            "is the tokenizer for another language, or its lower-casing not the vocabulary's?",
            stacklevel=2,
        )
    return made


def _make_alone(root: pathlib.Path, folder: pathlib.Path, corpus: Corpus, tokenizer: TextTokenizer) -> Tokens:
    """Makes what is not there or damaged, or waits for the process that does."""
    documents = corpus.labels.shape[0]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            found = _open(folder, documents, tokenizer.vocab_size)
            if found is None:
                if folder.exists():
                    warnings.warn(f"{folder} is damaged and is made again", stacklevel=2)
                _make(folder, corpus, tokenizer)
                found = _open(folder, documents, tokenizer.vocab_size)
    except OSError as error:
        raise DataError(
            f"the tokens of {corpus.source} cannot be kept in {root} (config.data.cache_dir): {error}"
        ) from error
    if found is None:
        raise DataError(f"{folder} was written but cannot be read back; is config.data.cache_dir on a sound disk?")
    return found


def _open(folder: pathlib.Path, documents: int, vocab_size: int) -> Tokens | None:
    """What lies in a folder; None if it is not what `_make` wrote."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        seal = facts.pop("seal", None)
        if seal is not None and not seals.is_sealed(folder, _ARRAYS, facts, seal):
            return None
        # Maps compare a header with the size of its file before any memory is taken.
        tokens, offsets = (np.load(folder / name, mmap_mode="r") for name in _ARRAYS)
        truncated = facts["truncated"]
        whole = (
            (tokens.dtype, offsets.dtype, tokens.ndim, offsets.shape) == (np.int32, np.int64, 1, (documents + 1,))
            and (offsets[0], offsets[-1]) == (0, len(tokens))
            and bool((np.diff(offsets) >= 0).all())
            and type(truncated) is int
        )
        # Folders without a seal are from before there was one.
        if whole and seal is None:
            known = set(facts) == {"truncated", "source"}
            whole = known and int(tokens.min(initial=0)) >= 0 and int(tokens.max(initial=0)) < vocab_size
    except Exception:  # damaged files fail in any way
        return None
    return Tokens(tokens, np.array(offsets), truncated) if whole else None


def _make(folder: pathlib.Path, corpus: Corpus, tokenizer: TextTokenizer) -> None:
    """Tokenises into a folder beside the real one, which is renamed when it is complete."""
    partial = folder.with_suffix(".part")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        partial.mkdir()
        offsets, truncated = _write_tokens(partial / "tokens.npy", corpus, tokenizer)
        np.save(partial / "offsets.npy", offsets)
        facts = {"truncated": truncated, "source": corpus.source}
        facts["seal"] = seals.seal(partial, _ARRAYS, facts)
        (partial / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_tokens(path: pathlib.Path, corpus: Corpus, tokenizer: TextTokenizer) -> tuple[np.ndarray, int]:
    """Writes all tokens as they come; the offsets, and the number of texts that were cut."""
    documents = corpus.labels.shape[0]
    ends, truncated = [np.zeros(1, np.int64)], 0
    texts = iter(corpus.texts())
    with (
        path.open("wb") as file,
        # disable=None shows the bar on a terminal only.
        tqdm.tqdm(total=documents, desc=f"tokenising {corpus.source}", unit=" documents", disable=None) as bar,
    ):
        _write_header(file, 0)
        while some := list(itertools.islice(texts, _DOCUMENTS)):
            tokens, counts, cut = tokenizer(some)
            file.write(tokens.tobytes())
            ends.append(ends[-1][-1] + np.cumsum(counts))
            truncated += int(cut.sum())
            bar.update(len(some))
        offsets = np.concatenate(ends)
        _write_header(file, int(offsets[-1]))
    if len(offsets) - 1 != documents:
        raise DataError(f"{corpus.source}: {len(offsets) - 1} texts but labels for {documents} documents")
    return offsets, truncated


def _write_header(file, count: int) -> None:
    """The header of an int32 .npy: numpy leaves room in it for any count, so the last one replaces the first."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import threading
import time

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts import tokens
from mhe_jax.data.texts.corpus import Corpus
from mhe_jax.data.texts.tokenizer import TextTokenizer
from mhe_jax.data.texts.tokens import cache_root, tokenised
from mhe_jax.data.texts.word_pieces import train_word_pieces

TEXTS = [" ".join(["red", "green", "blue"][: i % 4] * (i % 7)) for i in range(53)]


def corpus_of(texts=TEXTS, documents=None, passes=None):
    def read():
        if passes is not None:
            passes.append(1)
        return iter(texts)

    labels = scipy.sparse.csr_matrix((len(texts) if documents is None else documents, 3), dtype=np.float32)
    fingerprint = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Corpus(read, labels, "colours.txt", labels.astype(bool), fingerprint)


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer(train_word_pieces(["red green blue"] * 3, 60), 9, "raw")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(tokens, "_DOCUMENTS", 10)


def test_tokens_are_those_of_each_text(tokenizer, tmp_path):
    found = tokenised(corpus_of(), tokenizer, tmp_path)
    assert found.offsets.shape == (54,)
    assert found.offsets.dtype == np.int64
    assert found.tokens.dtype == np.int32
    for i, text in enumerate(TEXTS):
        np.testing.assert_array_equal(found.tokens[found.offsets[i] : found.offsets[i + 1]], tokenizer([text])[0])
    assert found.truncated == sum(bool(tokenizer([text])[2][0]) for text in TEXTS) > 0


def test_the_second_start_reads_no_text(tokenizer, tmp_path):
    passes = []
    first = tokenised(corpus_of(passes=passes), tokenizer, tmp_path)
    second = tokenised(corpus_of(passes=passes), tokenizer, tmp_path)
    assert passes == [1]
    assert isinstance(second.tokens, np.memmap)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert first.truncated == second.truncated


def test_other_texts_tokenizers_and_lengths_have_their_own(tokenizer, tmp_path):
    other = TextTokenizer(train_word_pieces(["red green blue"] * 3, 60), 8, "raw")
    tokenised(corpus_of(), tokenizer, tmp_path)
    assert tokenised(corpus_of(), other, tmp_path).offsets[-1] < tokenised(corpus_of(), tokenizer, tmp_path).offsets[-1]
    tokenised(corpus_of(TEXTS[1:]), tokenizer, tmp_path)
    assert len(list(tmp_path.glob("*/tokens.npy"))) == 3
    assert not list(tmp_path.glob("*.part"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def replace(path):
    path.write_text("not what it should be")


@pytest.mark.parametrize("harm", [truncate, replace, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "facts.json"])
def test_a_damaged_folder_is_made_again(tokenizer, tmp_path, name, harm):
    good = np.array(tokenised(corpus_of(), tokenizer, tmp_path).tokens)
    (path,) = tmp_path.glob(f"*/{name}")
    harm(path)
    with pytest.warns(UserWarning, match="is damaged and is made again"):
        again = tokenised(corpus_of(), tokenizer, tmp_path)
    np.testing.assert_array_equal(again.tokens, good)
    assert tokenised(corpus_of(), tokenizer, tmp_path).truncated == again.truncated


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "facts.json"])
def test_no_bit_of_a_folder_may_change(tokenizer, tmp_path, name):
    good = tokenised(corpus_of(), tokenizer, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in {0, 9, len(whole) - 2, *rng.integers(0, len(whole), 25).tolist()}:
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(7))
        path.write_bytes(data)
        with pytest.warns(UserWarning, match="is damaged and is made again"):
            again = tokenised(corpus_of(), tokenizer, tmp_path)
        np.testing.assert_array_equal(again.tokens, good.tokens)
        np.testing.assert_array_equal(again.offsets, good.offsets)
        assert again.truncated == good.truncated
        assert path.read_bytes() == whole


def test_tokens_that_are_known_to_be_right_are_not_read_to_be_hashed(tokenizer, tmp_path, monkeypatch):
    good = np.array(tokenised(corpus_of(), tokenizer, tmp_path).tokens)
    for path in tmp_path.glob("*/*.npy"):
        os.utime(path, ns=(10**18, 10**18))
    tokenised(corpus_of(), tokenizer, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it was hashed"))
        again = tokenised(corpus_of(), tokenizer, tmp_path)
    np.testing.assert_array_equal(again.tokens, good)
    (path,) = tmp_path.glob("*/tokens.npy")
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged and is made again"):
        np.testing.assert_array_equal(tokenised(corpus_of(), tokenizer, tmp_path).tokens, good)


def test_a_folder_from_before_there_were_seals_is_used_if_its_tokens_exist(tokenizer, tmp_path):
    tokenised(corpus_of(), tokenizer, tmp_path)
    (facts,) = tmp_path.glob("*/facts.json")
    facts.write_text(json.dumps({"truncated": 7, "source": "colours.txt"}))
    assert tokenised(corpus_of(), tokenizer, tmp_path).truncated == 7
    tokens = np.load(facts.with_name("tokens.npy"))
    tokens[3] ^= 1 << 30
    np.save(facts.with_name("tokens.npy"), tokens)
    with pytest.warns(UserWarning, match="is damaged and is made again"):
        assert tokenised(corpus_of(), tokenizer, tmp_path).truncated != 7


@pytest.mark.parametrize("shape", ["(9999999999999,)", "(", "(-1,)", "(1, 2", "__import__"])
def test_headers_that_are_no_headers(tokenizer, tmp_path, shape):
    good = np.array(tokenised(corpus_of(), tokenizer, tmp_path).offsets)
    for name in ("tokens.npy", "offsets.npy"):
        (path,) = tmp_path.glob(f"*/{name}")
        (facts,) = tmp_path.glob("*/facts.json")
        facts.write_text(json.dumps({"truncated": 7, "source": "colours.txt"}))
        header = b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape.encode() + b"}"
        path.write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
        with pytest.warns(UserWarning, match="is damaged and is made again"):
            np.testing.assert_array_equal(tokenised(corpus_of(), tokenizer, tmp_path).offsets, good)


def test_texts_that_the_vocabulary_does_not_hold_are_told(tokenizer, tmp_path):
    texts = ["rot gr\u00fcn \u6f22 blau"] * 20
    with pytest.warns(UserWarning, match=r"colours.txt: 60 of 160 tokens stand for what the vocabulary does not"):
        tokenised(corpus_of(texts), tokenizer, tmp_path)


def test_a_half_written_folder_is_no_obstacle(tokenizer, tmp_path):
    def fails():
        yield from TEXTS[:30]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        tokenised(dataclasses.replace(corpus_of(), texts=fails), tokenizer, tmp_path)
    assert not list(tmp_path.glob("*/"))
    # Of a process that could not clean up.
    (lock,) = tmp_path.glob("*.lock")
    partial = lock.with_suffix(".part")
    partial.mkdir()
    (partial / "tokens.npy").write_text("the first half")
    assert tokenised(corpus_of(), tokenizer, tmp_path).offsets.shape == (54,)
    assert not partial.exists()


@pytest.mark.parametrize("documents", [52, 54])
def test_another_number_of_texts_than_labels_is_an_error(tokenizer, tmp_path, documents):
    with pytest.raises(DataError, match=f"colours.txt: 53 texts but labels for {documents} documents"):
        tokenised(corpus_of(documents=documents), tokenizer, tmp_path)
    assert not list(tmp_path.glob("*/"))


def test_an_unwritable_place_is_named(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"colours.txt cannot be kept in .*file.* \(config.data.cache_dir\)"):
        tokenised(corpus_of(), tokenizer, tmp_path / "file" / "below")


def test_of_two_that_start_at_once_one_tokenises(tokenizer, tmp_path):
    passes, barrier = [], threading.Barrier(2, timeout=60)

    def slowly():
        passes.append(1)
        for text in TEXTS:
            time.sleep(0.002)
            yield text

    corpus = dataclasses.replace(corpus_of(), texts=slowly)

    def start():
        barrier.wait()
        return tokenised(corpus, tokenizer, tmp_path).tokens

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = (future.result() for future in [pool.submit(start), pool.submit(start)])
    assert passes == [1]
    np.testing.assert_array_equal(first, second)


def test_the_cache_lies_where_it_is_said(monkeypatch, tmp_path):
    assert cache_root(str(tmp_path)) == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root("") == tmp_path / "mhe_jax" / "tokens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root("").parts[-3:] == (".cache", "mhe_jax", "tokens")


def test_what_is_kept_are_plain_numpy_files(tokenizer, tmp_path):
    found = tokenised(corpus_of(), tokenizer, tmp_path)
    (folder,) = (path.parent for path in tmp_path.glob("*/facts.json"))
    np.testing.assert_array_equal(np.load(folder / "tokens.npy"), found.tokens)
    assert json.loads((folder / "facts.json").read_text())["source"] == "colours.txt"

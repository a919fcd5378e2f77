import unicodedata

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.unicode_names import UnicodeNames, labels_of, named_characters


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return UnicodeNames(cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def texts(data):
    return data.load()


def test_names_that_are_made_from_the_code_point_are_left_out():
    codes = set(named_characters())
    assert {ord(character) for character in "Aé€ﷺ\N{BRAILLE PATTERN DOTS-12}\N{MUSICAL SYMBOL G CLEF}"} <= codes
    assert not codes & {ord(character) for character in "一가\U00020000\x00\ue000"}
    assert 30_000 < len(codes) < 50_000


@pytest.mark.parametrize(
    ("character", "labels"),
    [
        (
            "À",
            ["category:Lu", "script:Latin", "block:Latin-1 Supplement", "word:Latin-1", "char:U+0041", "char:U+0300"],
        ),
        ("½", ["category:No", "script:Common", "char:U+0031", "char:U+2044", "char:U+0032"]),
        ("α", ["category:Ll", "script:Greek", "block:Greek and Coptic", "word:Greek", "word:and", "word:Coptic"]),
        ("㌀", ["char:U+30A2", "char:U+30D1", "char:U+30FC", "char:U+30C8"]),
    ],
)
def test_labels_say_what_is_known_of_a_character(character, labels):
    found = labels_of(ord(character))
    assert set(labels) <= set(found)
    assert len(set(found)) == len(found)


def test_every_label_has_two_characters_and_every_document_its_own(data):
    corpora = data.read()
    total = sum(np.asarray((corpus.labels > 0).sum(axis=0)).ravel() for corpus in (corpora.train, corpora.test))
    assert total.min() == 2
    assert list(corpora.label_names) == sorted(set(corpora.label_names))
    rows = zip(corpora.test.texts(), corpora.test.labels, strict=True)
    for name, row in list(rows)[::97]:
        known = [label for label in labels_of(ord(unicodedata.lookup(name))) if label in corpora.label_names]
        assert [corpora.label_names[i] for i in row.indices] == sorted(known)


def test_a_tenth_is_held_out_for_each_purpose(texts, data):
    total = len(named_characters())
    sizes = [split.num_examples for split in (texts.train, texts.eval, texts.test)]
    assert sum(sizes) == total
    assert sizes[1:] == [3000, total // 10]
    corpora = data.read()
    assert not set(corpora.train.texts()) & set(corpora.test.texts())
    again = UnicodeNames(cache_dir=data.cache_dir).read()
    assert list(again.test.texts()) == list(corpora.test.texts())


def test_the_vocabulary_is_trained_on_the_training_names(data, texts):
    tokenizer = data.make_tokenizer()
    assert len(tokenizer) == data.vocab_size == 4096
    input_ids, length = data.encode(["LATIN SMALL LETTER A"])
    words = tokenizer.convert_ids_to_tokens(input_ids[0, : length[0]])
    assert words == ["[CLS]", "latin", "small", "letter", "a", "[SEP]"]
    assert texts.train.tokens.max() < 4096
    assert (texts.test.tokens == tokenizer.unk_token_id).mean() < 0.001


def test_another_start_gives_the_same_tokens(data, texts, tmp_path):
    again = UnicodeNames(cache_dir=str(tmp_path)).load()
    np.testing.assert_array_equal(again.eval.tokens, texts.eval.tokens)


def test_a_kept_tokenizer_may_stand_in(data, tmp_path):
    data.save_tokenizer(tmp_path)
    kept = UnicodeNames(tokenizer=str(tmp_path))
    np.testing.assert_array_equal(kept.encode(["GREEK LETTER"])[0], data.encode(["GREEK LETTER"])[0])
    with pytest.raises(DataError, match=r"vocab_size is 100 but .* has 4096 pieces"):
        UnicodeNames(tokenizer=str(tmp_path), vocab_size=100).encode(["GREEK LETTER"])


def test_popularity_is_far_from_perfect(texts):
    assert 0.2 < texts.facts["popularity"]["test"]["P@1"] < 0.6

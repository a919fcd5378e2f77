"""Words of texts as features: by scikit-learn's TF-IDF, learnt from the documents to train on, kept in plain files."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.feature_extraction.text import TfidfVectorizer

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.sparse.vectorizer import FILE, WEIGHTS, Vectorizer, Words

TRAIN = ["the sea and the law", "a law of the sea", "tax law", "fish in the sea", "fish tax", "port, sea; port"]
TEST = ["sea port law", "nothing known", ""]


@pytest.fixture
def documents(tmp_path):
    for split, texts in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"{split}_raw_texts.txt").write_text("".join(f"{text}\n" for text in texts))
        labels = [f"l{number % 3} l{number % 2 + 3}" for number in range(len(texts))]
        (tmp_path / f"{split}_labels.txt").write_text("".join(f"{line}\n" for line in labels))
    return tmp_path


def data(folder, **fields):
    section = {"name": "words", "path": str(folder), "min_documents": 1, **fields}
    return build_data(ConfigDict(section))


def test_features_are_those_of_scikit_learn(documents):
    made = data(documents)
    found = made.load()
    reference = TfidfVectorizer(sublinear_tf=True)
    np.testing.assert_allclose(found.train.matrix.toarray(), reference.fit_transform(TRAIN).toarray(), rtol=1e-6)
    np.testing.assert_allclose(found.eval.matrix.toarray(), reference.transform(TEST).toarray(), rtol=1e-6)
    assert made.features_dim == len(reference.vocabulary_)
    assert made.num_classes == 5
    assert found.facts["eval"]["empty_rows"] == 2


def test_a_saved_vectorizer_reads_the_same(documents, tmp_path):
    made = data(documents, ngrams=(1, 2), max_vocabulary=9)
    made.load()
    made.save_vectorizer(tmp_path / "kept")
    again = data(documents, vectorizer=str(tmp_path / "kept"), features_dim=9)
    for name, value in made.inputs_of(TEST).items():
        np.testing.assert_array_equal(again.inputs_of(TEST)[name], value)
    np.testing.assert_array_equal(again.load().train.values, made.load().train.values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"analyzer": "char_wb"}, r"analyzer is 'char_wb', but .*kept has words by 'word': set it to that"),
        ({"ngrams": (2, 3)}, r"ngrams is \(2, 3\), but .* by \(1, 2\)"),
        ({"min_documents": 3}, "min_documents is 3, but .* by 1"),
        ({"max_vocabulary": 4}, "max_vocabulary is 4, but .* by 9"),
        ({"hashed": 8}, "hashed is 8, but .* by 0"),
    ],
)
def test_settings_of_a_saved_vectorizer_are_kept(documents, tmp_path, fields, message):
    made = data(documents, ngrams=(1, 2), max_vocabulary=9)
    made.load()
    made.save_vectorizer(tmp_path / "kept")
    with pytest.raises(DataError, match=rf"config\.data\.{message}"):
        data(documents, vectorizer=str(tmp_path / "kept"), **fields).load()


def test_hashed_words_need_no_vocabulary(documents, tmp_path):
    made = data(documents, hashed=64)
    made.load()
    made.save_vectorizer(tmp_path / "kept")
    assert made.features_dim == 64
    assert json.loads((tmp_path / "kept" / FILE).read_text())["words"] == []
    again = data(documents, hashed=64, vectorizer=str(tmp_path / "kept"))
    np.testing.assert_array_equal(again.inputs_of(TEST)["feature_ids"], made.inputs_of(TEST)["feature_ids"])


def test_pieces_of_words(documents):
    made = data(documents, analyzer="char_wb", ngrams=(2, 3))
    made.load()
    ids, values = made.inputs_of(["ports"]).values()
    assert (values > 0).sum() >= 4
    assert ids.shape == values.shape


def test_texts_without_words_are_an_error(documents):
    (documents / "train_raw_texts.txt").write_text("\n" * len(TRAIN))
    with pytest.raises(DataError, match="no words to tell them apart"):
        data(documents).load()


@pytest.mark.parametrize(("file", "content"), [(FILE, b"{"), (FILE, b'{"words": []}'), (WEIGHTS, b"x"), (FILE, None)])
def test_a_damaged_vectorizer_is_an_error(file, content, tmp_path):
    vectorizer = Vectorizer(Words(min_documents=1))
    vectorizer.fit(TRAIN)
    vectorizer.save(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match="holds no vectorizer"):
        Vectorizer.load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"analyzer": "letters"}, "analyzer"),
        ({"ngrams": (2, 1)}, "ngrams"),
        ({"min_documents": 0}, "min_documents"),
        ({"hashed": 8, "max_vocabulary": 4}, "max_vocabulary = 0"),
        ({"max_row_features": 0}, "max_row_features"),
        ({"valid_examples": 1.5}, "valid_examples"),
        ({"propensity": (0.5,)}, "propensity"),
    ],
)
def test_impossible_settings_are_errors(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data(tmp_path, **fields)

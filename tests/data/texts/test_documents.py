import dataclasses
import hashlib

import jax
import numpy as np
import pytest
import scipy.sparse
from sklearn.model_selection import train_test_split

from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import train_feed
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.data.texts.corpus import Corpora, Corpus
from mhe_jax.data.texts.documents import CorpusText, choose
from mhe_jax.data.texts.word_pieces import train_word_pieces

WORDS = ["red", "green", "blue", "white", "black"]
LABELS = 11


def corpus_of(count, seed, name):
    """Document i says its number; the fifth has neither text nor labels."""
    rng = np.random.default_rng(seed)
    texts = [f"{i} {' '.join(rng.choice(WORDS, rng.integers(1, 40)))}" for i in range(count)]
    rows = [np.sort(rng.permutation(LABELS)[: rng.integers(1, 6)]) for _ in range(count)]
    if count > 4:
        texts[4], rows[4] = "", rows[4][:0]
    indptr = np.cumsum([0, *map(len, rows)])
    labels = scipy.sparse.csr_matrix(
        (np.ones(indptr[-1], np.float32), np.concatenate([np.zeros(0, int), *rows]), indptr), (count, LABELS)
    )
    fingerprint = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Corpus(lambda: iter(texts), labels, name, scipy.sparse.csr_matrix(labels.shape, dtype=bool), fingerprint)


def corpora_of(train=101, test=23):
    names = tuple(f"label {i}" for i in range(LABELS))
    return Corpora(corpus_of(train, 0, "train.txt"), corpus_of(test, 1, "test.txt"), names, "two lists")


@dataclasses.dataclass(kw_only=True)
class Given(CorpusText):
    corpora_given: Corpora
    max_length: int = 16
    label_width: int = 0

    def read(self):
        return self.corpora_given

    def make_tokenizer(self):
        return train_word_pieces([" ".join([*WORDS, *map(str, range(10))])] * 2, 100)


def data_of(tmp_path, corpora=None, **fields):
    return Given(corpora_given=corpora or corpora_of(), cache_dir=str(tmp_path), **fields)


def numbers(corpus):
    """The documents of a corpus, by the number that the text begins with; -1 for the empty one."""
    return [int(text.split()[0]) if text else -1 for text in corpus.texts()]


def test_tokens_and_labels_are_those_of_the_documents(tmp_path):
    data = data_of(tmp_path)
    texts, given = data.load(), corpora_of()
    assert texts.test is None
    assert texts.class_names == given.label_names
    for split, corpus in ((texts.train, given.train), (texts.eval, given.test)):
        expected, length = data.encode(list(corpus.texts()))
        assert split.num_examples == len(length) == corpus.labels.shape[0]
        np.testing.assert_array_equal(split.lengths, length)
        for i, n in enumerate(length):
            np.testing.assert_array_equal(split.tokens[split.offsets[i] : split.offsets[i + 1]], expected[i, :n])
        assert (split.labels != corpus.labels).nnz == 0
        assert split.filtered is None


def test_the_label_width_loses_none(tmp_path):
    data = data_of(tmp_path)
    texts = data.load()
    assert data.label_width == texts.train.label_width == texts.eval.label_width == 5
    assert texts.facts["labels_cut_off"] == 0


def test_a_narrow_width_is_for_training_only(tmp_path):
    data = data_of(tmp_path, label_width=2)
    for _ in range(2):
        texts = data.load()
        assert (texts.train.label_width, texts.eval.label_width) == (2, 5)
        width = np.diff(texts.train.labels.indptr)
        assert texts.facts["labels_cut_off"] == np.maximum(width - 2, 0).sum() > 0


def test_validation_is_the_published_choice(tmp_path):
    data = data_of(tmp_path, valid_examples=20)
    texts, given = data.load(), corpora_of()
    train, valid = map(np.sort, train_test_split(np.arange(101), test_size=20, random_state=1240))
    assert (texts.train.num_examples, texts.eval.num_examples, texts.test.num_examples) == (81, 20, 23)
    assert (texts.train.labels != given.train.labels[train]).nnz == 0
    assert (texts.eval.labels != given.train.labels[valid]).nnz == 0
    assert (texts.test.labels != given.test.labels).nnz == 0
    _, length = data.encode([text for i, text in enumerate(given.train.texts()) if i in valid])
    np.testing.assert_array_equal(texts.eval.lengths, length)
    assert texts.facts["chosen_on"] == "20 training documents"


@pytest.mark.parametrize("valid_examples", [0, 20])
def test_validation_documents_of_a_file_choose_the_best(tmp_path, valid_examples):
    corpora = dataclasses.replace(corpora_of(), valid=corpus_of(9, 2, "valid.txt"))
    data = data_of(tmp_path, corpora, valid_examples=valid_examples, max_eval=7)
    texts = data.load()
    assert (texts.train.num_examples, texts.eval.num_examples, texts.test.num_examples) == (101, 7, 7)
    assert set(numbers(data.corpora().test)) <= set(numbers(corpora.valid))
    assert texts.facts["chosen_on"] == "7 validation documents"


def test_what_is_evaluated_is_what_chooses_and_what_tests(tmp_path):
    valid, given = corpus_of(9, 2, "valid.txt"), corpora_of()
    sizes = lambda data: {name: corpus.labels.shape[0] for name, corpus in list(data.splits().items())[1:]}
    assert sizes(data_of(tmp_path)) == {"eval": 23}
    assert sizes(data_of(tmp_path, valid_examples=20, max_eval=7)) == {"eval": 7, "test": 7}
    assert sizes(data_of(tmp_path, dataclasses.replace(given, valid=valid))) == {"eval": 9, "test": 23}
    assert sizes(data_of(tmp_path, dataclasses.replace(given, valid=valid, test=None))) == {"eval": 9}
    bare = dataclasses.replace(given.test, labels=scipy.sparse.csr_matrix(given.test.labels.shape, dtype=np.float32))
    # Documents without labels are ranked, too.
    assert sizes(data_of(tmp_path, dataclasses.replace(given, valid=valid, test=bare))) == {"eval": 9, "test": 23}


def test_corpora_are_what_trains_and_what_chooses(tmp_path):
    corpora = data_of(tmp_path, valid_examples=20, max_train=30, max_eval=7).corpora()
    train, valid = train_test_split(np.arange(101), test_size=20, random_state=1240)
    chosen, held_out = numbers(corpora.train), numbers(corpora.test)
    assert (len(chosen), len(held_out)) == (30, 7) == (corpora.train.labels.shape[0], corpora.test.labels.shape[0])
    assert set(chosen) - {-1} <= set(train.tolist())
    assert set(held_out) - {-1} <= set(valid.tolist())
    assert corpora.train.labels.shape[1] == LABELS
    again = data_of(tmp_path, valid_examples=20, max_train=30, max_eval=7).corpora()
    assert numbers(again.train) == chosen
    assert again.train.fingerprint == corpora.train.fingerprint != corpora.test.fingerprint


def test_a_subset_is_random_and_the_same_each_time(tmp_path):
    texts = data_of(tmp_path, max_train=30, max_eval=7).load()
    assert (texts.train.num_examples, texts.eval.num_examples) == (30, 7)
    assert texts.facts["at_most"] == {"train": 30, "eval": 7}
    chosen = numbers(data_of(tmp_path, max_train=30).corpora().train)
    assert chosen[-1] > 40
    assert set(chosen) < set(numbers(data_of(tmp_path, max_train=60).corpora().train))
    whole = data_of(tmp_path, max_train=1000).load()
    assert whole.train.num_examples == 101


def test_choose_keeps_the_order_and_the_labels():
    corpus = corpus_of(9, 0, "train.txt")
    part = choose(corpus, np.array([7, 2, 3]))
    assert numbers(part) == [2, 3, 7]
    assert numbers(part) == [2, 3, 7]  # a second pass
    assert (part.labels != corpus.labels[[2, 3, 7]]).nnz == 0
    assert part.fingerprint != corpus.fingerprint != choose(corpus, np.array([7, 2, 4])).fingerprint


def test_filtered_pairs_go_with_their_documents(tmp_path):
    given = corpora_of()
    filtered = scipy.sparse.csr_matrix((np.ones(2, bool), ([3, 20], [5, 1])), (23, LABELS))
    given = dataclasses.replace(given, test=dataclasses.replace(given.test, filtered=filtered))
    texts = data_of(tmp_path, given).load()
    assert (texts.eval.filtered != filtered).nnz == 0
    assert texts.train.filtered is None


def test_propensities_are_of_the_training_labels(tmp_path):
    texts = data_of(tmp_path, valid_examples=20, propensity=(0.5, 0.4)).load()
    expected = inverse_propensity(corpora_of().train.labels, 0.5, 0.4)
    np.testing.assert_array_equal(texts.eval.inverse_propensity, expected)
    np.testing.assert_array_equal(texts.test.inverse_propensity, expected)
    assert texts.train.inverse_propensity is None


def test_empty_texts_and_documents_without_labels_are_kept_and_counted(tmp_path):
    data = data_of(tmp_path, bucket_lengths=(4, 8))
    texts = data.load()
    assert texts.facts["train"]["documents_without_labels"] == 1
    assert texts.train.lengths.min() == 2
    feed = train_feed(texts.train, 101, seed=0)
    chunk = feed.chunk(0, 1)
    empty = chunk["length"][0] == 2
    assert empty.sum() == 1
    np.testing.assert_array_equal(chunk["label"][0][empty], [[-1] * 5])
    assert chunk["weight"].min() == 1


def test_facts_are_plain_and_right(tmp_path):
    facts = data_of(tmp_path).load().facts
    labels = corpora_of().test.labels
    assert facts["layout"] == "two lists"
    assert facts["labels"] == LABELS
    assert facts["chosen_on"] == "the test documents"
    assert facts["eval"]["documents"] == 23
    assert facts["eval"]["labels_per_document"] == {"mean": round(labels.nnz / 23, 3), "max": 5}
    assert 0 < facts["eval"]["truncated_documents"] < 1
    assert facts["eval"]["tokens_per_document"] <= 16
    assert set(facts["popularity"]["eval"]) == {"P@1", "P@3", "P@5"}


def test_another_number_of_labels_is_an_error(tmp_path):
    data = data_of(tmp_path, num_classes=LABELS)
    data.load()
    with pytest.raises(DataError, match="num_classes is 12 but train.txt has 11 labels"):
        data_of(tmp_path, num_classes=12).load()
    data = data_of(tmp_path)
    data.load()
    assert data.num_classes == LABELS


def test_splits_that_cannot_be_are_errors(tmp_path):
    with pytest.raises(DataError, match="valid_examples is 101 but train.txt has 101 documents"):
        data_of(tmp_path, valid_examples=101).load()
    assert data_of(tmp_path, valid_examples=100).load().train.num_examples == 1
    shared = data_of(tmp_path, valid_examples=0.2).load()
    assert (shared.train.num_examples, shared.eval.num_examples) == (80, 21)
    with pytest.raises(DataError, match=r"valid_examples is 0.995 but train.txt has 101 documents: none is left"):
        data_of(tmp_path, valid_examples=0.995).load()
    with pytest.raises(DataError, match="test.txt has no documents"):
        data_of(tmp_path, corpora_of(test=0)).load()


@pytest.mark.parametrize("size", [1.0, 20.0, 0.01, 0.2, 1 / 3, 0.9])
def test_a_share_or_number_is_held_out_as_sklearn_does(tmp_path, size):
    corpora = data_of(tmp_path, valid_examples=size).corpora()
    _, valid = train_test_split(np.arange(101), test_size=size if size < 1 else int(size), random_state=1240)
    assert set(numbers(corpora.test)) - {-1} == set(valid.tolist()) - {4}


def test_labels_to_train_on_are_needed(tmp_path):
    given = corpora_of()
    bare = dataclasses.replace(given.train, labels=scipy.sparse.csr_matrix(given.train.labels.shape, dtype=np.float32))
    for size in (0, 20):
        data = data_of(tmp_path, dataclasses.replace(given, train=bare), valid_examples=size)
        with pytest.raises(DataError, match=f"train.txt: none of the {101 - size} documents to train on has a label"):
            data.load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 1}, "max_length is 1; it must be at least 2"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"label_width": -1}, "label_width is -1"),
        ({"sort_window": 0}, "sort_window is 0; it must be at least 1"),
        ({"valid_examples": -1}, "valid_examples is -1"),
        ({"valid_examples": 1.5}, "valid_examples is 1.5; it must be a share below 1 or a whole number"),
        ({"valid_examples": float("nan")}, "valid_examples is nan; it must be a share"),
        ({"max_train": -5}, "max_train is -5"),
        ({"max_eval": -5}, "max_eval is -5"),
        ({"bucket_lengths": (0, 4)}, "bucket_lengths is"),
        ({"text_rule": "rare"}, "text_rule is 'rare'; it must be one of 'raw', 'reference'"),
        ({"last_batch": "pad"}, "last_batch is 'pad'"),
        ({"propensity": (0.5, 0.0)}, "propensity is"),
        ({"propensity": (0.5,)}, "propensity is"),
    ],
)
def test_impossible_fields_are_errors(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        data_of(tmp_path, **fields)


def test_encode_pads_to_the_smallest_bucket(tmp_path):
    data = data_of(tmp_path, bucket_lengths=(4, 8))
    for count, width in ((1, 4), (2, 4), (3, 8), (7, 16), (40, 16)):
        input_ids, length = data.encode(["red", " ".join(["red"] * count)])
        assert input_ids.shape == (2, width)
        assert input_ids.dtype == length.dtype == np.int32
        assert length.tolist() == [3, min(count + 2, 16)]
        assert input_ids[0, 3:].tolist() == [0] * (width - 3)
    assert data.encode([])[0].shape == (0, 4)


def test_the_tokenizer_is_kept(tmp_path):
    data = data_of(tmp_path / "cache")
    data.save_tokenizer(tmp_path / "kept")
    again = CorpusText(tokenizer=str(tmp_path / "kept"), max_length=16)
    texts = ["red green 7", "", "unknown"]
    jax.tree.map(np.testing.assert_array_equal, again.encode(texts), data.encode(texts))
    assert again.vocab_size == data.vocab_size


def test_an_empty_tokenizer_field_is_an_error():
    with pytest.raises(DataError, match="config.data.tokenizer is empty"):
        _ = CorpusText().vocab_size


def test_abstract_batches_are_the_largest_real_ones(tmp_path):
    data = data_of(tmp_path, last_batch="keep")
    assert data.abstract_batch(7)["label"].shape == (7, 100)
    feed = train_feed(data.load().train, 101, seed=0)
    real = {name: (value.shape[1:], value.dtype) for name, value in feed.chunk(0, 1).items()}
    assert real == {name: (leaf.shape, leaf.dtype) for name, leaf in data.abstract_batch(101).items()}

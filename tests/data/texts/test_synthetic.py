import time

import jax
import numpy as np
import pytest

from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.texts.synthetic import SyntheticText, sign


def test_documents_are_as_long_and_as_many_as_asked():
    texts = SyntheticText(num_classes=97, num_examples=203, num_eval_examples=31, lengths=(5, 9)).load()
    assert (texts.train.num_examples, texts.eval.num_examples, texts.test) == (203, 31, None)
    assert set(texts.train.lengths) == set(range(5, 10))
    assert texts.train.labels.shape == (203, 97)
    assert (texts.train.tokens[texts.train.offsets[:-1]] == 1).all()
    assert texts.train.tokens.min() == 1
    assert texts.train.tokens.max() < 1000
    assert texts.train.tokens.dtype == np.int32


def test_evaluation_repeats_label_sets_with_other_words():
    texts = SyntheticText(num_classes=97, num_examples=203, num_eval_examples=31).load()
    assert (texts.eval.labels != texts.train.labels[:31]).nnz == 0
    assert not np.array_equal(texts.eval.tokens[:200], texts.train.tokens[:200])


def test_words_tell_the_labels():
    texts = SyntheticText(num_classes=1000, vocab_size=30_000, num_examples=100, num_eval_examples=7).load()
    told = total = 0
    for i in range(100):
        labels = texts.train.labels[i].indices
        words = 3 + np.concatenate([sign(labels, np.full(len(labels), which), 29_997) for which in range(2)])
        mine = texts.train.tokens[texts.train.offsets[i] + 1 : texts.train.offsets[i + 1]]
        told, total = told + np.isin(mine, words).sum(), total + len(mine)
    assert 0.65 < told / total < 0.85


def test_labels_are_unique_in_a_document():
    texts = SyntheticText(num_classes=3, num_examples=50, num_eval_examples=5, labels_per_example=5).load()
    assert texts.train.labels.max() == 1
    assert texts.train.labels.has_sorted_indices
    assert texts.train.label_width <= 3


def test_the_seed_decides():
    make = lambda seed: SyntheticText(num_classes=97, num_examples=50, num_eval_examples=5, seed=seed).load()
    np.testing.assert_array_equal(make(1).train.tokens, make(1).train.tokens)
    assert not np.array_equal(make(1).train.tokens[:200], make(2).train.tokens[:200])


def test_a_large_set_is_made_in_no_time():
    start = time.perf_counter()
    texts = SyntheticText(num_classes=2_812_281, num_examples=20_000).load()
    assert time.perf_counter() - start < 5
    assert texts.train.labels.shape == (20_000, 2_812_281)


def test_feeds_and_abstract_batches_agree():
    data = SyntheticText(num_classes=97, num_examples=203, num_eval_examples=31, lengths=(20, 32))
    texts = data.load()
    chunk = train_feed(texts.train, 8, seed=0).chunk(0, 1)
    shapes = jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), chunk)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), data.abstract_batch(8))
    assert set(eval_feed(texts.eval, 8).chunk(0, 1)) == {*chunk, "index"}


def test_a_word_is_its_number(tmp_path):
    data = SyntheticText(num_classes=97, vocab_size=50)
    input_ids, length = data.encode(["7 49 50", ""])
    assert input_ids[0, :4].tolist() == [1, 7, 49, 2]
    assert length.tolist() == [4, 1]
    data.save_tokenizer(tmp_path)
    again = SyntheticText(num_classes=97, vocab_size=50, tokenizer=str(tmp_path))
    np.testing.assert_array_equal(again.encode(["7 49 50", ""])[0], input_ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; it must be at least 1"),
        ({"vocab_size": 3}, "vocab_size is 3; it must be at least 4"),
        ({"labels_per_example": 0}, "labels_per_example is 0"),
        ({"num_eval_examples": 20_000}, "num_eval_examples is 20000"),
        ({"lengths": (1, 5)}, "lengths is"),
        ({"lengths": (9, 5)}, "lengths is"),
        ({"lengths": (9, 33)}, "from 2 to max_length = 32"),
    ],
)
def test_impossible_fields_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        SyntheticText(**{"num_classes": 97, **fields})

"""Which labels of a document a step trains, where it trains a part: the first of the document's line, in any format."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.texts.documents import choose
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.heads import build_head
from mhe_jax.labels import LabelSpace

# Labels of three training documents as their lines list them, the second of the first document twice.
LINES = [[4, 1, 4, 0, 3, 1], [2], [3, 4, 0]]
TEXTS = ["red fox", "green frog", "blue bird"]
FIRST_TWO = [[4, 1], [2, -1], [3, 4]]


def lightxml(folder):
    for split, lines in (("train", LINES), ("test", [[4, 0]])):
        (folder / f"{split}_raw_texts.txt").write_text("".join(f"{text}\n" for text in TEXTS[: len(lines)]))
        (folder / f"{split}_labels.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in lines))


def label_words(folder):
    lightxml(folder)
    for path in folder.glob("*_labels.txt"):
        path.write_text(path.read_text().translate({ord(str(i)): f"label-{i}" for i in range(5)}))


def json_lines(folder):
    for split, lines in (("train", LINES), ("test", [[4, 0]])):
        records = ({"text": text, "labels": row} for text, row in zip(TEXTS, lines, strict=False))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def fasttext(folder):
    for split, lines in (("train", LINES), ("test", [[4, 0]])):
        rows = (" ".join(f"__label__{label}" for label in row) for row in lines)
        documents = (f"{labels} {text}\n" for labels, text in zip(rows, TEXTS, strict=False))
        (folder / f"{split}.txt").write_text("".join(documents))


def csv_tables(folder):
    for split, lines in (("train", LINES), ("test", [[4, 0]])):
        rows = (f'{text},"{row}"\n' for text, row in zip(TEXTS, lines, strict=False))
        (folder / f"{split}.csv").write_text("text,labels\n" + "".join(rows))


def repository_json(folder):
    for split, lines in (("trn", LINES), ("tst", [[4, 0]])):
        records = ({"title": text, "target_ind": row} for text, row in zip(TEXTS, lines, strict=False))
        (folder / f"{split}.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "lbl.json").write_text("".join(json.dumps({"title": str(i)}) + "\n" for i in range(5)))


def repository_sparse(folder):
    for split, lines in (("trn", LINES), ("tst", [[4, 0]])):
        rows = (" ".join(f"{label}:1.0" for label in row) + "\n" for row in lines)
        (folder / f"{split}_X_Y.txt").write_text(f"{len(lines)} 5\n" + "".join(rows))
        (folder / f"{split}_X.txt").write_text("".join(f"{text}\n" for text in TEXTS[: len(lines)]))


def pecos(folder):
    for split, lines in (("trn", LINES), ("tst", [[4, 0]])):
        indptr = np.cumsum([0, *map(len, lines)])
        columns = np.concatenate(lines)
        matrix = scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), columns, indptr), (len(lines), 5))
        scipy.sparse.save_npz(folder / f"Y.{split}.npz", matrix)
        (folder / f"X.{split}.txt").write_text("".join(f"{text}\n" for text in TEXTS[: len(lines)]))


class Folder(XmcText):
    def make_tokenizer(self):
        return train_word_pieces(TEXTS * 2, 60)


def loaded(tmp_path, **fields):
    return Folder(path=str(tmp_path), cache_dir=str(tmp_path / "tokens"), max_length=8, **fields).load()


@pytest.mark.parametrize(
    "write",
    [lightxml, label_words, json_lines, fasttext, csv_tables, repository_json, repository_sparse, pecos],
    ids=lambda f: f.__name__,
)
def test_a_training_batch_holds_the_first_labels_of_the_line(tmp_path, write):
    write(tmp_path)
    texts = loaded(tmp_path, label_width=2)
    batch = train_feed(texts.train, 3, seed=0).chunk(0, 1)
    assert sorted(batch["label"][0].tolist()) == sorted(FIRST_TWO)
    assert texts.train.labels.has_sorted_indices
    whole = eval_feed(texts.eval, 1).chunk(0, 1)["label"][0]
    assert whole.tolist() == [[0, 4, -1, -1]]


@pytest.mark.parametrize("fields", [{"label_width": 2}, {"label_width": 2, "valid_examples": 2, "max_train": 4}])
def test_so_it_is_of_the_words_of_texts(tmp_path, fields):
    for split, lines in (("train", 2 * LINES), ("test", [[4, 0]])):
        rows = ({"text": "red fox", "labels": line} for line in lines)
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = build_data(ConfigDict({"name": "words", "path": str(tmp_path), **fields})).load()
    count = texts.train.num_examples
    assert count == 6 - fields.get("valid_examples", 0)
    batch = train_feed(texts.train, count, seed=0).chunk(0, 1)
    whole = {tuple(row.indices): first for row, first in zip(labels_of(LINES), FIRST_TWO, strict=True)}
    assert sorted(batch["label"][0].tolist()) == sorted(whole[tuple(row.indices)] for row in texts.train.labels)
    whole = eval_feed(texts.eval, 1).chunk(0, 1)["label"][0]
    assert (np.diff(whole[whole >= 0]) > 0).all()


def labels_of(lines):
    return [scipy.sparse.csr_matrix(np.isin(np.arange(5), line)) for line in lines]


def test_the_cascade_takes_the_first_of_the_line_as_positive(tmp_path):
    """`max_labels` is the published hundred: the loss is that of a document with just these labels last."""
    lightxml(tmp_path)
    texts = loaded(tmp_path)
    batch = train_feed(texts.train, 3, seed=0).chunk(0, 1)
    assert sorted(batch["label"][0].tolist()) == sorted([[4, 1, 0, 3], [2, -1, -1, -1], [3, 4, 0, -1]])
    section = ConfigDict({"name": "mhc", "hidden_dim": 3, "num_candidates": 2, "max_labels": 2})
    head = build_head(section, LabelSpace(5, (2, 3)), 4, kind="multilabel")
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4)), jnp.float32)
    params = head.init(jax.random.key(0), features, jnp.asarray([[4, 1, 0, 3]]), method="loss")
    loss = lambda labels: float(head.apply(params, features, jnp.asarray([labels]), method="loss")[0][0])
    # The same groups in all of these, 0 and 1; the labels that count are 4 and 1, then 0 and 1.
    assert loss([4, 1, 0, 3]) == pytest.approx(loss([1, 4, 3, 0]), rel=1e-6)
    assert abs(loss([4, 1, 0, 3]) - loss([0, 1, 3, 4])) > 1e-3


def test_documents_chosen_of_a_corpus_keep_the_order_of_their_lines(tmp_path):
    lightxml(tmp_path)
    corpus = read_corpora(tmp_path).train
    assert corpus.listed.tolist() == [4, 1, 0, 3, 2, 3, 4, 0]
    part = choose(corpus, np.array([2, 0]))
    assert part.listed.tolist() == [4, 1, 0, 3, 3, 4, 0]
    assert part.labels.indices.tolist() == [0, 1, 3, 4, 0, 3, 4]


def test_data_without_lines_lists_labels_by_number():
    section = {"name": "synthetic_text", "num_classes": 9, "num_examples": 20, "num_eval_examples": 5}
    assert build_data(ConfigDict(section)).load().train.listed is None

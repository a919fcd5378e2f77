"""Training on somebody's own documents: a CSV folder, with a file that chooses and test documents without labels."""

import csv

import numpy as np
import pytest

from mhe_jax.data.build import build_data
from mhe_jax.data.ragged import top_of
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.recipes import heads
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from tests import tiny_text_config

pytestmark = pytest.mark.slow

WORDS = ("sea", "law", "act", "tax", "fish", "port", "ship")


def write(path, count, labelled, seed):
    """Documents whose labels are some of their words; of test documents some or none have labels."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "labels"])
        for number in range(count):
            words = rng.choice(WORDS, 3, replace=False)
            rows.writerow([" ".join(words) + ',\n"and"', ";".join(words[:2]) if labelled(number) else ""])


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder / "train.csv", 40, lambda number: number != 3, 0)
    write(folder / "dev.csv", 9, lambda number: True, 1)
    write(folder / "test.csv", 11, lambda number: False, 2)
    train_word_pieces([" ".join(WORDS) + ', "and"'] * 2, 80).save_pretrained(str(tmp_path / "tokenizer"))
    config = tiny_text_config.get_config()
    config.head = heads.xmc_ohe()
    config.data = {"name": "xmc", "path": str(folder), "tokenizer": str(tmp_path / "tokenizer"), "max_length": 16}
    config.data.update(bucket_lengths=(), cache_dir=str(tmp_path / "cache"), num_classes=0)
    config.global_batch_size, config.total_steps, config.schedule.learning_rate = 8, 4, 0.03
    config.eval_every_steps = config.checkpoint_every_steps = 2
    return config


def test_the_dev_file_chooses_and_documents_without_labels_are_ranked(config, tmp_path):
    """One run, and the evaluation and ranking of its documents; five programs are compiled, which takes the time."""
    run = tmp_path / "run"
    result = train_and_evaluate(config, run)
    events = [(event["split"], event["step"]) for event in writers.read_events(run / "metrics.jsonl")]
    assert [event for event in events if event[0] != "train"] == [("eval", 2), ("eval", 4)]
    assert "test" not in result
    assert 0 < result["best"]["P@1"] <= 1
    facts = result["facts"]
    assert facts["chosen_on"] == "9 validation documents"
    assert (facts["test"]["documents"], facts["test"]["documents_without_labels"]) == (11, 11)
    assert set(facts["popularity"]) == {"eval"}
    stored, _ = experiment.read_workdir(run)
    predict_split(stored, run)
    found = read_predictions(run)
    assert (found.split, found.scores.shape) == ("test", (11, 7))
    assert (np.diff(found.scores.indptr) == 7).all()

    # The same documents, of which some have labels now.
    write(tmp_path / "documents" / "test.csv", 11, lambda number: number % 3 == 0, 2)
    values = evaluate(stored, run)
    assert (values["examples"], values["test"]["examples"]) == (9, 11)
    true = build_data(stored.data).load().test.labels.toarray() > 0
    counted = true.any(axis=1)
    assert counted.sum() == 4
    hits = np.take_along_axis(true, top_of(found.scores, 3)[0], axis=1)[counted]
    for k in (1, 3):
        assert values["test"][f"P@{k}"] == pytest.approx(hits[:, :k].mean(), abs=1e-6)
    recall = hits.sum(axis=1) / true[counted].sum(axis=1)
    assert values["test"]["R@3"] == pytest.approx(recall.mean(), abs=1e-6)


def test_without_test_and_dev_files_a_share_is_held_out(config, tmp_path):
    for name in ("dev", "test"):
        (tmp_path / "documents" / f"{name}.csv").unlink()
    with pytest.raises(ValueError, match=r"neither test nor validation documents beside .*train.csv, and config.da"):
        train_and_evaluate(config, tmp_path / "run")
    config.data.valid_examples = 0.2
    data = build_data(config.data)
    splits = data.load()
    assert splits.test is None
    assert (splits.eval.num_examples, splits.train.num_examples) == (8, 32)
    assert splits.facts["chosen_on"] == "8 training documents"
    assert list(data.splits()) == ["train", "eval"]


def test_documents_that_choose_need_labels(config, tmp_path):
    (tmp_path / "documents" / "dev.csv").unlink()
    with pytest.raises(ValueError, match=r"test.csv: none of the 11 documents to choose the best checkpoint on has"):
        train_and_evaluate(config, tmp_path / "run")

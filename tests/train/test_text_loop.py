"""The loop on texts: synthetic documents, a small encoder, heads for many labels, eight CPU devices."""

import json

import numpy as np
import pytest

from mhe_jax.data.ragged import top_of
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict, predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.recipes import heads
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import description, writers
from mhe_jax.train.reporting.describe import describe
from tests import tiny_text_config
from tests.train.saved import assert_same, final_weights

LABELS = 53
HEADS = {
    "ohe": heads.xmc_ohe(),
    "mhp": heads.xmc_mhp((8, 7)),
    "mhc": heads.xmc_mhc((11, 5)),
    "mhs": heads.xmc_mhs((11, 5)),
}


def tiny(head="mhc", buckets=(), **fields):
    """Six steps on 53 labels; batches of one length if there are no `buckets`, which halves what is compiled."""
    config = tiny_text_config.get_config()
    config.data.bucket_lengths = buckets
    config.head = HEADS[head]
    if head == "mhc":
        config.head.update(num_candidates=4, hidden_dim=8)
    with config.unlocked():
        config.update(fields)
    return config


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_and_ranks(tmp_path, head):
    result = train_and_evaluate(tiny(head, buckets=(8,)), tmp_path)
    events = writers.read_events(tmp_path / "metrics.jsonl")
    assert [(e["split"], e["step"]) for e in events] == [
        ("train", 2),
        ("eval", 3),
        ("train", 4),
        ("train", 6),
        ("eval", 6),
    ]
    assert all(np.isfinite(e["loss"]) for e in events if e["split"] == "train")
    wanted = {f"{name}@{k}" for name in ("P", "R", "nDCG") for k in (1, 3, 5)}
    assert wanted <= set(result["last"])
    assert ("group_P@1" in result["last"]) == (head == "mhc")
    assert all(0 <= result["last"][name] <= 1 for name in wanted)
    assert result["facts"]["popularity"]["eval"].keys() == {"P@1", "P@3", "P@5"}


SPARSE = {"name": "adamw", "rate": 1.0, "weight_decay": 0.01}


@pytest.mark.parametrize("table_optimizer", [{"name": "none"}, SPARSE], ids=lambda section: section["name"])
def test_interrupted_and_resumed_equals_uninterrupted_bitwise(tmp_path, table_optimizer):
    config = tiny(
        buckets=(8,), table_optimizer=table_optimizer, average={"name": "swa", "start_epoch": 0, "every_steps": 2}
    )
    train_and_evaluate(config, tmp_path / "whole")
    assert train_and_evaluate(config, tmp_path / "parts", interrupt_at=3)["interrupted"]
    train_and_evaluate(config, tmp_path / "parts")
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))


@pytest.mark.parametrize("table_optimizer", [{"name": "none"}, SPARSE], ids=lambda section: section["name"])
def test_meshes_agree(tmp_path, table_optimizer):
    results = {}
    for classes in (1, 4):
        config = tiny(table_optimizer=table_optimizer, total_steps=3)
        config.mesh.classes = classes
        config.optimizer.update(name="sgd", momentum=0.0)
        config.table_optimizer = table_optimizer if table_optimizer["name"] == "none" else {"name": "sgd"}
        train_and_evaluate(config, tmp_path / str(classes))
        results[classes] = final_weights(tmp_path / str(classes))
    for name, value in results[1].items():
        rows = tuple(slice(0, size) for size in value.shape)
        np.testing.assert_allclose(results[4][name][rows], value, rtol=2e-3, atol=2e-5, err_msg=name)


def test_sparse_sgd_is_dense_sgd_without_momentum_and_decay(tmp_path):
    for name in ("none", "sgd"):
        config = tiny(total_steps=3, table_optimizer={"name": name})
        config.optimizer = {"name": "sgd", "momentum": 0.0}
        train_and_evaluate(config, tmp_path / name)
    dense, sparse = final_weights(tmp_path / "none"), final_weights(tmp_path / "sgd")
    for name, value in dense.items():
        if name.startswith("['params']"):
            np.testing.assert_allclose(sparse[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_lazy_loss_is_the_loss_of_the_logged_steps(tmp_path):
    for every in (1, 3):
        train_and_evaluate(tiny("ohe", log_every_steps=every), tmp_path / str(every))
    losses = {
        every: {
            e["step"]: e["loss"]
            for e in writers.read_events(tmp_path / str(every) / "metrics.jsonl")
            if e["split"] == "train"
        }
        for every in (1, 3)
    }
    assert losses[3].keys() == {3, 6}
    for step, loss in losses[3].items():
        assert loss == pytest.approx(losses[1][step], rel=1e-4)


@pytest.mark.slow
def test_dropout_can_be_off_for_the_rest_of_an_epoch(tmp_path):
    """With every step of an epoch but the first without dropout, rates 0 and 0.5 differ by that first step alone."""
    losses = {}
    for rate in (0.0, 0.5):
        config = tiny(total_steps=4, log_every_steps=1, dropout_off_after_step=1)
        config.schedule.learning_rate = 0.0
        config.backbone.update(feature_dropout=rate, hidden_dropout=rate)
        train_and_evaluate(config, tmp_path / str(rate))
        events = writers.read_events(tmp_path / str(rate) / "metrics.jsonl")
        losses[rate] = [e["loss"] for e in events if e["split"] == "train"]
    assert losses[0.0][:2] != pytest.approx(losses[0.5][:2], rel=1e-3)
    assert losses[0.0][2:] == pytest.approx(losses[0.5][2:], rel=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    return workdir, train_and_evaluate(tiny(buckets=(8,)), workdir)


def test_predictions_of_the_split_agree_with_its_evaluation(trained, tmp_path):
    workdir, result = trained
    config, _ = experiment.read_workdir(workdir)
    values = evaluate(config, workdir)
    assert values["examples"] == 43
    assert values["P@5"] == pytest.approx(result["best"]["P@5"])
    predict_split(config, workdir, 3, tmp_path / "split.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "split.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == list(range(43))
    assert {len(line["names"]) for line in lines} == {3}
    # Six digits of what was stored, and no more.
    stored = top_of(read_predictions(workdir).scores, 3)[1]
    np.testing.assert_allclose([line["scores"] for line in lines], stored, rtol=1e-5)
    assert all(score == float(f"{score:.6g}") for line in lines for score in line["scores"])
    predictions = read_predictions(workdir)
    assert predictions.scores.shape == (43, LABELS)
    assert predictions.split == "eval"
    from mhe_jax.data.build import build_data

    labels = build_data(config.data).load().eval.labels
    ids, _ = top_of(predictions.scores, 5)
    hits = [len(set(row[row >= 0]) & set(labels[i].indices)) for i, row in enumerate(ids)]
    assert np.mean(hits) / 5 == pytest.approx(values["P@5"], abs=1e-6)


def test_a_run_without_other_test_documents_has_one_file_of_predictions(trained):
    workdir, _ = trained
    config, _ = experiment.read_workdir(workdir)
    assert predict_split(config, workdir, which="val").name == "predictions.npz"
    with pytest.raises(ValueError, match="--split=test: this data has no test documents beside those that choose"):
        predict_split(config, workdir, which="test")


def test_top_k_is_checked_for_a_split_too(trained, tmp_path):
    workdir, _ = trained
    config, _ = experiment.read_workdir(workdir)
    for k in (0, LABELS + 1):
        with pytest.raises(ValueError, match=f"--top_k is {k}; it must be between 1 and the {LABELS} classes"):
            predict_split(config, workdir, k, tmp_path / "split.jsonl")


def test_texts_from_a_file_and_on_the_spot(trained, tmp_path, capsys):
    workdir, _ = trained
    config = experiment.portable(experiment.read_workdir(workdir)[0], workdir)
    (tmp_path / "texts.txt").write_text("5 6 7\n\n" + "8 9 " * 40 + "\n")
    assert predict(config, workdir, str(tmp_path / "texts.txt"), 4, tmp_path / "out.jsonl") == 3
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines][:2] == ["5 6 7", ""]
    assert all(line["scores"] == sorted(line["scores"], reverse=True) for line in lines)
    capsys.readouterr()
    assert predict(config, workdir, "5 6 7", 4) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == lines[0]


def test_a_bad_line_is_named_and_the_others_are_answered(trained, tmp_path, capsys):
    workdir, _ = trained
    config, _ = experiment.read_workdir(workdir)
    ask = lambda source: predict(config, workdir, str(source), 2, output)
    for name, text, message, answers in (
        ("a.jsonl", b'{"text": "5"}\n{"txt": "6"}\n', "a.jsonl:2: the field 'text' is missing", ["5"]),
        ("b.jsonl", b'{"text": null}\n', "b.jsonl:1: the field 'text' must be a string", []),
        ("c.txt", b"5 6\n\xff\n7\n", "c.txt:2: byte 1 of the line is not UTF-8", ["5 6", "7"]),
    ):
        (tmp_path / name).write_bytes(text)
        output = tmp_path / f"answers_{name}"
        with pytest.raises(ValueError, match=f"1 of {len(answers) + 1} inputs cannot be read; each is named above"):
            ask(tmp_path / name)
        assert f"left out: {tmp_path}/{message}" in capsys.readouterr().err
        lines = output.read_text().splitlines() if answers else []
        assert [json.loads(line)["input"] for line in lines] == answers
        assert output.exists() == bool(answers)
    with pytest.raises(ValueError, match="--input: there is no file textz.txt"):
        ask("textz.txt")
    assert ask("5 6 7 " * 200) == ask("5/6") == 1


def test_a_table_optimizer_needs_a_table_and_whole_batches(tmp_path):
    with pytest.raises(ValueError, match="config.table_optimizer is 'adamw' but this head has no table"):
        train_and_evaluate(tiny("ohe", table_optimizer=SPARSE), tmp_path / "a")
    with pytest.raises(ValueError, match="config.accumulate_steps is 2, but the parts of a batch touch different"):
        train_and_evaluate(tiny(table_optimizer=SPARSE, accumulate_steps=2), tmp_path / "b")


def test_texts_longer_than_the_encoders_positions_are_refused(tmp_path):
    config = tiny()
    config.data.max_length = 32
    with pytest.raises(ValueError, match="config.data.max_length is 32 but the encoder has 16 positions"):
        train_and_evaluate(config, tmp_path)


def test_groups_more_than_labels_are_refused(tmp_path):
    config = tiny()
    config.head.head_sizes = (LABELS + 1, 0)
    with pytest.raises(ValueError, match=r"config.head.head_sizes: num_groups must be between 1 and num_labels=53"):
        train_and_evaluate(config, tmp_path)


def test_describe_compares_the_heads_for_many_labels():
    text = description.as_text(describe(tiny()))
    for head in HEADS:
        assert any(line.startswith(f"{head} ") for line in text.splitlines()), text
    assert "input_ids 16x16" in text


def test_a_step_that_does_not_fit_says_what_its_candidates_take(monkeypatch, tmp_path):
    config = tiny()
    # A machine of 64 KiB.
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16}[name])
    with pytest.raises(ValueError, match=r"lower global_batch_size, or config.head.num_candidates: 4 x 5 candidates"):
        train_and_evaluate(config, tmp_path)


def test_the_test_split_is_evaluated_once_with_the_best_weights(tmp_path):
    config = tiny(total_steps=4)
    config.data = {
        "name": "unicode",
        "num_classes": 0,
        "vocab_size": 200,
        "max_length": 16,
        "valid_examples": 40,
        "max_train": 64,
        "max_eval": 40,
        "cache_dir": str(tmp_path / "cache"),
    }
    config.head.head_sizes = (50, 0)
    config.eval_every_steps = config.checkpoint_every_steps = 2
    result = train_and_evaluate(config, tmp_path / "run")
    events = writers.read_events(tmp_path / "run" / "metrics.jsonl")
    assert [e["step"] for e in events if e["split"] == "test"] == [4]
    assert result["test"]["step"] == result["best"]["step"]
    assert "PSP@5" in result["test"]
    assert evaluate(config, tmp_path / "run")["test"]["P@5"] == pytest.approx(result["test"]["P@5"])
    again = train_and_evaluate(config, tmp_path / "run")
    assert again["test"] == result["test"]
    assert len(writers.read_events(tmp_path / "run" / "metrics.jsonl")) == len(events)

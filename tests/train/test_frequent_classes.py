"""Runs whose frequent classes have a table of their own: codes by frequency, owned tables, resumed, asked, refused."""

import json
import re

import numpy as np
import pytest

import mhe_jax
from mhe_jax.interop.torch import export_state_dict
from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from tests import tiny_config, tiny_text_config
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

KINDS = {"pictures": (tiny_config, heads.ohe), "texts": (tiny_text_config, heads.xmc_ohe)}


def make(kind="pictures", number=5, updates="none", **fields):
    module, head = KINDS[kind]
    config = module.get_config()
    config.head = heads.frequent(head(), number, bottleneck=3)
    config.codes = dict(heads.FREQUENCY)
    config.optimizer = {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
    if updates == "owned":
        config.table_optimizer = {**heads.OWNED_TABLES, "storage": "float32", "rate": 1.0}
    config.total_steps, config.eval_every_steps, config.log_every_steps = 2, 1, 1
    config.update_from_flattened_dict(fields)
    return config


def losses(workdir):
    return [event["loss"] for event in writers.read_events(workdir / "metrics.jsonl") if event["split"] == "train"]


@pytest.mark.parametrize("kind", KINDS)
def test_owned_tables_train_as_plain_sgd_and_a_resumed_run_is_the_same_bitwise(kind, tmp_path):
    for updates in ("none", "owned"):
        train_and_evaluate(make(kind, updates=updates), tmp_path / updates)
    dense, owned = final_weights(tmp_path / "none"), final_weights(tmp_path / "owned")
    tables = [name for name in dense if "head" in name and "kernel" in name and "params" in name]
    assert len(tables) == 3  # and the projection's
    for table in tables:
        np.testing.assert_allclose(owned[table], dense[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "owned"), losses(tmp_path / "none"), rtol=1e-4)
    assert train_and_evaluate(make(kind, updates="owned"), tmp_path / "parts", interrupt_at=1)["interrupted"]
    train_and_evaluate(make(kind, updates="owned"), tmp_path / "parts")
    assert_same(owned, final_weights(tmp_path / "parts"))


def test_predictions_are_ids_and_a_run_has_the_classes_by_frequency(tmp_path):
    config = make()
    train_and_evaluate(config, tmp_path / "run")
    data = tiny_config.get_config().data
    counts = np.bincount(np.random.default_rng(0).integers(19, size=data.num_examples, dtype=np.int32), minlength=19)
    codes = np.load(tmp_path / "run/codes.npy")
    assert (np.diff(counts[codes]) <= 0).all()
    run = mhe_jax.load(tmp_path / "run")
    best = run.predict(np.zeros((2, 8, 8, 1), np.uint8), top_k=19)
    assert all(sorted(one.id for one in row) == list(range(19)) for row in best)
    assert all(sum(one.score for one in row) == pytest.approx(1, rel=1e-5) for row in best)
    described = json.loads((tmp_path / "run/result.json").read_text())
    assert described["head_parameters"] == 5 * 17 + 14 * 4 + 17 * 3


def test_rows_of_two_widths_do_not_move_to_other_codes(tmp_path):
    train_and_evaluate(make(), tmp_path / "there", interrupt_at=1)
    np.save(tmp_path / "order.npy", np.random.default_rng(1).permutation(19))
    other = make(init_from=str(tmp_path / "there"))
    train_and_evaluate(other, tmp_path / "same", interrupt_at=1)
    other.codes = {"name": "file", "path": str(tmp_path / "order.npy")}
    with pytest.raises(ValueError, match="has other codes than this run, and its frequent classes have longer rows"):
        train_and_evaluate(other, tmp_path / "other")
    codes = mhe_jax.load(tmp_path / "there").codes
    with pytest.raises(ValueError, match=r"with head 'ohe' lacks \d+ names: "):
        export_state_dict(
            {"params": {"backbone": {}, "head": {"kernel": np.ones((5, 16)), "tail_kernel": np.ones((14, 3))}}},
            "torchvision",
            "ohe",
            codes=codes,
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head.frequent": 19}, "config.head.frequent is 19; of 19 classes it must be in 1 .. 18"),
        ({"head.frequent": -2}, "config.head.frequent is -2; of 19 classes it must be in 1 .. 18"),
        ({"head.bottleneck": 0}, "config.head.frequent is 5, but bottleneck is 0"),
        (
            {"codes.name": "identity"},
            "codes.name = 'identity' does not order them by frequency: set codes.name = 'freq",
        ),
        ({"codes.name": "warmup"}, "codes.name = 'warmup' does not order them by frequency"),
        ({"head.frequent": 0}, "config.codes.name is 'frequency', but the head has one digit"),
    ],
)
def test_what_does_not_go_together_is_named(fields, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_and_evaluate(make(**fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()

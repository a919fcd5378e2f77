"""Runs whose tables are moved by their own loss: all pipelines, every mesh, resumed, evaluated, refused."""

import json

import numpy as np
import pytest

from mhe_jax.inference.run import load
from mhe_jax.ops.storage import STORAGES
from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

OWNED = {"name": "sgd", "updates": "owned", "storage": "float32", "rate": 1.0, "weight_decay": 0.0}
PLAIN = {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
KINDS = {
    "pictures": (tiny_config, heads.ohe),
    "texts": (tiny_text_config, heads.xmc_ohe),
    "faces": (tiny_face_config, heads.face_ohe),
}


def make(kind="pictures", **fields):
    module, head = KINDS[kind]
    config = module.get_config()
    margin = {"margin": config.head.margin} if "margin" in config.head else {}
    config.head = {**head(), **margin}
    config.optimizer, config.table_optimizer = dict(PLAIN), dict(OWNED)
    config.average = {"name": "none"}
    config.update_from_flattened_dict(fields)
    return config


def losses(workdir):
    return [event["loss"] for event in writers.read_events(workdir / "metrics.jsonl") if event["split"] == "train"]


SAMPLED = {"pictures": heads.mhs, "texts": heads.xmc_mhs, "faces": heads.face_mhs}


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_groups_of_float32_are_trained_as_row_sparse_sgd_trains_them(kind, tmp_path):
    found = {}
    for updates in ("owned", "sparse" if kind != "pictures" else "none"):
        config = make(kind)
        margin = {"margin": config.head.margin} if "margin" in config.head else {}
        config.head = {**SAMPLED[kind]((5, 0)), "sampler": heads.sampler("batch_union"), **margin}
        config.table_optimizer = dict(OWNED) if updates != "none" else {"name": "none"}
        if updates == "sparse":
            config.table_optimizer.updates = updates
        train_and_evaluate(config, tmp_path / updates)
        found[updates] = final_weights(tmp_path / updates), losses(tmp_path / updates)
    (owned, owned_losses), (other, other_losses) = found.values()
    table = next(name for name in owned if "'weight'" in name and "'head'" in name)
    np.testing.assert_allclose(owned[table], other[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(owned_losses, other_losses, rtol=1e-4)


@pytest.mark.parametrize(("kind", "bottleneck"), [*((kind, 0) for kind in KINDS), ("pictures", 3)])
def test_an_owned_table_of_float32_is_trained_as_plain_sgd_trains_it(kind, bottleneck, tmp_path):
    for name in ("owned", "none"):
        config = make(kind, **({"head.bottleneck": bottleneck} if bottleneck else {}))
        if name == "none":
            config.table_optimizer = {"name": "none"}
        train_and_evaluate(config, tmp_path / name)
    owned, dense = final_weights(tmp_path / "owned"), final_weights(tmp_path / "none")
    tables = [name for name in dense if "kernel" in name and "head" in name]
    assert len(tables) == (2 if bottleneck else 1)
    for table in tables:
        np.testing.assert_allclose(owned[table], dense[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "owned"), losses(tmp_path / "none"), rtol=1e-4)


CASCADES = {"pictures": heads.mhc, "texts": heads.xmc_mhc}


def cascade(kind, **fields):
    config = make(kind, **fields)
    sizes = (2, 2, 5) if kind == "pictures" else (3, 0)
    config.head = {**CASCADES[kind](sizes), "hidden_dim": 6, "num_candidates": 2}
    return config


@pytest.mark.parametrize("kind", CASCADES)
def test_the_tables_of_a_cascade_are_trained_as_plain_sgd_trains_them(kind, tmp_path):
    for name in ("owned", "none"):
        config = cascade(kind)
        if name == "none":
            config.table_optimizer = {"name": "none"}
        train_and_evaluate(config, tmp_path / name)
    owned, dense = final_weights(tmp_path / "owned"), final_weights(tmp_path / "none")
    tables = [name for name in dense if "'table_" in name and "head" in name]
    assert len(tables) == (2 if kind == "pictures" else 1)
    for table in tables:
        np.testing.assert_allclose(owned[table], dense[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "owned"), losses(tmp_path / "none"), rtol=1e-4)


@pytest.mark.parametrize("build", [make, cascade], ids=["one-hot", "cascade"])
@pytest.mark.parametrize(("rule", "storage"), [("sgd", "bfloat16"), ("rowwise_adagrad", "float8")])
def test_resumed_equals_uninterrupted_bitwise(rule, storage, build, tmp_path):
    config = build("pictures", **{"table_optimizer.name": rule, "table_optimizer.storage": storage})
    train_and_evaluate(config, tmp_path / "whole")
    assert train_and_evaluate(config, tmp_path / "parts", interrupt_at=3)["interrupted"]
    train_and_evaluate(config, tmp_path / "parts")
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts")
    assert_same(whole, parts)
    assert np.dtype(STORAGES[storage]) in {value.dtype for value in whole.values()}


def test_meshes_agree_and_a_run_goes_on_on_another_one(tmp_path):
    for classes in (1, 2, 8):
        config = make(**{"mesh.classes": classes, "head.block_size": 2})
        train_and_evaluate(config, tmp_path / str(classes), interrupt_at=3)
    config = make(**{"mesh.classes": 2, "head.block_size": 2})
    for classes in (1, 2, 8):
        stored = json.loads((tmp_path / str(classes) / "config.json").read_text())
        again = config.copy_and_resolve_references()
        again.mesh.classes = 2 if classes != 2 else 4
        assert stored["mesh"]["classes"] == classes
        train_and_evaluate(again, tmp_path / str(classes))
    found = [losses(tmp_path / str(classes)) for classes in (1, 2, 8)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


@pytest.mark.parametrize("build", [make, cascade], ids=["one-hot", "cascade"])
@pytest.mark.parametrize("storage", ["bfloat16", "float8"])
def test_a_narrow_run_learns_and_can_be_asked(storage, build, tmp_path):
    config = build("pictures", **{"table_optimizer.storage": storage, "total_steps": 30, "log_every_steps": 10})
    train_and_evaluate(config, tmp_path)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    (best,) = load(tmp_path).predict(np.zeros((1, 8, 8, 1), np.uint8), top_k=3)
    assert len(best) == 3
    assert 0 < sum(one.score for one in best) <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate_steps": 2}, "config.accumulate_steps is 2, but the parts of a batch would each move the table"),
        ({"average": {"name": "ema"}, "table_optimizer.storage": "bfloat16"}, "would lose in it what a step adds"),
        ({"clip": {"name": "norm", "norm": 1.0}}, "config.clip.norm .1.0. needs the norm of the whole gradient"),
        ({"head": heads.mhp((4, 5))}, "config.table_optimizer.updates is 'owned' but this head's loss moves no table"),
        ({"table_optimizer.momentum": 0.9}, "momentum is 0.9, but an owned table has no room for it"),
        ({"table_optimizer.storage": "float16"}, "storage is 'float16'; of updates 'owned' it must be one of float32"),
        ({"table_optimizer.updates": "dense"}, "updates is 'dense'; of this rule it must be one of sparse, owned"),
        (
            {"table_optimizer": {"name": "adamw", "updates": "owned"}},
            "updates is 'owned'; of this rule it must be one of sparse",
        ),
        ({"table_optimizer": {"name": "none", "updates": "owned"}}, "with the name 'none' config.optimizer trains"),
    ],
)
def test_what_owned_tables_do_not_go_with_is_named(fields, message, tmp_path):
    config = make()
    config.unlock()
    config.table_optimizer.momentum = 0.0
    for path, value in fields.items():
        section, _, name = path.rpartition(".")
        (config[section] if section else config)[name] = value
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, tmp_path)

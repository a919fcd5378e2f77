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
    for update in ("owned", "sparse" if kind != "pictures" else "none"):
        config = make(kind)
        margin = {"margin": config.head.margin} if "margin" in config.head else {}
        config.head = {**SAMPLED[kind]((5, 0)), "sampler": heads.sampler("batch_union"), **margin}
        config.table_optimizer = dict(OWNED) if update != "none" else {"name": "none"}
        if update == "sparse":
            config.table_optimizer.updates = update
        train_and_evaluate(config, tmp_path / update)
        found[update] = final_weights(tmp_path / update), losses(tmp_path / update)
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


# Rules of tables, and the same of all parameters.
ADAMW = {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 0.1}
SAME = {
    "sgd": ({"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": False}),
    "adamw": (ADAMW, {**ADAMW, "decay_all": False}),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize(("kind", "updates"), [("pictures", "owned"), ("texts", "owned"), ("pictures", "dense")])
def test_a_table_is_trained_as_the_same_rule_trains_all_parameters(kind, updates, name, tmp_path):
    of_table, of_all = SAME[name]
    for which in ("alone", "all"):
        config = make(kind)
        config.optimizer = {"name": name, **of_all}
        alone = {"name": name, "updates": updates, **of_table}
        config.table_optimizer = alone if which == "alone" else {"name": "none"}
        train_and_evaluate(config, tmp_path / which)
    alone, together = final_weights(tmp_path / "alone"), final_weights(tmp_path / "all")
    (table,) = (name for name in alone.keys() & together.keys() if "kernel" in name and "head" in name)
    np.testing.assert_allclose(alone[table], together[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "alone"), losses(tmp_path / "all"), rtol=1e-4)


CASCADES = {"pictures": heads.mhc, "texts": heads.xmc_mhc, "faces": heads.face_mhc}


def cascade(kind, **fields):
    config = make(kind, **fields)
    sizes = (2, 2, 5) if kind == "pictures" else (3, 0)
    others = {"margin": config.head.margin} if kind == "faces" else {"hidden_dim": 6, "num_candidates": 2}
    config.head = {**CASCADES[kind](sizes), **others}
    return config


@pytest.mark.parametrize("kind", CASCADES)
def test_the_tables_of_a_cascade_are_trained_as_plain_sgd_trains_them(kind, tmp_path):
    for name in ("owned", "none"):
        config = cascade(kind)
        if name == "none":
            config.table_optimizer = {"name": "none"}
        train_and_evaluate(config, tmp_path / name)
    owned, dense = final_weights(tmp_path / "owned"), final_weights(tmp_path / "none")
    tables = [name for name in dense if "'table_" in name and "table_0" not in name and "head" in name]
    assert len(tables) == (2 if kind == "pictures" else 1)
    for table in tables:
        np.testing.assert_allclose(owned[table], dense[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "owned"), losses(tmp_path / "none"), rtol=1e-4)


@pytest.mark.parametrize("build", [make, cascade], ids=["one-hot", "cascade"])
@pytest.mark.parametrize(
    ("rule", "storage"), [("sgd", "bfloat16"), ("rowwise_adagrad", "float8"), ("adamw", "bfloat16")]
)
def test_resumed_equals_uninterrupted_bitwise(rule, storage, build, tmp_path):
    config = build("pictures")
    moments = "bfloat16" if rule == "adamw" else "float32"
    config.table_optimizer = {**OWNED, "name": rule, "storage": storage, "moments": moments}
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


@pytest.mark.parametrize("storage", ["bfloat16", "float8"])
def test_narrow_tables_are_averaged_and_resumed_bitwise(storage, tmp_path):
    config = make(**{"table_optimizer.storage": storage, "mesh.classes": 2})
    config.average = {"name": "ema", "decay": 0.5}
    train_and_evaluate(config, tmp_path / "whole")
    assert train_and_evaluate(config, tmp_path / "parts", interrupt_at=3)["interrupted"]
    train_and_evaluate(config, tmp_path / "parts")
    whole = final_weights(tmp_path / "whole")
    assert_same(whole, final_weights(tmp_path / "parts"))
    assert sum(value.dtype == np.dtype(STORAGES[storage]) for value in whole.values()) >= 1
    (best,) = load(tmp_path / "whole").predict(np.zeros((1, 8, 8, 1), np.uint8), top_k=3)
    assert len(best) == 3


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
        ({"clip": {"name": "norm", "norm": 1.0}}, "config.clip.norm .1.0. needs the norm of the whole gradient"),
        ({"head": heads.mhp((4, 5))}, "config.table_optimizer.updates is 'owned' but this head's loss moves no table"),
        ({"table_optimizer.storage": "float16"}, "storage is 'float16'; of updates 'owned' it must be one of float32"),
        ({"table_optimizer.moments": "bfloat16"}, "moments is 'bfloat16', but this rule keeps nothing of the table's"),
        (
            {"table_optimizer.moments": "float8"},
            "moments is 'float8'; of updates 'owned' it must be one of float32, bfl",
        ),
        ({"table_optimizer.updates": "densely"}, "updates is 'densely'; it must be one of dense, sparse, owned"),
        (
            {"table_optimizer": {"name": "adamw", "updates": "sparse", "storage": "bfloat16"}},
            "storage is 'bfloat16'; of updates 'sparse' it must be one of float32",
        ),
        (
            {"table_optimizer": {"name": "none", "updates": "owned"}},
            "has updates 'owned', but with the name 'none' config.op",
        ),
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

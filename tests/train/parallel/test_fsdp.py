"""A backbone split over all devices: the same run, less memory, and checkpoints that fit either way."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mhe_jax.models.faces.mobilefacenet import MobileFaceNet
from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config
from mhe_jax.settings import Settings
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.parallel import fsdp
from mhe_jax.train.parallel.collectives import collectives
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting import report, writers
from mhe_jax.train.reporting.programs import build_model, compile_train
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

SPLIT = ("data", "class")


def tiny(**fields):
    """Six steps on 19 classes, of a network whose dense layer is large enough to be split."""
    config = base_config()
    config.data = {
        "name": "synthetic",
        "num_classes": 19,
        "image_shape": (8, 8, 1),
        "num_examples": 100,
        "num_eval_examples": 43,
        "last_batch": "drop",
    }
    config.backbone = {"name": "convnet", "features_dim": 64, "widths": (8,)}
    config.head = heads.mhc((4, 5))
    config.optimizer = {"name": "adamw"}
    config.schedule = {"name": "constant", "learning_rate": 0.003}
    config.average = {"name": "ema", "decay": 0.9}
    config.mesh.update(data=4, classes=2)
    config.clip = {"name": "norm", "norm": 1.0}
    config.total_steps, config.global_batch_size, config.log_every_steps = 6, 32, 1
    config.eval_every_steps = config.checkpoint_every_steps = 3
    with config.unlocked():
        config.update(fields)
    return config


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((64, 128), P(None, SPLIT)),
        ((128, 64), P(SPLIT)),
        ((64, 64), P(None, SPLIT)),
        ((3, 3, 64, 130), P(None, None, SPLIT)),
        ((1001, 1003), P()),
        ((4096,), P(SPLIT)),
        ((64, 8), P()),
    ],
)
def test_the_longest_axis_that_divides_is_split_and_small_arrays_are_not(shape, spec):
    assert fsdp.spec_of(shape, devices=8) == spec
    assert fsdp.spec_of(shape, devices=1) == P()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_losses_and_evaluation(dtype, tmp_path):
    events = []
    for shard in (False, True):
        train_and_evaluate(tiny(shard_backbone=shard, dtype=dtype), tmp_path / str(shard))
        events.append(writers.read_events(tmp_path / str(shard) / "metrics.jsonl"))
    for plain, split in zip(*events, strict=True):
        for name in set(plain) - {"examples_per_second", "data_wait", "split"}:
            np.testing.assert_allclose(split[name], plain[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert_same(final_weights(tmp_path / "False"), final_weights(tmp_path / "True"), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("split_first", [False, True])
def test_a_run_resumes_with_the_backbone_laid_out_the_other_way(tmp_path, split_first):
    train_and_evaluate(tiny(), tmp_path / "whole")
    train_and_evaluate(tiny(shard_backbone=split_first), tmp_path / "parts", interrupt_at=3)
    result = train_and_evaluate(tiny(shard_backbone=not split_first), tmp_path / "parts")
    assert result["step"] == 6
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"), rtol=2e-3, atol=2e-5)


def compiled(shard, **fields):
    settings = Settings.from_config(tiny(shard_backbone=shard, **fields))
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh):
        model = build_model(settings, settings.head, mesh)
        program = compile_train(settings, model, mesh)
    return model, report.memory_bytes(program.memory_analysis()), collectives(program.as_text(), mesh)


def test_a_device_keeps_an_eighth_and_gathers_each_array_once():
    model, plain, _ = compiled(False)
    split_model, split, sent = compiled(True)
    large = [leaf for leaf in jax.tree.leaves(model.state.params["backbone"]) if leaf.size >= 4096]
    size = sum(leaf.size for leaf in large)
    # The parameters, two slots of Adam and an average, of which an eighth stays.
    assert plain["arguments"] - split["arguments"] == 4 * 4 * size * 7 // 8
    gathered = [str(one) for one in sent if one.kind == "all-gather" and one.axes == "data+class"]
    assert gathered == [f"all-gather data+class f32[{','.join(map(str, leaf.shape))}]" for leaf in large]
    # Activations stay where they are.
    assert not [one for one in sent if one.kind in ("all-to-all", "collective-permute")]
    # Parameters, slots and averages alike.
    kernels = [leaf for leaf in jax.tree.leaves(split_model.state) if leaf.shape == (128, 64)]
    assert [leaf.sharding.shard_shape(leaf.shape) for leaf in kernels] == [(128 // 8, 64)] * 4


def test_the_head_and_small_arrays_lie_as_before():
    plain, split = compiled(False)[0].state, compiled(True)[0].state
    assert jax.tree.map(lambda leaf: leaf.sharding, plain.params["head"]) == jax.tree.map(
        lambda leaf: leaf.sharding, split.params["head"]
    )
    assert split.params["backbone"]["dense1"]["kernel"].sharding.spec == P()


def test_what_a_backbone_reads_in_bfloat16_alone_is_sent_in_it():
    params = {
        "stem": {"kernel": jnp.ones((3, 4)), "scale": jnp.ones(4)},
        "last": {"conv": {"kernel": jnp.ones((4, 4))}},
    }
    sent = lambda backbone: jax.tree.map(lambda x: x.dtype.name, jax.eval_shape(lambda: fsdp.gather(params, backbone)))
    expected = {"stem": {"kernel": "bfloat16", "scale": "float32"}, "last": {"conv": {"kernel": "float32"}}}
    with jax.set_mesh(make_mesh(tiny().mesh)):
        assert sent(MobileFaceNet(dtype=jnp.bfloat16)) == expected
        # One that does not say what it reads wider.
        assert set(jax.tree.leaves(sent(nn.Dense(4, dtype=jnp.bfloat16)))) == {"float32"}

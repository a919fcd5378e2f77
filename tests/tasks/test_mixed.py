"""The loss of mixed pictures, for every head; which data can be augmented, and mixed."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.images.recipes import Augmentation, build_augmentation
from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.models import build_backbone
from mhe_jax.recipes.pictures import OWN_AUGMENTATION
from mhe_jax.settings import Settings
from mhe_jax.tasks import mixed
from mhe_jax.tasks.classification import Classification
from mhe_jax.train import experiment, long_tail
from mhe_jax.train.parallel.mesh import make_mesh
from tests import tiny_config, tiny_face_config, tiny_text_config

CLASSES, DIM, BATCH = 19, 16, 6
HEADS = {
    "ohe": {"label_smoothing": 0.1},
    "mhp": {"rank": 2},
    "mhc": {"hidden_dim": 5, "objective": "candidates", "num_candidates": 3},
    "mhs": {"sampler": {"name": "positive_only"}},
}


def task_of(head, **augment):
    data = {"name": "synthetic", "num_classes": CLASSES, "image_shape": (8, 8, 3), "num_examples": 20}
    data = build_data(ConfigDict({**data, "num_eval_examples": 5}))
    backbone = build_backbone(ConfigDict({"name": "convnet", "features_dim": DIM, "widths": (8,)}), jnp.float32)
    fields = dict(HEADS[head])
    made = build_head(head, features_dim=DIM, num_classes=CLASSES, **fields)
    augmentation = build_augmentation(ConfigDict({"name": "own", **augment}))
    return Classification(backbone, made, data, augmentation=augmentation)


def batch_of(rng):
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8)),
        "label": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
        "weight": jnp.asarray([1.0, 1, 1, 0, 1, 1]),
    }


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_is_that_of_both_labels_by_their_shares(head):
    """And so are its gradients, in the features and in every parameter."""
    task, rng = task_of(head, mixup=0.8), np.random.default_rng(0)
    batch = batch_of(rng)
    params = jax.jit(task.init)(jax.random.key(0))[0]["head"]
    _, both = jax.jit(task.train_inputs)(batch, jax.random.key(1))
    share = both["share"]
    assert 0 < float(share[0]) < 1
    assert both["other_label"].tolist() == batch["label"][jnp.array([1, 0, 3, 2, 5, 4])].tolist()
    features = jnp.asarray(rng.normal(size=(BATCH, DIM)), jnp.float32)
    context = Context(key=jax.random.key(2), weight=batch["weight"])

    def of_both(params, features):
        return task.head_loss(params, features, both, context)[0]

    def apart(params, features):
        loss = lambda labels: task.head_loss(params, features, {**batch, "label": labels}, context)[0]
        return share * loss(batch["label"]) + (1 - share) * loss(both["other_label"])

    cotangent = jnp.asarray(rng.normal(size=BATCH), jnp.float32)
    (ours, vjp), (theirs, wanted) = (jax.vjp(f, params, features) for f in (of_both, apart))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), vjp(cotangent), wanted(cotangent))


def test_each_label_of_a_mixed_picture_counts_by_its_own_class():
    task, rng = task_of("ohe", mixup=0.8), np.random.default_rng(0)
    batch = batch_of(rng)
    both = {**batch, "other_label": batch["label"][::-1], "share": jnp.linspace(0.2, 0.9, BATCH)}
    params = jax.jit(task.init)(jax.random.key(0))[0]["head"]
    features = jnp.asarray(rng.normal(size=(BATCH, DIM)), jnp.float32)
    weights = rng.uniform(0.5, 3, CLASSES).astype(np.float32)
    emphasis, given = long_tail.of_batch({"weight": weights, "weight_from": 0}, both, 0)
    assert emphasis == (1.0, None)
    loss, values, _ = task.head_loss(params, features, given, Context())
    of = lambda labels: task.head_loss(params, features, {**batch, "label": labels}, Context())[0]
    own, other, share = of(both["label"]), of(both["other_label"]), both["share"]
    weight_of = lambda labels: weights[np.asarray(labels)]
    expected = share * weight_of(both["label"]) * own + (1 - share) * weight_of(both["other_label"]) * other
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(values["loss"], share * own + (1 - share) * other, rtol=1e-5)


def test_nothing_is_sent_from_device_to_device():
    """Warps, histograms, boxes, mixing and doubled rows of a batch that is split over devices stay where they are."""
    task = task_of("ohe", policy="trivial", erase=0.5, mixup=0.2, cutmix=1.0)
    mesh = make_mesh(ConfigDict({"data": 2, "classes": -1}))
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def program(batch):
        images, batch = task.train_inputs(batch, jax.random.key(0))
        features, batch, _ = mixed.with_both_labels(images.mean(axis=(1, 2)), batch, Context())
        return images, batch["label"], mixed.by_share(features.sum(axis=1), batch["share"])

    shapes = jax.eval_shape(lambda: {**batch_of(np.random.default_rng(0))})
    batch = {
        name: jax.ShapeDtypeStruct((8, *leaf.shape[1:]), leaf.dtype, sharding=rows) for name, leaf in shapes.items()
    }
    with jax.set_mesh(mesh):
        text = jax.jit(program, out_shardings=rows).lower(batch).compile().as_text()
    assert re.findall(r"= \S+ (all-[\w-]+|collective-permute|reduce-scatter)\(", text) == []


def test_a_share_of_one_is_the_loss_of_the_own_label():
    task, rng = task_of("mhp", mixup=0.8), np.random.default_rng(0)
    batch, features = batch_of(rng), jnp.asarray(rng.normal(size=(BATCH, DIM)), jnp.float32)
    params = jax.jit(task.init)(jax.random.key(0))[0]["head"]
    both = {**batch, "other_label": batch["label"][::-1], "share": jnp.ones(BATCH)}
    one, two = (task.head_loss(params, features, given, Context(weight=batch["weight"])) for given in (batch, both))
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    assert one[1].keys() == two[1].keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one[1], two[1])


def test_without_mixing_the_batch_stays():
    batch = batch_of(np.random.default_rng(0))
    for task in (task_of("ohe", policy="trivial"), task_of("ohe", erase=0.5)):
        inputs, same = jax.jit(task.train_inputs)(batch, jax.random.key(0))
        assert inputs.shape == (BATCH, 8, 8, 3)
        assert inputs.dtype == jnp.float32
        assert same.keys() == batch.keys()


@pytest.mark.parametrize(
    ("make", "augment", "message"),
    [
        (tiny_text_config, {"name": "a2"}, "config.augment is 'a2', but config.data 'synthetic_text' has no pictures"),
        (tiny_face_config, {"name": "deit"}, "config.augment.mixup is 0.8 and .*'face_synthetic' faces are trained by"),
        (tiny_config, {"name": "a4"}, "config.augment.name is 'a4'; it must be one of a1, a2, a3, convnext, deit, "),
        (tiny_config, {"name": "a2", "alpha": 1}, "config.augment.alpha is not a field of 'a2', which takes: policy, "),
        (tiny_config, {"name": "own", "policy": "auto"}, "augment.policy is 'auto'; it must be one of 'none', 'randau"),
        (tiny_config, {"name": "a2", "magnitude": 11.0}, "augment.magnitude is 11.0; it must be from 0 to 10 for"),
        (
            tiny_config,
            {"name": "own", "policy": "randaugment", "magnitude": 31},
            "config.augment.magnitude is 31; it must be from 0 to 30 for 'randaugment'",
        ),
        (tiny_config, {"name": "own", "mixup": -1.0}, "config.augment.mixup is -1.0; it must be at least 0"),
        (tiny_config, {"name": "own", "erase": 1.5}, "config.augment.erase is 1.5; it must be a probability"),
        (tiny_config, {"name": "own", "repeats": 0}, "config.augment.repeats is 0; it must be a whole number of at le"),
        (tiny_config, {"name": "own", "jitter": (0.1, 0.1, 0.1, 0.6)}, r"augment.jitter is \(0.1, .* at most 0.5"),
        (tiny_config, {"name": "own", "jitter": (0.1,)}, r"config.augment.jitter is \(0.1,\); it must be brightness"),
    ],
)
def test_what_cannot_be_is_named(make, augment, message):
    config = make.get_config()
    config.augment = augment
    settings = Settings.from_config(config)
    data = build_data(settings.data)
    with pytest.raises(ValueError, match=message):
        experiment.build_task(settings, settings.head, data, settings.data.num_classes)


def test_the_parts_that_configs_list_are_all_and_off():
    assert dataclasses.asdict(Augmentation()) | {"name": "own"} == OWN_AUGMENTATION


def test_colours_of_two_channels_are_named():
    augmentation = build_augmentation(ConfigDict({"name": "trivial"}))
    with pytest.raises(ValueError, match="pictures have 3 or 1, but these have 2 channels"):
        augmentation.distort(jnp.zeros((2, 8, 8, 2), jnp.uint8), jax.random.key(0), (0.5, 0.5))

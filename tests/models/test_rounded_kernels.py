"""What `shard_backbone` relies on: all kernels but those of `wide_params` are read, and may be sent, in `dtype`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.models import BACKBONES, ENCODERS, ON_FEATURES, ON_SPARSE, build_backbone

PICTURES = (np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32),)
FACES = (np.random.default_rng(0).normal(size=(2, 64, 48, 3)).astype(np.float32),)
WORDS = (np.array([[1, 5, 2, 30, 7], [4, 1, 0, 0, 0]], np.int32), np.array([5, 2], np.int32))
FEATURES = (np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32),)
SPARSE = (np.array([[3, 1, 0], [30, 0, 0]], np.int32), np.array([[0.5, 1.3, 0], [0.7, 0, 0]], np.float32))
SIZES = {"vocab_size": 31, "hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 17}
SMALL = {
    "convnet": ({"features_dim": 7, "widths": (4,)}, PICTURES),
    "convnext": ({"depths": (1, 1), "widths": (4, 6)}, PICTURES),
    "face_vit": ({"width": 12, "depth": 2, "num_heads": 3}, PICTURES),
    "iresnet": ({"depth": 18}, PICTURES),
    "mobilefacenet": ({"scale": 1, "features_dim": 7}, FACES),
    "resnet": ({"depth": 18}, PICTURES),
    "resnet_cifar": ({"depth": 18}, PICTURES),
    "vit": ({"patch_size": 8, "width": 12, "depth": 2, "num_heads": 3}, PICTURES),
    "bert": ({**SIZES, "max_positions": 13}, WORDS),
    "modernbert": ({**SIZES, "local_window": 4}, WORDS),
    "xlnet": (SIZES, WORDS),
    "identity": ({"input_dim": 5, "hidden_dims": (7,), "layer_norm": True}, FEATURES),
    "bag": ({"input_dim": 31, "features_dim": 7, "residual": True}, SPARSE),
}


@pytest.mark.parametrize("name", [*BACKBONES, *ENCODERS, *ON_FEATURES, *ON_SPARSE])
def test_rounding_the_others_before_changes_nothing(name):
    fields, inputs = SMALL[name]
    model = build_backbone(ConfigDict({"name": name, **fields}), jnp.bfloat16)
    variables = jax.jit(lambda: model.init(jax.random.key(0), *inputs, train=False))()

    def read(path, x):
        wide = any(getattr(key, "key", None) in model.wide_params for key in path)
        return x if wide or x.ndim == 1 else x.astype(jnp.bfloat16).astype(x.dtype)

    rounded = jax.tree_util.tree_map_with_path(read, variables)
    # Exactly what is written: XLA may otherwise leave out a rounding that is followed by a float32 product.
    exact: dict[str, bool | str] = {"xla_allow_excess_precision": False}
    if jax.__version_info__ >= (0, 12):  # whose fusions for CPUs give NaN for some networks in bfloat16
        exact["xla_cpu_experimental_ynn_fusion_type"] = ""
    features = jax.jit(lambda v: model.apply(v, *inputs, train=False), compiler_options=exact)
    np.testing.assert_array_equal(features(rounded), features(variables))
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (rounded, variables)), strict=True))

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.train.optim.clip import build_clip

GRADS = {"backbone": {"k": jnp.array([3.0, 4.0])}, "head": {"t": jnp.array([12.0])}}


@pytest.mark.parametrize(
    ("parts", "backbone", "head"),
    [(("backbone", "head"), 1 / 13, 1 / 13), (("backbone",), 1 / 5, 1), (("head",), 1, 1 / 12)],
)
def test_the_norm_is_taken_over_the_parts_and_scales_them(parts, backbone, head):
    clip = build_clip(ConfigDict({"name": "norm", "norm": 1.0, "parts": parts})).transformation()
    clipped, _ = clip.update(GRADS, clip.init(GRADS))
    np.testing.assert_allclose(clipped["backbone"]["k"], backbone * GRADS["backbone"]["k"], rtol=1e-6)
    np.testing.assert_allclose(clipped["head"]["t"], head * GRADS["head"]["t"], rtol=1e-6)


def test_a_smaller_gradient_is_left_alone():
    clip = build_clip(ConfigDict({"name": "norm", "norm": 20.0})).transformation()
    clipped, _ = clip.update(GRADS, clip.init(GRADS))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, clipped, GRADS))


def test_none_is_no_clip():
    assert build_clip(ConfigDict({"name": "none"})) is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "none", "parts": ("backbone",)}, "config.clip.parts is not a field of 'none', which takes: none"),
        ({"name": "norm"}, "config.clip.norm is missing: 'norm' needs it"),
        ({"name": "norm", "norm": 0.0}, r"config.clip.norm is 0.0; it must be positive"),
        ({"name": "norm", "norm": 1.0, "parts": ("tail",)}, r"config.clip.parts is \('tail',\)"),
        ({"name": "value", "norm": 1.0}, "config.clip.name is 'value'; it must be one of none, norm"),
    ],
)
def test_wrong_fields_are_named(section, message):
    with pytest.raises(ValueError, match=message):
        build_clip(ConfigDict(section))

"""How deep the parts of every backbone lie, by the names that their parameters really have."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from mhe_jax.models import BACKBONES, ENCODERS, build_backbone
from mhe_jax.models.depth import distances_from_top

ENCODER = {"vocab_size": 9, "hidden_size": 4, "num_layers": 3, "num_heads": 2, "intermediate_size": 4}
POSITIONS = {"max_positions": 8, "position_offset": 2}

# The parts of a backbone by their distance from the top.
EXPECTED = {
    "bert": (
        {"name": "bert", **ENCODER, "max_positions": 8},
        {
            0: {"layer_2"},
            1: {"layer_1"},
            2: {"layer_0"},
            3: {"word_embedding", "position_embedding", "token_type_embedding", "embedding_norm"},
        },
    ),
    "roberta": (
        {"name": "bert", **ENCODER, **POSITIONS, "token_types": 1, "num_layers": 1},
        {0: {"layer_0"}, 1: {"word_embedding", "position_embedding", "token_type_embedding", "embedding_norm"}},
    ),
    "mpnet": (
        {"name": "bert", **ENCODER, **POSITIONS, "token_types": 0, "relative_positions": True, "num_layers": 11},
        {
            **{10 - i: {f"layer_{i}"} for i in range(11)},
            11: {"word_embedding", "position_embedding", "embedding_norm", "relative_attention_bias"},
        },
    ),
    "modernbert": (
        {"name": "modernbert", **ENCODER},
        {0: {"layer_2", "final_norm"}, 1: {"layer_1"}, 2: {"layer_0"}, 3: {"word_embedding", "embedding_norm"}},
    ),
    "xlnet": (
        {"name": "xlnet", **ENCODER},
        {0: {"layer_2"}, 1: {"layer_1"}, 2: {"layer_0"}, 3: {"word_embedding"}},
    ),
    "resnet": (
        {"name": "resnet", "depth": 18},
        {
            **{4 - stage: {f"layer{stage}_0", f"layer{stage}_1"} for stage in range(1, 5)},
            4: {"conv1", "bn1"},
        },
    ),
    "resnet_cifar": (
        {"name": "resnet_cifar", "depth": 18},
        {
            **{4 - stage: {f"layer{stage}_0", f"layer{stage}_1"} for stage in range(1, 5)},
            4: {"conv1", "bn1"},
        },
    ),
    "iresnet": (
        {"name": "iresnet", "depth": 18, "features_dim": 4},
        {
            0: {"layer4_0", "layer4_1", "bn2", "fc", "features"},
            **{4 - stage: {f"layer{stage}_0", f"layer{stage}_1"} for stage in range(1, 4)},
            4: {"conv1", "bn1", "prelu"},
        },
    ),
    "face_vit": (
        {
            "name": "face_vit",
            **{"features_dim": 4, "patch_size": 4, "width": 4, "depth": 2, "num_heads": 2, "mask_ratio": 0.5},
        },
        {
            0: {"block_1", "norm", "mask_token", "features_1", "features_1_bn", "features_2", "features_2_bn"},
            1: {"block_0"},
            2: {"patch", "positions"},
        },
    ),
    "vit": (
        {"name": "vit", "patch_size": 8, "width": 4, "depth": 3, "num_heads": 2},
        {0: {"block_2", "norm"}, 1: {"block_1"}, 2: {"block_0"}, 3: {"patch", "class_token", "positions"}},
    ),
    "convnext": (
        {"name": "convnext", "depths": (1, 2, 1), "widths": (2, 3, 4)},
        {
            0: {"stage3_down", "stage3_down_norm", "stage3_0", "norm"},
            1: {"stage2_down", "stage2_down_norm", "stage2_0", "stage2_1"},
            2: {"stage1_0"},
            3: {"stem", "stem_norm"},
        },
    ),
    "convnet": (
        {"name": "convnet", "features_dim": 4, "widths": (4, 4)},
        {0: {"dense2", "bn2", "dense_features", "bn_features"}, 1: {"dense1", "bn1"}},
    ),
}


def names_of(fields):
    model = build_backbone(ConfigDict(fields), jnp.float32)
    if fields["name"] in ENCODERS:
        inputs = jax.ShapeDtypeStruct((2, 8), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32)
    else:
        inputs = (jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),)
    return set(jax.eval_shape(lambda *x: model.init(jax.random.key(0), *x, train=False), *inputs)["params"])


def by_distance(names):
    found = distances_from_top(names)
    return {number: {name for name in found if found[name] == number} for number in set(found.values())}


@pytest.mark.parametrize("kind", EXPECTED)
def test_distances_are_those_of_the_layers(kind):
    fields, expected = EXPECTED[kind]
    names = names_of(fields)
    assert set().union(*expected.values()) == names
    assert by_distance(names) == expected


def test_mobilefacenet_by_its_stages():
    names = names_of({"name": "mobilefacenet", "features_dim": 4, "scale": 1})
    found = by_distance(names)
    stages = {name.partition("_")[0] for name in names if name.startswith("stage")}
    assert found[0] == {n for n in names if n.startswith(f"stage{len(stages)}_")} | {
        *("last", "places", "places_bn", "embedding", "embedding_bn")
    }
    assert found[len(stages) - 1] == {name for name in names if name.startswith("stage1_")}
    assert found[len(stages)] == {"stem", "stem_grouped"}


def test_every_backbone_is_known():
    assert {fields["name"] for fields, _ in EXPECTED.values()} | {"mobilefacenet"} == {*BACKBONES, *ENCODERS}


@pytest.mark.parametrize(
    "names", [["kernel", "layer_0"], ["word_embedding"], ["layer_0", "block_1"], ["conv1", "layer_0"], []]
)
def test_other_structures_are_errors_that_list_what_is_there(names):
    listed = ", ".join(sorted(names)) or "none"
    with pytest.raises(ValueError, match=f"not known which of the backbone's parts are its layers: {listed}$"):
        distances_from_top(names)

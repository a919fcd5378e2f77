import pytest

from mhe_jax.settings import defaults
from mhe_jax.train import sections
from tests import tiny_config, tiny_face_config, tiny_text_config


def stored(module=tiny_config):
    return module.get_config().to_dict()


@pytest.mark.parametrize("module", [tiny_config, tiny_face_config, tiny_text_config])
def test_a_config_is_itself(module):
    assert sections.differences(stored(module), stored(module)) == []


@pytest.mark.parametrize("field", [name for name, value in defaults().items() if name not in ("total_steps",)])
def test_a_field_that_the_run_does_not_know_means_its_default(field):
    old, new = stored(), stored()
    old.pop(field)
    new[field] = defaults()[field]
    assert sections.differences(old, new) == []


@pytest.mark.parametrize(
    ("path", "default", "other"),
    [
        ("optimizer.head_rate", 1.0, 2.0),
        ("backbone.bn_groups", 1, 2),
        ("head.rank", 1, 2),
        ("data.seed", 0, 1),
        ("average.name", "none", "ema"),
        ("accumulate_steps", 1, 2),
        ("clip.name", "none", "norm"),
    ],
)
def test_a_field_left_out_is_its_default_and_no_other(path, default, other):
    def with_field(value):
        config = stored()
        *outer, name = path.split(".")
        section = config[outer[0]] if outer else config
        section.pop(name, None)
        if value is not None:
            section[name] = value
        return {name: value for name, value in config.items() if value != {}}

    assert sections.differences(with_field(None), with_field(default)) == []
    found = sections.differences(with_field(None), with_field(other))
    assert f"{path}: {default} there, {other} here" in found


def test_a_margin_left_out_is_the_heads():
    old, new = stored(tiny_face_config), stored(tiny_face_config)
    old["head"].pop("margin")
    new["head"]["margin"] = {"name": "none", "scale": 64.0}
    assert sections.differences(old, new) == []
    new["head"]["margin"]["scale"] = 32.0
    assert sections.differences(old, new) == ["head.margin.scale: 64.0 there, 32.0 here"]


def test_lists_of_json_are_tuples():
    old, new = stored(), stored()
    old["head"]["head_sizes"], new["head"]["head_sizes"] = [4, 5], (4, 5)
    assert sections.differences(old, new) == []


@pytest.mark.parametrize(
    ("section", "path", "free"),
    [
        ({}, "mesh.classes", True),
        ({}, "keep_checkpoints", True),
        ({}, "seed", False),
        ({"head": "mhc"}, "head.beam_width", False),
        ({"head": "ohe"}, "head.block_size", True),
        ({"head": "mhp"}, "head.num_candidates", True),
        ({"data": "xmc", "head": "mhc"}, "head.num_candidates", False),
        ({"data": "image_folder"}, "data.path", True),
        ({"data": "image_folder"}, "data.num_workers", True),
        ({"data": "image_folder"}, "data.image_size", False),
        ({"data": "unicode"}, "data.cache_dir", True),
        ({"data": "no such data"}, "data.path", False),
        ({"optimizer": "sgd"}, "optimizer.momentum", False),
    ],
)
def test_what_is_free(section, path, free):
    names = {f"{name}.name": entry for name, entry in section.items()}
    assert sections.is_free(path, {"data.name": "glyphs", **names}) == free

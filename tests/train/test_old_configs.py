"""config.json files as version 0.1 wrote them (beside this file), and smaller ones."""

import json
import pathlib

import pytest

from mhe_jax.recipes import heads
from mhe_jax.train.old_configs import upgraded

STORED = {path.stem: json.loads(path.read_text()) for path in (pathlib.Path(__file__).parent / "old_configs").iterdir()}
# The fields of 0.1 that have moved.
MOVED = {"clip_norm", "clip_parts"}


@pytest.mark.parametrize(
    ("run", "sampler"),
    [
        ("picture", {"name": "per_example", "num_groups": 4, "drop_one_group": False}),
        ("face", {"name": "batch_union", "parts": 0}),
        ("text", None),
        ("product", None),
    ],
)
def test_a_stored_config_keeps_its_other_fields(run, sampler):
    old, new = STORED[run], upgraded(STORED[run])
    assert new["head"].pop("sampler", None) == sampler
    gone = {"sampler", "num_groups", "sample_rate", "drop_one_group", "sample_parts"}
    gone |= {"label_smoothing"} if run == "face" else set()
    assert new["head"] == {name: value for name, value in old["head"].items() if name not in gone}
    left = {name: value for name, value in old.items() if name not in MOVED | {"head"}}
    # What is left out had its default.
    assert {name: left[name] for name in left.keys() - new.keys()}.items() <= {
        "dropout_off_after_step": 0,
        "init_parts": ["backbone", "head"],
    }.items()
    assert {name: value for name, value in new.items() if name != "head"}.items() <= left.items()


def test_the_argument_is_left_alone():
    before = json.dumps(STORED["picture"])
    upgraded(STORED["picture"])
    assert json.dumps(STORED["picture"]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"clip_norm": 5.0, "clip_parts": ["backbone"]},
            {"clip": {"name": "norm", "norm": 5.0, "parts": ["backbone"]}},
        ),
        ({"clip_norm": 1.0}, {"clip": {"name": "norm", "norm": 1.0}}),
        ({"clip_norm": 0.0, "clip_parts": ["backbone"]}, {}),
        ({"init_from": "", "init_parts": ["backbone"]}, {"init_from": ""}),
        ({"init_from": "a.pth", "init_parts": ["backbone"]}, {"init_from": "a.pth", "init_parts": ["backbone"]}),
        ({"data": {"name": "glyphs"}, "dropout_off_after_step": 5}, {"data": {"name": "glyphs"}}),
        (
            {"data": {"name": "xmc"}, "dropout_off_after_step": 5},
            {"data": {"name": "xmc"}, "dropout_off_after_step": 5},
        ),
        ({"schedule": {"name": "constant", "per_epoch": True}}, {"schedule": {"name": "constant"}}),
        (
            {"optimizer": {"name": "sgd", "momentum": 0, "nesterov": True}},
            {"optimizer": {"name": "sgd", "momentum": 0}},
        ),
        ({}, {}),
    ],
)
def test_fields_that_moved_or_were_not_read(old, new):
    assert upgraded(old) == new


@pytest.mark.parametrize(
    ("data", "head", "sampler"),
    [
        # Of pictures they were drawn as a whole, on any mesh.
        (
            "cifar10",
            {"sampler": "random_groups", "sample_rate": 0.2},
            {"name": "random_groups", "rate": 0.2, "parts": 1},
        ),
        ("cifar10", {"sampler": "positive_only", "num_groups": 3}, {"name": "positive_only"}),
        ("face_glyphs", {"sampler": "random_groups", "sample_parts": 8}, {"name": "random_groups", "parts": 8}),
        # What a config did not say.
        ("cifar10", {"num_groups": 3}, {"name": "per_example", "num_groups": 3}),
        ("face_glyphs", {}, {"name": "batch_union"}),
        ("face_glyphs", {"sampler": "per_example"}, {"name": "per_example", "num_groups": 2}),
        ("xmc", {"sample_rate": 0.5}, {"name": "batch_union"}),
    ],
)
def test_the_sampler_has_its_own_fields_alone(data, head, sampler):
    new = upgraded({"data": {"name": data}, "head": {"name": "mhs", "block_size": 0, **head}})
    assert new["head"] == {"name": "mhs", "block_size": 0, "sampler": sampler}


@pytest.mark.parametrize("name", ["ohe", "mhp", "mhc", "mhs"])
def test_a_head_of_today_comes_back_as_it_is(name):
    today = {"data": {"name": "glyphs"}, "head": getattr(heads, name)()}
    assert upgraded(today) == today


def test_a_prior_for_biases_that_there_are_not_is_dropped():
    old = {"head": {"name": "ohe", "use_bias": False, "prior": 0.001}}
    assert upgraded(old)["head"]["prior"] == 0
    old["head"]["use_bias"] = True
    assert upgraded(old) == old

import dataclasses
import pathlib
import re

import pytest

import mhe_jax
from mhe_jax.recipes.base import base_config
from mhe_jax.settings import Settings


def config(**fields):
    made = base_config()
    made.update({"total_steps": 5, **fields})
    return made


def test_the_base_config_is_complete():
    assert Settings.from_config(config()).total_steps == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"global_batchsize": 4}, "unknown config field.*global_batchsize.*known:.*global_batch_size"),
        ({"global_batch_size": -1}, "global_batch_size must be 0 or more, not -1"),
        ({"accumulate_steps": 0}, "accumulate_steps must be at least 1, not 0"),
        ({"total_steps": 0}, "one of config.total_epochs and config.total_steps must be positive"),
        ({"dtype": "float8"}, "config.dtype is 'float8'"),
        ({"on_non_finite": "skip"}, "config.on_non_finite is 'skip'; it must be stop or rollback"),
        ({"init_parts": ("backbone",)}, r"config.init_parts is \('backbone',\), but config.init_from names nothing"),
        ({"log_norms": ("grad", "loss")}, r"config.log_norms is \('grad', 'loss'\); it may name grad, param, update"),
        ({"head_matmul_precision": "high"}, "head_matmul_precision is 'high'; it must be empty or default or highest"),
        *[
            ({name: -1}, f"config.{name} must be 0 or more, not -1")
            for name in (
                "keep_every_steps",
                "keep_checkpoints",
                "steps_per_dispatch",
                "dropout_off_after_step",
                "eval_every_steps",
                "eval_every_epochs",
                "checkpoint_every_steps",
                "checkpoint_every_epochs",
                "total_steps",
                "total_epochs",
            )
        ],
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Settings.from_config(config(**fields))


def test_a_missing_section_is_named():
    broken = config()
    del broken["backbone"]
    with pytest.raises(ValueError, match="config section.s. missing: backbone"):
        Settings.from_config(broken)


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(2.0, 0, 20), (0.5, 0, 5), (0.01, 0, 1), (2.0, 7, 7), (0.0, 0, 0)]
)
def test_steps_rule_over_epochs(epochs, steps, expected):
    settings = Settings.from_config(config(eval_every_epochs=epochs, eval_every_steps=steps))
    assert settings.duration("eval_every", steps_per_epoch=10) == expected


def test_every_field_is_described():
    for field in dataclasses.fields(Settings):
        assert field.metadata["help"].endswith("."), field.name


def test_the_defaults_of_a_config_are_its_own():
    first, second = config(), config()
    first.mesh.classes = 4
    assert second.mesh.classes == 1


def test_every_field_is_read_somewhere():
    package = pathlib.Path(mhe_jax.__file__).parent
    sources = "".join(path.read_text() for path in (package.parent / "main.py", *package.rglob("*.py")))
    for field in dataclasses.fields(Settings):
        duration = re.sub("_(steps|epochs)$", "", field.name)
        assert f"settings.{field.name}" in sources or f'duration("{duration}"' in sources, field.name

"""What trains a task: what would begin after the end of the run is refused."""

import types

import pytest

from mhe_jax.settings import Settings
from mhe_jax.train.learner import build_learner
from tests.field_runs import pictures

TASK = types.SimpleNamespace(head=types.SimpleNamespace(sparse_tables=dict, owned_tables=dict))


def swa(start):
    return {"average": {"name": "swa", "start_epoch": start, "every_steps": 1}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (swa(4), "config.average.start_epoch is 4, but the run ends after 4 epochs"),
        ({"optimizer__unfreeze_steps": (0, 20)}, r"unfreeze_steps is \(0, 20\), but the run ends after 20 steps"),
    ],
)
def test_what_begins_after_the_end_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build_learner(Settings.from_config(pictures(**fields)), TASK, total_steps=20, steps_per_epoch=5)


@pytest.mark.parametrize("fields", [swa(0), swa(3), {"optimizer__unfreeze_steps": (0, 19)}])
def test_what_begins_before_the_end_is_built(fields):
    build_learner(Settings.from_config(pictures(**fields)), TASK, total_steps=20, steps_per_epoch=5)

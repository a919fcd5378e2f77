"""The train program is compiled once for each shape of its batches, over epochs, evaluations and a resume."""

import collections
import contextlib

import jax
import pytest

from mhe_jax.data.texts.feed import TextFeed
from mhe_jax.train import loop
from tests import tiny_config, tiny_text_config

pytestmark = pytest.mark.slow

COMPILED = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def counted():
    """Counts what XLA is asked to compile, or to fetch from the cache of compiled programs, by function."""
    counts: collections.Counter = collections.Counter()

    def listen(event: str, seconds: float, **told) -> None:
        if event == COMPILED:
            counts[str(told["fun_name"]).removeprefix("jit(").removesuffix(")")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield counts
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def pictures():
    """Three steps an epoch, two epochs."""
    config = tiny_config.get_config()
    config.eval_every_steps = config.checkpoint_every_steps = 2
    return config


def texts():
    """Documents of up to 8 tokens, and up to 16."""
    config = tiny_text_config.get_config()
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 18, 9, 9
    return config


@pytest.mark.parametrize(("make", "shapes"), [(pictures, 1), (texts, 2)])
def test_the_train_program_is_compiled_once_for_each_shape(make, shapes, tmp_path, monkeypatch):
    lengths = set()
    chunk = TextFeed.chunk

    def noted(self, step, count):
        found = chunk(self, step, count)
        if not self._evaluates:
            lengths.add(found["input_ids"].shape)
        return found

    monkeypatch.setattr(TextFeed, "chunk", noted)
    with counted() as counts:
        loop.train_and_evaluate(make(), tmp_path / "whole")
    assert counts["program"] == shapes
    assert len(lengths) == (shapes if make is texts else 0)

    with counted() as first:
        loop.train_and_evaluate(make(), tmp_path / "parts", interrupt_at=make().total_steps // 2)
    with counted() as second:
        result = loop.train_and_evaluate(make(), tmp_path / "parts")
    assert result["step"] == make().total_steps
    # Each start makes a function of its own, which is compiled for it; a part of a run may not meet all shapes.
    assert 1 <= first["program"] <= shapes
    assert 1 <= second["program"] <= shapes

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.ops import storage
from mhe_jax.train.optim import averages

STEPS_PER_EPOCH = 5


def run(section, steps):
    """Averages weights that equal step + 1 after each step; the weights before the first step are 0."""
    rule = averages.build_average(ConfigDict(section), STEPS_PER_EPOCH)
    update = jax.jit(lambda average, weights, step: averages.update(rule, average, weights, step, jax.random.key(0)))
    average = averages.start(rule, {"w": jnp.zeros(())})
    for step in range(steps):
        average = update(average, {"w": jnp.float32(step + 1)}, jnp.int32(step))
    return average


def test_none_keeps_nothing():
    assert run({"name": "none"}, 3) is None


def test_ema_follows_its_recurrence():
    expected = 0.0
    for step in range(40):
        decay = min(0.9, (2 + step) / (11 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    np.testing.assert_allclose(run({"name": "ema", "decay": 0.9}, 40)["weights"]["w"], expected, rtol=1e-5)


def test_swa_averages_the_start_of_its_epoch_and_every_nth_step_from_the_first_on():
    average = run({"name": "swa", "start_epoch": 2, "every_steps": 3}, 3 * STEPS_PER_EPOCH + 1)
    # The weights at the start of epoch 2 (step 10), then after steps 10, 13 and 15: values 10, 11, 14, 16.
    np.testing.assert_allclose(average["weights"]["w"], np.mean([10, 11, 14, 16]), rtol=1e-6)
    assert int(average["count"]) == 4


def test_swa_follows_the_weights_before_it_starts():
    assert float(run({"name": "swa", "start_epoch": 2, "every_steps": 3}, 7)["weights"]["w"]) == 7.0


@pytest.mark.parametrize("kept", ["bfloat16", "float8"])
def test_an_average_of_a_narrow_table_is_as_narrow_and_right_on_average(kept):
    """.99 of a number and .01 of the next one are nearest to the number itself."""
    rule = averages.build_average(ConfigDict({"name": "ema", "decay": 0.99}), STEPS_PER_EPOCH)
    table = lambda value: {"t": storage.store(jnp.full((8, 16, 32), value), kept), "b": jnp.full(3, value)}

    def step(average, step):
        key = jax.random.fold_in(jax.random.key(0), step)
        return averages.update(rule, average, table(1.125), step, key), None

    begun = {"weights": table(1.0), "count": jnp.int32(1000)}
    average, _ = jax.jit(lambda begun: jax.lax.scan(step, begun, jnp.arange(100)))(begun)
    want = 1.125 - 0.125 * 0.99**100
    np.testing.assert_allclose(average["weights"]["b"], want, rtol=1e-5)
    found = average["weights"]["t"]
    assert found.dtype == storage.STORAGES[kept]
    np.testing.assert_allclose(np.asarray(storage.widen(found), np.float64).mean(), want, atol=2e-3)


def test_an_average_that_follows_its_weights_is_them_exactly():
    rule = averages.build_average(ConfigDict({"name": "swa", "start_epoch": 9, "every_steps": 1}), STEPS_PER_EPOCH)
    rng = np.random.default_rng(0)
    tables = [{"t": storage.store(jnp.asarray(rng.normal(size=(7, 5)), jnp.float32), "float8")} for _ in range(2)]
    average = averages.update(rule, averages.start(rule, tables[0]), tables[1], jnp.int32(0), jax.random.key(0))
    np.testing.assert_array_equal(storage.widen(average["weights"]["t"]), storage.widen(tables[1]["t"]))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "ema", "decay": 1.5}, "config.average.decay is 1.5; it must be from 0 to 1"),
        ({"name": "ema", "decay": -1.0}, "config.average.decay is -1.0"),
        ({"name": "swa", "start_epoch": 0, "every_steps": 0}, "config.average.every_steps is 0; it must be 1 or more"),
        ({"name": "swa", "start_epoch": -1, "every_steps": 3}, "config.average.start_epoch is -1; it must be 0 or"),
    ],
)
def test_impossible_numbers_are_named(section, message):
    with pytest.raises(ValueError, match=message):
        averages.build_average(ConfigDict(section), STEPS_PER_EPOCH)

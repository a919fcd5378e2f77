"""One optimizer step, and a program that runs several of them per dispatch."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mhe_jax.train import averages, metrics
from mhe_jax.train.state import TrainState


def stream(seed: int, name: str, step) -> jax.Array:
    """The random key of a named stream at a step: a pure function of its arguments, so that nothing is stored."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), step)


def make_train_step(task, tx, schedule, average_rule, seed: int, accumulate_steps: int) -> Callable:
    """`step(state, batch) -> (state, sums)` for one optimizer step on `batch`.

    The backbone and the head are differentiated apart: the backbone's features with a vjp, then the head's loss with
    respect to its parameters and the features. A head may thus treat its own gradient as it likes.

    `schedule` is the optimizer's, for the metric `learning_rate`: asked from the host, it would wait for the device.
    """

    def gradients(params, batch_stats, batch, key, total_weight):
        augment_key, head_key = jax.random.split(key)
        inputs = task.train_inputs(batch, augment_key)
        forward = lambda p: task.train_features(p, batch_stats, inputs)
        features, backbone_vjp, batch_stats = jax.vjp(forward, params["backbone"], has_aux=True)

        def head_loss(p, features):
            per_example, values = task.head_loss(p, features, batch, head_key)
            sums = metrics.weighted({"loss": per_example, **values}, batch["weight"])
            return sums["loss"][0] / total_weight, sums

        (head_grads, d_features), sums = jax.grad(head_loss, argnums=(0, 1), has_aux=True)(params["head"], features)
        (backbone_grads,) = backbone_vjp(d_features)
        return {"backbone": backbone_grads, "head": head_grads}, batch_stats, sums

    def accumulated(params, batch_stats, batch, key):
        total = jnp.maximum(batch["weight"].sum(), 1.0)
        if accumulate_steps == 1:
            return gradients(params, batch_stats, batch, key, total)
        # Part i takes rows i, i + A, i + 2A, ...: each device then cuts its own rows, and nothing is moved.
        parts = jax.tree.map(lambda x: x.reshape(-1, accumulate_steps, *x.shape[1:]).swapaxes(0, 1), batch)

        def body(carry, part):
            grads, stats, sums, i = carry
            more, stats, more_sums = gradients(params, stats, part, jax.random.fold_in(key, i), total)
            return (jax.tree.map(jnp.add, grads, more), stats, metrics.merge(sums, more_sums), i + 1), None

        first = jax.eval_shape(lambda: gradients(params, batch_stats, jax.tree.map(lambda x: x[0], parts), key, total))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (first[0], first[2]))
        (grads, batch_stats, sums, _), _ = jax.lax.scan(body, (zeros[0], batch_stats, zeros[1], 0), parts)
        return grads, batch_stats, sums

    def step(state: TrainState, batch: dict) -> tuple[TrainState, metrics.Sums]:
        key = stream(seed, "train", state.step)
        grads, batch_stats, sums = accumulated(state.params, state.batch_stats, batch, key)
        sums["learning_rate"] = jnp.stack([jnp.float32(schedule(state.step)), 1.0])
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        weights = {"params": params, "batch_stats": batch_stats}
        average = averages.update(average_rule, state.average, weights, state.step)
        return TrainState(state.step + 1, params, batch_stats, opt_state, average), sums

    return step


def compile_train_program(train_step: Callable, select: Callable, steps_per_dispatch: int, abstract: TrainState) -> Any:
    """The jitted `program(state, resident, chunk, count) -> (state, sums)`: `count` steps in one dispatch.

    The state is donated, and comes back laid out as `abstract`.

    Args:
      train_step: of `make_train_step`.
      select: `select(resident, piece) -> batch` of the feed, traced.
      steps_per_dispatch: leading length of every chunk; 1 runs the step without a loop around it.
      abstract: the state's shapes and shardings.
    """

    def run(state, resident, piece):
        return train_step(state, select(resident, piece))

    def program(state: TrainState, resident: Any, chunk: Any, count: jax.Array):
        if steps_per_dispatch == 1:
            return run(state, resident, jax.tree.map(lambda leaf: leaf[0], chunk))

        def body(i, carry):
            state, sums = carry
            piece = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), chunk)
            state, more = run(state, resident, piece)
            return state, metrics.merge(sums, more)

        shapes = jax.eval_shape(lambda: run(state, resident, jax.tree.map(lambda leaf: leaf[0], chunk))[1])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # The trip count is a value, not a shape: one compiled program serves every stop on the way.
        return jax.lax.fori_loop(0, count, body, (state, zeros))

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(program, donate_argnums=0, out_shardings=(shardings, None))


def make_eval_step(task, select: Callable) -> Callable:
    """`step(weights, resident, piece) -> sums` over one padded batch."""

    def step(weights: dict, resident: Any, piece: Any) -> metrics.Sums:
        batch = select(resident, piece)
        return metrics.weighted(task.evaluate(weights, batch), batch["weight"])

    return step

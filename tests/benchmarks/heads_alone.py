"""A train step of a head alone, on features that are given and whose gradient is made, and turns of several."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mhe_jax.heads.base import Context, Head
from mhe_jax.ops.owned import Visit
from mhe_jax.train.optim.table_rules import Rule


class HeadStep:
    """A step of a head's loss with its parameters under an optax rule, and its table with `of_table`, if any, owned."""

    def __init__(
        self, head: Head, features, labels, rule: optax.GradientTransformation, learning_rate, of_table: Rule | None
    ):
        rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
        params = nn.unbox(jax.jit(head.init)(rngs, features, labels)["params"])
        names = head.owned_tables() if of_table else ()
        tables = {name: params.pop(name) for name in names}
        slots = {name: of_table.init(table) for name, table in tables.items()} if of_table else {}

        def loss(params, features, tables, slots):
            visits = {
                name: Visit(of_table, jnp.float32(learning_rate), jnp.zeros(2, jnp.uint32), slots[name])
                for name in tables
            }
            context = Context(visits=visits, statistics=head.statistics(), key=jax.random.key(2))
            losses = head.apply({"params": {**params, **tables}}, features, labels, context, method="loss")[0]
            return losses.mean()

        def step(params, state, features, tables, slots):
            value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(params, features, tables, slots)
            updates, state = rule.update(grads[0], state, params)
            return optax.apply_updates(params, updates), state, grads[2], grads[3], grads[1], value

        self.state = params, rule.init(params), tables, slots
        self.features, self.program = features, jax.jit(step, donate_argnums=(0, 1, 3, 4))

    def step(self) -> float:
        """The loss before it."""
        params, state, tables, slots = self.state
        *self.state, _, value = self.program(params, state, self.features, tables, slots)
        return float(jax.block_until_ready((self.state, value))[1])


def in_turns(candidates: Mapping[str, Callable], rounds: int, steps: int) -> None:
    """Prints milliseconds of a step of each, and how many times as fast as the first it is; one in memory at a time."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, build in candidates.items():
            head = build()
            head.step()  # compiles, and touches all memory
            started = time.perf_counter()
            for _ in range(steps):
                head.step()
            times[name].append((time.perf_counter() - started) / steps)
            del head
            gc.collect()
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    base = next(iter(medians.values()))
    print(f"{'head':40}{'ms/step':>10}{'times as fast':>15}")
    for name, middle in medians.items():
        print(f"{name:40}{1e3 * middle:>10.1f}{base / middle:>15.1f}")

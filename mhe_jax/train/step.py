"""One optimizer step, and a program that runs several of them per dispatch."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Context
from mhe_jax.settings import DO_WITHOUT, Settings
from mhe_jax.train import long_tail
from mhe_jax.train.optim import averages, rules
from mhe_jax.train.optim.optimizer import Optimizer
from mhe_jax.train.parallel import fsdp
from mhe_jax.train.reporting import metrics
from mhe_jax.train.reporting.norms import norms
from mhe_jax.train.state import TrainState
from mhe_jax.train.streams import stream


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What a train step depends on besides task and optimizer; the fields of `Settings` of the same names.

    steps_per_epoch: length of an epoch, for `dropout_off_after_step`.
    """

    seed: int = 0
    accumulate_steps: int = 1
    log_every_steps: int = 1
    dropout_off_after_step: int = 0
    shard_backbone: bool = False
    freeze_backbone: bool = False
    steps_per_epoch: int = 1
    log_norms: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, steps_per_epoch: int) -> "StepOptions":
        """Those of a run."""
        names = {field.name for field in dataclasses.fields(cls)} - {"steps_per_epoch"}
        return cls(steps_per_epoch=steps_per_epoch, **{name: getattr(settings, name) for name in names})


def make_train_step(task, optimizer: Optimizer, average_rule, options: StepOptions) -> Callable:
    """`step(state, batch) -> (state, sums)` for one optimizer step on `batch`.

    The backbone and the head are differentiated apart: the backbone's features with a vjp, then the head's loss with
    respect to its parameters and the features. Of the head's sparse tables only the blocks that the step uses are
    gathered, differentiated, and handed to the optimizer, so that no gradient of a whole table exists. Owned tables
    move while the head's loss is differentiated, and come back in the place of their gradients.

    Raises:
      ValueError: if such tables are to be trained on accumulated gradients.
    """
    if (optimizer.owned or optimizer.sparse) and options.accumulate_steps > 1:
        why = "would each move the table" if optimizer.owned else "touch different blocks of a table"
        raise ValueError(
            f"config.accumulate_steps is {options.accumulate_steps}, but the parts of a batch {why}: set it to 1, or "
            + DO_WITHOUT
        )

    def gradients(params, stats, batch, classes, key, total_weight, step, slots):
        batch_stats, statistics = stats
        augment_key, head_key = jax.random.split(key)
        dropout_key = jax.random.fold_in(key, zlib.crc32(b"dropout"))
        inputs, batch = task.train_inputs(batch, augment_key)
        train = _dropout_is_on(options, step)
        gather = lambda p: fsdp.gather(p, task.backbone) if options.shard_backbone else p
        if options.freeze_backbone:
            features = task.frozen_features(gather(params["backbone"]), batch_stats, inputs)
        else:
            forward = lambda p: task.train_features(gather(p), batch_stats, inputs, dropout_key, train)
            features, backbone_vjp, batch_stats = jax.vjp(forward, params["backbone"], has_aux=True)

        wanted = _is_logged(options, step)
        emphasis, batch = long_tail.of_batch(classes, batch, step)
        of_classes = {"label_weights": emphasis.of_labels, "adjustment": classes.get("adjustment")}
        of_batch = {"weight": batch["weight"], "statistics": statistics, "want_value": wanted, **of_classes}
        context = Context(key=head_key, **of_batch)
        head, blocks = params["head"], {}
        if optimizer.sparse:
            blocks = task.head_blocks(head, jax.lax.stop_gradient(features), batch, context)
            head = {**head, **{name: rules.gather(head[name], ids) for name, ids in blocks.items()}}
            context = dataclasses.replace(context, blocks=blocks)

        def head_loss(p, features, slots):
            visits = optimizer.visits(slots, step, options.seed)
            per_example, values, after = task.head_loss(p, features, batch, dataclasses.replace(context, visits=visits))
            weight = batch["weight"]
            # A head may skip the value of its loss where nobody reads it.
            read = weight * wanted if task.head.lazy_value else weight
            others = {name: value for name, value in values.items() if name != "loss"}
            logged = {"loss": values.get("loss", per_example)}
            sums = {**metrics.weighted(logged, read), **metrics.weighted(others, weight)}
            scaled = per_example * weight * emphasis.of_examples
            return jnp.where(weight > 0, scaled, 0.0).sum() / total_weight, (sums, after)

        with task.head_products():
            gradient = jax.grad(head_loss, argnums=(0, 1, 2), has_aux=True)
            (head_grads, d_features, moved_slots), (sums, statistics) = gradient(head, features, slots)
        grads = {"head": head_grads}
        if optimizer.owned:
            grads["slots"] = moved_slots
        if not options.freeze_backbone:
            (grads["backbone"],) = backbone_vjp(d_features)
        return grads, (batch_stats, statistics), sums, blocks

    def accumulated(params, stats, batch, key, step, slots):
        # What is of classes is of all parts of a batch.
        classes, batch = batch.get("classes", {}), {name: part for name, part in batch.items() if name != "classes"}
        total = jnp.maximum(batch["weight"].sum(), 1.0)
        if options.accumulate_steps == 1:
            return gradients(params, stats, batch, classes, key, total, step, slots)
        # Part i takes rows i, i + A, i + 2A, ...: each device then cuts its own rows, and nothing is moved.
        cut = lambda x: x.reshape(-1, options.accumulate_steps, *x.shape[1:]).swapaxes(0, 1)
        parts = jax.tree.map(cut, batch)

        def body(carry, part):
            grads, stats, sums, i = carry
            more, stats, more_sums, _ = gradients(
                params, stats, part, classes, jax.random.fold_in(key, i), total, step, {}
            )
            return (jax.tree.map(jnp.add, grads, more), stats, metrics.merge(sums, more_sums), i + 1), None

        first_part = jax.tree.map(lambda x: x[0], parts)
        first = jax.eval_shape(lambda: gradients(params, stats, first_part, classes, key, total, step, {}))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (first[0], first[2]))
        (grads, stats, sums, _), _ = jax.lax.scan(body, (zeros[0], stats, zeros[1], 0), parts)
        return grads, stats, sums, {}

    def step(state: TrainState, batch: dict) -> tuple[TrainState, metrics.Sums]:
        key = stream(options.seed, "train", state.step)
        stats = state.batch_stats, state.statistics
        slots = state.opt_state["tables"] if optimizer.owned else {}
        grads, stats, sums, blocks = accumulated(state.params, stats, batch, key, state.step, slots)
        sums["learning_rate"] = jnp.stack([jnp.float32(optimizer.schedule(state.step)), 1.0])
        sums["examples"] = jnp.stack([batch["weight"].sum(), 1.0])
        params, opt_state = optimizer.apply(grads, state.opt_state, state.params, blocks, state.step)
        grads, before, after = map(optimizer.without_owned, (grads, state.params, params))
        sums |= norms(options.log_norms, _is_logged(options, state.step), grads, before, after, blocks)
        batch_stats, statistics = stats
        weights = {"params": params, "batch_stats": batch_stats}
        rounding = stream(options.seed, "rounding/average", state.step)
        average = averages.update(average_rule, state.average, weights, state.step, rounding)
        return TrainState(state.step + 1, params, batch_stats, opt_state, average, statistics), sums

    return step


def _is_logged(options: StepOptions, step: jax.Array) -> jax.Array:
    return (step + 1) % options.log_every_steps == 0


def _dropout_is_on(options: StepOptions, step):
    """True, or with `dropout_off_after_step` a traced bool."""
    if not options.dropout_off_after_step:
        return True
    return step % options.steps_per_epoch <= options.dropout_off_after_step


def dispatch_length(asked: int, platform: str, streamed: bool) -> int:
    """`config.steps_per_dispatch`, or if that is 0 what suits the devices, 'cpu', 'gpu' or 'tpu', and the data."""
    # XLA's CPU backend runs a convolution's gradient many times slower inside a loop than outside. A streamed step
    # takes longer than it takes to call it, and 16 batches of pictures are gigabytes.
    return asked or (1 if platform == "cpu" or streamed else 16)


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
    # Every process reads the sums, and so has to have them whole, as it has the number of the step.
    return jax.jit(program, donate_argnums=0, out_shardings=(shardings, shardings.step))


def make_eval_step(task, select: Callable) -> Callable:
    """`step(weights, resident, piece) -> sums` over one padded batch."""

    def step(weights: dict, resident: Any, piece: Any) -> metrics.Sums:
        batch = select(resident, piece)
        sums = metrics.weighted(task.evaluate(weights, batch), batch["weight"])
        return {**sums, "examples": jnp.stack([batch["weight"].sum(), 1.0])}

    return step

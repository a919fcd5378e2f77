"""Optimizers as PyTorch defines them, from optax parts, and how they share the parameters with a table's own rule."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.ops.owned import Visit
from mhe_jax.settings import DO_WITHOUT
from mhe_jax.train.optim import rules
from mhe_jax.train.optim.clip import build_clip
from mhe_jax.train.optim.rates import require_trained_backbone, scale_parts
from mhe_jax.train.optim.table_rules import Rule
from mhe_jax.train.optim.unfreezing import unfreeze
from mhe_jax.train.streams import stream


def sgd(
    learning_rate: optax.Schedule,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    no_decay: tuple[str, ...] = (),
    head_rate: float = 1.0,
    backbone_rate: float = 1.0,
    layer_decay: float = 1.0,
    bag_rate: float = 1.0,
    unfreeze_steps: tuple[int, ...] = (),
) -> optax.GradientTransformation:
    """torch.optim.SGD: the decay is added to the gradient before the momentum.

    Args:
      learning_rate: by step.
      momentum: share of the last update that the next one keeps; 0: none is kept.
      nesterov: whether the gradient is taken as if the momentum had moved the weights already.
      weight_decay: added to the gradient, times the weights.
      decay_all: whether biases and normalisation parameters are decayed too, as in the published image pipelines.
      no_decay: what is not decayed instead, by parts of a parameter's path; each has to be in one that is trained.
      head_rate: factor of the head's learning rate.
      backbone_rate: factor of the backbone's learning rate.
      layer_decay: factor of that rate from each of the backbone's layers to the one below, for fine-tuning: the last
        layer has the whole, embeddings or the stem the least. Networks for pictures count by stages.
      bag_rate: factor of the learning rate of a bag of words beside a network; the backbone's are then the network's.
      unfreeze_steps: when the backbone's layers begin to learn, from the last one down, such as (100, 200, 300): see
        `optim.unfreezing`; empty: all from the start.

    Raises:
      ValueError: for `nesterov` without momentum, as torch does, and an impossible layer_decay; where the state is
        made, for a name of no_decay that is in no path.
    """
    if nesterov and not momentum:
        raise ValueError("config.optimizer.nesterov is set, but momentum is 0 and there is nothing to look ahead by")
    decay = optax.add_decayed_weights(weight_decay, mask=_decayed(decay_all, no_decay))
    rule = optax.sgd(learning_rate, momentum or None, nesterov)
    parts = _by_part(unfreeze_steps, head_rate, backbone_rate, layer_decay, bag_rate)
    return optax.chain(decay, rule, parts)


def adamw(
    learning_rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_all: bool = False,
    no_decay: tuple[str, ...] = (),
    head_rate: float = 1.0,
    backbone_rate: float = 1.0,
    layer_decay: float = 1.0,
    bag_rate: float = 1.0,
    unfreeze_steps: tuple[int, ...] = (),
    decay_after: bool = False,
) -> optax.GradientTransformation:
    """torch.optim.AdamW: bias-corrected, with decoupled decay scaled by the learning rate.

    Args:
      learning_rate: by step.
      b1: decay of the mean of the gradients.
      b2: decay of the mean of their squares.
      eps: added to the root of the squares.
      weight_decay: times the weights and the learning rate, what a step takes from them.
      decay_all: as in `sgd`: whether biases and normalisation parameters are decayed too.
      no_decay: as in `sgd`: what is not decayed instead, by parts of a parameter's path.
      head_rate: factor of the head's learning rate.
      backbone_rate: factor of the backbone's learning rate.
      layer_decay: factor of that rate from each of the backbone's layers to the one below, for fine-tuning: the last
        layer has the whole, embeddings or the stem the least. Networks for pictures count by stages.
      bag_rate: factor of the learning rate of a bag of words beside a network; the backbone's are then the network's.
      unfreeze_steps: when the backbone's layers begin to learn, from the last one down, such as (100, 200, 300): see
        `optim.unfreezing`; empty: all from the start.
      decay_after: the AdamW that transformers had, and the published text pipeline used: it decays the weights that the
        Adam update has already changed, and corrects no bias in the denominator's `eps`.
    """
    mask = _decayed(decay_all, no_decay)
    if decay_after:
        rule = _transformers_adamw(learning_rate, b1, b2, eps, weight_decay, mask)
    else:
        rule = optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask)
    parts = _by_part(unfreeze_steps, head_rate, backbone_rate, layer_decay, bag_rate)
    return optax.chain(rule, parts)


def lamb(
    learning_rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    decay_all: bool = False,
    no_decay: tuple[str, ...] = (),
    head_rate: float = 1.0,
    backbone_rate: float = 1.0,
    layer_decay: float = 1.0,
    bag_rate: float = 1.0,
    unfreeze_steps: tuple[int, ...] = (),
) -> optax.GradientTransformation:
    """LAMB (You et al., ICLR 2020), for large batches: AdamW's update of each parameter, as long as the parameter is.

    Its learning rate is thus the share of a parameter's length that a step moves it by. As in timm, what is not decayed
    keeps the length of Adam's update, without `weight_decay` all does; its limit of the gradient is `config.clip`, of
    the norm 1.

    Args:
      learning_rate: by step.
      b1, b2, eps: as in `adamw`.
      weight_decay: times the weights, added to the update before its length is taken.
      decay_all, no_decay: as in `sgd`.
      head_rate, backbone_rate, layer_decay, bag_rate, unfreeze_steps: as in `sgd`.
    """
    mask = _decayed(decay_all, no_decay)
    length = optax.scale_by_trust_ratio() if weight_decay else optax.identity()
    rule = optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask=mask),
        length if mask is None else optax.masked(length, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
    return optax.chain(rule, _by_part(unfreeze_steps, head_rate, backbone_rate, layer_decay, bag_rate))


def _by_part(unfreeze_steps: tuple[int, ...], *rates: float) -> optax.GradientTransformation:
    scaled = scale_parts(*rates)
    return optax.chain(scaled, unfreeze(unfreeze_steps)) if unfreeze_steps else scaled


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adamw": adamw, "lamb": lamb}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax transformation, its schedule, and for the head's large tables possibly a rule of their own.

    rule: of `table_rules`.
    sparse: names of the head's parameters that belong to the rule and not to the transformation, by the blocks in use.
    owned: likewise those which the head's loss moves.
    dense: likewise those which move by a gradient of the whole.
    freeze_backbone: whether the backbone's parameters belong to neither, and stay.
    """

    transform: optax.GradientTransformation
    schedule: optax.Schedule
    rule: Rule | None = None
    sparse: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    freeze_backbone: bool = False

    @property
    def tables(self) -> tuple[str, ...]:
        """What belongs to the rule."""
        return self.sparse + self.owned + self.dense

    def visits(self, slots: dict, step: jax.Array, seed: int) -> dict[str, Visit]:
        """How the head's loss moves each owned table in a step, from the slots of `state["tables"]`."""
        rate = jnp.float32(self.schedule(step))
        keys = {name: jax.random.bits(stream(seed, f"rounding/{name}", step), (2,), jnp.uint32) for name in self.owned}
        return {name: Visit(self.rule, rate, keys[name], slots[name]) for name in self.owned}

    def init(self, params: dict) -> Any:
        """The state: of the transformation alone, or with a rule {'dense', 'tables'}."""
        dense, tables = self.split(params)
        if self.rule is None:
            return self.transform.init(dense)
        return {"dense": self.transform.init(dense), "tables": rules.init(self.rule, tables)}

    def without_owned(self, tree: dict) -> dict:
        """Parameters or gradients by part, without owned tables, of which there is but one copy."""
        parts = {name: part for name, part in tree.items() if name != "slots"}
        return {**parts, "head": {name: value for name, value in tree["head"].items() if name not in self.owned}}

    def split(self, params: dict) -> tuple[dict, dict]:
        """Parameters without the rule's tables and a frozen backbone, and those tables by name."""
        head = params["head"]
        dense = {name: value for name, value in head.items() if name not in self.tables}
        others = {} if self.freeze_backbone else {"backbone": params["backbone"]}
        return {**others, "head": dense}, {name: head[name] for name in self.tables}

    def apply(self, grads: dict, state: Any, params: dict, blocks: dict[str, jax.Array], step) -> tuple[dict, Any]:
        """Parameters and state after a step.

        Args:
          grads: by part. That of a sparse table is of its `blocks` alone. Owned tables have none: in its place stands
            the table as it is after the step, and in 'slots' are their slots.
          state, params, blocks, step: before it.
        """
        dense, tables = self.split(params)
        dense_grads, table_grads = self.split(grads)
        dense_state = state["dense"] if self.rule is not None else state
        updates, dense_state = self.transform.update(dense_grads, dense_state, dense)
        dense = optax.apply_updates(dense, updates)
        if self.rule is None:
            return {**params, **dense}, dense_state
        if self.owned:
            tables, slots = table_grads, grads["slots"]
        else:
            slots, rate = state["tables"], self.schedule(step)
            if self.sparse:
                tables, slots = rules.apply(self.rule, tables, slots, blocks, table_grads, rate)
            else:
                tables, slots = rules.apply_whole(self.rule, tables, slots, table_grads, rate)
        params = {**params, **dense, "head": {**dense["head"], **tables}}
        return params, {"dense": dense_state, "tables": slots}


def build_optimizer(
    section: ConfigDict,
    schedule: optax.Schedule,
    clip_section: ConfigDict | None = None,
    table_section: ConfigDict | None = None,
    sparse_tables: tuple[str, ...] = (),
    owned_tables: tuple[str, ...] = (),
    freeze_backbone: bool = False,
) -> Optimizer:
    """The optimizer of `config.optimizer`.

    Args:
      section: `config.optimizer`.
      schedule: learning rate by step.
      clip_section: `config.clip`, what the gradient goes through before it; None: as it is.
      table_section: `config.table_optimizer`, for the head's `sparse_tables` or `owned_tables`; None: there is none.
      sparse_tables, owned_tables: what the head offers.
      freeze_backbone: whether only the head is trained.

    Raises:
      ValueError: for a wrong field, a rate of a backbone that is frozen, a table optimizer without tables, or one whose
        tables would be clipped.
    """
    if freeze_backbone:
        require_trained_backbone(section)
    transform = registry.build(OPTIMIZERS, section, "config.optimizer", learning_rate=schedule)
    clip = build_clip(clip_section) if clip_section is not None else None
    if freeze_backbone and clip is not None and "head" not in clip.parts:
        raise ValueError(
            f"config.clip.parts is {clip.parts}, but config.freeze_backbone leaves no gradient there: clip ('head',)"
        )
    if clip is not None:
        transform = optax.chain(clip.transformation(), transform)
    rule = rules.build_table_optimizer(table_section) if table_section is not None else None
    if rule is None or table_section is None:
        return Optimizer(transform, schedule, freeze_backbone=freeze_backbone)
    names = rules.offered(rule, sparse_tables, owned_tables)
    if not names:
        raise ValueError(_nothing_offered(table_section.name, rule.updates, bool(owned_tables), bool(sparse_tables)))
    if clip is not None and "head" in clip.parts:
        raise ValueError(
            f"config.clip.norm ({clip.norm}) needs the norm of the whole gradient, and config.table_optimizer "
            f"{table_section.name!r} moves its tables without: set clip.name = 'none', clip.parts = ('backbone',), or "
            + DO_WITHOUT
        )
    return Optimizer(transform, schedule, rule, freeze_backbone=freeze_backbone, **{rule.updates: names})


def _nothing_offered(name: str, updates: str, owned: bool, sparse: bool) -> str:
    """Why a head has no table for a rule."""
    if updates == "owned":
        instead = "updates = 'sparse' with storage and moments 'float32', or " if sparse else ""
        return (
            "config.table_optimizer.updates is 'owned' but this head's loss moves no table itself: those of one-hot "
            "heads and cascades do, with one row a class, and of sampled ones whose sampler draws for the whole batch: "
            f"set {instead}{DO_WITHOUT}"
        )
    what = "no table of which a step touches only a part" if updates == "sparse" else "no large table"
    instead = "updates = 'owned', or " if owned else ""
    return f"config.table_optimizer is {name!r} but this head has {what}: set {instead}{DO_WITHOUT}"


def _decayed(decay_all: bool, no_decay: tuple[str, ...]):
    """The mask of decayed parameters for optax: all, all but those named, or matrices and tables."""
    if decay_all and no_decay:
        raise ValueError(f"config.optimizer.decay_all is set and no_decay names {no_decay}: use one of them")
    if decay_all:
        return None
    if not no_decay:
        return lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    spell = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")

    def named(params):
        paths = [spell(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        absent = [part for part in no_decay if not any(part in path for path in paths)]
        if absent and "backbone" in params:  # of a frozen one they may be
            raise ValueError(f"config.optimizer.no_decay names {absent[0]!r}, which is in no parameter's path")
        return jax.tree_util.tree_map_with_path(
            lambda path, _: not any(part in spell(path) for part in no_decay), params
        )

    return named


def _transformers_adamw(learning_rate, b1, b2, eps, weight_decay, mask) -> optax.GradientTransformation:
    """With p' = p - rate * sqrt(1 - b2^t) / (1 - b1^t) * mean / (sqrt(square) + eps): p becomes (1 - rate * decay) p'.

    `eps` is thus added before the bias correction, and weighs more in the first steps. As in optax's own rules, t and
    the step of the rate are counted apart.
    """
    states = optax.chain(optax.scale_by_adam(b1, b2), optax.scale_by_schedule(learning_rate))  # for their states alone

    def update(updates, state, params):
        moments, scheduled = state
        count, rate = moments.count + 1, learning_rate(scheduled.count)
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, moments.mu, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, moments.nu, updates)
        # 1 - b^t without the cancellation that float32 suffers for b near 1.
        correction = lambda b: -jnp.expm1(count * math.log(b))
        scale = rate * jnp.sqrt(correction(b2)) / correction(b1)
        moved = jax.tree.map(lambda m, v: -scale * m / (jnp.sqrt(v) + eps), mean, square)
        decayed = mask(params) if mask else jax.tree.map(lambda _: True, params)
        shrink = lambda u, p, on: u - rate * weight_decay * (p + u) if on else u
        new = optax.ScaleByAdamState(count, mean, square), optax.ScaleByScheduleState(scheduled.count + 1)
        return jax.tree.map(shrink, moved, params, decayed), new

    return optax.GradientTransformation(states.init, update)

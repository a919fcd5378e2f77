"""The rules of tables in NumPy's float64, after the sources that they name; and rules with slots that are not zero."""

import jax.numpy as jnp
import numpy as np

from mhe_jax.ops.storage import store, widen
from mhe_jax.train.optim.table_rules import SGD, Adagrad, AdamW, RowwiseAdagrad

RATE = 0.5
RULES = {
    "sgd": SGD(updates="owned", rate=2.0, weight_decay=0.01),
    "momentum": SGD(updates="owned", rate=2.0, weight_decay=0.01, momentum=0.9),
    "rowwise_adagrad": RowwiseAdagrad(rate=0.1, weight_decay=0.01),
    "adagrad": Adagrad(updates="owned", rate=0.1, weight_decay=0.01),
    "adamw": AdamW(updates="owned", rate=0.1, weight_decay=0.01),
}


def begun(rule, table):
    """Slots as some steps before may have left them."""
    return {
        name: slot + jnp.asarray(3 if name == "count" else 0.01, slot.dtype) for name, slot in rule.init(table).items()
    }


def by_rows(rule, slots):
    """In float64, [C, D] or [C]."""
    shapes = {name: (-1, slot.shape[-1]) if name in rule.wide else (-1,) for name, slot in slots.items()}
    return {name: np.asarray(slot).astype(np.float64).reshape(shapes[name]) for name, slot in slots.items()}


def moved(rule, rows, gradient, slots):
    """Rows and slots after a step of rows [C, D], in float64."""
    rows, rate, decay = rows.astype(np.float64), rule.rate * RATE, rule.weight_decay
    if isinstance(rule, AdamW):
        count = slots["count"] + 1
        mean = rule.b1 * slots["mean"] + (1 - rule.b1) * gradient
        square = rule.b2 * slots["square"] + (1 - rule.b2) * gradient**2
        return adamw_rows(rule, rows, after := {"mean": mean, "square": square, "count": count}), after
    if isinstance(rule, RowwiseAdagrad):
        squares = slots["squares"] + (gradient**2).mean(axis=1)
        scaled = gradient / (np.sqrt(squares) + rule.eps)[:, None]
        return rows - rate * (scaled + decay * rows), {"squares": squares}
    gradient = gradient + decay * rows
    if isinstance(rule, Adagrad):
        squares = slots["squares"] + gradient**2
        return rows - rate * gradient / (np.sqrt(squares) + rule.eps), {"squares": squares}
    if rule.momentum:
        gradient = gradient + rule.momentum * slots["trace"]
    return rows - rate * gradient, {"trace": gradient} if rule.momentum else {}


def adamw_rows(rule, rows, slots):
    """The rows after a step, from the slots after it."""
    used = slots["count"][:, None]
    mean, square = slots["mean"] / (1 - rule.b1**used), slots["square"] / (1 - rule.b2**used)
    return rows - rule.rate * RATE * (mean / (np.sqrt(square) + rule.eps) + rule.weight_decay * rows)


def check_slots(rule, found, want, atol=1e-6):
    """Slots after a step."""
    found = by_rows(rule, found)
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name][: len(value)], value, rtol=1e-5, atol=atol, err_msg=name)


def beyond_the_nearest(found, want, storage):
    """Which narrow numbers are not the nearest ones to what is wanted; each is one of the two neighbours."""
    share, least = (2.0**-7, 1e-6) if storage == "bfloat16" else (2.0**-3, 2.0**-15 * np.abs(want).max())
    assert (np.abs(found - want) <= np.abs(want) * share + least).all()
    return found != np.asarray(widen(store(jnp.asarray(want, jnp.float32), storage))).astype(np.float64)

"""Margins on cosines: what becomes of the cosine between an example and its own class before the softmax.

A margin is a frozen dataclass whose fields are those of `config.head.margin`. A training step of a head is

    unit, norms = safe_normalize(features)                     # and the rows of the class table likewise
    cosine = clamp_cosine(unit . rows)                         # float32; `own` is that of the example's own class
    statistics = margin.updated(statistics, own, norms, weight)
    own' = margin.target(own, norms, statistics)
    other' = hard_negatives(other, margin.threshold(...), margin.hard_boost(statistics)), where there is a threshold
    loss = cross_entropy(scale * cosines') + margin.penalty(norms), where there is one

Margins work elementwise on cosines and norms of one shape, take any float dtype and return float32. Gradients are
finite everywhere, at cosines of +-1 and at features of length zero too.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mhe_jax.ops.angles import arccos, clamp, clamp_cosine, cosine_sum

BEYOND = ("shift", "easy", "none")


def hard_negatives(
    cosine: Float[Array, "*shape"], threshold: Float[Array, "*#shape"], boost: Float[Array, ""] | float
) -> Float[Array, "*shape"]:
    """Cosines c of other classes, with c * (boost + c) where c exceeds the threshold: arXiv 2004.00288.

    cosine [...]; threshold: of the example, of the same rank, such as [B, 1] for cosines [B, C]; boost: a number.
    """
    return jnp.where(cosine > threshold, cosine * (boost + cosine), cosine)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Margin:
    """No margin: a softmax over scaled cosines, and what the other margins change of it.

    Attributes:
      scale: factor s of all cosines in the softmax.

    Raises:
      ValueError: naming the field of `config.head.margin` that is out of range.
    """

    scale: float = 64.0

    def __post_init__(self):
        self._check("scale", 0.0, math.inf, above=True)

    def statistics(self) -> dict[str, np.ndarray]:
        """The running statistics before the first step, float32 scalars by name; empty where there are none."""
        return {}

    def updated(self, statistics: Mapping[str, Any], cosine, norms, weight) -> dict[str, Any]:
        """The statistics after a training batch, without gradients; the batch's own loss uses them already.

        Args:
          statistics: those before the batch.
          cosine: cosines of the examples with their own classes [B].
          norms: lengths of their features [B].
          weight: 0 for a row of padding, which is not counted, else positive [B].
        """
        return dict(statistics)

    def target(self, cosine, norms, statistics: Mapping[str, Any]) -> jax.Array:
        """The cosine with the own class after the margin, before the scale: [...], [...] -> [...]."""
        return clamp_cosine(cosine)

    def threshold(self, cosine, norms, statistics: Mapping[str, Any]) -> jax.Array | None:
        """The cosine above which another class is a hard negative of the example, [...]; None: negatives stay."""
        return None

    def hard_boost(self, statistics: Mapping[str, Any]) -> jax.Array | None:
        """The `boost` of `hard_negatives`, a scalar; None where there is no threshold."""
        return None

    def penalty(self, norms) -> jax.Array | None:
        """What the lengths of the features add to the loss of each example, [...]; None: nothing."""
        return None

    def _check(self, field, low, high, above=False):
        """Refuses anything but a number in [low, high], or in (low, high] if `above`; infinity is never one."""
        value = getattr(self, field)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high or (above and value == low):
            limits = [f"{'above' if above else 'at least'} {low:g}"] + [f"at most {high:g}"] * (high < math.inf)
            raise ValueError(f"config.head.margin.{field} is {value!r}; it must be a number {' and '.join(limits)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArcFace(Margin):
    """cos(theta + m): arXiv 1801.07698.

    >>> cosine, norms = jnp.array([1.0, 0.0]), jnp.ones(2)
    >>> ArcFace(m=0.5).target(cosine, norms, {}).round(3).tolist() == [jnp.cos(0.5).round(3), -jnp.sin(0.5).round(3)]
    True

    Attributes:
      m: angle in radians.
      beyond: the rule for large angles. 'shift', the first published code's and the MHE reference's: cos(theta) -
        m sin(m) where theta + m exceeds pi, so that the result falls with theta all the way. 'easy': the margin applies
        only where cos(theta) > 0 ("easy margin"). 'none': cos(theta + m) everywhere, which rises again beyond pi;
        insightface's later code.
      reference_gradient: the value as it is, but the gradient as if the margin were not there. insightface computes
        arccos and cos in place with gradients switched off; for comparisons with it, together with beyond='none'.
    """

    m: float = 0.5
    beyond: str = "shift"
    reference_gradient: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check("m", 0.0, math.pi / 2)
        _check_beyond(self.beyond)

    def target(self, cosine, norms, statistics):
        cosine = clamp_cosine(cosine)
        moved = _angular(cosine, self.m, self.beyond)
        if not self.reference_gradient:
            return moved
        return jax.lax.stop_gradient(moved) + (cosine - jax.lax.stop_gradient(cosine))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosFace(Margin):
    """cos(theta) - m: arXiv 1801.09414.

    Attributes:
      m: what is taken from the cosine.
    """

    m: float = 0.4

    def __post_init__(self):
        super().__post_init__()
        self._check("m", 0.0, 1.0)

    def target(self, cosine, norms, statistics):
        return clamp_cosine(cosine) - self.m


@dataclasses.dataclass(frozen=True, kw_only=True)
class CombinedMargin(Margin):
    """cos(m1 theta + m2) - m3: arXiv 1801.07698, with the margin m1 of SphereFace (arXiv 1704.08063).

    As in insightface's code, there is no rule for m1 theta + m2 beyond pi, where the cosine rises again.

    Attributes:
      m1: factor of the angle.
      m2: what is added to the angle, in radians.
      m3: what is taken from the cosine.
    """

    m1: float = 1.0
    m2: float = 0.3
    m3: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        self._check("m1", 0.0, 4.0, above=True)
        self._check("m2", 0.0, math.pi / 2)
        self._check("m3", 0.0, 1.0)

    def target(self, cosine, norms, statistics):
        return jnp.cos(self.m1 * arccos(clamp_cosine(cosine)) + self.m2) - self.m3


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurricularFace(Margin):
    """ArcFace with hard negatives that weigh more as training goes on: arXiv 2004.00288.

    A negative is hard where its cosine exceeds cos(theta + m). Statistic `t`: the running mean of cos(theta), from 0.

    Attributes:
      m: angle in radians.
      alpha: weight of a batch in `t` (0.01 in the published code).
    """

    m: float = 0.5
    alpha: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        self._check("m", 0.0, math.pi / 2)
        self._check("alpha", 0.0, 1.0, above=True)

    def statistics(self):
        return {"t": np.zeros((), np.float32)}

    def updated(self, statistics, cosine, norms, weight):
        mean, _, count = _moments(clamp_cosine(cosine), weight)
        return {"t": _running(statistics["t"], mean, self.alpha, count > 0)}

    def target(self, cosine, norms, statistics):
        return _angular(clamp_cosine(cosine), self.m, "shift")

    def threshold(self, cosine, norms, statistics):
        return jax.lax.stop_gradient(cosine_sum(clamp_cosine(cosine), self.m))

    def hard_boost(self, statistics):
        return jax.lax.stop_gradient(statistics["t"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class MagFace(Margin):
    """cos(theta + m(a)), m linear in the length a of the feature, and a penalty on short features: arXiv 2103.06627.

    Lengths are clipped to [l_a, u_a]; inside, the gradient flows into them through the margin and the penalty.

    Attributes:
      l_a, u_a: lengths with the smallest and the largest margin.
      l_margin, u_margin: those margins, in radians.
      lambda_g: weight of the penalty a / u_a^2 + 1 / a.
      beyond: as in ArcFace; 'easy' is the published code's.
    """

    l_a: float = 10.0
    u_a: float = 110.0
    l_margin: float = 0.45
    u_margin: float = 0.8
    lambda_g: float = 35.0
    beyond: str = "easy"

    def __post_init__(self):
        super().__post_init__()
        self._check("l_a", 0.0, math.inf, above=True)
        self._check("u_a", self.l_a, math.inf, above=True)
        self._check("l_margin", 0.0, math.pi / 2)
        self._check("u_margin", self.l_margin, math.pi / 2)
        self._check("lambda_g", 0.0, math.inf)
        _check_beyond(self.beyond)

    def target(self, cosine, norms, statistics):
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        return _angular(clamp_cosine(cosine), slope * (self._clipped(norms) - self.l_a) + self.l_margin, self.beyond)

    def penalty(self, norms):
        norms = self._clipped(norms)
        return self.lambda_g * (norms / self.u_a**2 + 1 / norms)

    def _clipped(self, norms):
        return clamp(norms.astype(jnp.float32), self.l_a, self.u_a)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaFace(Margin):
    """cos(theta - m z) - m (1 + z), with z the length of the feature standardised: arXiv 2204.00964.

    z = clip(h (a - mean) / std, -1, 1). Statistics: `batch_mean` and `batch_std`, running, of lengths a clipped to
    [0.001, 100]. No gradient flows into the lengths. The published code clamps the cosine to +-0.999 and the angle to
    [0.001, pi - 0.001]; beyond, there is no gradient. (It clamps the cosines of negatives too; here they stay.)

    Attributes:
      m: margin, of the angle and of the cosine.
      h: how far from the mean, in standard deviations, |z| reaches 1: 1 / h.
      t_alpha: weight of a batch in the running statistics.
    """

    m: float = 0.4
    h: float = 0.333
    t_alpha: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        self._check("m", 0.0, 1.0)
        self._check("h", 0.0, math.inf, above=True)
        self._check("t_alpha", 0.0, 1.0, above=True)

    def statistics(self):
        return {"batch_mean": np.asarray(20.0, np.float32), "batch_std": np.asarray(100.0, np.float32)}

    def updated(self, statistics, cosine, norms, weight):
        mean, std, count = _moments(self._clipped(norms), weight)
        return {
            "batch_mean": _running(statistics["batch_mean"], mean, self.t_alpha, count > 0),
            "batch_std": _running(statistics["batch_std"], std, self.t_alpha, count > 1),
        }

    def target(self, cosine, norms, statistics):
        mean, std = (jax.lax.stop_gradient(statistics[key]) for key in ("batch_mean", "batch_std"))
        z = jnp.clip((self._clipped(norms) - mean) / (std + 1e-3) * self.h, -1.0, 1.0)
        angle = arccos(clamp(cosine.astype(jnp.float32), -0.999, 0.999)) - self.m * z
        return jnp.cos(clamp(angle, 1e-3, math.pi - 1e-3)) - self.m * (1 + z)

    def _clipped(self, norms):
        return jnp.clip(jax.lax.stop_gradient(norms).astype(jnp.float32), 1e-3, 100.0)


def _angular(cosine, m, beyond):
    """cos(theta + m), and what `beyond` says where the margin does not apply (see ArcFace)."""
    moved = cosine_sum(cosine, m)
    if beyond == "shift":
        return jnp.where(cosine > -jnp.cos(m), moved, cosine - m * jnp.sin(m))
    return jnp.where(cosine > 0, moved, cosine) if beyond == "easy" else moved


def _check_beyond(beyond):
    if beyond not in BEYOND:
        raise ValueError(f"config.head.margin.beyond is {beyond!r}; it must be one of {', '.join(BEYOND)}")


def _moments(values, weight):
    """Mean and unbiased standard deviation of the rows of positive weight, and their number."""
    real = weight > 0
    count = real.sum()
    mean = jnp.where(real, values, 0.0).sum() / jnp.maximum(count, 1)
    squares = jnp.where(real, jnp.square(values - mean), 0.0).sum()
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1)), count


def _running(old, new, alpha, known):
    """The running mean after a batch, without gradient; as it was where the batch's value is not known."""
    return jax.lax.stop_gradient(jnp.where(known, alpha * new + (1 - alpha) * old, old))


MARGINS: dict[str, type[Margin]] = {
    "none": Margin,
    "arcface": ArcFace,
    "cosface": CosFace,
    "combined": CombinedMargin,
    "curricularface": CurricularFace,
    "magface": MagFace,
    "adaface": AdaFace,
}

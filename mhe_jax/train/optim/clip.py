"""The limit of the gradient's norm, over all parameters or a part of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax
from ml_collections import ConfigDict

from mhe_jax import registry

PARTS = ("backbone", "head")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipNorm:
    """Scales the gradient down to a global norm that it exceeds.

    Attributes:
      norm: the largest one.
      parts: whose gradient that is, and which is scaled: ('backbone', 'head') or, as the published face recipes clip,
        ('backbone',).

    Raises:
      ValueError: for a norm that is not positive, and for parts that do not exist.
    """

    norm: float
    parts: tuple[str, ...] = PARTS

    def __post_init__(self):
        if not self.norm > 0:
            raise ValueError(
                f"config.clip.norm is {self.norm}; it must be positive (config.clip.name = 'none': no limit)"
            )
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"config.clip.parts is {self.parts}; it may name backbone and head")

    def transformation(self) -> optax.GradientTransformation:
        """Of gradients {'backbone', 'head'}."""
        clip = optax.clip_by_global_norm(self.norm)
        if set(self.parts) == set(PARTS):
            return clip
        return optax.masked(clip, lambda params: {name: name in self.parts for name in params})


CLIPS: dict[str, Callable[..., Any]] = {"none": lambda: None, "norm": ClipNorm}


def build_clip(section: ConfigDict) -> ClipNorm | None:
    """The limit of `config.clip`, None for 'none'; raises ValueError naming a wrong field."""
    clip: ClipNorm | None = registry.build(CLIPS, section, "config.clip")
    return clip

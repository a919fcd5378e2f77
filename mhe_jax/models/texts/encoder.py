"""What text encoders have in common: sizes, dropout, features from hidden states, and the parts of a layer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.dropout import dropout
from mhe_jax.models.layers.lengths import unit_length
from mhe_jax.models.texts import pooling

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class TextEncoder(nn.Module):
    """Token ids to features: (int32 [B, T], length int32 [B], train) -> [B, features_dim] in `dtype`.

    `length` counts the real tokens, which stand before the padding; 0 counts as 1. `train` is a bool or a traced
    bool []. Parameters are float32, and normalisations, scores and softmax are computed in float32.

    Attributes:
      vocab_size: token ids are below it.
      hidden_size: width of the states, a multiple of `num_heads`.
      num_layers: number of layers.
      num_heads: attention heads of each.
      intermediate_size: width between the two dense maps of a layer.
      activation: between them; one of `ACTIVATIONS`.
      norm_eps: added to the variance in normalisations.
      initializer_range: standard deviation of initial values.
      hidden_dropout: dropout rate of embeddings and of what a layer adds to the states.
      attention_dropout: dropout rate of attention weights.
      pooling: 'first', 'last' or 'mean' real token's state.
      feature_layers: how many layers' pooled states make the features, the last layer first.
      l2_normalize: whether the features are scaled to length 1, as encoders are trained that compare by cosines.
      feature_dropout: dropout rate of the features.
      remat: compute the inside of layers again for the gradient instead of keeping it: less memory, a third more time.
      dtype: compute dtype.

    Raises:
      ValueError: for a value that is impossible.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str = "gelu"
    norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    pooling: str = "first"
    feature_layers: int = 1
    l2_normalize: bool = False
    feature_dropout: float = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = (
        "word_embedding",
        "token_type_embedding",
        "position_embedding",
        "relative_attention_bias",
    )

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (("activation", tuple(ACTIVATIONS)), ("pooling", pooling.POOLINGS)):
            if getattr(self, name) not in choices:
                wanted = ", ".join(choices)
                raise ValueError(f"config.backbone.{name} is {getattr(self, name)!r}; it must be one of {wanted}")
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"config.backbone.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("hidden_dropout", "attention_dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"config.backbone.{name} is {getattr(self, name)}; it must be in [0, 1)")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"config.backbone.hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})"
            )
        if not 1 <= self.feature_layers <= self.num_layers + 1:
            raise ValueError(
                f"config.backbone.feature_layers is {self.feature_layers}; with {self.num_layers} layers and the "
                f"embeddings it must be in 1 .. {self.num_layers + 1}"
            )

    @property
    def features_dim(self) -> int:
        return self.hidden_size * self.feature_layers

    def __call__(self, input_ids: jax.Array, length: jax.Array, train: bool | jax.Array) -> jax.Array:
        length = jnp.maximum(length, 1)
        states = self.hidden_states(input_ids, length, train)
        features = pooling.last_layers(states, length, self.pooling, self.feature_layers)
        if self.l2_normalize:
            features = unit_length(features)
        return dropout(self, features, self.feature_dropout, train)

    def hidden_states(self, input_ids: jax.Array, length: jax.Array, train: bool | jax.Array) -> tuple[jax.Array, ...]:
        """The embeddings and the states after each layer, [B, T, hidden_size]; those of padding mean nothing."""
        raise NotImplementedError

    def word_embedding(self, input_ids: jax.Array) -> jax.Array:
        """Float32 [B, T, hidden_size]."""
        return self.embedding(self.vocab_size, "word_embedding")(input_ids)

    def embedding(self, rows: int, name: str) -> nn.Embed:
        return nn.Embed(rows, self.hidden_size, embedding_init=self._normal, name=name)

    def run(self, layer: type["EncoderLayer"], index: int, x: jax.Array, *args: Any) -> jax.Array:
        """Applies a new layer of this kind, named by its index."""
        own = [field.name for field in dataclasses.fields(EncoderLayer) if field.name not in ("parent", "name")]
        fields = {name: getattr(self, name) for name in own}
        call = lambda layer, x: layer(x, *args)  # `args` may be Python bools, which remat would turn into arrays
        return (nn.remat(call) if self.remat else call)(layer(**fields, name=f"layer_{index}"), x)

    @property
    def _normal(self) -> nn.initializers.Initializer:
        return nn.initializers.normal(self.initializer_range)


class EncoderLayer(nn.Module):
    """Attention and two dense maps, each added to the states: [B, T, D] -> [B, T, D] in `dtype`.

    Attributes: as in `TextEncoder`.
    """

    hidden_size: int
    num_heads: int
    intermediate_size: int
    activation: str
    norm_eps: float
    initializer_range: float
    hidden_dropout: float
    attention_dropout: float
    dtype: DTypeLike

    def dense(self, features: int, name: str, bias: bool = True) -> nn.Dense:
        normal = nn.initializers.normal(self.initializer_range)
        return nn.Dense(features, use_bias=bias, dtype=self.dtype, kernel_init=normal, name=name)

    def add_and_norm(self, x: jax.Array, y: jax.Array, train: bool | jax.Array, name: str) -> jax.Array:
        """x + y normalised, with dropout of y."""
        return layer_norm(self.norm_eps, self.dtype, name)(x + dropout(self, y, self.hidden_dropout, train))

    def activate(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](self.dense(self.intermediate_size, "mlp_up")(x))


def require_positions(length: int, most: int) -> None:
    """Raises ValueError for texts of more tokens than an encoder has positions."""
    if length > most:
        raise ValueError(
            f"texts of {length} tokens, but config.backbone.max_positions is {most}: config.data.max_length must be at "
            "most that"
        )


def layer_norm(eps: float, dtype: DTypeLike, name: str, bias: bool = True) -> nn.LayerNorm:
    """Normalisation over the last axis in float32 or wider, with output in `dtype`."""
    return nn.LayerNorm(eps, dtype=dtype, use_bias=bias, use_fast_variance=False, name=name)

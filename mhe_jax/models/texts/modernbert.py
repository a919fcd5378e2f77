"""ModernBERT: an encoder for long texts, most of whose layers look at a token's neighbourhood alone."""

import flax.linen as nn
import jax.numpy as jnp

from mhe_jax.models.layers.attention import self_attention
from mhe_jax.models.layers.dropout import dropout, is_active
from mhe_jax.models.layers.rotary import rotary_angles, rotate
from mhe_jax.models.texts.encoder import ACTIVATIONS, EncoderLayer, TextEncoder, layer_norm, require_positions


class ModernBert(TextEncoder):
    """Bidirectional transformer with rotary positions, normalised before each addition (arXiv 2412.13663).

    Every `global_every`-th layer, from the first on, attends to the whole text, the others to tokens at most
    `local_window` / 2 away. Dense maps and normalisations have no biases, and a gate multiplies what the activation
    lets through (GeGLU, arXiv 2002.05202). The last layer's states are normalised once more.

    Attributes:
      max_positions: tokens in the longest text.
      global_every: of so many layers, one sees the whole text.
      local_window: tokens that the other layers see, half of them on each side.
      global_theta: base of the rotary positions of layers that see the whole text.
      local_theta: that of the others.

    Raises:
      ValueError: for a value that is impossible, and for a batch of texts longer than max_positions.
    """

    norm_eps: float = 1e-5
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    max_positions: int = 8192
    global_every: int = 3
    local_window: int = 128
    global_theta: float = 160_000.0
    local_theta: float = 10_000.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("max_positions", "global_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"config.backbone.{name} must be at least 1, not {getattr(self, name)}")
        if self.local_window < 2:
            raise ValueError(f"config.backbone.local_window is {self.local_window}; it must be at least 2")
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"config.backbone.hidden_size ({self.hidden_size}) by num_heads ({self.num_heads}) is odd: rotary "
                "positions need heads of an even width"
            )

    @nn.compact
    def hidden_states(self, input_ids, length, train):
        t = input_ids.shape[1]
        require_positions(t, self.max_positions)
        x = layer_norm(self.norm_eps, self.dtype, "embedding_norm", bias=False)(self.word_embedding(input_ids))
        states = [dropout(self, x, self.hidden_dropout, train)]
        width = self.hidden_size // self.num_heads
        of_all, of_some = (rotary_angles(t, width, theta) for theta in (self.global_theta, self.local_theta))
        for index in range(self.num_layers):
            sees_all = index % self.global_every == 0
            angles, window = (of_all, None) if sees_all else (of_some, self.local_window // 2)
            states.append(self.run(ModernBertLayer, index, states[-1], length, angles, window, index > 0, train))
        return (*states[:-1], layer_norm(self.norm_eps, self.dtype, "final_norm", bias=False)(states[-1]))


class ModernBertLayer(EncoderLayer):
    @nn.compact
    def __call__(self, x, length, angles, window, norm_first, train):
        """`norm_first` says whether the states are normalised before attention: the embeddings already are."""
        y = layer_norm(self.norm_eps, self.dtype, "attention_norm", bias=False)(x) if norm_first else x
        heads = (*x.shape[:2], 3, self.num_heads, self.hidden_size // self.num_heads)
        query, key, value = jnp.moveaxis(self.dense(3 * self.hidden_size, "qkv", bias=False)(y).reshape(heads), 2, 0)
        drop = None
        if is_active(self.attention_dropout, train):
            drop = lambda weights: dropout(self, weights, self.attention_dropout, train)
        y = self_attention(rotate(query, angles), rotate(key, angles), value, length, drop=drop, window=window)
        y = self.dense(self.hidden_size, "output", bias=False)(y.reshape(x.shape))
        x += dropout(self, y, self.attention_dropout, train)
        y = layer_norm(self.norm_eps, self.dtype, "mlp_norm", bias=False)(x)
        y, gate = jnp.split(self.dense(2 * self.intermediate_size, "mlp_up", bias=False)(y), 2, axis=-1)
        y = dropout(self, ACTIVATIONS[self.activation](y) * gate, self.hidden_dropout, train)
        return x + self.dense(self.hidden_size, "mlp_down", bias=False)(y)

"""XLNet's content stream: what its fine-tuned models run."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.models.layers.attention import attend
from mhe_jax.models.layers.dropout import dropout, is_active
from mhe_jax.models.texts.encoder import EncoderLayer, TextEncoder
from mhe_jax.models.texts.relative import skew
from mhe_jax.ops.products import product


class XLNet(TextEncoder):
    """Bidirectional transformer with relative positions (arXiv 1906.08237), without memory; all tokens of one segment.

    Its tokenizer puts <cls> at the end: pooling 'last' reads it, while the published text system reads the 'first'
    token. The last layer's states are without the dropout that other heads than ours put on them.

    Raises:
      ValueError: for a value that is impossible.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_size % 2:
            raise ValueError(f"config.backbone.hidden_size is {self.hidden_size}; XLNet's positions need an even one")

    @nn.compact
    def hidden_states(self, input_ids, length, train):
        x = self.word_embedding(input_ids).astype(self.dtype)
        states = [dropout(self, x, self.hidden_dropout, train)]
        distances = sinusoids(x.shape[1], self.hidden_size).astype(self.dtype)
        if is_active(self.hidden_dropout, train):  # a mask for each text
            distances = dropout(
                self, jnp.broadcast_to(distances, (x.shape[0], *distances.shape)), self.hidden_dropout, train
            )
        for index in range(self.num_layers):
            states.append(self.run(XLNetLayer, index, states[-1], distances, length, train))
        return tuple(states)


class XLNetLayer(EncoderLayer):
    @nn.compact
    def __call__(self, x, distances, length, train):
        normal = nn.initializers.normal(self.initializer_range)
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        project = lambda x, name: nn.DenseGeneral(
            heads, use_bias=False, dtype=self.dtype, kernel_init=normal, name=name
        )(x)
        query, key, value = (project(x, name) for name in ("query", "key", "value"))
        by_distance = project(distances, "position")
        content_bias, position_bias = (
            self.param(name, normal, heads, jnp.float32).astype(self.dtype)[None, None]
            for name in ("r_w_bias", "r_r_bias")
        )
        # With a single segment its term is the same for all keys of a query, and softmax takes no notice: these are
        # kept for the checkpoints that they come from and go to.
        self.param("r_s_bias", normal, heads, jnp.float32)
        self.param("segment_embedding", normal, (2, *heads), jnp.float32)

        content = product("bind,bjnd->bnij", query + content_bias, key)
        formula = "bind,bpnd->bnip" if by_distance.ndim == 4 else "bind,pnd->bnip"
        position = product(formula, query + position_bias, by_distance)
        scores = (content + skew(position)) / heads[1] ** 0.5
        drop = lambda weights: dropout(self, weights, self.attention_dropout, train)
        y = attend(scores, value, length, drop)
        output = nn.DenseGeneral(
            self.hidden_size, (-2, -1), use_bias=False, dtype=self.dtype, kernel_init=normal, name="output"
        )
        x = self.add_and_norm(x, output(y), train, "attention_norm")
        inner = dropout(self, self.activate(x), self.hidden_dropout, train)
        return self.add_and_norm(x, self.dense(self.hidden_size, "mlp_down")(inner), train, "mlp_norm")


def sinusoids(t: int, width: int) -> jax.Array:
    """Codes of the distances query - key from t down to 1 - t: float32 [2t, width], sines and then cosines."""
    frequencies = 1 / 10000 ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = jnp.arange(t, -t, -1, dtype=jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

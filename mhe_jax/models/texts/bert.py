"""BERT and its relatives of the same shape: RoBERTa, DistilBERT, MPNet."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.models.layers.attention import self_attention
from mhe_jax.models.layers.dropout import dropout, is_active
from mhe_jax.models.texts.encoder import EncoderLayer, TextEncoder, layer_norm, require_positions
from mhe_jax.models.texts.relative import skew

RELATIVE_BUCKETS, MAX_DISTANCE = 32, 128


class Bert(TextEncoder):
    """Bidirectional transformer with learnt positions, normalised after each addition (arXiv 1810.04805).

    The relatives differ by fields: RoBERTa (1907.11692) by position_offset 2 and one token type; DistilBERT
    (1910.01108) by no token types and no dropout of what attention adds; MPNet (2004.09297) by position_offset 2, no
    token types, and relative positions in addition. All tokens are of type 0.

    Attributes:
      max_positions: tokens in the longest text.
      position_offset: rows of the position table before the first position.
      token_types: rows of the token type table; 0: none.
      relative_positions: whether attention scores get a learnt bias by distance, the same in all layers.
      drop_attention_output: whether what attention adds to the states has dropout.

    Raises:
      ValueError: for a value that is impossible, and for a batch of texts longer than max_positions.
    """

    max_positions: int = 512
    position_offset: int = 0
    token_types: int = 2
    relative_positions: bool = False
    drop_attention_output: bool = True

    @nn.compact
    def hidden_states(self, input_ids, length, train):
        t = input_ids.shape[1]
        require_positions(t, self.max_positions)
        x = self.word_embedding(input_ids)
        if self.token_types:
            x += self.embedding(self.token_types, "token_type_embedding")(jnp.zeros((1, 1), jnp.int32))
        positions = self.embedding(self.max_positions + self.position_offset, "position_embedding")
        x += positions(self.position_offset + jnp.arange(t))[None]
        x = layer_norm(self.norm_eps, self.dtype, "embedding_norm")(x)
        states = [dropout(self, x, self.hidden_dropout, train)]
        bias = self._relative_bias(t) if self.relative_positions else None
        for index in range(self.num_layers):
            states.append(self.run(BertLayer, index, states[-1], length, bias, train, self.drop_attention_output))
        return tuple(states)

    def _relative_bias(self, t: int) -> jax.Array:
        """float32 [N, T, T]."""
        normal = nn.initializers.normal(self.initializer_range)
        table = nn.Embed(RELATIVE_BUCKETS, self.num_heads, embedding_init=normal, name="relative_attention_bias")
        by_distance = table(jnp.asarray(distance_buckets(np.arange(-t, t)))).T
        return skew(jnp.broadcast_to(by_distance[:, None, :], (self.num_heads, t, 2 * t)))


class BertLayer(EncoderLayer):
    @nn.compact
    def __call__(self, x, length, bias, train, drop_attention_output):
        heads = (*x.shape[:2], self.num_heads, self.hidden_size // self.num_heads)
        query, key, value = (self.dense(self.hidden_size, name)(x).reshape(heads) for name in ("query", "key", "value"))
        drop = None
        if is_active(self.attention_dropout, train):
            drop = lambda weights: dropout(self, weights, self.attention_dropout, train)
        y = self.dense(self.hidden_size, "output")(
            self_attention(query, key, value, length, bias, drop).reshape(x.shape)
        )
        x = self.add_and_norm(x, y, train if drop_attention_output else False, "attention_norm")
        return self.add_and_norm(x, self.dense(self.hidden_size, "mlp_down")(self.activate(x)), train, "mlp_norm")


def distance_buckets(distance: np.ndarray) -> np.ndarray:
    """T5's classes of the distance key - query, as MPNet has them: int [...] -> int32 [...] below RELATIVE_BUCKETS.

    Half of the buckets for each direction, half of these exact, the others logarithmic up to MAX_DISTANCE.
    """
    half = RELATIVE_BUCKETS // 2
    exact = half // 2
    size = np.abs(distance)
    # float32 in this order, like the original: the borders of buckets lie on whole numbers.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio /= np.float32(np.log(MAX_DISTANCE / exact))
    far = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int32), half - 1)
    return (np.where(distance > 0, half, 0) + np.where(size < exact, size, far)).astype(np.int32)

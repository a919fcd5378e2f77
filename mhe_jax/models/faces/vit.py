"""Vision transformer for faces."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.dropout import dropout, is_active
from mhe_jax.models.layers.transformer import INIT, Block, Patches, require_heads, require_shares

_LAYER_NORM_EPSILON, _BATCH_NORM_EPSILON = 1e-5, 2e-5


class FaceViT(nn.Module):
    """Insightface's vision transformers: [B, H, W, C] -> float32 [B, features_dim], not normalised.

    Patches side by side, without what is left over at the right and lower edge; learned positions; pre-norm blocks with
    ReLU6; then two dense maps of all tokens, each with BatchNorm. Patches may be masked while training: the blocks see
    the others only, and a learned vector stands for them afterwards. Pictures of any size: the parameters follow it.
    LayerNorm, softmax and what comes behind the blocks are computed in float32. Source: arXiv 2010.11929;
    insightface's arcface_torch, 'vit_t' (width 256, depth 12), 'vit_s' (512, 12), 'vit_b' (512, 24), 'vit_l' (768, 24).

    Attributes:
      features_dim: width of the embedding.
      patch_size: height and width of a patch.
      width: of the tokens.
      depth: number of blocks.
      num_heads: of the attention.
      dropout: share of the activations behind positions, attention and each dense map that training drops.
      drop_path: share of the examples for which training leaves out a branch of the last block; less before it.
      mask_ratio: share of the patches that training masks.
      remat: whether the gradient computes each block anew instead of keeping its activations: slower, in less memory.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      dtype: compute dtype; parameters and statistics are float32.

    Raises:
      ValueError: if the heads do not divide the width, or for a share outside 0 .. 1 or a picture smaller than a patch.
    """

    features_dim: int = 512
    patch_size: int = 9
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    dropout: float = 0.0
    drop_path: float = 0.1
    mask_ratio: float = 0.1
    remat: bool = False
    bn_groups: int = 1
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ("mask_token", "features_1", "features_2")

    def __post_init__(self):
        super().__post_init__()
        require_heads(self.width, self.num_heads)
        require_shares(self, "dropout", "drop_path", "mask_ratio")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = Patches(self.patch_size, self.width, dtype=self.dtype, name="patch")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        batch, count = x.shape[:2]
        positions = self.param("positions", INIT, (1, count, self.width), jnp.float32)
        x = dropout(self, x + positions.astype(self.dtype), self.dropout, train)
        mask_token = self.param("mask_token", INIT, (1, 1, self.width), jnp.float32)
        visible = None
        if is_active(self.mask_ratio, train):
            noise = jax.random.uniform(self.make_rng("dropout"), (batch, count))
            visible = jnp.argsort(noise, axis=1)[:, : int(count * (1 - self.mask_ratio)), None]  # [B, K, 1]
            x = jnp.take_along_axis(x, visible, axis=1)

        make_block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for index in range(self.depth):
            drop_path = self.drop_path * index / max(self.depth - 1, 1)
            x = make_block(
                self.num_heads,
                activation=nn.relu6,
                epsilon=_LAYER_NORM_EPSILON,
                qkv_bias=False,
                dropout=self.dropout,
                drop_path=drop_path,
                dtype=self.dtype,
                name=f"block_{index}",
            )(x, train)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = nn.LayerNorm(_LAYER_NORM_EPSILON, dtype=wide, name="norm")(x)
        if visible is not None:
            everywhere = jnp.broadcast_to(mask_token.astype(wide), (batch, count, self.width))
            x = everywhere.at[jnp.arange(batch)[:, None], visible[:, :, 0]].set(x)

        x = x.reshape(batch, -1)
        for name, features in (("features_1", self.width), ("features_2", self.features_dim)):
            x = nn.Dense(features, use_bias=False, dtype=wide, kernel_init=INIT, name=name)(x)
            x = BatchNorm(self.bn_groups, epsilon=_BATCH_NORM_EPSILON, dtype=wide, name=f"{name}_bn")(x, train)
        return x

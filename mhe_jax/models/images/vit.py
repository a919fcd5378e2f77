"""Vision transformer for pictures."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.dropout import dropout
from mhe_jax.models.layers.transformer import INIT, Block, Patches, require_heads, require_shares

_EPSILON = 1e-6


class ViT(nn.Module):
    """The vision transformer: [B, S, S, C] -> [B, width], the class token behind the last LayerNorm.

    Patches side by side and a class token before them, learned positions, pre-norm blocks with exact GELU. LayerNorm
    and softmax are computed in float32. Sources: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929), and for S/16 Touvron
    et al., ICML 2021 (DeiT, arXiv 2012.12877); parameters are those of timm's `vit_*_patch*` and torchvision's `vit_*`.

    ViT-S/16 has width 384, depth 12 and 6 heads, ViT-B/16 has 768, 12 and 12.

    Attributes:
      patch_size: height and width of a patch; it divides those of the picture.
      width: of the tokens, and so the features.
      depth: number of blocks.
      num_heads: of the attention; they divide the width.
      dropout: share of the activations behind positions, attention and each dense map that training drops.
      drop_path: share of the examples for which training leaves out a branch of the last block; less before it.
      remat: whether the gradient computes each block anew instead of keeping its activations: slower, in less memory.
      dtype: compute dtype; parameters are float32.

    Raises:
      ValueError: if the heads do not divide the width, for a share outside 0 .. 1, or a picture that is not of whole
        patches, as many in a row as in a column.
    """

    patch_size: int = 16
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        require_heads(self.width, self.num_heads)
        require_shares(self, "dropout", "drop_path")

    @property
    def features_dim(self) -> int:
        return self.width

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        height, width = images.shape[1:3]
        if height != width or height % self.patch_size:
            raise ValueError(
                f"pictures are {height}x{width}, but 'vit' takes square ones of whole patches: their side must be a "
                f"multiple of config.backbone.patch_size={self.patch_size}"
            )
        x = Patches(self.patch_size, self.width, dtype=self.dtype, name="patch")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class_token", nn.initializers.normal(1e-6), (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token.astype(self.dtype), (x.shape[0], 1, self.width)), x], axis=1)
        positions = self.param("positions", INIT, (1, x.shape[1], self.width), jnp.float32)
        x = dropout(self, x + positions.astype(self.dtype), self.dropout, train)
        make_block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for index in range(self.depth):
            x = make_block(
                self.num_heads,
                activation=functools.partial(nn.gelu, approximate=False),
                epsilon=_EPSILON,
                qkv_bias=True,
                dropout=self.dropout,
                drop_path=self.drop_path * index / max(self.depth - 1, 1),
                dtype=self.dtype,
                name=f"block_{index}",
            )(x, train)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.LayerNorm(_EPSILON, dtype=wide, name="norm")(x[:, 0]).astype(self.dtype)

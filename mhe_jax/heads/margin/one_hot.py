"""OneHotMarginHead (`ohe`): ArcFace and its kin over all classes, block by block."""

import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.growth import Growing
from mhe_jax.heads.margin.base import (
    ROW_INIT,
    MarginHead,
    all_classes_scores,
    all_classes_topk,
    live_centers,
    require_centers,
)
from mhe_jax.ops import sharded
from mhe_jax.settings import option


class OneHotMarginHead(MarginHead):
    """ArcFace and its kin over all classes: every row of the table takes part in every step.

    Parameters: kernel [C, D], with sub-centers [C, sub_centers * D]; split over 'class'. Class-parallel, a device holds
    its rows and their cosines alone; the features are gathered, and what crosses devices else is three numbers of each
    example.

    Attributes:
      sub_centers: rows of each class, of which the one nearest to an example counts (sub-center ArcFace, Deng et al.,
        ECCV 2020): pictures that are mislabelled, or unlike the others, gather at rows of their own.
      block_size: rows per block; 0 chooses as many as keep a block of cosines within 64 MiB.
    """

    sub_centers: int = 1
    block_size: int = option(0, free=True)

    def setup(self):
        require_centers(self.sub_centers)
        width = self.sub_centers * self.features_dim
        self.kernel = self.class_table("kernel", ROW_INIT, self.label_space.num_classes, width)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        queries, norms = self._normalized(features)
        first_rows = jnp.maximum(labels, 0) * self.sub_centers
        is_class = live_centers(self, self._rows.shape[0])

        def compare(hard):
            table, visit = self._moving(self._rows, context.visits.get("kernel"), hard)
            among = queries, table, first_rows, is_class, self.margin.scale, hard, self.block_size, visit
            return sharded.cosines(*among, self.sub_centers)

        loss, cosine = self._margin_loss([compare], norms, context)
        return loss, {"cosine": cosine, "norm": norms}

    def owned_tables(self):
        return ("kernel",) if self.sub_centers == 1 else ()

    @property
    def _rows(self):
        """The table [N, D], row by row."""
        return self.kernel if self.sub_centers == 1 else self.kernel.reshape(-1, self.features_dim)

    def growing(self):
        return {("kernel",): Growing(0, self.label_space.num_classes)}

    def row_strides(self):
        return {"kernel": 1}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        return all_classes_topk(self, self._rows, features, k)

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        return all_classes_scores(self, self._rows, features, ids)

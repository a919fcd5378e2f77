"""OneHotMarginHead (`ohe`): ArcFace and its kin over all classes, block by block."""

import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.growth import Growing
from mhe_jax.heads.margin.base import ROW_INIT, MarginHead, all_classes_scores, all_classes_topk
from mhe_jax.ops import sharded
from mhe_jax.settings import option


class OneHotMarginHead(MarginHead):
    """ArcFace and its kin over all classes: every row of the table takes part in every step.

    Parameters: kernel [C, D], split over 'class'. Class-parallel, a device holds its rows and their cosines alone; the
    features are gathered, and what crosses devices else is three numbers of each example.

    Attributes:
      block_size: classes per block; 0 chooses one that keeps a block of cosines within 64 MiB.
    """

    block_size: int = option(0, free=True)

    def setup(self):
        self.kernel = self.class_table("kernel", ROW_INIT, self.label_space.num_classes, self.features_dim)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        queries, norms = self._normalized(features)
        is_class, labels = self.live_rows(self.kernel.shape[0]), jnp.maximum(labels, 0)

        def compare(hard):
            table, visit = self._moving(self.kernel, context.visits.get("kernel"), hard)
            return sharded.cosines(queries, table, labels, is_class, self.margin.scale, hard, self.block_size, visit)

        loss, cosine = self._margin_loss([compare], norms, context)
        return loss, {"cosine": cosine, "norm": norms}

    def owned_tables(self):
        return ("kernel",)

    def growing(self):
        return {("kernel",): Growing(0, self.label_space.num_classes)}

    def row_strides(self):
        return {"kernel": 1}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        return all_classes_topk(self, self.kernel, features, k)

    def scores(self, features: Features, ids: Ids) -> Scores:
        return all_classes_scores(self, self.kernel, features, ids)

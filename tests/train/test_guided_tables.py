"""What guides a step goes through tables that move themselves as through others."""

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.build import build_data
from mhe_jax.train.loop import train_and_evaluate
from tests.train.saved import final_weights
from tests.train.test_owned_tables import losses, make

pytestmark = pytest.mark.slow

GUIDED = {
    "pictures": {"logit_adjustment": 1.0, "class_weights.name": "effective_number", "class_weights.beta": 0.9},
    "texts": {"soft_labels": True, "class_weights.name": "propensity"},
}


@pytest.mark.parametrize("kind", GUIDED)
def test_a_guided_owned_table_is_trained_as_plain_sgd_trains_it(kind, tmp_path):
    config = make(kind)
    data = build_data(config.data)
    rows = data.load().train.num_examples
    scores = np.random.default_rng(0).uniform(size=(rows, data.num_classes))
    scores[scores < 0.6] = 0
    scipy.sparse.save_npz(tmp_path / "scores.npz", scipy.sparse.csr_matrix(scores))
    taught = {"distillation.name": "scores", "distillation.file": str(tmp_path / "scores.npz")}
    for name in ("owned", "none"):
        config = make(kind, **GUIDED[kind], **taught)
        if name == "none":
            config.table_optimizer = {"name": "none"}
        train_and_evaluate(config, tmp_path / name)
    owned, dense = final_weights(tmp_path / "owned"), final_weights(tmp_path / "none")
    (table,) = (name for name in dense if "kernel" in name and "head" in name)
    np.testing.assert_allclose(owned[table], dense[table], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(losses(tmp_path / "owned"), losses(tmp_path / "none"), rtol=1e-4)

"""The checks of shapes are awake."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker, losses

LOGITS, SLOTS = np.zeros((3, 7), np.float32), np.zeros((3, 2), np.int32)


@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_arrays_of_either_kind_are_taken(asarray):
    assert losses.softmax_concat(asarray(LOGITS), asarray(SLOTS)).shape == (3,)


@pytest.mark.parametrize(
    ("logits", "slots"),
    [(LOGITS[0], SLOTS), (LOGITS, SLOTS[:2]), (LOGITS, LOGITS[:, :2])],
    ids=["axes", "rows", "dtype"],
)
def test_what_the_signature_does_not_say_is_refused(logits, slots):
    with pytest.raises(TypeCheckError, match="softmax_concat"):
        losses.softmax_concat(jnp.asarray(logits), jnp.asarray(slots))


def test_parts_of_unions_and_sequences_are_checked():
    with pytest.raises(TypeCheckError, match="encode"):
        LabelSpace(20, (4, 5)).encode(LOGITS)
    with pytest.raises(TypeCheckError, match="log_partition"):
        kronecker.log_partition((SLOTS[:, :1], SLOTS), LabelSpace(2, (1, 2)))

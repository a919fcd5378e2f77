import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.dataset import identity_facts
from mhe_jax.data.faces.pairing import alternate, require_num_pairs


def test_identities_with_one_picture_or_none_are_counted():
    labels = np.array([4, 0, 2, 2, 0, 5], np.int32)
    assert identity_facts(labels, 7, "train.rec") == {
        "images": 6,
        "identities": 7,
        "single_image_identities": 2,
        "identities_without_images": 3,
    }


def test_labels_that_are_no_identity_are_errors():
    with pytest.raises(DataError, match=r"train\.rec: example 2 has label -1, which is not an identity from 0 to 4"):
        identity_facts(np.array([0, 4, -1, -1], np.int32), 5, "train.rec")
    with pytest.raises(DataError, match=r"example 1 has label 5"):
        identity_facts(np.array([0, 5], np.int32), 5, "train.rec")
    with pytest.raises(DataError, match=r"train\.rec has 1 identities: training needs at least 2"):
        identity_facts(np.zeros(3, np.int32), 1, "train.rec")


def test_pairs_alternate_so_that_folds_are_balanced():
    pairs = alternate("drawn", np.array([[0, 1], [2, 3]]), np.array([[4, 5], [6, 7]]))
    assert pairs.name == "drawn"
    assert pairs.first.tolist() == [0, 4, 2, 6]
    assert pairs.second.tolist() == [1, 5, 3, 7]
    assert pairs.same.tolist() == [True, False, True, False]
    assert (pairs.first.dtype, pairs.same.dtype) == (np.int32, bool)


@pytest.mark.parametrize("num_pairs", [18, 21, 0])
def test_pairs_that_ten_folds_cannot_balance_are_errors(num_pairs):
    with pytest.raises(ValueError, match=rf"config\.data\.num_pairs is {num_pairs}; it must be an even number"):
        require_num_pairs(num_pairs)

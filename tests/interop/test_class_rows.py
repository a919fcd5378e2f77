"""Rows of classes moved from one order to another; what belongs to digits is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.interop import class_rows
from mhe_jax.interop.torch import export_state_dict, import_state_dict
from mhe_jax.labels import LabelCodes
from tests.interop.test_torch_state_dicts import SPACES, abstract_variables, filled

RNG = np.random.default_rng(0)
THERE, HERE = LabelCodes.of(RNG.permutation(11)), LabelCodes.of(RNG.permutation(11))


@pytest.mark.parametrize("head", ["ohe", "mhs"])
@pytest.mark.parametrize("xp", [np, jnp], ids=["host", "device"])
def test_each_class_keeps_its_row(head, xp):
    """12 rows for 11 classes; row 11 is padding."""
    rows = np.arange(12.0)[:, None] * np.ones(3)
    params = {"kernel": rows, "bias": rows[:, 0]} if head == "ohe" else {"weight": rows.reshape(3, 4, 3)}
    found = class_rows.moved({name: xp.asarray(v) for name, v in params.items()}, head, THERE, HERE, "there")
    for value in found.values():
        by_code = np.asarray(value).reshape(12, -1)[:, 0]
        np.testing.assert_array_equal(by_code[HERE.code_of_id], THERE.code_of_id)
        assert by_code[11] == 11


def test_the_same_codes_move_nothing_of_any_head():
    params = {"root": object()}
    assert class_rows.moved(params, "mhc", THERE, LabelCodes.of(THERE.id_of_code), "there") is params
    assert class_rows.moved(params, "mhc", LabelCodes.identity(11), None, "there") is params


@pytest.mark.parametrize("head", ["mhc", "mhp"])
def test_weights_of_digits_are_refused(head):
    with pytest.raises(ValueError, match=f"there has other codes than this run, and the weights of a head '{head}'"):
        class_rows.moved({}, head, THERE, None, "there")


@pytest.mark.parametrize("head", ["ohe", "mhs"])
def test_a_state_dict_is_in_the_order_of_ids(head):
    """Exported with codes and imported without, each class has its row where its id is; and back again."""
    abstract = abstract_variables("reference_cifar", head, SPACES[head])
    variables, name = filled(abstract), {"ohe": "kernel", "mhs": "weight"}[head]
    state = export_state_dict(variables, "reference_cifar", head, SPACES[head], HERE)
    plain = import_state_dict(state, abstract, label_space=SPACES[head])
    by_code, by_id = (np.reshape(of["params"]["head"][name], (-1, 512))[:11] for of in (variables, plain))
    np.testing.assert_array_equal(by_id, by_code[HERE.code_of_id])
    back = import_state_dict(state, abstract, label_space=SPACES[head], codes=HERE)
    np.testing.assert_array_equal(np.reshape(back["params"]["head"][name], (-1, 512))[:11], by_code)


@pytest.mark.parametrize("head", ["mhc", "mhp"])
def test_a_state_dict_of_digits_is_refused(head):
    abstract = abstract_variables("reference_cifar", head, SPACES[head])
    with pytest.raises(ValueError, match="belongs to digits, not to classes"):
        export_state_dict(filled(abstract), "reference_cifar", head, SPACES[head], HERE)
    state = export_state_dict(filled(abstract), "reference_cifar", head, SPACES[head])
    with pytest.raises(ValueError, match="belongs to digits, not to classes"):
        import_state_dict(state, abstract, label_space=SPACES[head], codes=HERE)
    import_state_dict(state, abstract, ("backbone",), SPACES[head], HERE)

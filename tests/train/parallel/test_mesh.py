import types
import unittest.mock

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.train.parallel.mesh import BATCH, CHUNK, make_mesh, place, replicate


@pytest.mark.parametrize(
    ("sizes", "shape"), [((-1, 1), (8, 1)), ((-1, 4), (2, 4)), ((2, -1), (2, 4)), ((1, 8), (1, 8))]
)
def test_minus_one_takes_the_rest(sizes, shape):
    mesh = make_mesh(ConfigDict({"data": sizes[0], "classes": sizes[1]}))
    assert tuple(mesh.shape.values()) == shape


@pytest.mark.parametrize("sizes", [(1, 16), (-1, 16), (3, 1), (-1, 3), (-1, -1), (0, 8), (4, 4)])
def test_sizes_that_do_not_make_the_devices_are_refused(sizes):
    with pytest.raises(ValueError, match=rf"data={sizes[0]} x classes={sizes[1]} devices, but there are 8"):
        make_mesh(ConfigDict({"data": sizes[0], "classes": sizes[1]}))


def test_devices_are_laid_out_by_process_and_not_by_their_place_in_the_machine(monkeypatch):
    # Two hosts of a TPU slice, whose numbers run along the rows of both.
    devices = [types.SimpleNamespace(id=i, process_index=(i // 2) % 2, platform="tpu") for i in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    with unittest.mock.patch("mhe_jax.train.parallel.mesh.Mesh") as mesh:
        make_mesh(ConfigDict({"data": -1, "classes": 2}))
    ((laid_out, _), _) = mesh.call_args
    assert [device.process_index for device in laid_out.ravel()] == [0] * 4 + [1] * 4
    assert laid_out.shape == (4, 2)


def test_batches_are_split_over_all_devices_and_the_rest_is_whole(mesh):
    rows = np.arange(32).reshape(2, 16)
    whole, batch, chunk = replicate(mesh, rows), place(mesh, rows.T, BATCH), place(mesh, rows, CHUNK)
    assert [x.addressable_shards[0].data.shape for x in (whole, batch, chunk)] == [(2, 16), (2, 2), (2, 2)]
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(batch, rows.T)
    np.testing.assert_array_equal(chunk, rows)

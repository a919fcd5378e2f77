"""The figures of a run that a baseline is compared with."""

import json

import pytest

from mhe_jax.inference.baseline import read_compared


def test_what_is_compared_is_of_a_run_on_such_data(tmp_path):
    path = tmp_path / "result.json"
    write = lambda **fields: path.write_text(json.dumps(fields))
    write(head="mhc", best={"P@1": 0.5}, last=None, seconds=3)
    assert read_compared(path, "P@1") == {"head": "mhc", "best": {"P@1": 0.5}}
    with pytest.raises(ValueError, match=r"result.json is of a run on data of another kind: its 'best' has no top1"):
        read_compared(path, "top1")
    write(head="ohe", best=[0.5])
    with pytest.raises(ValueError, match="its 'best' has no P@1"):
        read_compared(path, "P@1")
    write(baseline="linear", eval={"P@1": 0.5})
    with pytest.raises(ValueError, match=r"--compare=.*result.json is no result.json of a trained run: it has no head"):
        read_compared(path, "P@1")

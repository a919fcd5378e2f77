"""Two processes with four devices each train and evaluate as one process with eight does.

Exactly so where the launcher starts both. A process outside of it adds up over its devices in another order, which
shows after some steps, the sooner the higher the learning rate: small models agree to 1e-4 for twenty steps.
"""

import json

import numpy as np
import pytest

from mhe_jax.inference.predict import predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.train.loop import train_and_evaluate
from tests import (
    tiny_codes_config,
    tiny_config,
    tiny_face_config,
    tiny_features_config,
    tiny_owned_config,
    tiny_text_config,
)
from tests.data.features.rows import write_features
from tests.multiprocess.launched import ROOT, assert_same_curve, curve, run

TWENTY = {"total_steps": 20, "log_every_steps": 1, "eval_every_steps": 10, "checkpoint_every_steps": 10}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mesh", "more"),
    [
        (tiny_config, (8, 1), {"shard_backbone": True}),
        (tiny_config, (2, 4), {}),
        (tiny_owned_config, (4, 2), {}),
        (tiny_codes_config, (2, 4), {}),
        (tiny_text_config, (2, 4), {}),
        (tiny_face_config, (1, 8), {}),
    ],
    ids=["images_8x1_sharded_backbone", "images_2x4", "owned_4x2", "codes_2x4", "texts_2x4", "faces_1x8"],
)
def test_two_processes_equal_one(tmp_path, kind, mesh, more):
    config = kind.get_config()
    config.update(TWENTY, **more)
    config.mesh.update(data=mesh[0], classes=mesh[1])
    fields = {**TWENTY, **more, "mesh.data": mesh[0], "mesh.classes": mesh[1]}
    flags = [f"--config={ROOT / 'tests' / kind.__name__.rpartition('.')[2]}.py", f"--workdir={tmp_path / 'two'}"]
    run(tmp_path / "log", 2, 4, *flags, *(f"--config.{name}={value}" for name, value in fields.items()))
    whole = train_and_evaluate(config, tmp_path / "one")

    assert_same_curve(tmp_path / "two", tmp_path / "one")
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["best"] == pytest.approx(whole["best"], rel=1e-4, abs=1e-4)
    assert result["device_count"] == 8

    if more:  # from the weights of another run, once
        fields = {**fields, "total_steps": 2, "init_from": tmp_path / "two"}
        flags = [flags[0], f"--workdir={tmp_path / 'two_more'}"]
        run(tmp_path / "log", 2, 4, *flags, *(f"--config.{name}={value}" for name, value in fields.items()))
        config.update(total_steps=2, init_from=str(tmp_path / "two"))
        train_and_evaluate(config, tmp_path / "one_more")
        assert_same_curve(tmp_path / "two_more", tmp_path / "one_more")

    if kind is tiny_text_config:  # the other modes, once
        printed = run(tmp_path / "log", 2, 4, "--mode=eval", f"--workdir={tmp_path / 'two'}")
        values = json.loads(printed[printed.index("[0] {") + 4 :].splitlines()[0])
        assert {name: values[name] for name in result["best"]} == pytest.approx(result["best"], rel=1e-5)
        assert values["examples"] == 43
        run(tmp_path / "log", 2, 4, "--mode=predict", f"--workdir={tmp_path / 'two'}")
        on_two = read_predictions(tmp_path / "two").scores
        config.mesh.update(data=-1, classes=1)
        predict_split(config, tmp_path / "two")
        np.testing.assert_allclose(on_two.toarray(), read_predictions(tmp_path / "two").scores.toarray(), rtol=1e-4)


@pytest.mark.slow
def test_two_processes_read_their_rows_of_features(tmp_path):
    """Each from the memory map; they take longer than ten seconds to start and to compile."""
    write_features(tmp_path / "features", multilabel=True)
    fields = {
        **TWENTY,
        "data.path": str(tmp_path / "features"),
        "data.device_mebibytes": 0,
        "mesh.data": 4,
        "mesh.classes": 2,
    }
    config = tiny_features_config.get_config("multilabel")
    config.update_from_flattened_dict(fields)
    flags = [f"--config={ROOT / 'tests' / 'tiny_features_config.py'}:multilabel", f"--workdir={tmp_path / 'two'}"]
    run(tmp_path / "log", 2, 4, *flags, *(f"--config.{name}={value}" for name, value in fields.items()))
    whole = train_and_evaluate(config, tmp_path / "one")
    assert_same_curve(tmp_path / "two", tmp_path / "one")
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["test"] == pytest.approx(whole["test"], rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_the_launcher_gives_the_same_bits_for_any_number_of_processes(tmp_path):
    fields = {"total_steps": 8, "log_every_steps": 1, "eval_every_steps": 8, "checkpoint_every_steps": 8}
    fields["global_batch_size"] = 64
    flags = [f"--config={ROOT / 'configs' / 'glyphs_mhp.py'}", *(f"--config.{k}={v}" for k, v in fields.items())]
    for processes in (1, 2):
        run(tmp_path / "log", processes, 8 // processes, *flags, f"--workdir={tmp_path / str(processes)}")
    one, two = curve(tmp_path / "1"), curve(tmp_path / "2")
    assert len(one) == 9  # eight steps and the evaluation
    assert one == two

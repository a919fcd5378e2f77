"""A run on tar shards or tables trains as one on class folders does, to the bit, and goes on with other processes."""

import json

import numpy as np
import PIL.Image
import pytest

from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config
from tests.data.images.written import rows, saved, write_parquet, write_tars
from tests.multiprocess.launched import assert_same_curve, curve, run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Seven classes with six pictures to train and two to validate."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in "abcdefg":
            (tmp_path / "folder" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(256, size=(12, 14, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(tmp_path / "folder" / split / name / f"{number}.png")
    return tmp_path / "folder"


def write_all(root, folder):
    """`config.data.path` of each layout."""
    splits = {split: list(rows(folder / split)) for split in ("train", "val")}
    write_tars(root / "tar", folder, shards=3)
    for split, some in splits.items():
        write_parquet(
            root / "parquet" / f"{split}.parquet", some, row_group_size=4, structs=True, names=tuple("abcdefg")
        )
    saved(root / "saved", splits, structs=True, names=tuple("abcdefg"))
    return {"folder": folder, **{name: root / name for name in ("tar", "parquet", "saved")}}


def config_of(path, **fields):
    config = tiny_config.get_config()
    config.data = {"name": "image_folder", "path": str(path), "image_size": 8, "last_batch": "drop", "num_workers": 0}
    config.head = heads.ohe()
    config.update(global_batch_size=8, eval_every_steps=2, checkpoint_every_steps=2, **fields)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [False, True])
def test_every_layout_trains_as_class_folders_do(folder, tmp_path, in_memory):
    for name, path in write_all(tmp_path, folder).items():
        config = config_of(path, total_steps=6)
        config.data.in_memory = in_memory
        train_and_evaluate(config, tmp_path / "runs" / name)
        assert curve(tmp_path / "runs" / name) == curve(tmp_path / "runs" / "folder")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_two_processes_then_one_go_on_as_one_would(folder, tmp_path, layout):
    path = write_all(tmp_path, folder)[layout]
    parts, config_file = tmp_path / "parts", tmp_path / "config.py"
    config_file.write_text(
        "from tests.multiprocess.test_pictures_in_files import config_of\n\n\ndef get_config():\n"
        f"    return config_of({str(path)!r}, total_steps=4)\n"
    )
    for processes, devices, steps in ((2, 2, 4), (1, 4, 8), (1, 1, 12)):
        if steps > 4:  # the schedule is constant, so that a run may be made longer
            stored = json.loads((parts / "config.json").read_text())
            (parts / "config.json").write_text(json.dumps({**stored, "total_steps": steps}))
        flags = [f"--config={config_file}", f"--workdir={parts}", f"--config.total_steps={steps}"]
        run(tmp_path / "log", processes, devices, *flags)
    train_and_evaluate(config_of(folder, total_steps=12), tmp_path / "whole")
    assert_same_curve(parts, tmp_path / "whole")

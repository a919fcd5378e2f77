"""Checkpoints by themselves: what is kept, what damage does, other meshes."""

import contextlib
import json
import pathlib
import re
import shutil
import time
import warnings

import numpy as np
import pytest
from orbax.checkpoint._src.metadata import checkpoint as orbax_metadata
from orbax.checkpoint._src.metadata import step_metadata_serialization

from mhe_jax.train.checkpoints import seals
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from tests.train.checkpoints.small_checkpoints import (
    SPACE,
    made,
    mesh_of,
    restored_step,
    save_all,
    shapes_of,
)

# What Orbax has in a checkpoint's metadata until its last write to them.
BEFORE = {"item_handlers": None, "custom_metadata": {}}


def test_the_newest_the_best_and_every_nth_are_kept(tmp_path):
    assert save_all(tmp_path, range(1, 10), best=2, keep=2, keep_every=3) == [2, 3, 6, 8, 9]


def test_size_and_time_are_told_once(tmp_path, capsys):
    save_all(tmp_path, (1, 2, 3))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("a checkpoint: ")]
    assert len(told) == 1
    assert "MiB on disk, written in " in told[0]
    assert "MiB are free" in told[0]


def slow_metadata(monkeypatch, seconds):
    """Orbax's writes of metadata take longer, as on a disk behind a slow network; they are not atomic either."""
    write = orbax_metadata._MetadataStoreImpl.write

    def slowly(self, file_path, metadata):
        with open(file_path, "w") as file:
            file.write('{"cut sho')
        time.sleep(seconds)
        write(self, file_path, metadata)

    monkeypatch.setattr(orbax_metadata._MetadataStoreImpl, "write", slowly)


def test_a_checkpoint_is_sealed_after_its_metadata_is_written_however_late(tmp_path, monkeypatch):
    slow_metadata(monkeypatch, 0.2)
    save_all(tmp_path, (1, 2), keep=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert restored_step(tmp_path) == 2


def test_a_seal_that_was_made_before_the_last_write_to_the_metadata_is_honoured(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(seals, "_settled_metadata", lambda folder: {**seals._metadata(folder), **BEFORE})
        save_all(tmp_path, (1,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert restored_step(tmp_path, read_only=True) == 1
    # It vouches for the rest of the file none the less.
    path = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {"loss": 1.0}}))
    with pytest.raises(ValueError, match="_CHECKPOINT_METADATA is not what was written"):
        restored_step(tmp_path, read_only=True)


def test_what_a_save_begins_with_is_what_an_early_seal_saw(tmp_path):
    began = step_metadata_serialization.serialize(orbax_metadata.StepMetadata(init_timestamp_nsecs=1))
    save_all(tmp_path, (1,))
    ended = json.loads((tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA").read_text())
    changed = {name for name, value in ended.items() if value != began[name]}
    assert changed == {"init_timestamp_nsecs", "commit_timestamp_nsecs", *BEFORE}
    assert {name: began[name] for name in BEFORE} == BEFORE


def test_metadata_that_never_come_are_told(two, tmp_path, monkeypatch):
    monkeypatch.setattr(seals, "_METADATA_SECONDS", 0.05)
    shutil.copytree(two / "checkpoints" / "6", tmp_path / "6")
    (tmp_path / "6" / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": {}}')
    with pytest.raises(OSError, match=r"6/_CHECKPOINT_METADATA was not written in"):
        seals.seal(tmp_path / "6", tmp_path / "6")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A workdir with the checkpoints of steps 3 and 6, the best of them 6."""
    workdir = tmp_path_factory.mktemp("two")
    save_all(workdir, (3, 6), best=6, keep=2)
    return workdir


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


FILES = {
    "array data": "state/ocdbt.process_0/d/*",
    "array index": "state/d/*",
    "array manifest": "state/manifest.ocdbt",
    "array manifest of a process": "state/ocdbt.process_0/manifest.ocdbt",
    "tree metadata": "state/_METADATA",
    "shardings": "state/_sharding",
    "meta": "meta/metadata",
    "checkpoint metadata": "_CHECKPOINT_METADATA",
    "digests": "digests.json",
    "marker": "commit_success.txt",
    "marker of the state": "state/commit_success.txt",
    "marker of the meta": "meta/commit_success.txt",
}


@pytest.mark.parametrize("harm", [truncate, flip, pathlib.Path.unlink], ids=["truncate", "flip", "delete"])
@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_damage_to_the_newest_falls_back_to_the_one_before(two, tmp_path, pattern, harm):
    shutil.copytree(two / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints" / "6"
    for path in list(newest.glob(pattern)):
        harm(path)
    assert list(newest.rglob("*")), pattern
    with pytest.warns(UserWarning, match=r"checkpoints/6 cannot be read: .*; the checkpoint of step 3 is used instead"):
        assert restored_step(tmp_path, read_only=True) == 3
    assert newest.exists()
    with pytest.warns(UserWarning, match=r"checkpoints/6 cannot be read: .* the damaged folder is now .*/damaged/6"):
        assert restored_step(tmp_path) == 3
    assert not newest.exists()
    assert (tmp_path / "damaged" / "6").is_dir()
    # The step can be saved again, and is the newest then.
    save_all(tmp_path, (6,), keep=2)
    assert restored_step(tmp_path) == 6


def test_the_classes_of_files_are_all_there_are(two):
    newest = two / "checkpoints" / "6"
    assert {p for pattern in FILES.values() for p in newest.glob(pattern)} == {
        p for p in newest.rglob("*") if p.is_file()
    }


DIGESTS = {
    "no digests": b"{}",
    "no object": b"[]",
    "not text": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "those of one item": b'{"meta/metadata": "0", "_CHECKPOINT_METADATA": "0"}',
    "digests of another kind": b'{"_CHECKPOINT_METADATA": [], "state/_METADATA": {}, "meta/metadata": 1}',
    "nothing": b"",
    "null": b"null",
}


@pytest.mark.parametrize("content", DIGESTS.values(), ids=DIGESTS)
def test_digests_that_vouch_for_nothing_are_damage(two, tmp_path, content):
    shutil.copytree(two / "checkpoints" / "6", tmp_path / "6")
    assert seals.damage(tmp_path / "6") is None
    (tmp_path / "6" / "digests.json").write_bytes(content)
    assert re.search("digests.json|is not what was written", seals.damage(tmp_path / "6"))


def test_a_folder_under_the_name_of_another_step_is_not_that_step(two, tmp_path):
    shutil.copytree(two / "checkpoints" / "3", tmp_path / "checkpoints" / "9")
    with pytest.raises(ValueError, match=r"checkpoints/9 .*it was saved as 3: give the folder that name again"):
        restored_step(tmp_path)
    (tmp_path / "checkpoints" / "9").rename(tmp_path / "checkpoints" / "3")
    assert restored_step(tmp_path) == 3


def test_a_checkpoint_under_a_name_that_is_no_number_is_told(two, tmp_path):
    shutil.copytree(two / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "6").rename(tmp_path / "checkpoints" / "6.best")
    with pytest.warns(UserWarning, match=r"checkpoints/6.best is passed over: the name of a checkpoint is the number"):
        assert restored_step(tmp_path, read_only=True) == 3


def test_when_all_are_damaged_it_is_said_and_nothing_is_moved(two, tmp_path):
    shutil.copytree(two / "checkpoints", tmp_path / "checkpoints")
    for step in (3, 6):
        flip(tmp_path / "checkpoints" / str(step) / "meta" / "metadata")
    with pytest.raises(ValueError, match=r"checkpoints/6 .*checkpoints/3 .*none is left to continue from") as raised:
        restored_step(tmp_path)
    assert "delete" not in str(raised.value)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "6"]


def test_weights_of_a_damaged_best_come_from_the_newest_whole_one(tmp_path):
    save_all(tmp_path, (3, 6), best=3, keep=2)
    wanted = {"params": shapes_of(made(0)).params, "batch_stats": {}}
    read = lambda: Checkpoints(tmp_path, read_only=True).restore_weights(wanted, SPACE)
    assert read()[1] == 3
    flip(tmp_path / "checkpoints" / "3" / "state" / "_METADATA")
    with pytest.warns(UserWarning, match=r"checkpoints/3 cannot be read: state/_METADATA is not what was written"):
        weights, step = read()
    assert step == 6
    assert float(weights["params"]["backbone"]["kernel"][0, 0]) == 6


def test_weights_of_a_run_that_saves_meanwhile_are_those_of_its_newest(tmp_path):
    save_all(tmp_path, (3,))
    wanted = {"params": shapes_of(made(0)).params, "batch_stats": {}}
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as beside, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert save_all(tmp_path, (6,)) == [6]  # the reader has listed 3, which is removed
        assert beside.restore_weights(wanted, SPACE)[1] == 6
        save_all(tmp_path, (9,))
        assert int(beside.restore(shapes_of(made(0)), SPACE)[0].step) == 9


def test_a_torn_save_is_removed_and_the_one_before_used(two, tmp_path):
    shutil.copytree(two / "checkpoints", tmp_path / "checkpoints")
    torn = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    (tmp_path / "checkpoints" / "6").rename(torn)
    assert restored_step(tmp_path, read_only=True) == 3
    save_all(tmp_path, (6,), keep=2)
    assert not torn.exists()


def test_a_checkpoint_from_before_there_were_digests_is_restored(two, tmp_path):
    shutil.copytree(two / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints" / "6"
    (newest / "digests.json").unlink()
    fields = json.loads((newest / "_CHECKPOINT_METADATA").read_text())
    (newest / "_CHECKPOINT_METADATA").write_text(json.dumps({**fields, "custom_metadata": {}}))
    assert restored_step(tmp_path) == 6


@pytest.mark.parametrize(("data", "classes"), [(1, 8), (8, 1), (2, 4), (1, 3), (3, 1), (1, 1)])
def test_a_state_moves_to_another_mesh(two, data, classes):
    rows = -(-7 // classes) * classes  # the padding of the table's seven rows goes with the mesh
    abstract = shapes_of(made(0, mesh_of(data, classes), rows))
    state, _ = Checkpoints(two, read_only=True).restore(abstract, SPACE)
    expected = made(6, rows=8)
    np.testing.assert_array_equal(state.params["head"]["table"][:7], expected.params["head"]["table"][:7])
    np.testing.assert_array_equal(state.opt_state["momentum"], expected.opt_state["momentum"])
    assert state.params["head"]["table"].sharding == abstract.params["head"]["table"].sharding

"""The figures of a checkpoint: those of its save, and others afterwards."""

import contextlib
import json
import time
import warnings

import orbax.checkpoint as ocp
import pytest

from mhe_jax.train.checkpoints import seals
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from tests.train.checkpoints.small_checkpoints import SPACE, made, meta, save_all, shapes_of


def test_the_figures_are_those_of_the_save_however_late_they_are_written(tmp_path, monkeypatch):
    write = ocp.JsonCheckpointHandler._save_fn

    async def slowly(self, x, directory):
        time.sleep(0.2)
        await write(self, x, directory)

    monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", slowly)
    figures = meta()
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(made(1), 1, figures)
        figures["best"] = {"step": 2}
    assert json.loads((tmp_path / "checkpoints" / "1" / "meta" / "metadata").read_text()) == meta()


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_checkpoint_is_whole_wherever_the_writing_of_other_figures_ends(tmp_path, writes, monkeypatch):
    save_all(tmp_path, (1,), best=1)
    folder, write, left = tmp_path / "checkpoints" / "1", seals.write_atomically, iter(range(writes))

    def at_most(path, text):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(seals, "write_atomically", at_most)
    with contextlib.suppress(KeyboardInterrupt):
        seals.replace(folder, seals.META, json.dumps(meta(best=2)))
    assert seals.damage(folder) is None
    assert (json.loads((folder / seals.META).read_text()) == meta(best=2)) == (writes >= 2)
    (folder / seals.META).write_text("{}")
    assert seals.damage(folder) == "meta/metadata is not what was written"


def test_a_checkpoint_with_other_figures_is_whole(tmp_path):
    save_all(tmp_path, (1, 2), best=1)
    wanted = {"params": shapes_of(made(0)).params, "batch_stats": {}}
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        assert checkpoints.restore_weights(wanted, SPACE)[1] == 1
        checkpoints.replace_meta(2, meta(best=2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert checkpoints.restore_weights(wanted, SPACE)[1] == 2


def test_figures_wait_for_the_save_and_their_best_is_kept(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(made(1), 1, meta())
        checkpoints.replace_meta(1, meta(best=1))
        assert json.loads((tmp_path / "checkpoints" / "1" / seals.META).read_text()) == meta(best=1)
    assert save_all(tmp_path, (2, 3), best=1) == [1, 3]

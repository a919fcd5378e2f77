"""Where memory may be short, programs that come later are compiled before the first step."""

import pytest

from mhe_jax.train import ahead
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import report
from tests import tiny_config, tiny_face_config, tiny_text_config

pytestmark = pytest.mark.slow

KINDS = {"pictures": tiny_config, "texts": tiny_text_config, "faces": tiny_face_config}


def texts_in_short_batches_first(config):
    config.data.bucket_lengths = (4, 8, 12)
    config.data.sort_window = 50
    return config


def lines(kind, tmp_path, capsys, **fields):
    config = KINDS[kind].get_config()
    config = texts_in_short_batches_first(config) if kind == "texts" else config
    config.update_from_flattened_dict({"total_steps": 1, **fields})
    train_and_evaluate(config, tmp_path)
    return [line for line in capsys.readouterr().out.splitlines() if ", per device: " in line]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_needed_later_is_told_before_the_first_step(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ahead, "_SHARE", 0.0)
    told = [line.partition(",")[0] for line in lines(kind, tmp_path, capsys)]
    longest = ["train step of the longest texts"] if kind == "texts" else []
    assert told == ["train step", *longest, "evaluation of a batch"]


def test_a_small_run_starts_without(tmp_path, capsys):
    assert len(lines("pictures", tmp_path, capsys)) == 1


def test_with_a_sharded_backbone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ahead, "_SHARE", 0.0)
    assert len(lines("pictures", tmp_path, capsys, shard_backbone=True)) == 2


@pytest.mark.parametrize("what", ["an evaluation", "a train step of the longest texts"])
def test_what_does_not_fit_is_refused_before_the_first_step(what, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "_SHARE", 0.0)
    check = report.check_memory

    def refuse(memory, task, batch, of="a train step"):
        monkeypatch.setattr(report, "_memory", lambda _: (2**30, 2**20 if of == what else 2**40))
        check(memory, task, batch, of)

    monkeypatch.setattr(report, "check_memory", refuse)
    config = texts_in_short_batches_first(tiny_text_config.get_config())
    config.total_steps = 1
    with pytest.raises(ValueError, match=f"^{what} needs 1,024.0 MiB but there are 1.0 MiB"):
        train_and_evaluate(config, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("[1-9]*"))

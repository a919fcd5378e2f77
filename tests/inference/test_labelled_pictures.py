"""Pictures with many labels, from files to answers: each head trains, is evaluated and predicts."""

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.features.folder import MultiLabelFolder
from mhe_jax.inference.decide import decide
from mhe_jax.inference.embed_splits import embed_splits
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.inference.run import load
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_labels_config

pytestmark = pytest.mark.slow

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


def write(folder, number, seed, ignored=True):
    """Pictures of halves in colours, which are their labels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = ["file_name,labels,ignored"]
    for index in range(number):
        names = rng.choice(list(COLOURS), 2)
        halves = np.stack([np.full((4, 8, 3), COLOURS[name], np.uint8) for name in names]).reshape(8, 8, 3)
        PIL.Image.fromarray(halves).save(folder / f"{index}.png")
        unknown = "grey" if ignored and "grey" not in names and index % 2 else ""
        rows.append(f"{index}.png,{';'.join(sorted(set(names)))},{unknown}")
    (folder / "labels.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for seed, (split, number) in enumerate({"train": 96, "val": 40, "test": 40}.items()):
        write(root / split, number, seed, ignored=split != "val")
    return root


def config_of(folder, head, **fields):
    config = tiny_labels_config.get_config(head=head)
    config.data.path = str(folder)
    config.data.update(fields)
    return config


def test_a_run_learns_and_answers(folder, tmp_path):
    config = config_of(folder, "ohe")
    config.total_steps = 60
    config.schedule.learning_rate = 0.05
    result = train_and_evaluate(config, tmp_path / "run")
    assert result["best"]["nDCG@3"] > 0.85
    facts = decide(experiment.usable_config(tmp_path / "run"), tmp_path / "run", "micro_f1", "label", None, "isotonic")
    assert facts["micro_f1"] > 0.6
    values = evaluate(experiment.usable_config(tmp_path / "run"), tmp_path / "run")
    assert values["test"]["mAP"] > 0.6
    ranked = read_predictions(predict_split(experiment.usable_config(tmp_path / "run"), tmp_path / "run").parent)
    assert ranked.scores.shape == (40, 4)
    config = experiment.usable_config(tmp_path / "run")
    embed_splits(config, tmp_path / "run", tmp_path / "features", "float16", "")
    features = MultiLabelFolder(path=str(tmp_path / "features"), features_dim=0).load()
    assert features.train.labels.shape == (96, 4)
    assert features.test.filtered.nnz > 0
    red = np.broadcast_to(np.array(COLOURS["red"], np.uint8), (1, 8, 8, 3))
    (answer,) = load(tmp_path / "run").predict(red, top_k=4, threshold="auto")
    assert answer[0].label == "red"


@pytest.mark.parametrize("head", ["mhp", "mhc", "mhs"])
def test_other_heads_train_where_no_label_is_ignored(folder, tmp_path, head):
    with pytest.raises(ValueError, match="ignored labels, which config.head.name = 'ohe' alone leaves out"):
        train_and_evaluate(config_of(folder, head), tmp_path / "run")
    write(tmp_path / "data" / "train", 32, 0, ignored=False)
    write(tmp_path / "data" / "val", 16, 1)
    config = config_of(tmp_path / "data", head)
    config.total_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    assert 0 <= train_and_evaluate(config, tmp_path / "other")["best"]["P@1"] <= 1


def test_streamed_pictures_train_too(folder, tmp_path):
    config = config_of(folder, "ohe", in_memory=False)
    config.total_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    assert train_and_evaluate(config, tmp_path / "run")["step"] == 2

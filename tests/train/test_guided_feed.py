"""Runs that are guided by weights, priors, grades and a teacher; and all that does not go together."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.build import build_data
from mhe_jax.data.teacher import build_distillation
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.teach import write_scores
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.recipes import heads
from mhe_jax.settings import Settings
from mhe_jax.train import class_files, experiment, guided_feed, long_tail
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.field_runs import with_fields
from tests.train import extended
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow


def pictures(**fields):
    config = tiny_config.get_config()
    config.head = heads.ohe((4, 5))
    config.total_steps, config.eval_every_steps = 3, 3
    return with_fields(config, fields)


def texts(**fields):
    config = tiny_text_config.get_config()
    config.head = heads.xmc_ohe((11, 5))
    config.total_steps, config.eval_every_steps = 2, 2
    return with_fields(config, fields)


def scores_for(config, folder, least=0.05):
    """A file of scores for the training examples of a config, of its first classes."""
    data = build_data(config.data)
    rows = data.load().train.num_examples
    matrix = np.zeros((rows, data.num_classes), np.float32)
    matrix[:, :4] = np.random.default_rng(0).uniform(least, 1, size=(rows, 4))
    scipy.sparse.save_npz(folder / "scores.npz", scipy.sparse.csr_matrix(matrix))
    return str(folder / "scores.npz")


def weights_after(config, folder):
    train_and_evaluate(config, folder)
    return final_weights(folder)


def test_weights_count_from_their_epoch_on(tmp_path):
    """Three steps an epoch: weights of the second epoch do not change the first."""
    (tmp_path / "weights.txt").write_text("3 5.0\n4 0.2\n")
    weighted = {"class_weights__name": "file", "class_weights__path": str(tmp_path / "weights.txt")}
    runs = {"plain": {}, "later": {**weighted, "class_weights__start_epoch": 1.0}, "at once": weighted}
    found = {}
    for name, fields in runs.items():
        train_and_evaluate(pictures(total_steps=6, **fields), tmp_path / name, interrupt_at=3)
        found[name] = final_weights(tmp_path / name)
    assert_same(found["plain"], found["later"], rtol=1e-4, atol=1e-6)  # another program rounds otherwise
    kernel = next(name for name in found["plain"] if "params" in name and "kernel" in name)
    assert not np.array_equal(found["plain"][kernel], found["at once"][kernel])


def test_emphasis_is_of_examples_or_of_their_labels():
    classes = {"weight": np.array([1.0, 2.0, 4.0], np.float32), "weight_from": np.int32(5)}
    assert long_tail.emphasis(classes, np.array([2, 0]), 5).of_examples.tolist() == [4, 1]
    assert long_tail.emphasis(classes, np.array([2, 0]), 4).of_examples.tolist() == [1, 1]
    assert long_tail.emphasis(classes, np.array([[2, -1]]), 5).of_labels[0, 0] == 4
    assert long_tail.emphasis({}, np.array([2, 0]), 5) == (1.0, None)


def test_an_evaluation_by_frequency_is_in_the_result_and_in_that_of_eval(tmp_path):
    result = train_and_evaluate(pictures(eval_bands="thirds", logit_adjustment=1.0), tmp_path / "run")
    names = {"top1_head", "top1_medium", "top1_tail", "macro_top1"}
    assert names <= set(result["last"])
    config = experiment.usable_config(tmp_path / "run")
    found = evaluate(config, tmp_path / "run")
    assert found["macro_top1"] == pytest.approx(result["best"]["macro_top1"], abs=1e-6)
    assert names <= set(json.loads((tmp_path / "run" / "eval.json").read_text()))


def test_a_run_teaches_another_one(tmp_path):
    train_and_evaluate(pictures(codes={"name": "identity"}), tmp_path / "teacher")
    config = experiment.usable_config(tmp_path / "teacher")
    shape = write_scores(config, tmp_path / "teacher", tmp_path / "scores.npz", 3)
    scores = scipy.sparse.load_npz(tmp_path / "scores.npz")
    assert scores.shape == shape == (100, 19)
    assert (np.diff(scores.indptr) == 3).all()
    assert (scores.sum(axis=1) <= 1 + 1e-5).all()
    with pytest.raises(ValueError, match="--top_k is 20; it must be between 1 and the 19 classes"):
        write_scores(config, tmp_path / "teacher", tmp_path / "scores.npz", 20)
    taught = {"distillation__name": "scores", "distillation__file": str(tmp_path / "scores.npz")}
    for temperature in (1.0, 2.0):
        fields = {**taught, "distillation__temperature": temperature}
        result = train_and_evaluate(pictures(head=heads.mhc((4, 5)), **fields), tmp_path / f"student{temperature}")
        assert np.isfinite(result["last"]["loss"])


def test_a_teacher_that_says_what_the_labels_say_changes_nothing(tmp_path):
    config = pictures()
    labels = build_data(config.data).load().train.labels
    hot = scipy.sparse.csr_matrix((np.full(100, 0.7), (np.arange(100), labels)), (100, 19))
    scipy.sparse.save_npz(tmp_path / "hot.npz", hot)
    taught = {"distillation__name": "scores", "distillation__file": str(tmp_path / "hot.npz")}
    plain = weights_after(config, tmp_path / "plain")
    same = weights_after(pictures(**taught, distillation__weight=0.3), tmp_path / "taught")
    assert_same(plain, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [heads.xmc_ohe((11, 5)), {**heads.xmc_mhc((11, 5)), "num_candidates": 4}])
def test_texts_learn_from_grades_weights_and_a_teacher(tmp_path, head):
    file = scores_for(texts(), tmp_path)
    fields = {"soft_labels": True, "class_weights__name": "propensity", "sampling__name": "repeat_factor"}
    taught = {"distillation__name": "scores", "distillation__file": file, "eval_bands": "thirds"}
    result = train_and_evaluate(texts(head=head, **fields, **taught), tmp_path / "run")
    assert {"R@5_head", "R@5_medium", "R@5_tail"} <= set(result["last"])


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (pictures, {"soft_labels": True}, "config.soft_labels is of many labels an example"),
        (pictures, {"class_weights__name": "propensity"}, "'propensity', of many labels an example"),
        (pictures, {"logit_adjustment": -1.0}, "config.logit_adjustment is -1.0; it must be 0 or more"),
        (
            pictures,
            {"class_weights__name": "balanced", "class_weights__start_epoch": 1.5},
            "config.class_weights.start_epoch is 1.5, but the run ends after 1 epochs",
        ),
        (
            pictures,
            {"sampling__name": "class_balanced", "sampling__start_epoch": 1.0},
            "config.sampling.start_epoch is 1.0, but the run ends after 1 epochs",
        ),
        (
            pictures,
            {"sampling__name": "class_balanced", "sampling__start_epoch": 0.5},
            "config.sampling.start_epoch is 0.5, but the run ends after 1 epochs, and samples are drawn from the next",
        ),
        (texts, {"logit_adjustment": 1.0}, "it is of a softmax over one label an example; of many, see"),
        (texts, {"distillation__name": "scores", "distillation__temperature": 2.0}, "of many labels it must be 1"),
        (
            pictures,
            {
                "distillation__name": "scores",
                "distillation__temperature": 2.0,
                "table_optimizer": {"name": "sgd", "updates": "owned"},
            },
            "a step goes twice through the table",
        ),
        (pictures, {"eval_bands": "halves"}, "config.eval_bands is 'halves'"),
        (
            pictures,
            {"sampling__name": "class_balanced", "class_weights__name": "balanced"},
            "'class_balanced' and config.class_weights.name is 'balanced': both make up",
        ),
        (
            pictures,
            {"sampling__name": "class_balanced", "logit_adjustment": 0.5},
            "'class_balanced' and config.logit_adjustment is 0.5: both make up",
        ),
        (
            pictures,
            {"head": {"name": "ohe", "margin": {"name": "cosface"}}, "distillation__name": "scores"},
            "margins on angles learn from labels alone",
        ),
    ],
)
def test_what_does_not_go_together_is_an_error(tmp_path, make, fields, message):
    if fields.get("distillation__name"):
        fields = {**fields, "distillation__file": scores_for(make(), tmp_path)}
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(make(**fields), tmp_path / "run")


def test_grades_beyond_one_are_an_error(tmp_path):
    file = scores_for(texts(), tmp_path)
    matrix = 3 * scipy.sparse.load_npz(file)
    scipy.sparse.save_npz(file, matrix)
    with pytest.raises(ValueError, match=r"row \d+ has .* it must be finite and in 0 .. 1"):
        train_and_evaluate(texts(distillation__name="scores", distillation__file=file), tmp_path / "run")


def test_faces_have_no_teacher(tmp_path):
    config = with_fields(
        tiny_face_config.get_config(), {"distillation__name": "scores", "distillation__file": "scores.npz"}
    )
    with pytest.raises(ValueError, match="margins on angles learn from labels alone"):
        train_and_evaluate(config, tmp_path / "run")


def test_grades_and_teachers_are_not_of_pictures_with_many_labels():
    settings = Settings.from_config(pictures(soft_labels=True))
    data = build_data(settings.data)
    task = SimpleNamespace(one_class=False, head=None)
    with pytest.raises(ValueError, match="where examples have many labels, not of pictures"):
        guided_feed._check(settings, data, task, build_distillation(settings.distillation))


def test_a_code_without_a_class_has_the_prior_of_none():
    codes = LabelCodes.placed([2, -1, 0, 1], 3)
    found = guided_feed.log_prior(np.array([50, 0, 5]), 55, codes)
    np.testing.assert_allclose(np.exp(found) * 55, [5, 1, 50, 1], rtol=1e-6)


def test_scores_of_the_datas_classes_by_code():
    """Class 1 of the data is not of the run, whose class 2 the data lacks; code 0 is retired, and code 2 is free."""
    numbering, codes = LabelCodes.placed([2, 0, -1], 3), LabelCodes.placed([2, 1, -1, 0], 3)
    scores = scipy.sparse.csr_matrix(np.array([[0.5, 0.25, 0.125], [0, 1, 0]], np.float32))
    found = guided_feed._by_code(scores, numbering, codes, LabelSpace(4, (4,), (0, 2)))
    assert found.has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), [[0, 0.5, 0, 0.125], [0, 0, 0, 0]])


def test_a_teacher_with_a_list_of_its_own_speaks_of_the_datas_classes(tmp_path):
    """The data calls a class otherwise now, and so has it in another place than the run."""
    data, run = tmp_path / "data", tmp_path / "run"
    extended.write(data, extended.OLD)
    train_and_evaluate(extended.config_of("ohe", data, total_steps=2, eval_every_steps=2), run)
    config = experiment.usable_config(run)
    write_scores(config, run, tmp_path / "before.npz", 10)
    class_files.change(run, lambda classes: classes.renamed("n01", "n99"))
    for split in ("train", "val"):
        labels = np.load(data / split / "labels.npy")
        np.save(data / split / "labels.npy", np.where(labels == "n01", "n99", labels))
    write_scores(config, run, tmp_path / "after.npz", 10)
    before, after = (scipy.sparse.load_npz(tmp_path / name).toarray() for name in ("before.npz", "after.npz"))
    np.testing.assert_allclose(after, np.roll(before, -1, axis=1), rtol=1e-5)

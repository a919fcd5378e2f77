"""Decisions of trained runs, from the held-out examples to answers; and all that is no decision."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.evaluation.calibration import Calibration
from mhe_jax.evaluation.hierarchy import Hierarchy
from mhe_jax.inference import figures as figures_module
from mhe_jax.inference.decide import decide
from mhe_jax.inference.deciding import AUTO, Deciding
from mhe_jax.inference.decision import FILE, PLOT, Decision, model_of, read_decision
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.figures import Figures
from mhe_jax.inference.predict import predict
from mhe_jax.inference.run import load
from mhe_jax.inference.scored import Scored
from mhe_jax.inference.teach import write_scores
from mhe_jax.train import class_files, experiment
from mhe_jax.train.classes import Classes
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_bag_config

WORDS = ("sea", "sky", "sun", "fog", "ice")


def documents(number, seed, several):
    """Texts of a few words and noise, each of which is mostly, and not always, one of the labels."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        some = rng.choice(WORDS, rng.integers(1, 4) if several else 1, replace=False)
        noise = rng.choice(["a", "b", "c", "d"], 4)
        labels = [word for word in some if not several or rng.random() < 0.8]
        yield {"text": " ".join([*some, *noise]), "labels": labels if several else labels[0]}


def write(folder, several, splits=("train", "valid", "test")):
    folder.mkdir()
    for seed, split in enumerate(splits):
        lines = documents(200 if split == "train" else 80, seed, several)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def trained(folder, several, splits=("train", "valid", "test"), **fields):
    write(folder / "data", several, splits)
    config = tiny_bag_config.get_config("" if several else "single", head="ohe")
    config.data.path = str(folder / "data")
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 30, 15, 15
    config.schedule.learning_rate = 0.05
    config.data.update(fields)
    train_and_evaluate(config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A run with many labels an example."""
    return trained(tmp_path_factory.mktemp("many"), several=True)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run with one class an example."""
    return trained(tmp_path_factory.mktemp("one"), several=False)


def decided(workdir, maximize="micro_f1", per="global", precision=None, calibrate="none"):
    return decide(experiment.usable_config(workdir), workdir, maximize, per, precision, calibrate)


def test_a_retired_class_has_no_part_in_calibrated_probabilities(one, tmp_path):
    shutil.copytree(one, tmp_path / "run")
    for name in ("sky", "ice"):
        class_files.change(tmp_path / "run", lambda classes, name=name: classes.without(name))
    (tmp_path / "data").mkdir()
    for path in (one.parent / "data").glob("*.jsonl"):
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["labels"] not in ("sky", "ice")]
        (tmp_path / "data" / path.name).write_text("\n".join(lines))
    config = experiment.usable_config(tmp_path / "run")
    config.data.path = str(tmp_path / "data")
    decide(config, tmp_path / "run", "micro_f1", "global", None, "temperature")
    run = load(tmp_path / "run")
    _, classes = experiment.read_workdir(tmp_path / "run")
    found = read_decision(tmp_path / "run", model_of(tmp_path / "run", run.step, classes))
    assert found.num_live == run.num_live == 3
    hot = dataclasses.replace(found, calibration=Calibration("temperature", 9.0))
    # Of float32 probabilities, which leave a little of 1, none goes to a class that cannot be.
    assert hot.calibrated(np.float32([[0.9, 0.09, 0.01 - 1e-7]])).sum() == pytest.approx(1)


@pytest.mark.parametrize(("per", "calibrate"), [("global", "temperature"), ("label", "isotonic")])
def test_a_decision_is_what_the_run_answers(many, tmp_path, per, calibrate):
    facts = decided(many, per=per, calibrate=calibrate)
    assert facts["examples"] == 80
    assert facts["ece_calibrated"] <= facts["ece"] + 1e-6
    assert (many / PLOT).stat().st_size > 0
    values = evaluate(experiment.usable_config(many), many)
    assert values["decided"]["micro_f1"] == pytest.approx(facts["micro_f1"])
    assert facts["micro_f1"] >= values["micro_f1"]
    assert {"mAP", "ece", "macro_f1", "decided"} <= values["test"].keys()
    assert values["decided"] != values["test"]["decided"]

    run = load(many)
    texts = [line["text"] for line in documents(9, 7, True)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    config = experiment.usable_config(many)
    predict(config, many, str(tmp_path / "texts.txt"), 3, tmp_path / "out.jsonl", threshold="auto")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    answers = run.predict(texts, top_k=3, threshold="auto")
    decision = read_decision(many, model_of(many, run.step, experiment.read_workdir(many)[1]))
    for line, answer, ranked in zip(lines, answers, run.predict(texts, top_k=5), strict=True):
        assert [found.id for found in answer] == line["ids"]
        np.testing.assert_allclose([found.score for found in answer], line["scores"], rtol=1e-4)
        scores = decision.calibration.of_labels(np.array([found.score for found in ranked]))
        wanted = [
            found.id
            for found, score in zip(ranked, scores, strict=True)
            if score >= decision.thresholds[decision.group_of_label[found.id]]
        ]
        assert line["ids"] == wanted[:3]
        assert run.decided(ranked)[:3] == answer
    assert any(len(line["ids"]) < 3 for line in lines)


def test_a_number_is_the_least_probability(many):
    run = load(many)
    texts = [line["text"] for line in documents(9, 7, True)]
    for kept, ranked in zip(run.predict(texts, 5, threshold=0.4), run.predict(texts, 5), strict=True):
        assert kept == [found for found in ranked if found.score >= 0.4]
    with pytest.raises(ValueError, match="threshold is 'often'; it must be 'auto', or a probability from 0 to 1"):
        run.predict(texts, threshold="often")


def test_precision_is_kept_to(many):
    assert decided(many, precision=0.75, calibrate="isotonic")["precision"] >= 0.75


def test_of_one_class_below_the_threshold_there_is_none(one, tmp_path):
    facts = decided(one, precision=0.9, calibrate="temperature")
    assert facts["precision"] >= 0.9 or facts["coverage"] == 0
    values = evaluate(experiment.usable_config(one), one)
    assert values["decided"]["coverage"] == pytest.approx(facts["coverage"])
    assert {"top1", "top5", "macro_top1", "ece"} <= values.keys()
    assert "P@1" not in values
    answers = load(one).predict(["", "zebra", "sea sea sea"], threshold="auto")
    assert all(len(answer) <= 1 for answer in answers)
    (tmp_path / "tree.tsv").write_text(
        "".join(f"{word}\t{'wet' if word in 'sea fog ice' else 'dry'}\n" for word in WORDS)
    )
    config = experiment.usable_config(one)
    (tmp_path / "texts.txt").write_text("sea\n\n")
    predict(config, one, str(tmp_path / "texts.txt"), 5, tmp_path / "out", None, 0.5, tmp_path / "tree.tsv")
    line = json.loads((tmp_path / "out").read_text().splitlines()[0])
    assert line["node"] in {"", "wet", "dry", *WORDS}
    assert 0 < line["node_score"] <= 1
    assert evaluate(config, one, None, tmp_path / "tree.tsv", "auto")["hierarchy"]["stopped"]
    levels = evaluate(config, one, None, tmp_path / "tree.tsv", 0.5)["hierarchy"]
    assert levels["level_accuracy"][1] == pytest.approx(values["top1"])
    assert levels["level_accuracy"][0] >= levels["level_accuracy"][1]
    assert levels["stopped"]["hP"] >= levels["hP"] - 0.05
    (tmp_path / "tree.tsv").write_text("sea\twet\n")
    with pytest.raises(ValueError, match="tree.tsv has no line for class"):
        evaluate(config, one, None, tmp_path / "tree.tsv")
    with pytest.raises(ValueError, match="--threshold stops at groups of a taxonomy, but there is none"):
        evaluate(config, one, None, None, 0.5)
    (one / FILE).unlink()
    (tmp_path / "tree.tsv").write_text("".join(f"{word}\tweather\n" for word in WORDS))
    with pytest.raises(ValueError, match="--threshold=auto: the run has no decision"):
        evaluate(config, one, None, tmp_path / "tree.tsv", "auto")
    with pytest.raises(ValueError, match="--taxonomy: --threshold is missing"):
        predict(config, one, "sea", 1, None, None, None, tmp_path / "tree.tsv")


def test_of_very_many_examples_the_best_class_is_measured(one, tmp_path, monkeypatch):
    decided(one, calibrate="temperature")
    config, tree = experiment.usable_config(one), tmp_path / "tree.tsv"
    tree.write_text("".join(f"{word}\t{'wet' if word in 'sea fog ice' else 'dry'}\n" for word in WORDS))
    values = evaluate(config, one, None, tree, "auto")
    monkeypatch.setattr(figures_module, "_MOST", 100)
    with pytest.warns(UserWarning, match=r"^decided and hierarchy.stopped of 80 examples are left out: they need more"):
        few = evaluate(config, one, None, tree, "auto")
    assert values["hierarchy"].pop("stopped")
    assert values.pop("decided")
    assert {"decided", "stopped"}.isdisjoint({*few, *few["hierarchy"], *few["test"]})
    for name in ("ece", "macro_top1", "top1"):
        assert few[name] == pytest.approx(values[name])
    assert few["hierarchy"] == values["hierarchy"]
    monkeypatch.setattr(figures_module, "_MOST", 10)
    with pytest.warns(UserWarning, match="all figures but the metrics of the task of 80 examples are left out"):
        assert "ece" not in evaluate(config, one)


def test_many_labels_stop_at_no_group(many, tmp_path):
    (tmp_path / "tree.tsv").write_text("".join(f"{word}\tweather\n" for word in WORDS))
    with pytest.raises(ValueError, match="--threshold: answers stop at groups where an example has one class"):
        evaluate(experiment.usable_config(many), many, None, tmp_path / "tree.tsv", 0.5)


def test_a_tree_beside_the_data_is_found(many):
    tree = many.parent / "data" / "taxonomy.tsv"
    tree.write_text("".join(f"{word}\tweather\n" for word in WORDS))
    found = evaluate(experiment.usable_config(many), many)["hierarchy"]
    assert 0 < found["hF"] <= 1
    assert "level_accuracy" not in found
    with pytest.raises(ValueError, match="answers stop at groups where an example has one class"):
        predict(experiment.usable_config(many), many, "sea", 1, None, None, 0.5, tree)
    tree.unlink()


def test_a_decision_of_another_model_or_a_damaged_one_is_refused(many, one, tmp_path):
    decided(many)
    run = shutil.copytree(one, tmp_path / "run")
    shutil.copy(many / FILE, run / FILE)
    with pytest.raises(ValueError, match="was chosen for another checkpoint than the run has now: `mhe decide"):
        load(run).predict("sea", threshold="auto")
    with pytest.raises(ValueError, match="was chosen for another checkpoint"):
        evaluate(experiment.usable_config(run), run)
    model = model_of(many, load(many).step, experiment.read_workdir(many)[1])
    with pytest.raises(ValueError, match="was chosen for other classes than the run has now"):
        read_decision(many, {**model, "classes": "others"})
    content = bytearray((many / FILE).read_bytes())
    content[-1] ^= 1
    (run / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is not what was written: `mhe decide .*` makes it again"):
        read_decision(run, model)
    (run / FILE).write_bytes(content[:40])
    with pytest.raises(ValueError, match="is damaged"):
        read_decision(run, model)
    (run / FILE).unlink()
    with pytest.raises(ValueError, match="decision.safetensors does not exist: `mhe decide .*` makes it"):
        load(run).predict("sea", threshold="auto")


def test_what_is_no_choice_for_a_run(many, one):
    for options, message in (
        ({"maximize": "luck"}, "--maximize is 'luck'; it must be one of micro_f1"),
        ({"per": "day"}, "--per is 'day'; it must be one of global, group, label"),
        ({"calibrate": "hope"}, "--calibrate is 'hope'; it must be one of none, temperature, isotonic"),
        ({"precision": 1.5}, "--precision is 1.5; it must be above 0 and at most 1"),
        ({"per": "group"}, "the classes of this run have one digit, and so no groups"),
    ):
        with pytest.raises(ValueError, match=message):
            decided(many, **options)
    with pytest.raises(ValueError, match="--per=label is for many labels an example"):
        decided(one, per="label")


def test_without_held_out_examples_there_is_no_threshold(tmp_path):
    run = trained(tmp_path, several=True, splits=("train", "test"))
    with pytest.raises(ValueError, match=r"has no held-out examples to choose thresholds on, .*valid_examples=0.1"):
        decided(run)


def test_a_decision_is_of_the_classes_that_are_left(many, tmp_path):
    run = shutil.copytree(many, tmp_path / "run")
    decided(run)
    class_files.change(run, lambda classes: classes.without("ice"))
    with pytest.raises(ValueError, match="was chosen for other classes than the run has now"):
        load(run).predict("sea", 4, threshold="auto")
    decided(run)
    (tmp_path / "texts.txt").write_text("".join(f"{line['text']}\n" for line in documents(9, 7, True)))
    (tmp_path / "names.txt").write_text("".join(f"{word}\tthe {word}\n" for word in WORDS))
    config = experiment.usable_config(run)
    predict(config, run, str(tmp_path / "texts.txt"), 4, tmp_path / "out", tmp_path / "names.txt", "auto")
    names = [name for line in (tmp_path / "out").read_text().splitlines() for name in json.loads(line)["names"]]
    assert "the sea" in names
    assert set(names) <= {f"the {word}" for word in WORDS if word != "ice"}
    with pytest.raises(ValueError, match="--top_k is 5; it must be between 1 and the 4 classes"):
        write_scores(config, run, tmp_path / "scores.npz", 5)


def test_a_decision_of_one_class_tells_how_many_it_needs(one):
    decided(one, calibrate="temperature")
    run = load(one)
    assert run.num_decided == 5
    assert [run.decided(ranked) for ranked in run.predict(["sea", "fog"])] == run.predict(["sea", "fog"], 1, "auto")
    kept = (one / FILE).read_bytes()
    (one / FILE).unlink()
    run = load(one)
    assert run.num_decided == 0
    # One that comes later would need more classes than were asked for.
    (one / FILE).write_bytes(kept)
    with pytest.raises(ValueError, match="does not exist: `mhe decide"):
        run.decided(run.predict(["sea"])[0])


def test_weights_are_not_read_where_there_is_no_decision(monkeypatch, tmp_path):
    monkeypatch.setattr("mhe_jax.inference.deciding.model_of", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ValueError, match="does not exist: `mhe decide"):
        Deciding(SimpleNamespace(workdir=tmp_path, num_live=2), AUTO)


def test_an_output_is_not_emptied_before_there_are_answers(many, tmp_path):
    config, texts, answers = experiment.usable_config(many), tmp_path / "texts.txt", tmp_path / "answers.jsonl"
    texts.write_text("sea\n")
    answers.write_text("of yesterday\n")
    with pytest.raises(ValueError, match=r"--output=.*texts.txt is the input, which would be lost"):
        predict(config, many, str(texts), 3, texts)
    assert texts.read_text() == "sea\n"
    with pytest.raises(ValueError, match="there is no file"):
        predict(config, many, str(tmp_path / "typo.txt"), 3, answers)
    texts.with_suffix(".jsonl").write_text("no object\n")
    with pytest.raises(ValueError, match="1 of 1 inputs cannot be read"):
        predict(config, many, str(texts.with_suffix(".jsonl")), 3, answers)
    assert answers.read_text() == "of yesterday\n"
    predict(config, many, str(texts), 3, answers)
    assert json.loads(answers.read_text())["input"]


def test_a_number_stops_at_probabilities_as_they_are():
    names = ("a", "b")
    tree = Hierarchy(names, np.array([[0], [1]], np.int32), scipy.sparse.eye_array(2, dtype=bool, format="csr"))
    decision = Decision(Calibration("temperature", 0.2), np.ones(1), np.zeros(2, int), True, 2, {}, {})
    found = Scored(np.array([[0, 1]]), np.array([[0.6, 0.4]]), scipy.sparse.csr_matrix([[True, False]]))
    figures = Figures(SimpleNamespace(one_class=True), Classes(2, names), decision, tree, 0.7)
    assert figures.of(found)["hierarchy"]["stopped"]["nowhere"] == 1
    assert dataclasses.replace(figures, calibrated_stop=True).of(found)["hierarchy"]["stopped"]["nowhere"] == 0

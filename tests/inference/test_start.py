"""What a start to answer imports, and when standard input is answered: in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_bag_config, tiny_config, tiny_features_config, tiny_text_config
from tests.data.features.rows import WIDTH, write_features

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
# None of them is needed to predict, and each takes long to import.
SLOW = ("sklearn", "transformers", "optax", "matplotlib", "tensorflow", "tensorflow_datasets", "torch", "pandas")
WORDS = ("sea", "law", "act", "tax", "fish", "port", "ship")


def documents(folder):
    """Texts of two words each, which are their labels, for a tokenizer or a bag of words."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("test", 16)):
        chosen = [rng.choice(WORDS, 2, replace=False).tolist() for _ in range(count)]
        lines = [json.dumps({"text": " ".join(words), "labels": words}) for words in chosen]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    train_word_pieces([" ".join(WORDS)] * 2, 60).save_pretrained(str(folder / "tokenizer"))
    return folder


def pictures(folder):
    return tiny_config.get_config()


def features(folder):
    write_features(folder / "features")
    config = tiny_features_config.get_config(head="ohe")
    config.data.path = str(folder / "features")
    return config


def words(folder):
    config = tiny_bag_config.get_config(head="ohe")
    config.data.path = str(documents(folder / "documents"))
    return config


def tokens(folder):
    config = tiny_text_config.get_config()
    path = documents(folder / "documents")
    config.head = heads.xmc_ohe()
    config.data = {"name": "xmc", "path": str(path), "tokenizer": str(path / "tokenizer"), "max_length": 16}
    config.data.update(bucket_lengths=(), cache_dir=str(folder / "cache"), num_classes=0)
    return config


KINDS = {"pictures": pictures, "features": features, "words": words, "tokens": tokens}
ASKED = {
    "pictures": "np.zeros((1, 8, 8, 1), np.uint8)",
    "features": f"np.zeros((1, {WIDTH}), np.float32)",
    "words": "['sea law']",
    "tokens": "['sea law']",
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    """The kind of a run, and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    config = KINDS[request.param](folder)
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 1, 0, 1
    train_and_evaluate(config, folder / "run")
    return request.param, folder / "run"


def alone(code):
    """Runs code in a process of its own, and returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_prediction_imports_nothing_that_it_does_not_need(run):
    kind, workdir = run
    found = alone(
        "import sys, numpy as np, mhe_jax\n"
        f"(found,) = mhe_jax.load({str(workdir)!r}).predict({ASKED[kind]}, top_k=2)\n"
        "assert len(found) == 2\n"
        f"print([name for name in {SLOW} if name in sys.modules])\n"
    )
    assert found == "[]\n"


def test_the_command_imports_nothing_that_it_does_not_need():
    """But for what a mode imports when it is asked for."""
    found = alone(
        "import sys, mhe_jax.cli.run, mhe_jax.inference.predict, mhe_jax.train.left_to_data, mhe_jax.targets.target\n"
        f"print([name for name in (*{SLOW}, 'mhe_jax.train.loop', 'mhe_jax.train.sections') if name in sys.modules])\n"
    )
    assert found == "[]\n"


@pytest.mark.parametrize("run", ["words", "tokens"], indirect=True)
def test_a_line_is_answered_before_the_next_one_is_there(run):
    """A pipe that stays open: a program, or somebody who types, waits for each answer."""
    _, workdir = run
    command = [sys.executable, "-m", "mhe_jax", "predict", f"--workdir={workdir}", "--input=-", "--top_k=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for text in ("sea law", "", "tax"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["input"] == text
        process.stdin.write("act\nfish\nport")
        process.stdin.close()
        assert [json.loads(line)["input"] for line in process.stdout] == ["act", "fish", "port"]
    assert process.returncode == 0


@pytest.mark.parametrize("run", ["words"], indirect=True)
def test_more_classes_than_there_are_is_told_before_the_weights_are_read(run):
    _, workdir = run
    (workdir / "checkpoints").rename(workdir / "elsewhere")
    try:
        message = alone(
            "import pathlib\n"
            "from mhe_jax.inference.predict import predict\n"
            "from mhe_jax.train import experiment\n"
            f"workdir = pathlib.Path({str(workdir)!r})\n"
            "try: predict(experiment.usable_config(workdir), workdir, 'sea', 8)\n"
            "except ValueError as error: print(error)\n"
        )
    finally:
        (workdir / "elsewhere").rename(workdir / "checkpoints")
    assert message == "--top_k is 8; it must be between 1 and the 7 classes\n"

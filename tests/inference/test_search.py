"""`mhe search` on a run of two steps, against the cosines of its embeddings."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import mhe_jax
from mhe_jax.inference.search import search
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_face_config
from tests.data.images.test_folder import save


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    config = tiny_face_config.get_config()
    config.head.sub_centers = 2
    config.total_steps, config.eval_every_steps = 2, 0
    train_and_evaluate(config, folder)
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two pictures of each of three people."""
    folder = tmp_path_factory.mktemp("people")
    for number in range(6):
        save(folder / f"person {number // 2}" / f"{number}.png", number)
    return folder


def test_people_are_named_by_their_most_similar_picture(workdir, people, capsys):
    run = mhe_jax.load(workdir)
    files = sorted(people.glob("*/*.png"))
    asked = people / "person 1" / "3.png"
    cosines = run.embed([asked])[0] @ run.embed(files).T
    of_people = cosines.reshape(3, 2).max(axis=1)
    (found,) = search(workdir, people, str(asked), top_k=3, threshold=-1.0)
    assert found["input"] == str(asked)
    best = np.argsort(-of_people)
    assert [person["name"] for person in found["people"]] == [f"person {number}" for number in best]
    np.testing.assert_allclose([person["similarity"] for person in found["people"]], of_people[best], atol=1e-5)
    assert found["people"][0] == {"name": "person 1", "similarity": 1.0}
    (found,) = search(workdir, people, str(asked), top_k=3, threshold=1.1)
    assert found["people"] == []
    assert len(list(search(workdir, people, str(people), top_k=1))) == 6  # with the run's own threshold


def test_the_command_line_answers_the_others_and_names_what_it_cannot_read(workdir, people, tmp_path):
    name = os.fsdecode(b"\xff0.png")  # no UTF-8
    save(tmp_path / "asked" / name, 4)
    (tmp_path / "asked" / "1.png").write_bytes(b"no picture")

    def mhe(*arguments):
        command = [sys.executable, "main.py", "search", *map(str, arguments)]
        return subprocess.run(
            command,
            env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            text=True,
            check=False,
        )

    asked = mhe(tmp_path / "asked", f"--workdir={workdir}", f"--gallery={people}", "--top_k=1", "--threshold=-1")
    assert asked.returncode == 2
    found = json.loads(asked.stdout)
    assert found["people"] == [{"name": "person 2", "similarity": 1.0}]
    assert found["input"].endswith(name)
    assert "asked/1.png: cannot be decoded as an image" in asked.stderr
    assert "1 of 2 inputs cannot be read" in asked.stderr
    asked = mhe(f"--workdir={workdir}")
    assert asked.returncode == 2
    assert asked.stderr == "error: a picture or a folder, --workdir=RUN and --gallery=FOLDER are needed\n"


def test_mistakes_are_named(workdir, people, tmp_path):
    with pytest.raises(ValueError, match=r"--top_k is 0; it must be at least 1"):
        next(search(workdir, people, str(people), top_k=0))
    with pytest.raises(ValueError, match=r"the gallery .*nothing is no folder"):
        next(search(workdir, tmp_path / "nothing", str(people), top_k=1))
    config = tiny_config.get_config()
    config.total_steps = 1
    train_and_evaluate(config, tmp_path / "pictures")
    with pytest.raises(ValueError, match=r"pictures is a run on 'synthetic', whose features are no embeddings"):
        next(search(tmp_path / "pictures", people, str(people), top_k=1))

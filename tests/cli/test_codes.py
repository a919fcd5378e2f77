"""`mhe codes`: codes from files and from a run, and one line for each mistake."""

import numpy as np
import pytest

from mhe_jax.codes.files import read_codes
from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config
from tests.codes.test_clustering import planted
from tests.command_line import mhe


def codes(*arguments):
    return mhe("codes", *arguments)


def test_examples_and_their_classes_become_codes(tmp_path):
    """5 clusters of 4 classes of 6 examples, and a class that has none."""
    rng = np.random.default_rng(0)
    vectors, cluster = planted(5, 4)
    labels = rng.permutation(np.repeat(np.arange(20), 6))
    np.save(tmp_path / "f.npy", vectors[labels] + 0.01 * rng.normal(size=(120, 8)))
    np.save(tmp_path / "l.npy", labels)
    files = [f"--features={tmp_path / 'f.npy'}", f"--labels={tmp_path / 'l.npy'}"]
    done = codes(*files, "--head_sizes=5x5", "--num_classes=21", f"--output={tmp_path / 'c.npy'}")
    assert done.returncode == 0, done.stderr
    assert "21 classes as 5x5, 1 of them without examples" in done.stdout
    found = read_codes(tmp_path / "c.npy", 21)
    for group in range(4):
        members = found.id_of_code[5 * group : 5 * group + 5]
        values, counts = np.unique(cluster[members[members < 20]], return_counts=True)
        assert counts.max() >= 3, (members, values)


@pytest.mark.slow
def test_a_run_becomes_codes(tmp_path):
    config = tiny_config.get_config()
    config.head, config.total_steps = heads.ohe(), 2
    train_and_evaluate(config, tmp_path / "run")
    done = codes(f"--workdir={tmp_path / 'run'}", "--head_sizes=4x5", f"--output={tmp_path / 'c.npy'}")
    assert done.returncode == 0, done.stderr
    assert read_codes(tmp_path / "c.npy", 19).num_classes == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --workdir and --features is needed"),
        (("--features=F",), "--head_sizes is missing"),
        (("--features=F", "--head_sizes=2y2"), "--head_sizes is 2y2; it must be digits such as 41x40"),
        (("--features=F", "--head_sizes=4"), "--head_sizes is 4: one digit is the class itself"),
        (("--features=F", "--head_sizes=2x1"), "hold 2 codes but num_classes is 4"),
        (("--features=F", "--labels=L", "--head_sizes=2x2"), "f.npy has 4 rows, but"),
        (("--features=L", "--head_sizes=2x2"), "l.npy is int64 [3]; it must be float [N, D]"),
        (("--features=N", "--head_sizes=2x2"), "the vector of class 2 is not finite"),
        (("--features=Z", "--head_sizes=2x2"), "z.npz is no array of numbers, but an archive of several"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    paths = {"F": "f.npy", "L": "l.npy", "N": "nan.npy", "Z": "z.npz"}
    np.save(tmp_path / "f.npy", np.ones((4, 2)))
    np.save(tmp_path / "l.npy", np.arange(3))
    np.save(tmp_path / "nan.npy", np.array([[1, 2], [3, 4], [np.nan, 5], [6, 7]]))
    np.savez(tmp_path / "z.npz", a=np.ones((4, 2)))
    given = []
    for argument in arguments:
        flag, _, value = argument.partition("=")
        given.append(f"{flag}={tmp_path / paths[value] if value in paths else value}")
    done = codes(*given, f"--output={tmp_path / 'c.npy'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "c.npy").exists()

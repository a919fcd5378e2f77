"""`mhe classes` and `mhe extend`: what they print and leave, and one line for each mistake."""

import json
import shutil

import pytest

from mhe_jax.train.loop import train_and_evaluate
from tests.command_line import mhe
from tests.train.extended import NEW, OLD, config_of, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on the old classes, beside data with new ones."""
    root = tmp_path_factory.mktemp("classes")
    write(root / "old", OLD)
    write(root / "new", (*OLD, *NEW))
    train_and_evaluate(config_of("mhs", root / "old", total_steps=2), root / "run")
    return root / "run"


def test_classes_are_listed_renamed_and_retired_and_a_run_extended(run, tmp_path):
    """Several starts of the whole command, in the order in which they would be given."""
    workdir, new = tmp_path / "run", tmp_path / "new"
    shutil.copytree(run, workdir)
    assert mhe("classes", workdir, "list").stdout.splitlines()[:2] == ["0\tn01\ttrained\t0.0", "1\tn02\ttrained\t0.1"]
    for arguments in (("rename", "n02", "two"), ("retire", "n01")):
        done = mhe("classes", workdir, *arguments)
        assert done.returncode == 0, done.stderr
    listed = mhe("classes", workdir, "list").stdout.splitlines()
    assert listed[:3] == ["0\tn01\tretired\t0.0", "1\ttwo\ttrained\t0.1\tn02", "2\tn03\ttrained\t0.2"]
    shutil.copytree(run.parent / "new", tmp_path / "data")
    write(tmp_path / "data", tuple(name for name in (*OLD, *NEW) if name != "n01"))
    done = mhe("extend", workdir, f"--data={tmp_path / 'data'}", f"--out={new}", "--epochs=0")
    assert done.returncode == 0, done.stderr
    listed = [line.split("\t") for line in mhe("classes", new, "list").stdout.splitlines()]
    assert [row[2] for row in listed] == ["retired"] + ["trained"] * 9 + ["untrained"] * 4
    digits = [row[3] for row in listed[1:]]
    assert digits[:2] == ["0.1", "0.2"]
    assert len(set(digits)) == len(digits) == 13
    done = mhe("extend", workdir, f"--data={tmp_path / 'data'}", f"--out={new}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.index("\n{") :])["num_classes"] >= 13
    lines = mhe("predict", f"--workdir={new}", f"--input={tmp_path / 'data' / 'val' / 'features.npy'}", "--top_k=13")
    names = {name for line in lines.stdout.splitlines() for name in json.loads(line)["names"]}
    assert names == {*OLD, *NEW, "two"} - {"n01", "n02"}
    assert "top1" in mhe("eval", f"--workdir={new}").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("classes", "RUN"), "mhe classes RUN list | rename OLD NEW | retire NAME"),
        (("classes", "RUN", "rename", "n01"), "not '"),
        (("classes", "nowhere", "list"), "workdir nowhere holds no run"),
        (("classes", "RUN", "retire", "x"), "there is no class 'x'"),
        (("classes", "RUN", "rename", "n01", "n02"), "two classes of one name"),
        (("classes", "RUN", "rename", "n01", "a\nb"), "is no name of a class: it must be a line of text without tabs"),
        (("classes", "RUN", "rename", "n01", "a\tb"), "is no name of a class: it must be a line of text without tabs"),
        (("extend", "RUN"), "--data"),
        (("extend", "--data=OLD"), "one run is needed"),
        (("extend", "RUN", "--data=OLD", "--out=RUN"), "the run itself, which stays as it is"),
        (("extend", "RUN", "--data=OLD", "--epochs=-1"), "--epochs is -1.0; it must be 0 or more"),
        (("extend", "RUN", "--data=nowhere"), "--data: there is no file or folder nowhere"),
        (("extend", "RUN", "--data=no-{0..2}.tar"), "no-{0..2}.tar"),
        (("extend", "nowhere", "--data=OLD"), "workdir nowhere holds no run"),
        (("extend", "RUN", "--data=OLD"), "has no class that"),
    ],
)
def test_a_mistake_is_one_line(run, arguments, message):
    paths = {"RUN": str(run), "OLD": str(run.parent / "old")}
    given = [_replaced(argument, paths) for argument in arguments]
    done = mhe(*given)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.startswith("error: ") or "error: " in done.stderr.splitlines()[-1]
    assert not run.with_name("run-extended").joinpath("checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--out=RUN/config.json/new",), 1, "config.json/new cannot be written"),
        (("--out=OUT", "--learning_rate=1e38"), 2, "error: the loss is "),
    ],
)
def test_an_extension_ends_with_the_codes_of_a_training(run, tmp_path, arguments, status, message):
    paths = {"RUN": str(run), "OUT": str(tmp_path / "out")}
    given = [_replaced(argument, paths) for argument in arguments]
    done = mhe("extend", run, f"--data={run.parent / 'new'}", *given)
    assert (done.returncode, done.stderr.count("error: ")) == (status, 1), done.stderr
    assert message in done.stderr.splitlines()[-1]


def _replaced(argument, paths):
    for name, path in paths.items():
        argument = argument.replace(name, path)
    return argument


def test_fewer_classes_than_a_command_asks_for_by_default_are_all_of_them(run, tmp_path):
    done = mhe("teach", f"--workdir={run}", f"--output={tmp_path / 'scores.npz'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"up to {len(OLD)} of {len(OLD)} classes each\n")
    done = mhe("teach", f"--workdir={run}", f"--output={tmp_path / 'scores.npz'}", "--top_k=20")
    assert done.returncode == 2
    assert f"--top_k is 20; it must be between 1 and the {len(OLD)} classes" in done.stderr

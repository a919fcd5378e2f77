"""The formulas of docs/scaling.md against compiled steps, and the command that makes its tables."""

import json

import jax
import pytest

from mhe_jax.cli import scaling as command
from mhe_jax.labels import LabelSpace
from mhe_jax.recipes.files import load_config
from mhe_jax.settings import Settings
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting import scaling
from mhe_jax.train.reporting.programs import build_model
from mhe_jax.train.state import create_state

CONFIG = "configs/scaling.py"
# As docs/scaling.md names them; a row of a table takes 4 bytes a number.
C, B, D, d, c = 200_003, 64, 512, 2, 4
N, h, K, candidates, rate = d * c, 256, 4, 10, 0.1
groups, members = LabelSpace.balanced(C, 2).head_sizes
rows, held = -(-C // c), -(-groups // c)
backbone = 9 * 8 + 128 * D + 2 * (8 + D)
slots = 1  # of SGD with momentum


def f(devices):
    """The share of an array that a device lacks of its neighbours'."""
    return (devices - 1) / devices


EXPECTED = {  # state, sent
    "images,ohe": (
        4 * (1 + slots) * rows * (D + 1),
        2 * f(c) * 4 * B / d * D + 2 * f(d) * 4 * rows * (D + 1),
    ),
    "images,mhp": (
        4 * (1 + slots) * (groups + members) * (D + 1),
        2 * f(N) * 4 * (groups + members) * (D + 1),
    ),
    "images,mhc": (
        4 * (1 + slots) * (held * members * h + (groups + h) * (D + 1)),
        2 * f(c) * 4 * B / d * (h + candidates * members)
        + 2 * f(d) * 4 * held * members * h
        + 2 * f(N) * 4 * (groups + h) * (D + 1),
    ),
    "images,mhs": (
        4 * (1 + slots) * held * members * D,
        2 * f(c) * 4 * B / d * (D + K * members) + 2 * f(d) * 4 * held * members * D,
    ),
    "faces,partial": (
        4 * (1 + slots) * rows * D,
        2 * f(c) * 4 * B / d * D + 2 * f(d) * 4 * rate * rows * D,
    ),
}


@pytest.mark.parametrize("arg", EXPECTED)
def test_the_formulas_give_what_is_compiled(arg):
    (row,) = scaling.measure([f"{CONFIG}:{arg}"], f"{d}x{c}", [C], B)
    state, sent = EXPECTED[arg]
    assert row["state"] == pytest.approx(state + 4 * (1 + slots) * backbone, rel=0.01)
    assert row["sent"] == pytest.approx(sent + 2 * f(N) * 4 * backbone, rel=0.02)


def test_the_state_takes_on_a_device_what_was_foretold():
    (row,) = scaling.measure([f"{CONFIG}:images,ohe"], f"{d}x{c}", [20_011], B)
    config = load_config(f"{CONFIG}:images,ohe")
    config.data.num_classes = 20_011
    config.mesh.update(data=d, classes=c)
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh):
        model = build_model(settings, settings.head, mesh)
        state = create_state(model.task, model.optimizer, model.average_rule, model.state, seed=0)
    on_first = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)]
    batch = B // N * (8 * 8 + 4 + 4)  # pictures, labels, weights
    assert row["state"] == pytest.approx(sum(on_first) + batch, abs=1024)


def test_the_command_compiles_for_more_devices_than_there_are(capsys):
    arguments = [f"--config={CONFIG}:images,mhp", "--classes", "1000", "5000", "--batch=64"]
    command.main(["mhe scaling", *arguments, "--meshes", "4x16", "1x1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| config | classes | 4x16 | 1x1 |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| `images,mhp`", "1,000"], ["| `images,mhp`", "5,000"]]
    assert all(line.split(" | ")[-1].endswith("; 0.0 |") for line in lines[2:])  # alone, a device sends nothing


def test_a_missing_config_is_named():
    with pytest.raises(ValueError, match="there is no config file configs/none.py, and none of that name is shipped"):
        load_config("configs/none.py:a")


def test_rows_are_lines_of_json(capsys):
    command.main(
        [
            "mhe scaling",
            f"--config={CONFIG}:images,mhp",
            "--classes",
            "1000",
            "--meshes",
            f"{d}x{c}",
            "--batch=64",
            "--json",
        ]
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["mesh"] == "2x4"

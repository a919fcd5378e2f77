"""Programs for accelerators that are not here, compiled by their own compilers. Needs the extra `aot`."""

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("jax_cuda12_plugin", "libtpu")),
    reason="needs the extra aot",
)
# A step that is small in everything but its classifier.
SMALL = ("--config=scaling:images,mhc", "--config.data.num_classes=100000", "--config.global_batch_size=64")
LARGE = ("--config=scaling:images,ohe", "--config.data.num_classes=50000000", "--heads=own")


def described(tmp_path, *flags, config=SMALL):
    """In a process of its own: this one's compilers are those of the CPU."""
    output = tmp_path / "described.json"
    command = [sys.executable, "-m", "mhe_jax", "describe", *config, f"--output={output}", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(output.read_text())


@pytest.mark.parametrize(
    ("target", "memory", "devices"),
    [("h100:1", 84942979072, 1), ("h100:2x8", 84942979072, 16), ("a100-80gb:8", 85100068864, 8)],
)
def test_describe_for_gpus(target, memory, devices, tmp_path):
    text, data = described(tmp_path, f"--target={target}")
    assert data["target"] == target
    assert data["device_memory"] == memory
    assert data["mesh"] == {"data": devices, "class": 1}
    assert [one["head"] for one in data["heads"]] == ["ohe", "mhp", "mhc", "mhs"]
    for one in data["heads"]:
        assert one["fits"]
        assert one["train"]["arguments"] > 4 * one["head_parameters"]
        assert (one["train"]["sent"] > 0) == (devices > 1)
    assert "<- this config" in text


def test_describe_for_tpus_has_estimated_seconds(tmp_path):
    _, data = described(tmp_path, "--target=tpu-v6e:4", "--config.mesh.data=1", "--config.mesh.classes=4")
    assert data["mesh"] == {"data": 1, "class": 4}
    seconds = {one["head"]: one["seconds"] for one in data["heads"]}
    assert 0 < seconds["ohe"] < 1
    # Of some programs the compiler has no estimate.
    assert all(found is None or 0 < found < 1 for found in seconds.values())
    for one in data["heads"]:
        assert set(one["train"]["sent_by_axis"]) <= {"class", "data+class"}


def test_what_does_not_fit_a_tpu_has_no_program_and_is_described(tmp_path):
    """The compiler of TPUs refuses what that of GPUs compiles."""
    text, data = described(tmp_path, "--target=tpu-v6e:1", config=LARGE)
    (head,) = data["heads"]
    assert not head["fits"]
    table = 4 * 513 * 50_000_000
    assert 2 * table < head["train"]["arguments"] < 2.01 * table  # weights and momentum
    assert 0.99 * table < head["train"]["temporaries"] < 1.1 * table  # the gradient
    assert head["train"]["sent"] is None
    assert "does not fit" in text


def test_a_table_of_classes_and_meshes_for_gpus():
    command = [
        sys.executable,
        "-m",
        "mhe_jax",
        "scaling",
        "--config=scaling:images,ohe,owned",
        "--target=h100",
        "--json",
    ]
    command += ["--classes=1000000", "--meshes", "1x1", "2x8", "--batch=64", "--dtype=bfloat16"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, sixteen = (json.loads(line) for line in done.stdout.splitlines())
    table = 2 * 512 * 1_000_000
    assert table < one["state"] < 1.01 * table
    assert table / 8 < sixteen["state"] < 1.1 * table / 8
    assert one["sent"] == 0 < sixteen["sent"]


def test_a_mesh_that_does_not_divide_the_target_is_named(tmp_path):
    command = [sys.executable, "-m", "mhe_jax", "describe", *SMALL, "--target=h100:8", "--config.mesh.classes=3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "classes=3 devices, but there are 8: the product must be the number of devices" in done.stderr


def test_every_shipped_description_is_taken_by_the_compiler():
    program = "from mhe_jax.targets import target; print([target.find(name).devices[0] for name in target.names()])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""The command line, in processes of its own; those that no signal reaches are forked, see tests/command_line.py."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from mhe_jax.train.reporting import writers
from tests import command_line

ROOT = pathlib.Path(__file__).parents[2]


def with_config(workdir, *flags, own_config=False):
    """The flags of a command, with the tiny config unless one is named or the workdir's own is meant."""
    given = own_config or any(flag.startswith("--config=") for flag in flags)
    config = [] if given else ["--config=tests/tiny_config.py"]
    return [*config, f"--workdir={workdir}", *flags]


def start(workdir, *flags):
    """A process that can be sent signals."""
    command = [sys.executable, "main.py", *with_config(workdir, *flags)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def run():
    def run(workdir, *flags, check=True, own_config=False):
        done = command_line.main(*with_config(workdir, *flags, own_config=own_config))
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    run(workdir)
    return workdir


def test_importing_the_package_touches_no_device():
    code = (
        "import pkgutil, importlib, mhe_jax\n"
        "for m in pkgutil.walk_packages(mhe_jax.__path__, 'mhe_jax.'): importlib.import_module(m.name)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_eval_reads_the_workdirs_own_config(run, trained):
    done = run(trained, "--mode=eval", own_config=True)
    values = json.loads(done.stdout.splitlines()[-1])
    result = json.loads((trained / "result.json").read_text())
    assert values["top1"] == pytest.approx(result["best"]["top1"])
    assert json.loads((trained / "eval.json").read_text())["versions"]["jax"]


def test_predict_a_folder_and_an_array(run, trained, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        picture = PIL.Image.fromarray(rng.integers(256, size=(20, 12, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{i}.png")
    np.save(tmp_path / "images.npy", rng.integers(256, size=(70, 8, 8, 1), dtype=np.uint8))
    for source, count in ((tmp_path, 3), (tmp_path / "images.npy", 70)):
        output = tmp_path / "out.jsonl"
        run(trained, "--mode=predict", f"--input={source}", f"--output={output}", "--top_k=4")
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert len(lines) == count
        for line in lines:
            assert len(line["ids"]) == len(line["names"]) == 4
            assert line["scores"] == sorted(line["scores"], reverse=True)
            assert 0 < sum(line["scores"]) <= 1.0001


def test_describe_reads_no_data_and_compares_the_heads(run, tmp_path):
    text = run(tmp_path, "--mode=describe").stdout
    for head in ("ohe", "mhp", "mhc", "mhs"):
        assert any(line.startswith(f"{head} ") for line in text.splitlines()), text
    assert "<- this config" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.head.beam_with=3"], "beam_with"),
        (["--config.head.head_sizes=(3,3)"], r"config.head.head_sizes: head_sizes (3, 3) hold 9 codes"),
        (["--config.head.name=mhx"], "config.head.name is 'mhx'"),
        (["--config.mesh.classes=16"], "classes=16 devices, but there are 1"),
        (["--config.init_from=nothing.pth"], "config.init_from: there is no file or folder nothing.pth"),
        (["--mode=predict", "--input=nowhere"], "holds no run of this program"),
        (["--mode=eval"], "no weights to use"),
        (["--config=configs/cifar100_mhp.py", "--config.data.path=/nonexistent"], "/nonexistent"),
        (["--config=configs/arcface_ms1mv3_r50.py", "--config.data.path=/nonexistent"], "/nonexistent"),
        (["--config.average.name=ema", "--config.average.decay=0.9"], "the config has no field 'decay'"),
    ],
)
def test_mistakes_get_one_line(run, flags, message, tmp_path):
    done = run(tmp_path, *flags, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_k_larger_than_the_number_of_classes(run, trained):
    done = run(trained, "--mode=predict", "--input=.", "--top_k=20", check=False)
    assert "error: --top_k is 20; it must be between 1 and the 19 classes" in done.stderr


def test_sigterm_saves_and_a_rerun_continues(tmp_path):
    long = ["--config.total_steps=100000", "--config.eval_every_steps=100000", "--config.checkpoint_every_steps=100000"]
    process = start(tmp_path, *long)
    wait_for(lambda: len(writers.read_events(tmp_path / "metrics.jsonl")) > 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    saved = newest_checkpoint(tmp_path)
    assert saved > 2
    assert json.loads((tmp_path / "result.json").read_text())["interrupted"] is True

    process = start(tmp_path, *long)
    wait_for(lambda: writers.read_events(tmp_path / "metrics.jsonl")[-1]["step"] > saved, process)
    process.kill()
    process.wait()
    steps = [event["step"] for event in writers.read_events(tmp_path / "metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_kill_during_a_save_loses_at_most_the_unsaved_steps(run, tmp_path):
    saving = ["--config.total_steps=100000", "--config.eval_every_steps=100000", "--config.checkpoint_every_steps=1"]
    for delay in (0.0, 0.01, 0.02):
        before = newest_checkpoint(tmp_path)
        process = start(tmp_path, *saving)
        # A save begins after every step, so whenever the process dies, one is under way.
        wait_for(lambda before=before: newest_checkpoint(tmp_path) >= before + 3, process)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert newest_checkpoint(tmp_path) >= before + 3
    resumed_from = newest_checkpoint(tmp_path)
    result = json.loads(run(tmp_path, "--mode=eval").stdout.splitlines()[-1])
    assert result["step"] == resumed_from


def newest_checkpoint(workdir):
    """The newest complete checkpoint: an unfinished one has another name."""
    folder = workdir / "checkpoints"
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.exists() else []
    return max(steps, default=0)


def wait_for(condition, process, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)

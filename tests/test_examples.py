"""The Python that README.md and docs/python.md show, run as it stands.

Each file's blocks are one program, started in an empty folder. A block in `sh` that trains is run where it stands. It
takes some minutes: a head is trained twice, and a run is made for those that need one.
"""

import inspect
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import mhe_jax

ROOT = pathlib.Path(__file__).parents[1]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(text):
    """The Python blocks of a page; lines of its shell that train become calls."""
    parts = []
    for language, block in FENCED.findall(text):
        if language == "python":
            parts.append(block)
        elif language == "sh":
            trains = [line for line in block.splitlines() if line.startswith("mhe train ")]
            parts += [f"_run({shlex.split(line, comments=True)[1:]!r})" for line in trains]
    start = "import subprocess, sys\n_run = lambda a: subprocess.run([sys.executable, '-m', 'mhe_jax', *a], check=True)"
    return "\n".join([start, *parts])


@pytest.mark.skipif(
    "num_classes" not in inspect.signature(mhe_jax.build_head).parameters, reason="build_head takes sections only"
)
@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(page, tmp_path):
    code = program((ROOT / page).read_text())
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_blocks_are_taken_in_their_order():
    page = "```python\na = 1\n```\n\n```sh\npip install x\nmhe train --config=y  # z\n```\n\n```python\nb = a\n```\n"
    assert program(page).splitlines()[2:] == ["a = 1", "", "_run(['train', '--config=y'])", "b = a"]

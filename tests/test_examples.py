"""The Python that README.md and docs/python.md show, run as it stands.

Each file's blocks are one program, started in an empty folder. Shell lines that train are run where they stand. It
takes some minutes: a head is trained twice, and a run is made for those that need one.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A block of Python, or a line of shell that trains, in a block of its own or after a prompt.
SHOWN = re.compile(r"^```python\n((?:.*\n)*?)```$|^(?: *\$ )?mhe (train .*)$", re.MULTILINE)


def program(text):
    """The Python blocks of a page; lines of its shell that train become calls."""
    parts = [python or f"_run({shlex.split(train, comments=True)!r})" for python, train in SHOWN.findall(text)]
    start = "import subprocess, sys\n_run = lambda a: subprocess.run([sys.executable, '-m', 'mhe_jax', *a], check=True)"
    return "\n".join([start, *parts])


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
    blocks = [
        "```python\na = 1\n```",
        "```sh\npip install x\nmhe train --config=y  # z\n```",
        "    $ mhe train --config=w",
    ]
    found = program("\n\n".join([*blocks, "```python\nb = a\n```\n"])).splitlines()[2:]
    assert found == ["a = 1", "", "_run(['train', '--config=y'])", "_run(['train', '--config=w'])", "b = a"]

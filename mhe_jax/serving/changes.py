"""Whether the folder of a run has changed: what is compared from one look for newer weights to the next."""

import pathlib
from typing import Any

from mhe_jax.codes.files import FILE as CODES
from mhe_jax.inference.decision import FILE as DECISION
from mhe_jax.train.checkpoints import complete
from mhe_jax.train.checkpoints.published import WEIGHTS


def signature(workdir: pathlib.Path) -> Any:
    """Changes when the run has written a checkpoint or a decision, was published anew, or its folder is gone."""
    steps = complete.steps(workdir)
    # Checkpoints never change; the files of a published run, which has none, are replaced.
    names = ("result.json", DECISION) if steps else (WEIGHTS, "config.json", "result.json", CODES, DECISION)
    return steps, [_state(workdir / name) for name in names]


def _state(path: pathlib.Path) -> Any:
    try:
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    except OSError as error:
        return error.errno

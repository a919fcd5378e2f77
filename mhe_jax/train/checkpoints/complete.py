"""Which checkpoints a run's folder has, by their names alone."""

import pathlib


def steps(workdir: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in `workdir`, ascending; a folder that was not written to its end is none."""
    return sorted(int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit())

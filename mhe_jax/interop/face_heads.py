"""Face classifiers in files: PartialFC's table in one file per GPU, to and from one piece or another number of pieces.

On W GPUs insightface's trainer writes softmax_fc_gpu_0.pt .. softmax_fc_gpu_{W-1}.pt beside backbone.pth, or in its
newer form checkpoint_gpu_0.pt .. beside model.pt, with the backbone in each of them. A file holds the rows of
consecutive classes, C // W of them and on the first C % W GPUs one more. The published sampled head lies in files of
the same names, but whole in each, as blocks [n0, n1, D]: its trainer never synchronises the GPUs. That of GPU 0 is
used.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from mhe_jax.interop.state_files import read_checkpoint

_BACKBONE_FILES = ("backbone.pth", "model.pt", "checkpoint_gpu_0.pt")
# The newer files hold an optimizer's state too, so the older are read where both are there.
_SHARDS = (re.compile(r"softmax_fc_gpu_([0-9]+)\.pt"), re.compile(r"checkpoint_gpu_([0-9]+)\.pt"))


def read_face_folder(path: str | Path) -> dict[str, np.ndarray]:
    """The state dict of a training run on faces: the backbone, and the classifier as `weight` if it is there.

    Args:
      path: a folder as insightface's or the published trainer leaves it.

    Returns:
      arrays by torch name, for `interop.torch.import_state_dict`; `weight` is [C, D] or [n0, n1, D].

    Raises:
      ValueError: if a file is missing, damaged, or does not fit the others.
      ImportError: without torch.
    """
    path = Path(path)
    file = _backbone_file(path)
    if file is None:
        raise ValueError(f"{path} has no {' or '.join(_BACKBONE_FILES)}")
    state = read_checkpoint(file)
    return state | ({"weight": read_head(path)} if shard_files(path) else {})


def is_face_folder(path: str | Path) -> bool:
    """Whether `read_face_folder` is for this folder."""
    return _backbone_file(Path(path)) is not None


def _backbone_file(folder: Path) -> Path | None:
    return next((folder / name for name in _BACKBONE_FILES if (folder / name).is_file()), None)


def read_head(source: str | Path) -> np.ndarray:
    """The whole table of a classifier: float32 [C, D], or [n0, n1, D] for the published sampled head.

    Args:
      source: a folder with `softmax_fc_gpu_*.pt` or `checkpoint_gpu_*.pt`, or one file.

    Raises:
      ValueError: if a file is missing, damaged, or does not fit the others.
    """
    source = Path(source)
    if not source.is_dir():
        return _read_table(source)
    files = shard_files(source)
    if not files:
        raise ValueError(f"{source} has neither softmax_fc_gpu_0.pt nor checkpoint_gpu_0.pt")
    if missing := [rank for rank in range(max(files)) if rank not in files]:
        last = files[max(files)].name
        raise ValueError(f"{source} has {last} but lacks {last.replace(str(max(files)), str(missing[0]))}")
    first = _read_table(files[0])
    if first.ndim == 3:
        if len(files) > 1:
            logging.warning("%s holds %d sampled heads, one per GPU: %s is used", source, len(files), files[0].name)
        return first
    try:
        return merge_shards([first, *(_read_table(files[rank]) for rank in range(1, len(files)))])
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def merge_shards(shards: Sequence[np.ndarray]) -> np.ndarray:
    """One table [C, D] from those of the ranks [C_r, D], in their order.

    Raises:
      ValueError: if they are not the C // W and C // W + 1 rows that the ranks of one run have.
    """
    shapes = [shard.shape for shard in shards]
    num_classes = sum(shape[0] for shape in shapes)
    expected = [(rows, shapes[0][-1]) for rows in shard_rows(num_classes, len(shards))]
    for rank, (shape, wanted) in enumerate(zip(shapes, expected, strict=True)):
        if shape != wanted:
            raise ValueError(
                f"the file of GPU {rank} has a weight of shape {shape}, not {wanted}: the {len(shards)} files, of "
                f"{num_classes} classes together, are not of one run, or not all of it"
            )
    return np.concatenate(shards)


def split_table(table: np.ndarray, num_shards: int) -> list[np.ndarray]:
    """The tables [C_r, D] of `num_shards` ranks from one [C, D]: the inverse of `merge_shards`.

    Raises:
      ValueError: if a rank would have no class, or the table is not [C, D].
    """
    if table.ndim != 2:
        raise ValueError(f"a table of shape {table.shape} is not split over GPUs: only PartialFC's [classes, D] is")
    if not 1 <= num_shards <= len(table):
        raise ValueError(f"num_shards is {num_shards}; it must be in 1 .. {len(table)}, the number of classes")
    return np.split(table, np.cumsum(shard_rows(len(table), num_shards))[:-1])


def shard_rows(num_classes: int, num_shards: int) -> list[int]:
    """How many classes each rank holds."""
    return [num_classes // num_shards + (rank < num_classes % num_shards) for rank in range(num_shards)]


def shard_files(folder: Path) -> dict[int, Path]:
    """The files softmax_fc_gpu_*.pt of a folder, or else checkpoint_gpu_*.pt, by GPU."""
    kinds = (
        {int(match[1]): path for path in sorted(folder.iterdir()) if (match := shard.fullmatch(path.name))}
        for shard in _SHARDS
    )
    return next(filter(None, kinds), {})


def _read_table(path: Path) -> np.ndarray:
    state = read_checkpoint(path)
    # The older PartialFC has the stored table under the first name, or with all classes sampled under the second only.
    for name in ("weight", "weight_activated"):
        if name in state and state[name].ndim in (2, 3) and state[name].size:
            return state[name]
    raise ValueError(f"{path} has no weight of 2 or 3 axes; its names are {', '.join(sorted(state))}")


def write_table(path: Path, table: np.ndarray) -> None:
    """Writes a table [C, D] as one GPU's file."""
    import torch

    torch.save({"weight": torch.from_numpy(np.ascontiguousarray(table))}, path)

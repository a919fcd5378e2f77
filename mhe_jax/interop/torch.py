"""PyTorch state dicts of the reference's and torchvision's image models, to and from our variables."""

import pickle
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from mhe_jax.interop import patterns
from mhe_jax.labels import LabelSpace

PARTS = ("backbone", "head")
_WRAPPERS = ("state_dict", "net", "model")


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a `.safetensors` file, or from a `.pth` or `.pt` file, which needs torch installed.

    What training scripts wrap around it ('state_dict', 'net', 'model', and DataParallel's 'module.') is taken off.
    Floating-point tensors become float32.

    Raises:
      ValueError: if the file is corrupt or holds no state dict.
      ImportError: if torch is needed and absent.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            state = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    elif path.suffix in (".pth", ".pt"):
        state = _read_pickle(path)
    else:
        raise ValueError(f"{path} must be a .safetensors, .pth or .pt file")
    return {name.removeprefix("module."): _to_float32(array) for name, array in state.items()}


def import_state_dict(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    parts: Sequence[str] = PARTS,
    label_space: LabelSpace | None = None,
) -> dict[str, Any]:
    """Variables of a model with the values of a state dict, whose layout is recognised by its names.

    Args:
      state_dict: arrays by torch name; `num_batches_tracked` is ignored.
      variables: {'params': {'backbone', 'head'}, 'batch_stats'}, arrays or ShapeDtypeStructs, boxed or not: what the
        result looks like.
      parts: what to take from the state dict, 'backbone' and/or 'head'. The other part of `variables` is returned as
        it is, and its names in the state dict are ignored.
      label_space: of the head; needed if its tables are padded with rows, which then become zeros.

    Returns:
      unboxed variables, NumPy arrays where imported.

    Raises:
      ValueError: for names that are missing, unexpected, or have another shape.
    """
    _check_parts(parts)
    head = patterns.detect_head(state_dict)
    rules = list(patterns.HEADS[head]) if head else []
    if "backbone" in parts:
        rules += patterns.BACKBONES[patterns.detect_backbone(state_dict)]

    flat = traverse_util.flatten_dict(nn.unbox(dict(variables)), sep="/")
    missing = {path for path in flat if _part(path) in parts}
    unexpected, misshaped = [], []
    for name, array in state_dict.items():
        if name.endswith("num_batches_tracked"):
            continue
        found = patterns.translate(name, rules, to="ours")
        if _part(found[0]) not in parts if found else "backbone" not in parts:
            continue
        if not found or found[0] not in flat:
            unexpected.append(name)
            continue
        path, transform_name = found
        missing.discard(path)
        transform, shape = patterns.TRANSFORMS[transform_name], tuple(flat[path].shape)
        values = transform.to_ours(np.asarray(array), shape)
        if transform.rows and label_space and len(values) == _num_rows(path, label_space):
            values = np.pad(values, [(0, max(shape[0] - len(values), 0))] + [(0, 0)] * (values.ndim - 1))
        if values.shape != shape:
            misshaped.append(f"{name} {np.shape(array)} for {path} {shape}")
        else:
            flat[path] = np.ascontiguousarray(values, dtype=flat[path].dtype)
    problems = {"missing": sorted(missing), "unexpected": unexpected, "of another shape": misshaped}
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"the state dict does not fit the model: {listed}")
    return traverse_util.unflatten_dict(flat, sep="/")


def export_state_dict(
    variables: Mapping[str, Any],
    layout: str,
    head: str | None = None,
    label_space: LabelSpace | None = None,
) -> dict[str, np.ndarray]:
    """The state dict of a model's variables: the inverse of `import_state_dict`, without `num_batches_tracked`.

    Args:
      variables: {'params': {'backbone', 'head'}, 'batch_stats'}, boxed or not.
      layout: 'reference_cifar', 'reference_imagenet' or 'torchvision'.
      head: 'ohe', 'mhp', 'mhc' or 'mhs'; None exports the backbone only.
      label_space: of the head; needed if its tables are padded with rows, which are then cut off.

    Raises:
      ValueError: for an unknown layout or head, or a model that the layout has no names for.
    """
    if layout not in patterns.BACKBONES:
        raise ValueError(f"layout is {layout!r}; it must be one of {', '.join(patterns.BACKBONES)}")
    if head not in (None, "ohe", "mhp", "mhc", "mhs"):
        raise ValueError(f"head is {head!r}; it must be 'ohe', 'mhp', 'mhc', 'mhs' or None")
    rules = list(patterns.BACKBONES[layout])
    if head:
        two_levels = head == "mhc" and "table_2" not in variables["params"]["head"]
        rules += patterns.HEADS["mhc2" if two_levels else head]

    state, unexpected = {}, []
    for path, array in traverse_util.flatten_dict(nn.unbox(dict(variables)), sep="/").items():
        if head is None and _part(path) == "head":
            continue
        found = patterns.translate(path, rules, to="torch")
        if found is None:
            unexpected.append(path)
            continue
        name, transform = found[0], patterns.TRANSFORMS[found[1]]
        values = np.asarray(array)
        if transform.rows and label_space:
            values = values[: _num_rows(path, label_space)]
        state[name] = np.ascontiguousarray(transform.to_torch(values))
    if unexpected:
        raise ValueError(f"layout {layout!r} with head {head!r} lacks {len(unexpected)} names: {_first(unexpected)}")
    return state


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} needs PyTorch to be read (pip install torch), or convert it to safetensors"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged bytes make the unpickler fail in any way
        reason = str(error) or repr(error)
        if isinstance(error, pickle.UnpicklingError) and "global" in reason.lower():
            raise ValueError(
                f"{path} pickles Python objects, such as a whole module, which is not loaded because it could run any "
                f"code. Save model.state_dict() instead. PyTorch says: {reason.splitlines()[0]}"
            ) from error
        raise ValueError(f"{path} is not a readable PyTorch file: {reason.splitlines()[0]}") from error
    while isinstance(state, Mapping) and (key := next((key for key in _WRAPPERS if _is_mapping(state, key)), None)):
        state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dict: it must map parameter names to tensors")
    return {name: (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in state.items()}


def _is_mapping(state: Mapping[str, Any], key: str) -> bool:
    return isinstance(state.get(key), Mapping)


def _to_float32(array: np.ndarray) -> np.ndarray:
    """Half and double precision as float32; bfloat16, which NumPy does not count as floating, included."""
    return array if np.issubdtype(array.dtype, np.integer) or array.dtype == bool else array.astype(np.float32)


def _part(path: str) -> str:
    return "head" if path.startswith("params/head/") else "backbone"


def _num_rows(path: str, space: LabelSpace) -> int:
    """Rows of a head's table without padding: classes, groups, or the nodes whose children it holds."""
    leaf = path.rsplit("/", 1)[-1]
    if leaf in ("kernel", "bias"):
        return space.num_classes
    levels = int(leaf.removeprefix("table_")) if leaf.startswith("table_") else 1
    return int(np.prod(space.head_sizes[:levels]))


def _check_parts(parts: Collection[str]) -> None:
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"parts is {tuple(parts)}; it must be some of {PARTS}")


def _first(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")

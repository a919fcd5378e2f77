"""State dicts in files: safetensors, and PyTorch's pickles without running any code in them."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

_WRAPPERS = ("state_dict", "net", "model")


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a `.safetensors` file, or from a `.pth` or `.pt` file, which needs torch installed.

    `.bin` says nothing of what is in a file: of these, Hugging Face's `pytorch_model*.bin` is read like `.pth`, and
    `model-*.bin`, as the published text system names its own.

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
    elif path.suffix in (".pth", ".pt") or re.fullmatch(r"(pytorch_model|model-).*\.bin", path.name):
        state = _read_pickle(path)
    else:
        raise ValueError(f"{path} must be a .safetensors, .pth or .pt file, or pytorch_model*.bin or model-*.bin")
    return {name.removeprefix("module."): _to_float32(array) for name, array in state.items()}


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} needs PyTorch to be read (pip install torch), or convert it to safetensors"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of numbers and words: a run's flags
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

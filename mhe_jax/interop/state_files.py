"""State dicts in files: safetensors, and PyTorch's pickles without running any code in them.

Training scripts wrap a state dict, and rename what is in it: here it comes out with the names that its model gave.
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

# Where scripts put the state dict among counters and optimizer states.
_WRAPPERS = ("state_dict", "model_state_dict", "net", "model")
# insightface's and the published trainer's checkpoint of one GPU: the backbone, and that GPU's classifier.
_FACE_BACKBONE, _FACE_HEAD = "state_dict_backbone", "state_dict_softmax_fc"
# Parts of names that are DataParallel's and torch.compile's, in whatever order and wherever they were applied.
_WRAPPING_MODULES = ("module", "_orig_mod")

_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".t7")


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a `.safetensors` file, or from a PyTorch file, which needs torch installed.

    PyTorch files end in .pth, .pt, .ckpt (Lightning), .tar (.pth.tar) or .t7, as scripts name them. `.bin` says nothing
    of what is in a file: of these, Hugging Face's `pytorch_model*.bin` is read, and `model-*.bin`, as the published
    text system names its own.

    What training scripts wrap around it is taken off: 'state_dict', 'model_state_dict', 'net' or 'model' around the
    dict, DataParallel's 'module.' and torch.compile's '_orig_mod.' in names. Of `checkpoint_gpu_*.pt` the backbone is
    taken, and that GPU's classifier as `weight`. Floating-point tensors become float32.

    Raises:
      ValueError: if the file is corrupt or holds no state dict; for tensors that are sparse, complex, quantised, or
        without values.
      ImportError: if torch is needed and absent.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in _SUFFIXES or re.fullmatch(r"(pytorch_model|model-).*\.bin", path.name):
        state = _read_pickle(path)
    else:
        raise ValueError(
            f"{path} must be a .safetensors file, one of PyTorch's ({', '.join(_SUFFIXES)}), or pytorch_model*.bin or "
            "model-*.bin"
        )
    return {name: _to_float32(array, path, name) for name, array in _own_names(state, path).items()}


# The types of numbers that safetensors has and NumPy has not; importing ml_dtypes taught it bfloat16 as well.
_FLOAT8 = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        try:
            return safetensors.numpy.load_file(path)
        except AttributeError:  # safetensors looks for a type of number in NumPy
            tensors = safetensors.deserialize(path.read_bytes())
        kinds = {**safetensors.numpy._TYPES, **_FLOAT8, "BF16": ml_dtypes.bfloat16}
        return {
            name: np.frombuffer(tensor["data"], kinds[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in tensors
        }
    except KeyError as error:
        raise ValueError(f"{path} holds numbers of the type {error}, which cannot be read") from error
    except (safetensors.SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} needs PyTorch to be read (pip install torch), or convert it to safetensors"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of numbers and words: a run's flags
            content = torch.load(path, map_location="cpu", weights_only=True)
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
    state = _unwrapped(content)
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict: it must map parameter names to tensors")
    return {name: _values(tensor, f"{path}: {name}") for name, tensor in state.items()}


def _unwrapped(content: Any) -> Any:
    """What a script wrapped, however often."""
    while isinstance(content, Mapping):
        if isinstance(content.get(_FACE_BACKBONE), Mapping):
            head = content.get(_FACE_HEAD)
            return {**content[_FACE_BACKBONE], **(head if isinstance(head, Mapping) else {})}
        key = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            return content
        content = content[key]
    return content


def _values(tensor: Any, what: str) -> np.ndarray:
    """A tensor's numbers; those that NumPy or a model has no place for are named."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{what} is a {type(tensor).__name__}; a state dict must map parameter names to tensors")
    kinds = {
        "has no values (it is on PyTorch's meta device)": tensor.is_meta,
        "is sparse": tensor.layout != torch.strided,
        "is quantised": tensor.is_quantized,
        "is complex": tensor.is_complex(),
    }
    if found := [kind for kind, is_so in kinds.items() if is_so]:
        raise ValueError(f"{what} {found[0]}; only dense tensors of real numbers can be read")
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()


def _own_names(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A state dict without what wrappers put into its names; raises ValueError if two names become one."""
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPING_MODULES) for name in state}
    found: dict[str, str] = {}
    for name, own in names.items():
        if own in found:
            raise ValueError(f"{path} holds {own} twice, as {found[own]} and as {name}")
        found[own] = name
    return {own: state[name] for own, name in found.items()}


def _to_float32(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Half and double precision as float32; bfloat16 and float8, which NumPy does not count as floating, included."""
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"{path}: {name} is complex; only dense tensors of real numbers can be read")
    return array if np.issubdtype(array.dtype, np.integer) or array.dtype == bool else array.astype(np.float32)

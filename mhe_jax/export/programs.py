"""The formats that are programs: what a manifest says of their inputs and outputs, and how the two are checked."""

from typing import Any

import numpy as np

from mhe_jax.export.program import ENCODER, Program

# The difference to JAX that is still a copy; probabilities are in 0 .. 1, and so are parts of embeddings.
TOLERANCE = 1e-5
_CHECKED = ((1, 1), (3, 2))  # batches, and by what the longest length is divided


def signature(program: Program) -> dict[str, Any]:
    """Inputs and outputs as manifest.json has them."""
    found = program(program.zeros(1))
    return {
        "inputs": {
            name: {"shape": list(sizes), "dtype": np.dtype(dtype).name}
            for name, (sizes, dtype) in program.inputs.items()
        },
        "outputs": {
            name: {"shape": ["batch", array.shape[1]], "dtype": array.dtype.name} for name, array in found.items()
        },
        **{f"longest_{size}": most for size, most in program.longest.items()},
        **program.reading,
    }


def check(program: Program, call: Any, kind: str) -> float:
    """The largest difference between `call(inputs)` and JAX on random inputs, in scores or embeddings.

    Raises:
      ValueError: if it is more than `TOLERANCE`, or classes are others whose scores are further apart than that.
    """
    worst = 0.0
    for batch, share in _CHECKED:
        inputs = random_inputs(program, batch, share=share)
        theirs, ours = call(inputs), program(inputs)
        apart = [_difference(theirs[name], ours[name]) for name in ours if name != "ids"]
        worst = float(np.max([worst, *apart]))  # NaN where one is
        if "ids" in ours and (np.asarray(theirs["ids"]) != ours["ids"])[_clear(ours["scores"])].any():
            raise ValueError(f"the {kind} program finds other classes than JAX; nothing was written")
    if not worst <= TOLERANCE:
        raise ValueError(f"the {kind} program differs from JAX by {worst:.2g}; nothing was written")
    return worst


def _clear(scores: np.ndarray) -> np.ndarray:
    """Which places of rankings [B, k] a small difference cannot change: not the last, whose successor is not known."""
    apart = -np.diff(scores, axis=1) > 2 * TOLERANCE
    ends = np.zeros((len(scores), 1), bool)
    return np.concatenate([apart, ends], axis=1) & np.concatenate([~ends, apart], axis=1)


def random_inputs(program: Program, batch: int, seed: int = 0, share: int = 1) -> dict[str, np.ndarray]:
    """Inputs as a model might see them: pixels, features, and texts; see `Program.zeros`."""
    rng = np.random.default_rng(seed)
    made = program.zeros(batch, share)
    for name, array in made.items():
        if array.dtype == np.uint8:
            made[name] = rng.integers(256, size=array.shape, dtype=np.uint8)
        elif array.dtype == np.float32:
            made[name] = rng.random(array.shape, np.float32)
        elif name == "length":
            made[name] = rng.integers(1, made["input_ids"].shape[1] + 1, size=array.shape, dtype=np.int32)
        else:
            made[name] = rng.integers(_rows(program, name), size=array.shape, dtype=np.int32)
    return made


def _rows(program: Program, name: str) -> int:
    """How many tokens or features there are: rows of the embedding that they are looked up in."""
    backbone: Any = program.weights["params"]["backbone"]
    if name == "feature_ids":
        table = backbone.get("bag", backbone)["embedding"]
    else:
        if ENCODER in program.weights:
            backbone = program.weights[ENCODER]["params"]["backbone"]
        table = backbone.get("network", backbone)["word_embedding"]["embedding"]
    return int(table.shape[0])


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).max(initial=0))

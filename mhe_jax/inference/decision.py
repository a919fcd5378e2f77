"""What a run answers with which probability: calibration and thresholds, in a file beside its weights."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from mhe_jax.evaluation.calibration import Calibration
from mhe_jax.train.checkpoints import complete, seals
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.checkpoints.published import is_published
from mhe_jax.train.experiment import Classes
from mhe_jax.train.reporting.writers import naming

FILE = "decision.safetensors"
PLOT = "reliability.png"
# Classes of each example that are looked at; pairs beyond them count as not predicted.
KEPT = 100


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is answered, of probabilities once they are calibrated.

    thresholds: float64 [G], the least probability of a label that is answered; group_of_label: int32 [C], by id.
    one_class: whether an example has one class, so that below the threshold it has none of those that are known.
    num_live: how many classes can be predicted.
    model: of which run it is, see `model_of`.
    facts: how it was chosen, and what it reached there.
    """

    calibration: Calibration
    thresholds: np.ndarray
    group_of_label: np.ndarray
    one_class: bool
    num_live: int
    model: dict[str, Any]
    facts: dict[str, Any]

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """The probabilities of the best K classes of each example, float [N, K], calibrated."""
        if self.one_class:
            return self.calibration.of_classes(scores, self.num_live)
        return self.calibration.of_labels(scores)

    def accepted(self, ids: np.ndarray, calibrated: np.ndarray) -> np.ndarray:
        """Which of the classes int [N, K], -1 for none, of calibrated probabilities are answered: bool [N, K]."""
        return (ids >= 0) & (calibrated >= self.thresholds[self.group_of_label[np.maximum(ids, 0)]])

    def save(self, workdir: pathlib.Path) -> None:
        """Writes `<workdir>/decision.safetensors` at once, with a digest of all that it says."""
        arrays = {
            "thresholds": self.thresholds,
            "group_of_label": self.group_of_label,
            "x": self.calibration.x,
            "y": self.calibration.y,
        }
        said = {
            "kind": self.calibration.kind,
            "temperature": self.calibration.temperature,
            "one_class": self.one_class,
            "num_live": self.num_live,
            "model": self.model,
            "facts": self.facts,
        }
        text = json.dumps(said)
        metadata = {"decision": text, "sha256": _digest(text, arrays)}
        path = workdir / FILE
        temporary = path.with_name(path.name + ".tmp")
        with naming(path):
            temporary.write_bytes(safetensors.numpy.save(arrays, metadata))
            temporary.replace(path)


def require_decision(workdir: pathlib.Path) -> pathlib.Path:
    """The file of a run's decision; raises ValueError if there is none, naming the command."""
    path = workdir / FILE
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `mhe decide {workdir}` makes it")
    return path


def read_decision(workdir: pathlib.Path, model: dict[str, Any]) -> Decision:
    """The decision beside a run.

    Args:
      workdir: of the run.
      model: the one that is to be used, see `model_of`.

    Raises:
      ValueError: if there is none, it is damaged, or it is of another model; naming the file and the command.
    """
    path, command = require_decision(workdir), f"`mhe decide {workdir}`"
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["decision"]
        said, sealed = json.loads(text), metadata["sha256"] == _digest(text, arrays)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}): {command} makes it again") from None
    if not sealed:
        raise ValueError(f"{path} is not what was written: {command} makes it again")
    if what := _difference(said["model"], model):
        raise ValueError(f"{path} was chosen for {what} than the run has now: {command} makes it again")
    calibration = Calibration(said["kind"], said["temperature"], arrays["x"], arrays["y"])
    groups = arrays["group_of_label"]
    live = said.get("num_live", len(groups))  # of a file from before it was kept
    return Decision(calibration, arrays["thresholds"], groups, said["one_class"], live, said["model"], said["facts"])


def model_of(workdir: pathlib.Path, step: int | None, classes: Classes) -> dict[str, Any]:
    """What tells a run from another one: a digest of its classes, and one of the weights that are used.

    Args:
      workdir: of the run.
      step: of the checkpoint, None for weights of a file.
      classes: of the run.
    """
    # The others share the probability of a retired class.
    retired = [sorted(classes.retired)] if classes.retired else []
    names = json.dumps([classes.number, list(classes.names), *retired])
    digests = workdir / "checkpoints" / str(step) / seals.FILE
    if step is not None and digests.is_file():
        weights = hashlib.sha256(digests.read_bytes()).hexdigest()
    elif is_published(workdir):
        with (workdir / "model.safetensors").open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        weights = f"step {step}"
    return {"classes": hashlib.sha256(names.encode()).hexdigest(), "weights": weights, "step": step}


def other_than_now(workdir: pathlib.Path, model: Mapping[str, Any], classes: Classes) -> str | None:
    """What a model, of `model_of`, has other than the run: "other classes" or "another checkpoint".

    None where it is the run's, or the folder holds no weights to compare it with.
    """
    if is_published(workdir):
        return _difference(model, model_of(workdir, None, classes))
    if not complete.steps(workdir):
        return None
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        found = _difference(model, model_of(workdir, checkpoints.best_step(whole=False), classes))
        # Another step's weights are used where those of the best are damaged, which takes long to find out.
        return found and _difference(model, model_of(workdir, checkpoints.best_step(), classes))


def _difference(model: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs, for messages."""
    for what, name in (("other classes", "classes"), ("another checkpoint", "weights")):
        if model.get(name) != now[name]:
            return what
    return None


def _digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        state.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        state.update(np.ascontiguousarray(arrays[name]).tobytes())
    return state.hexdigest()

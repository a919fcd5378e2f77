"""Which examples of a run's data it was not trained on and is not tested on: those that decisions are made with."""

from typing import Any

from mhe_jax.data.build import Data
from mhe_jax.data.images.folder import ImageFolder, split_folder
from mhe_jax.data.images.layouts import EVAL_NAMES, find_files, snapshot, split_of


def held_out_split(data: Data, splits: Any, workdir: object) -> Any:
    """The split that chose the best checkpoint, if the test examples are others.

    Args:
      data: the data set.
      splits: what it loaded.
      workdir: of the run, for messages.

    Raises:
      ValueError: if the run was evaluated on its test examples, and has no others.
    """
    own = getattr(data, "valid_share", 0) or getattr(data, "valid_examples", 0)
    facts = getattr(splits, "facts", {})
    validation = str(facts.get("chosen_on", "")).partition(" ")[2].startswith("validation")
    validation |= facts.get("chosen_on") in ("val", "validation pictures")
    if type(data) is ImageFolder and not own:
        files = find_files(data.path, data.layout)
        if files is None:
            validation = split_folder(snapshot(data.path), EVAL_NAMES).name != "test"
        else:
            validation = any(split_of(file, files.root) != "test" for file in files.evaluate)
    if not (own or validation or splits.test is not None):
        field = "valid_share" if hasattr(data, "valid_share") else "valid_examples"
        share = f"train with config.data.{field}=0.1, or " if hasattr(data, field) else ""
        raise ValueError(
            f"{workdir} has no held-out examples to choose thresholds on, only those that test it: {share}give the "
            "data a validation split"
        )
    return splits.eval

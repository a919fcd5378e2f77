"""A run as a folder in Hugging Face's form, all that `mhe_jax.load` needs.

There is no pickle in it, no code, and no path of this machine.
"""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import safetensors.numpy
from ml_collections import ConfigDict

from mhe_jax.data.texts.dataset import TextData
from mhe_jax.export import card, output
from mhe_jax.inference import decision
from mhe_jax.inference.opened import Trained
from mhe_jax.train import experiment, kept_encoder, label_codes
from mhe_jax.train.checkpoints import published
from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import write_atomically
from mhe_jax.version import __version__

# Labels that config.json names; of more, which classes.txt has, every reader of the hub's pages would load megabytes.
MOST_NAMED = 10_000


def write(trained: Trained, folder: pathlib.Path, license: str = "") -> None:
    """Writes config.json, model.safetensors, classes.json, classes.txt, codes.npy, what reads texts, the decision,
    result.json and a card, README.md.

    Args:
      trained: of `mhe_jax.export.program.open_run`.
      folder: an empty one.
      license: for the card, an identifier such as apache-2.0.
    """
    number = trained.classes.number
    weights = published.named(trained.weights)
    metadata = {"format": "mhe_jax", published.CODES: trained.codes.digest}
    safetensors.numpy.save_file(weights, folder / published.WEIGHTS, metadata=metadata)
    content = {
        "model_type": published.MODEL_TYPE,
        "mhe_jax_version": __version__,
        "num_classes": number,
        **({"id2label": {i: trained.classes.name(i) for i in range(number)}} if number <= MOST_NAMED else {}),
        published.RUN: published.without_paths(json.loads(_as_used(trained).to_json())),
    }
    write_atomically(folder / "config.json", stored.as_text(content, indent=2) + "\n")
    write_atomically(folder / "classes.json", stored.as_text(trained.classes.as_fields()) + "\n")
    output.write_classes(folder, trained)
    label_codes.keep(folder, trained.codes)
    output.write_reader(folder, trained)
    kept_encoder.copy(trained.workdir / kept_encoder.FOLDER, folder / kept_encoder.FOLDER)
    _pass_on_decision(trained, folder)
    result = _result(trained.workdir)
    if result:
        write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    card.card_of(trained, result, license).save(folder / "README.md")
    facts = {"parameters": sum(array.size for name, array in weights.items() if name.startswith("params/"))}
    output.write_manifest(folder, "safetensors", trained, facts)


def _as_used(trained: Trained) -> ConfigDict:
    """The run's config with the explicit encoder that its folder keeps; the mesh is that of the devices at loading."""
    config, _ = experiment.read_workdir(trained.workdir)
    config = experiment.portable(config, trained.workdir)
    if "tokenizer" not in config.data and isinstance(trained.data, TextData):
        with config.unlocked():
            config.data.tokenizer = published.TOKENIZER
    return config


def _pass_on_decision(trained: Trained, folder: pathlib.Path) -> None:
    """Writes the run's decision, if it is of these weights, as one of the folder's."""
    if not (trained.workdir / decision.FILE).is_file():
        return
    try:
        found = decision.read_decision(trained.workdir, _model_of(trained, trained.workdir))
    except ValueError as error:
        print(f"left out: {error}", file=sys.stderr)
    else:
        dataclasses.replace(found, model=_model_of(trained, folder)).save(folder)


def _model_of(trained: Trained, folder: pathlib.Path) -> dict[str, Any]:
    return decision.model_of(folder, trained.step, trained.classes)


def _result(workdir: pathlib.Path) -> dict[str, Any]:
    """result.json of a run; empty where it has not ended yet."""
    try:
        return stored.read_object(workdir / "result.json")
    except FileNotFoundError:
        return {}

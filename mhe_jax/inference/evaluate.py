"""A trained run, evaluated: each example of its splits exactly once."""

import contextlib
import functools
import json
import pathlib
import warnings
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.build import build_data
from mhe_jax.evaluation import by_class
from mhe_jax.inference.class_names import with_names
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings
from mhe_jax.tasks.classification import Classification
from mhe_jax.train import data_digest, experiment, label_codes, left_to_data
from mhe_jax.train.checkpoints.published import is_published
from mhe_jax.train.class_bands import class_bands
from mhe_jax.train.evaluator import Evaluator, Keep, build_evaluator, has_answers
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import make_mesh, shares
from mhe_jax.train.reporting import report
from mhe_jax.train.reporting.writers import finite, write_atomically


def evaluate(config: ConfigDict, workdir: pathlib.Path | None, class_names: pathlib.Path | None = None) -> dict:
    """Evaluates the best checkpoint of `workdir`, or without one the weights of `config.init_from`.

    Returns:
      metrics by name, those of a test split as `test`; also written to `<workdir>/eval.json`, with a warning where
      that folder cannot be written. Of a run on pictures `macro_top1` is among them, and `by_class.csv` and
      `confusions.csv` beside it, see `mhe_jax.evaluation.by_class`, with the readable names of the file `class_names`;
      of its evaluation split.

    Raises:
      ValueError: if there are no weights, or the data is not what they were trained on.
    """
    config = left_to_data.as_trained(config, workdir)
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    splits = data.load()
    config = left_to_data.by_data(config, data, splits.train.num_examples, shares(mesh)["num_devices"])
    settings = Settings.from_config(config)
    data_digest.same_everywhere(splits, data.num_classes, settings.peer_seconds)
    has_weights = workdir is not None and ((workdir / "checkpoints").is_dir() or is_published(workdir))
    source = workdir if workdir is not None and has_weights else pathlib.Path(settings.init_from)
    codes = label_codes.stored(source, data.num_classes)
    by_id, splits = splits, relabelled(splits, codes)
    if workdir is not None and (workdir / "classes.json").exists():
        experiment.check_classes(workdir, experiment.Classes(data.num_classes, splits.class_names))
    # Before the evaluation, of which a mistake in the file would lose the result.
    classes = with_names(experiment.Classes(data.num_classes, splits.class_names), class_names)
    task = experiment.build_task(settings, settings.head, data, data.num_classes)
    if class_names is not None and type(task) is not Classification:
        raise ValueError(f"{class_names}: evaluation names classes in its tables of pictures only")
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        weights, step = experiment.trained_weights(settings, task, mesh, workdir, codes)
        found = {}
        for name, split in (("eval", splits.eval), ("test", splits.test)):
            if split is not None and has_answers(split):
                keep = _keep_predicted(task) if name == "eval" and type(task) is Classification else None
                bands = class_bands(settings, by_id, name, codes)
                evaluator = build_evaluator(task, split, settings.global_batch_size, mesh, keep, bands)
                with contextlib.closing(evaluator):
                    found[name] = {**evaluator(weights), "examples": evaluator.examples}
                    if isinstance(evaluator, Evaluator) and evaluator.kept:
                        found[name]["macro_top1"] = _by_class(evaluator, classes, codes, workdir)
                    if workdir is not None and distributed.is_main():
                        _keep(workdir, functools.partial(evaluator.draw, workdir))
        values = {"step": step, **found.pop("eval"), **found}
    if workdir is not None and distributed.is_main():
        text = json.dumps(finite({**values, **report.versions()}), indent=2) + "\n"
        _keep(workdir, functools.partial(write_atomically, workdir / "eval.json", text))
    return values


def _keep_predicted(task: Classification) -> Keep:
    """What `by_class` needs of each batch; XLA computes the features, which the metrics need too, once."""

    def keep(weights: dict, batch: dict) -> dict[str, jax.Array]:
        _, ids = task.predict(weights, task.asked(batch), 1)
        return {"label": batch["label"], "predicted": ids[:, 0], "real": batch["weight"] > 0}

    return keep


def _by_class(
    evaluator: Evaluator, classes: experiment.Classes, codes: LabelCodes, workdir: pathlib.Path | None
) -> float:
    """The mean of the classes' accuracies; their files are written."""
    join = lambda name: np.concatenate([part[name] for part in evaluator.kept])
    real = join("real")
    labels, predicted = (codes.ids(join(name)[real]) for name in ("label", "predicted"))
    found = by_class.by_class(labels, predicted, classes.number)
    if workdir is not None and distributed.is_main():
        _keep(workdir, functools.partial(by_class.write, found, classes.name, workdir))
    return found.macro_accuracy


def _keep(workdir: pathlib.Path, write: Callable[[], None]) -> None:
    """Writes into a run's folder, which may be somebody else's."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        warnings.warn(f"the evaluation is not kept in {workdir}: {error}", stacklevel=3)

"""A trained run, evaluated: each example of its splits exactly once."""

import contextlib
import functools
import json
import pathlib
import warnings
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.build import build_data
from mhe_jax.inference.class_names import with_names
from mhe_jax.inference.deciding import AUTO, stop_at
from mhe_jax.inference.decision import FILE, Decision, model_of, read_decision
from mhe_jax.inference.figures import Figures
from mhe_jax.inference.scored import scored
from mhe_jax.inference.taxonomies import find_hierarchy
from mhe_jax.settings import Settings
from mhe_jax.tasks.verification import Verification
from mhe_jax.train import data_digest, experiment, label_codes, left_to_data
from mhe_jax.train.checkpoints.published import is_published
from mhe_jax.train.class_bands import class_bands
from mhe_jax.train.classes import FILE as CLASSES
from mhe_jax.train.classes import Classes
from mhe_jax.train.evaluator import Evaluator, build_evaluator, has_answers
from mhe_jax.train.numbered import numbered, require_trained
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import make_mesh, shares
from mhe_jax.train.reporting import report
from mhe_jax.train.reporting.writers import finite, write_atomically
from mhe_jax.train.trained_model import trained_model


def evaluate(
    config: ConfigDict,
    workdir: pathlib.Path | None,
    class_names: pathlib.Path | None = None,
    taxonomy: pathlib.Path | None = None,
    stop: float | str | None = None,
) -> dict:
    """Evaluates the best checkpoint of `workdir`, or without one the weights of `config.init_from`.

    Args:
      config: the run's.
      workdir: the run's folder.
      class_names: readable names, for tables of classes.
      taxonomy: a tree above the classes, see `mhe_jax.inference.taxonomies`.
      stop: with a tree, the probability at which answers of one class an example go further down it; 'auto' is the
        threshold of the run's decision.

    Returns:
      metrics by name, those of a test split as `test`; also written to `<workdir>/eval.json`, with a warning where
      that folder cannot be written. Among them are those of `mhe_jax.inference.figures`. Of a run with one class an
      example `macro_top1` is one, and `by_class.csv` and `confusions.csv` are beside it, see
      `mhe_jax.evaluation.by_class`, with the readable names of the file `class_names`; of its evaluation split.

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
    if workdir is not None and (workdir / CLASSES).exists():
        splits = numbered(workdir, experiment.read_workdir(workdir)[1], data, splits)
    if has_weights:
        assert workdir is not None
        classes, codes, task, weights, step = trained_model(settings, data, mesh, workdir)
        require_trained(workdir, classes, codes, splits)
    else:
        classes = Classes(data.num_classes, splits.class_names)
        codes = label_codes.stored(pathlib.Path(settings.init_from).expanduser(), data.num_classes)
        task, weights, step = experiment.build_task(settings, settings.head, data, data.num_classes), {}, None
    by_id, splits = splits, relabelled(splits, codes)
    # Before the evaluation, of which a mistake in a file would lose the result.
    hierarchy = find_hierarchy(taxonomy, config, classes)
    if stop is not None and hierarchy is None:
        raise ValueError("--threshold stops at groups of a taxonomy, but there is none: name a file in --taxonomy")
    if stop is not None and not task.one_class:
        raise ValueError("--threshold: answers stop at groups where an example has one class, and this run has many")
    classes = with_names(classes, class_names)
    if class_names is not None and (not task.one_class or isinstance(task, Verification)):
        raise ValueError(f"{class_names}: evaluation names classes in its tables of one class an example only")
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        if not has_weights:
            weights, step = experiment.trained_weights(settings, task, mesh, workdir, codes)
        decision = _decision(workdir, step) if has_weights else None
        figures = Figures(task, classes, decision, hierarchy, stop_at(stop, decision), stop == AUTO)
        found = {}
        for name, split in (("eval", splits.eval), ("test", splits.test)):
            if split is not None and has_answers(split):
                keep, bands = figures.keep(split.num_examples), class_bands(settings, by_id, name, codes)
                evaluator = build_evaluator(task, split, settings.global_batch_size, mesh, keep, bands)
                with contextlib.closing(evaluator):
                    found[name] = {**evaluator(weights), "examples": evaluator.examples}
                    if isinstance(evaluator, Evaluator) and evaluator.kept:
                        answers = scored(evaluator, codes, classes.number)
                        found[name] |= figures.of(answers)
                        if name == "eval" and figures.one_class:
                            into = workdir if distributed.is_main() else None
                            write = functools.partial(_keep, into)
                            found[name]["macro_top1"] = figures.by_class(answers, write, into)
                    if workdir is not None and distributed.is_main():
                        _keep(workdir, functools.partial(evaluator.draw, workdir))
        values = {"step": step, **found.pop("eval"), **found}
    if workdir is not None and distributed.is_main():
        text = json.dumps(finite({**values, **report.versions()}), indent=2) + "\n"
        _keep(workdir, functools.partial(write_atomically, workdir / "eval.json", text))
    return values


def _decision(workdir: pathlib.Path | None, step: int | None) -> Decision | None:
    """The decision beside a run, if there is one."""
    if workdir is None or not (workdir / FILE).exists():
        return None
    return read_decision(workdir, model_of(workdir, step, experiment.read_workdir(workdir)[1]))


def _keep(workdir: pathlib.Path | None, write: Callable[[], None]) -> None:
    """Writes into a run's folder, which may be somebody else's."""
    if workdir is None:
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        warnings.warn(f"the evaluation is not kept in {workdir}: {error}", stacklevel=3)

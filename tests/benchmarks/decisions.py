"""What thresholds and calibration are worth on the test examples of trained runs, means over the runs.

    python tests/benchmarks/decisions.py RUN [RUN ...]

Each decision is chosen on the held-out examples of a run, as `mhe decide` does, and measured on its test examples. RUNs
are of one config, with other seeds.
"""

import contextlib
import pathlib
import sys

import jax
import numpy as np

from mhe_jax.codes.relabel import relabelled
from mhe_jax.inference.decide import choose, measured
from mhe_jax.inference.figures import Figures
from mhe_jax.inference.opened import opened
from mhe_jax.inference.scored import keep_scored, scored
from mhe_jax.train.evaluator import Evaluator
from mhe_jax.train.experiment import usable_config

# (maximize, per, precision, calibrate)
MANY = (
    ("micro_f1", "global", None, "none"),
    ("micro_f1", "global", None, "temperature"),
    ("micro_f1", "global", None, "isotonic"),
    ("micro_f1", "label", None, "isotonic"),
    ("macro_f1", "global", None, "isotonic"),
    ("macro_f1", "label", None, "isotonic"),
    ("example_f1", "global", None, "isotonic"),
    ("", "global", 0.8, "isotonic"),
)
ONE = tuple(("micro_f1", "global", None, kind) for kind in ("none", "temperature", "isotonic"))
ONE += tuple(("", "global", 0.9, kind) for kind in ("none", "temperature", "isotonic"))
SHOWN = ("precision", "recall", "micro_f1", "macro_f1", "example_f1", "f1", "coverage", "ece", "ece_calibrated")


def rows_of(workdir):
    """The figures of a run by decision, '' being those without one."""
    trained = opened(usable_config(workdir), workdir)
    splits = relabelled(trained.load_splits(), trained.codes)
    found = {}
    with jax.set_mesh(trained.mesh):
        for name, split in (("eval", splits.eval), ("test", splits.test)):
            keep = keep_scored(trained.task)
            with contextlib.closing(Evaluator(trained.task, split, 256, trained.mesh, keep)) as evaluator:
                values = evaluator(trained.weights)
            found[name] = scored(evaluator, trained.codes, trained.classes.number)
    ranked = ("P@1", "P@3", "P@5", "nDCG@5", "top1", "top5")
    rows = {"": {name: values[name] for name in ranked if name in values}}
    rows[""] |= Figures(trained.task, trained.classes).of(found["test"])
    for options in MANY if trained.data.multilabel else ONE:
        rows[" ".join(str(part) for part in options if part)] = measured(
            found["test"], choose(found["eval"], trained, *options)
        )
    return rows


def main():
    runs = [rows_of(pathlib.Path(path)) for path in sys.argv[1:]]
    for name in runs[0]:
        values = {key: np.array([run[name][key] for run in runs]) for key in runs[0][name]}
        if not name:
            print("without:", ", ".join(f"{key} {of.mean():.4f} ({of.std():.4f})" for key, of in values.items()))
        else:
            print(f"{name:32}", *(f"{key} {values[key].mean():.4f}" for key in SHOWN if key in values), sep="  ")


if __name__ == "__main__":
    main()

"""Draws receiver operating characteristics over a logarithmic false accept rate."""

import pathlib
from collections.abc import Mapping

import numpy as np

from mhe_jax.evaluation.verification import FARS, Roc

_POINTS = 2000


def plot_roc(curves: Mapping[str, Roc], path: pathlib.Path) -> None:
    """Writes a PNG with one curve per set; each begins at the smallest FAR that its pairs measure."""
    from matplotlib.figure import Figure

    lowest = float(FARS[-1])
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        far = np.geomspace(max(lowest, 1 / curve.negatives), 1, _POINTS)
        tar = curve.tar[np.searchsorted(curve.far, far, side="right") - 1]
        axes.plot(far, 100 * tar, label=f"{name}, EER {100 * curve.eer:.2f} %")
    axes.set(xlabel="false accept rate", ylabel="true accept rate, %", xscale="log", xlim=(lowest, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)

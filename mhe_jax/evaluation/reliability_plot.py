"""Draws how often probabilities are right."""

import pathlib
from collections.abc import Mapping

from mhe_jax.evaluation.calibration import Reliability


def plot_reliability(curves: Mapping[str, Reliability], path: pathlib.Path) -> None:
    """Writes a PNG with one curve per name, the share of hits over the mean probability, and below it the numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot((0, 1), (0, 1), color="0.6", linestyle="--", linewidth=1)
    for name, curve in curves.items():
        there = curve.number > 0
        label = f"{name}, ECE {curve.error:.4f}"
        axes.plot(curve.score[there], curve.rate[there], marker="o", markersize=4, label=label)
        numbers.plot(curve.score[there], curve.number[there], marker="o", markersize=4)
    axes.set(ylabel="share of hits", xlim=(0, 1), ylim=(0, 1))
    numbers.set(xlabel="probability", ylabel="how many", yscale="log")
    for one in (axes, numbers):
        one.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)

"""The drawn ROC."""

import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from mhe_jax.evaluation.roc_plot import plot_roc
from mhe_jax.evaluation.verification import roc


def test_curves_of_several_sets(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    curves = {}
    for name, count in (("lfw", 20), ("cfp_fp", 30_000)):
        same = np.arange(count) % 2 == 0
        curves[name] = roc(rng.standard_normal(count) + 2 * same, same)
    figures = []
    saved = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *args, **kw: (figures.append(self), saved(self, *args, **kw))
    )
    plot_roc(curves, tmp_path / "roc.png")
    with PIL.Image.open(tmp_path / "roc.png") as picture:
        assert picture.size == (720, 600)
    (axes,) = figures[0].axes
    assert axes.get_xscale() == "log"
    for line, (name, curve) in zip(axes.lines, curves.items(), strict=True):
        assert line.get_label().startswith(f"{name}, EER ")
        far, tar = line.get_data()
        assert far[0] == pytest.approx(1 / curve.negatives)
        assert len(far) <= 2000
        for index in (0, 700, 1999):
            assert tar[index] == 100 * max(t for f, t in zip(curve.far, curve.tar, strict=True) if f <= far[index])

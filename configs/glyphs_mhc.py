"""Glyphs with the cascade head: the characters of the DejaVu faces, two typefaces held out.

Needs no download. Expected with `--config.head.objective=path`: the row `mhc` of the glyph table in docs/results.md
(this project's measurement); the joint objective was not measured here.
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_mhc.py
"""

from mhe_jax.recipes import glyphs, heads


def get_config(arg=""):
    return glyphs.make(heads.mhc, arg, heads.WARM_UP)

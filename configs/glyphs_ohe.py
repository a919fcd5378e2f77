"""Glyphs with the one-hot baseline: the characters of the DejaVu faces, two typefaces held out.

Needs no download. Expected: the row `ohe` of the glyph table in docs/results.md (this project's measurement).
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_ohe.py
"""

from mhe_jax.recipes import glyphs, heads


def get_config(arg=""):
    return glyphs.make(heads.ohe, arg)

"""Glyphs with the sampled head: the characters of the DejaVu faces, two typefaces held out.

Needs no download. No published figure; the row `mhs` of the glyph table in docs/results.md is of four groups drawn for
each example, not of the batch's groups.
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_mhs.py
"""

from mhe_jax.recipes import glyphs, heads


def get_config(arg=""):
    return glyphs.make(heads.mhs_of_batch, arg)

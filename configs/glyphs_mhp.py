"""Glyphs with the product head: the characters of the DejaVu faces, two typefaces held out.

A character's digits are not something that its shape suggests, so a single Kronecker product learns slowly. The config
adds up eight of them (`head.rank`, the paper's multi-group form), still a third of the one-hot head's parameters.

Needs no download. Expected: the row `mhp` of the glyph table in docs/results.md (this project's measurement).
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_mhp.py
"""

import functools

from mhe_jax.recipes import glyphs, heads


def get_config(arg=""):
    return glyphs.make(functools.partial(heads.mhp, rank=8), arg)

"""Glyphs with the product head: the characters of the DejaVu faces, two typefaces held out.

The digits of a character are not something its shape suggests, so one Kronecker product learns slowly; the config adds up
eight (`head.rank`, the multi-group form), which is still a third of the one-hot head. Needs no download. Expected: the row `mhp` of the glyph table in docs/results.md (this project's measurement).
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_mhp.py
"""

import functools

from configs import base_glyphs, heads


def get_config(arg=""):
    return base_glyphs.make(functools.partial(heads.mhp, rank=8), arg)

"""Glyphs with the cascade head: the characters of the DejaVu faces, two typefaces held out.

Needs no download. Two of its epochs are a warm-up that finds codes (docs/codes.md). Expected: docs/heads.md, Measured.
Hardware: two CPU cores, some minutes.

    python main.py --config=configs/glyphs_mhc.py
"""

from mhe_jax.recipes import glyphs, heads


def get_config(arg=""):
    return glyphs.make(heads.mhc, arg, heads.WARM_UP)

"""Sparse features: the words of texts by TF-IDF, embedded and summed up, with the product head.

A sum of eight Kronecker products: the smallest head, and the least accurate.
No pretrained network: it is for CPUs. DIR is a folder of texts in any layout of docs/data.md;
`:sparse` is for features from files, as the Extreme Classification Repository has them (docs/sparse.md).
Expected: no whole run has been made with this head yet; docs/sparse.md has those of ohe and mhc.

    python main.py --config=configs/bag_mhp.py --config.data.path=DIR
"""

from mhe_jax.recipes import bag


def get_config(arg=""):
    return bag.make("mhp", arg)

"""Sparse features: the words of texts by TF-IDF, embedded and summed up, with the cascade head.

Groups of labels first, then the labels of the best groups: for hundreds of thousands of labels.
No pretrained network: it is for CPUs. DIR is a folder of texts in any layout of docs/data.md;
`:sparse` is for features from files, as the Extreme Classification Repository has them (docs/sparse.md).
Expected: the tables in docs/sparse.md, in ten minutes on two CPU cores.

    python main.py --config=configs/bag_mhc.py --config.data.path=DIR
"""

from mhe_jax.recipes import bag


def get_config(arg=""):
    return bag.make("mhc", arg)

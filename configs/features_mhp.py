"""Features that another network made, with the product head: `DIR/{train,val}/features.npy` beside labels.npy.

Any number of classes: it is read from the labels, and split into balanced digits (or give sizes: `:40x25`).
The smallest head, for so many classes that no table fits: a sum of eight Kronecker products.
`:multilabel` is for many labels a row, labels.npz. `mhe embed` writes such a folder; docs/features.md has the layout.
Expected on features of glyphs: the table in docs/features.md, in about a minute on two CPU cores.

    python main.py --config=configs/features_mhp.py --config.data.path=DIR
"""

from mhe_jax.recipes import features


def get_config(arg=""):
    return features.make("mhp", arg)

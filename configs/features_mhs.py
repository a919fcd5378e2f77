"""Features that another network made, with the sampled head: `DIR/{train,val}/features.npy` beside labels.npy.

Any number of classes: it is read from the labels, and split into balanced digits (or give sizes: `:40x25`).
A step trains the groups of classes that occur in its batch: for so many classes that a batch has some of them only.
`:multilabel` is for many labels a row, labels.npz. `mhe embed` writes such a folder; docs/features.md has the layout.
Expected on features of glyphs: the table in docs/features.md, in about a minute on two CPU cores.

    python main.py --config=configs/features_mhs.py --config.data.path=DIR
"""

from mhe_jax.recipes import features


def get_config(arg=""):
    return features.make("mhs", arg)

"""Features that another network made, with the cascade head: `DIR/{train,val}/features.npy` beside labels.npy.

Any number of classes: it is read from the labels, and split into balanced digits (or give sizes: `:40x25`).
Similar classes share digits: by a warm-up of two epochs with a one-hot head (docs/codes.md), or with `:multilabel` by
the sums of the features of each label's rows.
With one label a row the step moves the table by itself (docs/scaling.md, owned tables); `:dense` leaves it to AdamW.
`:multilabel` is for many labels a row, labels.npz. `mhe embed` writes such a folder; docs/features.md has the layout.
Expected on features of glyphs: the table in docs/features.md, in about a minute on two CPU cores.

    python main.py --config=configs/features_mhc.py --config.data.path=DIR
"""

from mhe_jax.recipes import features


def get_config(arg=""):
    return features.make("mhc", arg)

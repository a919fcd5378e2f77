"""Features that another network made, with the one-hot baseline: `DIR/{train,val}/features.npy` beside labels.npy.

Any number of classes: it is read from the labels.
The head to start with: while its table fits, it is the most accurate.
`:multilabel` is for many labels a row, labels.npz. `mhe embed` writes such a folder; docs/features.md has the layout.
Expected on features of glyphs: the table in docs/features.md, in about a minute on two CPU cores.

    python main.py --config=configs/features_ohe.py --config.data.path=DIR
"""

from mhe_jax.recipes import features


def get_config(arg=""):
    return features.make("ohe", arg)

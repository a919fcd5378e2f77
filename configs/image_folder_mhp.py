"""Your own pictures with the product head: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`.

Any number of classes: it is read from the folders, and split into balanced digits (or give sizes: `:40x25`).
The smallest head, for so many classes that no table fits; else `image_folder_ohe` is more accurate.
Small pictures that fit in memory: `:small`, a small network on 32x32, which is trained in colour or in grey, with the
augmentation and the batch that fit what is there (docs/data.md). The default is ResNet-50, streamed at 224.
A sum of eight products: a single one (`--config.head.rank=1`) learns far more slowly.
Expected on Omniglot with `:small`: the row `mhp` of the Omniglot table in docs/results.md.

    python main.py --config=configs/image_folder_mhp.py:small --config.data.path=DIR
"""

import functools

from mhe_jax.recipes import heads, image_folder


def get_config(arg=""):
    return image_folder.make(functools.partial(heads.mhp, rank=8), arg)

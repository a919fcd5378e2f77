"""Your own pictures with the cascade head: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`.

Any number of classes: it is read from the folders, and split into balanced digits (or give sizes: `:40x25`).
Small pictures that fit in memory: `:small`, a small network on 32x32, which is trained in colour or in grey, with the
augmentation and the batch that fit what is there (docs/data.md), and with codes from a warm-up of two epochs
(docs/codes.md). The default is ResNet-50, streamed at 224, for so many classes that a one-hot table does not fit.
Expected on Omniglot with `:small`: docs/heads.md.

    python main.py --config=configs/image_folder_mhc.py:small --config.data.path=DIR
"""

from mhe_jax.recipes import heads, image_folder


def get_config(arg=""):
    return image_folder.make(heads.mhc, arg, heads.WARM_UP)

"""Your own pictures with the sampled head: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`.

Any number of classes: it is read from the folders, and split into balanced digits (or give sizes: `:40x25`).
A step trains the groups of classes that occur in its batch: nearly all where they are few, and then it is hardly
cheaper than `image_folder_ohe`. For so many classes that a batch has some of the groups only.
Small pictures that fit in memory: `:small`, a small network on 32x32, which is trained in colour or in grey, with the
augmentation and the batch that fit what is there (docs/data.md). The default is ResNet-50, streamed at 224.
Expected on Omniglot with `:small`: docs/heads.md.

    python main.py --config=configs/image_folder_mhs.py:small --config.data.path=DIR
"""

from mhe_jax.recipes import heads, image_folder


def get_config(arg=""):
    return image_folder.make(heads.mhs_of_batch, arg)

"""Your own pictures with the sampled head: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`.

Any number of classes: it is read from the folders, and split into balanced digits (or give
sizes: `:40x25`). Small pictures that fit in
memory train fastest with `:small` (a small network on 32x32, decoded once); the default is ResNet-50, streamed at 224.
Expected on Omniglot with `:small`: the row `mhs` of the Omniglot table in docs/results.md.

    python main.py --config=configs/image_folder_mhs.py --config.data.path=DIR
"""

from mhe_jax.recipes import heads, image_folder


def get_config(arg=""):
    return image_folder.make(heads.mhs, arg)

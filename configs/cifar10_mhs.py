"""CIFAR-10 with the sampled head, head sizes 5x2, ResNet-18, 200 epochs.

Paper, table 1 (their measurement, best epoch on the test set): top-1 94.75 %.
Hardware: one GPU. `:reference` gives the published settings.
`:small` is a network of three convolutions, 20 epochs, some minutes on two CPU cores (docs/heads.md).

    python main.py --config=configs/cifar10_mhs.py --config.data.path=DIR_OF_cifar-10-batches-py
"""

from mhe_jax.recipes import cifar, heads


def get_config(arg=""):
    return cifar.make(10, heads.mhs, arg, default_sizes=(5, 2))

"""CIFAR-100 with the one-hot baseline, ResNet-18, 200 epochs.

Paper, table 1 (their measurement, best epoch on the test set): top-1 77.5 %.
Hardware: one GPU. `:reference` gives the published settings, and joins with sizes: `:5x20,reference`.
`:small` is a network of three convolutions, 20 epochs, some minutes on two CPU cores (docs/heads.md).

    python main.py --config=configs/cifar100_ohe.py --config.data.path=DIR_OF_cifar-100-python
"""

from mhe_jax.recipes import cifar, heads


def get_config(arg=""):
    return cifar.make(100, heads.ohe, arg, default_sizes=())

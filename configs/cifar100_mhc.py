"""CIFAR-100 with the cascade head, ResNet-18, 200 epochs. Head sizes by argument: `:5x20`, `:4x5x5`.

Paper, table 1 (their measurement, best epoch on the test set): top-1 {5,20} 76.75, {10,10} 75.96, {4,5,5} 75.94 %.
Hardware: one GPU. `:reference` gives the published settings, and joins with sizes: `:5x20,reference`.
`:small` is a network of three convolutions, 20 epochs, some minutes on two CPU cores (docs/heads.md).

    python main.py --config=configs/cifar100_mhc.py --config.data.path=DIR_OF_cifar-100-python
"""

from mhe_jax.recipes import cifar, heads


def get_config(arg=""):
    return cifar.make(100, heads.mhc, arg, default_sizes=(10, 10))

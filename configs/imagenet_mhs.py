"""ImageNet-1k with the sampled head, head sizes 40x25, ResNet-50, 100 epochs.

Paper, table 1 (their measurement, best epoch on the validation set): top-1 73.53 %.
Hardware: GPUs; the default is bfloat16 with a batch of 1024. `:reference` gives the published settings (float32, 256),
`:synthetic` needs no data and measures speed.

    python main.py --config=configs/imagenet_mhs.py --config.data.path=DIR_WITH_train_AND_val
"""

import functools

from mhe_jax.recipes import heads, imagenet


def get_config(arg=""):
    return imagenet.make(functools.partial(heads.mhs, num_groups=10), arg)

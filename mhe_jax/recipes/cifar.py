"""What the CIFAR configs share: the published recipe, and the corrected one that is the default."""

from mhe_jax.recipes import glyphs, heads, pictures
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config


def make(num_classes, head, arg, default_sizes):
    """The config of one head. Arguments: sizes such as 5x20, `r50` for ResNet-50, `ema`, `swa`, `reference`, `smoke`.

    `small` is a network of three convolutions with its own recipe, for two CPU cores: 20 epochs. `augment` lists the
    parts of an augmentation of one's own, all off, for flags to set.

    `reference` gives the published settings exactly: float32, decay on all parameters, a cosine stepped once an
    epoch that ends at 1e-5, the last smaller batch of each epoch kept, and the head's published loss and inference.
    """
    sizes, flags = parse(arg, "reference", "r50", "small", "ema", "swa", "augment", "smoke")
    reference = "reference" in flags
    if "small" in flags and flags & {"reference", "r50"}:
        raise ValueError("config argument 'small' is a network and a recipe of its own: leave out reference and r50")
    one_of(flags, ("ema", "swa"), "averages")
    config = base_config()
    config.data = {
        "name": f"cifar{num_classes}",
        "num_classes": num_classes,
        "path": "data",
        "last_batch": "keep" if reference else "drop",
    }
    config.backbone = {"name": "resnet_cifar", "depth": 50 if "r50" in flags else 18, "bn_groups": 1}
    config.head = head(sizes or default_sizes)
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_all": reference,
        "head_rate": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "unfreeze_steps": (),
    }
    config.schedule = {
        "name": "cosine",
        "learning_rate": 0.1,
        "end_learning_rate": 1e-5 if reference else 0.0,
        "warmup_epochs": 0.0 if reference else 1.0,
        "per_epoch": reference,
    }
    config.total_epochs = 200.0
    config.dtype = "float32" if reference else "bfloat16"
    config.matmul_precision = "highest" if reference else "default"
    config.checkpoint_every_epochs = 10.0
    if "small" in flags:
        del config.backbone, config.optimizer, config.schedule
        config.update(glyphs.recipe())
        config.total_epochs, config.dtype = 20.0, "float32"
    if "augment" in flags:
        config.augment = dict(pictures.OWN_AUGMENTATION)
    if "ema" in flags:
        config.average = {"name": "ema", "decay": 0.999}
    if "swa" in flags:
        config.average = {"name": "swa", "start_epoch": round(0.8 * config.total_epochs), "every_steps": 195}
    if reference:
        config.head.update(heads.REFERENCE[config.head.name])
        if config.head.name == "mhp":
            config.head.objective = "bce_concat"
    if "smoke" in flags:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 16, 1
        if "swa" in flags:
            config.average.start_epoch = 0
    return config

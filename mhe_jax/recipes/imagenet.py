"""What the ImageNet configs share: ResNet-50, the published recipe, and the corrected one that is the default."""

from mhe_jax.recipes import heads, pictures
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config


def make(head, arg, default_sizes=(40, 25)):
    """The config of one head. Arguments: head sizes such as 40x25, `reference`, `synthetic` for benchmarks, `smoke`.

    `reference` gives the published settings: batch 256, float32, a cosine stepped once an epoch from 0.1 to 1e-4,
    decay on all parameters, no warm-up, no label smoothing. The default has the batch and rates of today's recipes.
    `tfds` reads imagenet2012 prepared as ArrayRecord in `data.path`; `ema` evaluates an average of the weights.
    `vit_s16`, `vit_b16` and `convnext_t` are other networks, with the recipes of their papers; `a2` and `a3` train
    ResNet-50 by those of "ResNet strikes back".
    `augment` lists the parts of an augmentation of one's own, all off, for flags to set.
    """
    sizes, flags = parse(arg, "reference", "synthetic", "tfds", "ema", "augment", "smoke", *pictures.RECIPES)
    reference, chosen = "reference" in flags, one_of(flags, pictures.RECIPES, "recipes")
    one_of(flags, ("synthetic", "tfds"), "kinds of data")
    if reference and chosen:
        raise ValueError(f"config argument {chosen!r} has a recipe of its own: leave out reference")
    config = base_config()
    if flags & {"synthetic", "smoke"}:
        config.data = {
            "name": "synthetic",
            "num_classes": 1000,
            "image_shape": (64, 64, 3) if "smoke" in flags else (224, 224, 3),
            "num_examples": 64 if "smoke" in flags else 10_000,
            "num_eval_examples": 16,
            "last_batch": "drop",
        }
    else:
        config.data = {
            "name": "imagenet",
            "num_classes": 1000,
            "path": "data/imagenet",
            "image_size": 224,
            "antialias": reference,
            "num_workers": -1,
            "on_bad_example": "raise",
            "last_batch": "keep" if reference else "drop",
        }
        if "tfds" not in flags:
            config.data.update(pictures.LAYOUT)
    if "tfds" in flags:
        config.data.update(name="tfds", dataset="imagenet2012", train_split="train", eval_split="validation")
    config.backbone = {"name": "resnet", "depth": 50, "bn_groups": 1}
    config.head = head(sizes or default_sizes)
    config.global_batch_size = 256 if reference else 1024
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": not reference,
        "weight_decay": 1e-4 if reference else 5e-5,
        "decay_all": reference,
        "head_rate": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "unfreeze_steps": (),
    }
    config.schedule = {
        "name": "cosine",
        "learning_rate": 0.1 if reference else 0.5,
        "end_learning_rate": 1e-4 if reference else 0.0,
        "warmup_epochs": 0.0 if reference else 5.0,
        "per_epoch": reference,
    }
    config.total_epochs = 100.0
    config.dtype = "float32" if reference else "bfloat16"
    config.matmul_precision = "highest" if reference else "default"
    config.log_every_steps = 100
    if reference:
        config.head.update(heads.REFERENCE[config.head.name])
        if config.head.name == "mhp":
            config.head.objective = "softmax_concat"
    else:
        config.head.label_smoothing = 0.1
    if chosen:
        del config.backbone, config.optimizer
        config.update(pictures.RECIPES[chosen](chosen))
    if chosen in pictures.RESNET_STRIKES_BACK:
        config.head.label_smoothing = 0.0
        if config.head.name == "ohe":
            config.head.objective = "bce"
        side = pictures.RESNET_STRIKES_BACK[chosen]["image_size"]
        if "image_size" in config.data:
            config.data.image_size = side
        elif "smoke" not in flags:
            config.data.image_shape = (side, side, 3)
    if "augment" in flags:
        config.augment = dict(pictures.OWN_AUGMENTATION)
    if "ema" in flags:
        config.average = {"name": "ema", "decay": 0.9999}
    if "smoke" in flags:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
        config.backbone.update(pictures.FEWER_LAYERS[config.backbone.name])
    return config

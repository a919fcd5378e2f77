"""Networks for pictures of today with the recipes that their papers train them by, for configs of pictures."""

from mhe_jax.recipes.arguments import one_of
from mhe_jax.recipes.base import adamw

# Width, depth and heads of the published sizes; drop_path is that of their recipes.
BACKBONES = {
    "vit_s16": {"name": "vit", "patch_size": 16, "width": 384, "depth": 12, "num_heads": 6, "drop_path": 0.1},
    "vit_b16": {"name": "vit", "patch_size": 16, "width": 768, "depth": 12, "num_heads": 12, "drop_path": 0.1},
    "convnext_t": {"name": "convnext", "depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768), "drop_path": 0.1},
}

# What a ViT's recipe does not decay.
VIT_NO_DECAY = ("bias", "scale", "class_token", "positions")

# Of a network that is only to be seen running.
FEWER_LAYERS = {"resnet": {"depth": 18}, "vit": {"depth": 2}, "convnext": {"depths": (1, 1, 1, 1)}}

# Of files with one label each: '' and 'auto' are what is usual and there.
LAYOUT = {"layout": "auto", "image_key": "", "label_key": "", "valid_share": 0.0}

# Every part of an augmentation, off, for flags to set: `config.augment` of the name 'own'.
OWN_AUGMENTATION = {
    "name": "own",
    "policy": "none",
    "num_ops": 2,
    "magnitude": 9.0,
    "magnitude_std": 0.0,
    "jitter": (0.0, 0.0, 0.0, 0.0),
    "erase": 0.0,
    "erase_noise": False,
    "mixup": 0.0,
    "cutmix": 0.0,
    "repeats": 1,
}


def chosen(flags):
    """The name of the backbone among the flags of a config's argument, None if there is none."""
    return one_of(flags, BACKBONES, "backbones")


def recipe(name):
    """A backbone and its training from random values at a batch of 1,024, by config field.

    DeiT's for the ViTs (Touvron et al., 2021, table 9: 1e-3 at a batch of 1,024 by its rule) and ConvNeXt's (Liu et
    al., 2022, table 5: 4e-3 at 4,096, here scaled down with the batch).
    """
    is_vit = name.startswith("vit")
    return {
        "backbone": dict(BACKBONES[name]),
        "augment": {"name": "deit" if is_vit else "convnext"},
        # Of a ViT that also leaves out the class token and the positions, which have as many axes as a matrix.
        "optimizer": adamw(weight_decay=0.05) | {"no_decay": VIT_NO_DECAY if is_vit else ()},
        "schedule": {
            "name": "cosine",
            "learning_rate": 1e-3,
            "end_learning_rate": 1e-5 if is_vit else 1e-6,
            "warmup_epochs": 5.0 if is_vit else 20.0,
            "per_epoch": False,
        },
        "average": {"name": "none"} if is_vit else {"name": "ema", "decay": 0.9999},
        "total_epochs": 300.0,
    }


# Epochs, rate at a batch of 2,048, and what differs besides: A2 and A3 of the paper below.
RESNET_STRIKES_BACK = {
    "a2": {"total_epochs": 300.0, "learning_rate": 5e-3, "drop_path": 0.05, "image_size": 224},
    "a3": {"total_epochs": 100.0, "learning_rate": 8e-3, "drop_path": 0.0, "image_size": 160},
}


def strikes_back(name):
    """ResNet-50 by a recipe of "ResNet strikes back" (Wightman et al., 2021, table 2), by config field.

    Its loss of a sigmoid for each class is one-hot's; other heads keep theirs. The paper evaluates on larger pictures,
    of 224 after 160, and cut out of 236; here they are as large as in training, and cut out of 8/7 of that.
    """
    chosen = RESNET_STRIKES_BACK[name]
    return {
        "backbone": {"name": "resnet", "depth": 50, "bn_groups": 1, "drop_path": chosen["drop_path"]},
        "augment": {"name": name},
        "optimizer": {**adamw(weight_decay=0.02), "name": "lamb", "eps": 1e-6},
        "clip": {"name": "norm", "norm": 1.0, "parts": ("backbone", "head")},
        "schedule": {
            "name": "cosine",
            "learning_rate": chosen["learning_rate"],
            "end_learning_rate": 1e-6,
            "warmup_epochs": 5.0,
            "per_epoch": False,
        },
        "total_epochs": chosen["total_epochs"],
        "global_batch_size": 2048,
    }


def fine_tuning(name):
    """The same backbone as `config.init_from` has it, by config field: fewer epochs, lower layers learn more slowly.

    After BEiT (Bao et al., ICLR 2022), whose factor of the rate from layer to layer is 0.65 for base models; ConvNeXt,
    whose layers are counted by stages here, has 0.8 of its paper.
    """
    is_vit = name.startswith("vit")
    made = recipe(name)
    made["optimizer"].update(layer_decay=0.65 if is_vit else 0.8)
    made["schedule"].update(learning_rate=5e-4, end_learning_rate=1e-6, warmup_epochs=5.0)
    return {**made, "augment": {"name": "convnext"}, "average": {"name": "none"}, "total_epochs": 50.0}


# By the argument of a config: what trains a network from random values.
RECIPES = {**dict.fromkeys(BACKBONES, recipe), **dict.fromkeys(RESNET_STRIKES_BACK, strikes_back)}

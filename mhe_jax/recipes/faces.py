"""What the face configs share: a backbone, a head on cosines that trains it, and insightface's recipe.

Variants, by argument string: `full` softmax over all identities, `partial` (PartialFC), `mhs` (groups of identities),
`mhp` and `mhc` (digits, tree).
"""

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config

VARIANTS = {
    "full": heads.face_ohe,
    "partial": heads.face_partial,
    "mhs": heads.face_mhs,
    "mhp": heads.face_mhp,
    "mhc": heads.face_mhc,
}
BACKBONES: dict[str, dict] = {
    "mbf": {"name": "mobilefacenet", "features_dim": 512, "scale": 2, "bn_groups": 1},
    **{
        f"r{depth}": {"name": "iresnet", "depth": depth, "features_dim": 512, "dropout": 0.0, "bn_groups": 1}
        for depth in (18, 50, 100)
    },
}
MARGINS = ("arcface", "cosface", "combined", "curricularface", "magface", "adaface", "none")
FLAGS = ("dense", "sparse", "owned", "reference", "smoke")


def head(arg, default, sizes, margin):
    """The head of an argument string, and the string's flags.

    Arguments: a variant, a margin, head sizes such as 13x7187, `dense`, `sparse`, `owned`, `reference`, `smoke`.

    Args:
      arg: the string.
      default: variant without one in the string.
      sizes: head sizes of `mhs`, `mhp` and `mhc` without any in the string.
      margin: section of the margin without one in the string.
    """
    given, words = parse(arg, *VARIANTS, *MARGINS, *FLAGS)
    variant = one_of(words, VARIANTS, "variants", default)
    section = VARIANTS[variant](given or (() if variant in ("full", "partial") else sizes))
    named = one_of(words, MARGINS, "margins")
    one_of(words, ("dense", "sparse", "owned"), "table optimizers")
    section["margin"] = heads.margin(named) if named else margin
    if "reference" in words:
        section.update(heads.FACE_REFERENCE[section["name"]])
    return section, words, variant


def tables(variant, words, sparse, usual=None):
    """The section of the table optimizer that `head`'s results ask for, or None.

    Args:
      variant, words: of `head`.
      sparse: the row-sparse one.
      usual: the one where none is asked for, in the place of none, or of the row-sparse one of `partial`.
    """
    if "dense" in words:
        return None
    if "owned" in words:
        return heads.OWNED_TABLES
    if usual and variant != "mhp" and not {"sparse", "reference"} & set(words):
        return usual
    return sparse if variant == "partial" or "sparse" in words else None


def make(arg, backbone, num_classes, sizes, margin=None, **recipe):
    """The config of a training set in records; `recipe` holds what the published one sets: batch, learning_rate, ...

    The loss moves the tables itself, see `mhe_jax.ops.owned`, by SGD with momentum as the published code has it, but
    of bfloat16 numbers; with `owned` without momentum. A step of `partial` moves the sampled rows alone, as PartialFC
    does, one of `mhs` the groups of the batch, and one of `mhc` the children of its nodes. `sparse` gathers the rows of
    `partial` and `mhs` and puts them back; `dense` moves all, with all other parameters. `reference` does without
    owned tables, is float32 and decays all parameters, and `mhs` lets codes without an identity into the softmax.
    """
    section, words, variant = head(arg, recipe.get("variant", "mhs"), sizes, margin or heads.margin("arcface"))
    config = base_config()
    config.data = {
        "name": "face_records",
        "num_classes": num_classes,
        "path": "data",
        "eval_sets": recipe.get("eval_sets", ("lfw.bin", "cfp_fp.bin", "agedb_30.bin")),
        "eval_root": "val",
        "image_size": 112,
        "channels": 3,
        "flip": True,
        "in_memory": False,
        "num_workers": -1,
        "on_bad_example": "raise",
        "last_batch": "drop",
    }
    config.backbone = dict(BACKBONES[backbone])
    config.head = section
    if variant == "partial":
        config.head.sampler.rate = recipe.get("sample_rate", 0.1)
    decay = recipe.get("weight_decay", 5e-4)
    reference = "reference" in words
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": decay,
        "decay_all": reference,
        "head_rate": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "unfreeze_steps": (),
    }
    usual = heads.OWNED_SGD if recipe.get("large", True) else None
    if rule := tables(variant, words, heads.FACE_SPARSE_TABLES, usual):
        config.table_optimizer = {**rule, "weight_decay": decay}
    config.clip = {"name": "norm", "norm": 5.0, "parts": ("backbone",)}
    config.schedule = {
        "name": "poly",
        "learning_rate": recipe["learning_rate"],
        "power": 2.0,
        "warmup_epochs": recipe.get("warmup_epochs", 0.0),
        "per_epoch": False,
    }
    config.total_epochs, config.global_batch_size = recipe["epochs"], recipe["batch"]
    config.dtype = "float32" if reference else "bfloat16"
    config.matmul_precision = "highest" if reference else "default"
    if "smoke" in words:
        smoke(config)
    return config


def smoke(config):
    """Two steps on tiny pictures."""
    config.data.update(num_classes=0, image_size=32, num_workers=0)
    if config.backbone.name == "iresnet":
        config.backbone.depth = 18
    config.head.head_sizes = (0, 1) if config.head.get("sampler", {}).get("name") == "random_groups" else ()
    config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
    config.dtype = "float32"

"""What the configs of features share: a head on what another network made, trained in minutes."""

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import parse
from mhe_jax.recipes.base import adamw, base_config

# Similar labels share digits, by the sums of the features of their rows.
LABELS = {"name": "labels", "path": "", "epochs": 2.0}
# A cascade's own rows: as accurate as AdamW's, in a step that costs the blocks it uses (docs/features.md).
TABLES = {**heads.OWNED_TABLES, "storage": "float32", "rate": 300.0}


def make(head, arg):
    """The config of one head. Arguments: sizes such as 40x25, `multilabel` for many labels a row, `smoke`; `dense` for
    a cascade of one label whose table the optimizer trains, as it does all others."""
    sizes, flags = parse(arg, "multilabel", "dense", "smoke")
    many = "multilabel" in flags
    config = base_config()
    config.data = {
        "name": "features_multilabel" if many else "features",
        "path": "data",
        # 0: those of the files; another number is checked against them.
        "features_dim": 0,
        "num_classes": 0,
        "device_mebibytes": 512,
        "check_finite": True,
        "last_batch": "drop",
    }
    config.backbone = {
        "name": "identity",
        # Features come at any scale, and the rate below is meant for one.
        "layer_norm": True,
        # Widths of dense layers below the head; () is a linear probe.
        "hidden_dims": (),
        "l2_normalize": False,
        "dropout": 0.0,
    }
    config.head = (heads.MANY_LABELS if many else heads.ONE_CLASS)[head](sizes)
    config.optimizer = adamw(weight_decay=0.05)
    config.schedule = {
        "name": "cosine",
        "learning_rate": 0.005,
        "end_learning_rate": 0.0,
        "warmup_epochs": 1.0,
        "per_epoch": False,
    }
    # 0: by the number of rows, up to 256, and the rate with it.
    config.global_batch_size = 0
    config.total_epochs, config.eval_every_epochs, config.checkpoint_every_epochs = 10.0, 2.0, 2.0
    if head == "mhc":
        config.codes = dict(LABELS if many else heads.WARM_UP)
        if not many and "dense" not in flags:
            config.table_optimizer = dict(TABLES)
    if "smoke" in flags:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
        if head == "mhc" and not many:
            config.codes.epochs = 1e-6  # a step
    return config

"""Made-up pictures with any number of classes, for memory, speed and scaling questions; no data is needed.

No published figure: `describe` prints what each head would cost.

    python main.py --mode=describe --config=configs/synthetic.py:mhc --config.data.num_classes=100000000
"""

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config


def get_config(arg=""):
    """Arguments: one of `ohe`, `mhp`, `mhc`, `mhs` (default `mhp`), head sizes such as 1000x1000, `smoke`; `dense` for
    tables that `config.optimizer` trains: else the loss moves those of `ohe` and `mhc` itself, in bfloat16, by the same
    rule, and with `owned` without momentum."""
    names = ("ohe", "mhp", "mhc", "mhs")
    sizes, flags = parse(arg, *names, "dense", "owned", "smoke")
    head = one_of(flags, names, "heads", "mhp")
    config = base_config()
    config.data = {
        "name": "synthetic",
        "num_classes": 1_000_000,
        "image_shape": (32, 32, 3),
        "num_examples": 10_000,
        "num_eval_examples": 1_000,
        "last_batch": "drop",
    }
    config.backbone = {"name": "resnet_cifar", "depth": 18, "bn_groups": 1}
    config.head = getattr(heads, head)(sizes)
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
    config.schedule = {"name": "constant", "learning_rate": 0.1, "warmup_epochs": 0.0, "per_epoch": False}
    of_tables = one_of(flags, ("dense", "owned"), "table optimizers")
    if of_tables == "owned" or (head in ("ohe", "mhc") and of_tables is None):
        config.table_optimizer = dict(heads.OWNED_TABLES if of_tables == "owned" else heads.OWNED_SGD)
    config.total_epochs = 1.0
    if "smoke" in flags:
        config.data.num_classes, config.data.num_examples, config.data.num_eval_examples = 101, 64, 16
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 16, 1
    return config

"""Every head at any number of classes, over a network of next to nothing: what the head alone takes and sends.

No published figure: docs/scaling.md has the tables, and the command that makes them.

    python main.py --mode=describe --config=configs/scaling.py:images,ohe --config.data.num_classes=10000000
    mhe scaling --config=configs/scaling.py:images,ohe
"""

from mhe_jax.recipes import heads
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config

HEADS = {
    "images": {"ohe": heads.ohe, "mhp": heads.mhp, "mhc": heads.mhc, "mhs": heads.mhs},
    "texts": {"ohe": heads.xmc_ohe, "mhp": heads.xmc_mhp, "mhc": heads.xmc_mhc, "mhs": heads.xmc_mhs},
    "faces": {
        "ohe": heads.face_ohe,
        "mhp": heads.face_mhp,
        "mhc": heads.face_mhc,
        "mhs": heads.face_mhs,
        "partial": heads.face_partial,
    },
}
FEATURES, BATCH = 512, 1024


def get_config(arg=""):
    """Arguments: a pipeline (default `images`), a head (default `ohe`), its sizes, `sparse` for a table optimizer that
    updates the used rows alone (always with `partial`), `owned` for a table of `ohe`, `mhc`, `mhs` or `partial` in
    bfloat16 that its loss moves itself, `smoke`."""
    sizes, words = parse(arg, *HEADS, "ohe", "mhp", "mhc", "mhs", "partial", "sparse", "owned", "smoke")
    pipeline = one_of(words, HEADS, "pipelines", "images")
    head = one_of(words, ("ohe", "mhp", "mhc", "mhs", "partial"), "heads", "ohe")
    one_of(words, ("sparse", "owned"), "table optimizers")
    if head not in HEADS[pipeline]:
        raise ValueError(f"config argument 'partial' is for faces, not for {pipeline}")
    config = base_config()
    config.data = {"num_classes": 1_000_000, "num_examples": 4 * BATCH}
    config.head = HEADS[pipeline][head](sizes)
    if pipeline == "texts" and head == "mhc":
        config.head.num_candidates = 10
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
    config.backbone = {"name": "convnet", "features_dim": FEATURES, "widths": (8,)}
    config.schedule = {"name": "constant", "learning_rate": 0.1, "warmup_epochs": 0.0, "per_epoch": False}
    if pipeline == "images":
        config.data.update(name="synthetic", image_shape=(8, 8, 1), num_eval_examples=BATCH, last_batch="drop")
    elif pipeline == "faces":
        config.data.update(name="face_synthetic", image_shape=(8, 8, 3), num_pairs=20, last_batch="drop")
        config.backbone.activate_features = False
        config.head.margin = heads.margin("arcface")
    else:
        config.data.update(
            name="synthetic_text",
            num_eval_examples=BATCH,
            lengths=(4, 8),
            max_length=8,
            labels_per_example=5,
            label_width=5,
        )
        config.backbone = {
            "name": "bert",
            "vocab_size": 0,
            "hidden_size": FEATURES,
            "num_layers": 1,
            "num_heads": 8,
            "intermediate_size": 64,
            "max_positions": 8,
            "pooling": "first",
            "feature_layers": 1,
        }
        config.optimizer = {"name": "adamw", "weight_decay": 0.01}
        config.schedule.learning_rate = 1e-4
    if "sparse" in words or head == "partial":
        config.table_optimizer = dict(heads.SPARSE_TABLES if pipeline == "texts" else heads.FACE_SPARSE_TABLES)
    if "owned" in words:
        config.table_optimizer = dict(heads.OWNED_TABLES)
        if head == "mhs":  # rows that each example draws for itself are not moved by the loss
            config.head = {**config.head, "sampler": heads.sampler("batch_union")}
    config.total_steps, config.global_batch_size = 10, BATCH
    if "smoke" in words:
        config.data.update(num_classes=101, num_examples=64)
        if pipeline != "faces":
            config.data.num_eval_examples = 16
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 16, 1
    return config
